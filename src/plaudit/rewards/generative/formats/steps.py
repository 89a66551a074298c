r"""One step checked by GenPRM (Zhao et al. 2025, arXiv 2504.00891): `<analyze>`, `<verify>` with Python, `<output>` with a boxed
Yes or No. Only the format is here; running the code and asking on is the step judge's."""

from __future__ import annotations

import re
from dataclasses import dataclass

from plaudit.rewards.generative.formats.boxed import last_box
from plaudit.rewards.generative.formats.chain_of_rubrics import section
from plaudit.rewards.generative.parsing import Parsed
from plaudit.types import Status

_CODE = re.compile(r"^[ \t]*```(?:python|py)?[ \t]*\n(.*?)^[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE | re.IGNORECASE)
_VERDICT = re.compile(r"\s*(?:\\text\s*)?(yes|no)\s*[.!]?\s*", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class StepCheck:
    """What was said of one step; None where a part is not there. code: closed Python blocks, in order.

    correct: the boxed verdict. well_formed: analysis, verification and output once each, closed, filled and in order, and the
    verdict is all that is boxed in the output.
    """

    analysis: str | None
    verification: str | None
    code: tuple[str, ...]
    output: str | None
    correct: bool | None
    well_formed: bool


def code_blocks(text: str) -> tuple[str, ...]:
    """The contents of the closed code fences that are marked as Python, or not marked."""
    return tuple(match[1] for match in _CODE.finditer(text))


def parse_step(text: str) -> StepCheck:
    """All parts of a checked step. The verdict is the last box of what follows the last `<output>`; an output that is not closed
    is read, since the box itself is closed."""
    analysis, verification, output = (section(text, tag) for tag in ("analyze", "verify", "output"))
    start = text.rfind("<output>")
    tail = text[start + len("<output>") :] if start >= 0 else ""
    box = last_box(tail)
    said = _VERDICT.fullmatch(box[1]) if box else None
    correct = None if said is None else said[1].lower() == "yes"
    place, ordered = 0, True
    for tag in ("analyze", "verify", "output"):
        opening, closing = text.find(f"<{tag}>"), text.find(f"</{tag}>")
        once = text.count(f"<{tag}>") == 1 and text.count(f"</{tag}>") == 1
        ordered = ordered and once and place <= opening < closing
        place = closing
    filled = all(part for part in (analysis, verification, output))
    well_formed = ordered and filled and correct is not None and tail.count("\\boxed") == 1
    return StepCheck(analysis, verification, code_blocks(verification or ""), output, correct, well_formed)


def step_verdict(text: str, strict: bool = False) -> Parsed:
    """Yes (1) or No (0) about the step. strict: only of an answer that is well formed."""
    check = parse_step(text)
    if check.correct is None:
        return Parsed(Status.UNPARSABLE, detail="no boxed Yes or No in an <output> section")
    if strict and not check.well_formed:
        return Parsed(Status.UNPARSABLE, detail="the answer is not analysis, verification and output, once each")
    return Parsed(Status.OK, "Yes" if check.correct else "No", float(check.correct))
