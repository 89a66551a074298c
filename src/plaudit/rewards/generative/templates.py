"""From a contract and a sample to the messages that a judge is sent: Jinja2 in a sandbox, every text quoted beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from plaudit.rewards.generative.quoting import quote, reserved_strings
from plaudit.types import Message, Request, SpecError, prompt_text

if TYPE_CHECKING:
    from jinja2 import Template
    from jinja2.sandbox import SandboxedEnvironment

    from plaudit.rewards.generative.contract import Contract, Criterion


@dataclass(frozen=True)
class Rendered:
    """A request ready for the engine. escapes: how many strings were broken in the texts.

    judged: the texts under judgement, as given and as shown: a line of theirs in the judge's answer may be a quotation.
    """

    request: Request
    escapes: int
    judged: tuple[str, ...]


@cache
def environment() -> SandboxedEnvironment:
    """Sandboxed (a contract file is data, not code), undefined names are errors, nothing is HTML-escaped."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True)


@cache
def _compiled(source: str) -> Template:
    return environment().from_string(source)


def validate(contract: Contract) -> None:
    """Raise SpecError if a template does not compile, uses an unknown variable, or never shows what is to be judged."""
    from jinja2 import TemplateSyntaxError, meta

    from plaudit.rewards.generative.contract import SHOWN, VARIABLES

    used: set[str] = set()
    for name in ("system", "user"):
        try:
            used |= meta.find_undeclared_variables(environment().parse(getattr(contract, name)))
        except TemplateSyntaxError as error:
            raise SpecError(f"{name}, line {error.lineno}: {error.message}") from error
    allowed = VARIABLES[contract.kind]
    if unknown := sorted(used - allowed):
        raise SpecError(f"the template uses '{unknown[0]}', expected one of {', '.join(sorted(allowed))}")
    needed = {*SHOWN[contract.kind], *(["criterion"] if contract.criteria else [])}
    if contract.reference == "needed":
        needed.add("reference")
    if absent := sorted(needed - used):
        raise SpecError(f"the template never shows '{absent[0]}'")
    if "reference" in used and contract.reference == "unused":
        raise SpecError("the template shows 'reference', expected reference: optional or needed")


def content_text(content: Any) -> str | None:
    """A prompt, response or reference as text; None where it has no text form (an image, a missing response)."""
    if isinstance(content, str):
        return content
    if isinstance(content, bool | int | float):
        return str(content)
    if isinstance(content, Mapping):
        return str(content["content"]) if set(content) >= {"role", "content"} else prompt_text(content)
    if isinstance(content, Sequence) and content:
        if all(isinstance(item, Mapping) and isinstance(item.get("content"), str) and "role" in item for item in content):
            return prompt_text(content)
        if all(isinstance(item, str) for item in content):
            return "\n".join(content)
    return None


def render(
    contract: Contract, texts: Mapping[str, str | None], control: Sequence[str] = (), criterion: Criterion | None = None
) -> Rendered:
    """The request for one sample. texts: variable -> text, None for an absent reference. control: the model's control strings.

    Raises SpecError if the template fails on these texts.
    """
    from jinja2 import TemplateError

    from plaudit.rewards.generative.contract import SHOWN, OptionsReadout

    reserved = reserved_strings(contract)
    values: dict[str, Any] = {}
    judged: list[str] = []
    escapes = 0
    for name, text in texts.items():
        if text is None:
            values[name] = None
            continue
        quotation = quote(text, contract.delimiters[name], reserved, control)
        values[name], escapes = quotation.block, escapes + quotation.escapes
        if name in SHOWN[contract.kind]:
            judged += [text] if quotation.shown == text else [text, quotation.shown]
    labels = contract.readout.labels if isinstance(contract.readout, OptionsReadout) else ()
    range_ = (labels[0].name, labels[-1].name) if labels else getattr(contract.readout, "numbers", None) or (None, None)
    values |= {"criterion": criterion.question if criterion else None, "low": range_[0], "high": range_[1]}
    messages: list[Message] = []
    try:
        if contract.system:
            messages.append({"role": "system", "content": _compiled(contract.system).render(values).strip()})
        messages.append({"role": "user", "content": _compiled(contract.user).render(values).strip("\n")})
    except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
        raise SpecError(f"contract '{contract.name}': the template fails: {error}") from error
    return Rendered(Request(tuple(messages), contract.prefix), escapes, tuple(judged))
