"""From a contract and a sample to the messages that a judge is sent: Jinja2 in a sandbox, every text quoted beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from plaudit.rewards.generative.quoting import Quotation, quote, reserved_strings
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


class Shown(NamedTuple):
    """One of several texts in a template. name: masked, by its place ("response-1", "item-1"). text: quoted."""

    name: str
    text: str


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
    allowed = VARIABLES[contract.kind] | set(contract.columns)
    if unknown := sorted(used - allowed):
        raise SpecError(f"the template uses '{unknown[0]}', expected one of {', '.join(sorted(allowed))}")
    shown = () if contract.layout == "turn" else SHOWN[contract.kind]
    needed = {*shown, *contract.columns, *(["criterion"] if contract.criteria else [])}
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


class _Quoting:
    """Quotes the texts of one request, and keeps count."""

    def __init__(self, contract: Contract, control: Sequence[str]) -> None:
        self.contract, self.control = contract, control
        # a turn of its own stands between control strings alone: there are no marks to close
        self.reserved = () if contract.layout == "turn" else reserved_strings(contract)
        self.judged: list[str] = []
        self.escapes = 0

    def __call__(self, text: str, mark: str, *, judged: bool) -> Quotation:
        quotation = quote(text, self.contract.delimiters[mark], self.reserved, self.control)
        self.escapes += quotation.escapes
        if judged:
            self.judged += [text] if quotation.shown == text else [text, quotation.shown]
        return quotation


def render(
    contract: Contract,
    texts: Mapping[str, str | None],
    control: Sequence[str] = (),
    criterion: Criterion | None = None,
    *,
    listed: Sequence[str] = (),
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> Rendered:
    """The request for one sample. texts: variable -> text, None for an absent reference. control: the model's control strings.

    listed: the responses of a listwise contract, as they are to be shown, or the items of an itemised one, which are written
    on one line each. settings: values of the library's own, which are not quoted.
    Raises SpecError if the template fails on these texts.
    """
    from plaudit.rewards.generative.contract import SHOWN, OptionsReadout

    quoting = _Quoting(contract, control)
    values: dict[str, Any] = {"count": len(listed), **settings}
    shown: dict[str, str] = {}
    for name, text in texts.items():
        values[name] = None
        if text is not None:
            quotation = quoting(text, name, judged=name in SHOWN[contract.kind])
            values[name], shown[name] = quotation.block, quotation.shown
    if contract.kind == "listwise":
        blocks = [quoting(text, "response", judged=True).block for text in listed]
        values["responses"] = [Shown(f"response-{place}", block) for place, block in enumerate(blocks, 1)]
    if contract.kind == "itemised":
        lines = [quoting(" ".join(text.split()), "items", judged=False).shown for text in listed]
        values["items"] = [Shown(f"item-{place}", line) for place, line in enumerate(lines, 1)]
    labels = contract.readout.labels if isinstance(contract.readout, OptionsReadout) else ()
    range_ = (labels[0].name, labels[-1].name) if labels else getattr(contract.readout, "numbers", None) or (None, None)
    values |= {"criterion": criterion.question if criterion else None, "low": range_[0], "high": range_[1]}
    return Rendered(Request(_messages(contract, values, shown), contract.prefix), quoting.escapes, tuple(quoting.judged))


def _messages(contract: Contract, values: Mapping[str, Any], shown: Mapping[str, str]) -> str | tuple[Message, ...]:
    """What the engine is sent. shown: the texts as they stand in the prompt, without the marks around them."""
    from jinja2 import TemplateError

    try:
        system = _compiled(contract.system).render(values).strip() if contract.system else ""
        user = _compiled(contract.user).render(values).strip("\n")
    except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
        raise SpecError(f"contract '{contract.name}': the template fails: {error}") from error
    if contract.layout == "text":
        return user
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    if contract.layout == "turn":
        messages.append({"role": "user", "content": shown["prompt"]})
        messages.append({"role": "assistant", "content": shown["response"]})
    return (*messages, {"role": "user", "content": user})
