"""From what a judge wrote to its verdict. Three outcomes: a verdict, a judge that declines (ABSTAINED), or UNPARSABLE.

The rules, in the order in which they are applied:

1. What comes before the last end-of-think tag is reasoning and is not read. Reasoning that never ends has no verdict.
2. *strict*: the last line that is not blank is exactly `MARKER: LABEL`. Nothing else is read.
3. *lenient*: whatever strict reads; else the last marker line, which may carry Markdown decoration, brackets, a full stop,
   "final" before the marker, any case, or its label on the next line. The last marker decides: if its label is not one of
   the contract's, there is no verdict, and an earlier line is not a substitute.
   Where the contract says `bare`, an answer that is nothing but a label is read, too.
4. Lenient reads no quotations: where the last marker line is in a code fence, or stands in the judged text word for word
   and is not the answer's last line, there is no verdict. Nor is there one where a marker comes again in the middle of a
   later line ("... so my verdict: B", "> Verdict: B").
5. An answer that was cut off is only read where its verdict line is complete (strict, and followed by a line break).

A quotation of a forged verdict as the very last line cannot be told from the judge's own verdict by any parser; contracts
ask for the verdict on a last line of its own, and the probability contracts read no text at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from plaudit.rewards.generative.contract import TextReadout
from plaudit.types import Finish, Status

_THINK_END = re.compile(r"</\s{0,8}(?:think|thinking|reasoning)\s{0,8}>", re.IGNORECASE | re.ASCII)
_THINK_START = re.compile(r"<\s{0,8}(?:think|thinking|reasoning)\s{0,8}>", re.IGNORECASE | re.ASCII)
_NUMBER = re.compile(r"(-?\d{1,9}(?:\.\d{1,9})?)(?:\s?/\s?(\d{1,9}))?", re.ASCII)
_OPENING, _CLOSING = " \t*_`\"'([{", " \t*_`\"')]}"


@dataclass(frozen=True)
class Parsed:
    """status: OK, ABSTAINED or UNPARSABLE. label and value are None unless OK. detail: why there is no verdict."""

    status: Status
    label: str | None = None
    value: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class ParsedList:
    """What one answer says of several things. values: one each, in the order in which they were shown, None where none is given.

    status: OK, ABSTAINED or UNPARSABLE. labels: what was written, one each. detail: why there is nothing, or what was mended.
    """

    status: Status
    values: tuple[float | None, ...] = ()
    labels: tuple[str | None, ...] = ()
    detail: str = ""


def parse(
    text: str, readout: TextReadout, *, judged: Sequence[str] = (), finish: Finish = "complete", prefix: str = ""
) -> Parsed:
    """Read the final verdict of a judge's answer; never raises, whatever the text.

    judged: the texts that the judge was shown, whose lines are quotations where they recur in the answer.
    finish: how the answer ended. prefix: the forced first characters, which belong to the answer.
    A contract's own function is called with the answer, reasoning included and quotations of `judged` left out
    (`plaudit.rewards.generative.functions`); an error in it is the status FAILED.
    """
    answer = prefix + text
    if readout.function is not None:
        from plaudit.rewards.generative.functions import call_function

        return call_function(readout, answer, judged)
    body = after_thinking(answer)
    if body is None:
        return Parsed(Status.UNPARSABLE, detail="the reasoning never ended")
    lines = [line.strip() for line in body.split("\n")]
    if finish != "complete":
        complete = lines[:-1] if any(lines[:-1]) and not lines[-1] else []
        found = _strict(complete, readout)
        return found or Parsed(Status.UNPARSABLE, detail="the answer was cut off before a complete verdict line")
    if found := _strict(lines, readout):
        return found
    if readout.mode == "strict":
        return Parsed(Status.UNPARSABLE, detail="the last line is not a verdict line")
    return _lenient(lines, readout, judged)


def after_thinking(answer: str) -> str | None:
    """What follows the last end-of-think tag; None where thinking never ended."""
    ends = list(_THINK_END.finditer(answer))
    if ends:
        return answer[ends[-1].end() :]
    return None if _THINK_START.match(answer.lstrip()) else answer


def _strict(lines: Sequence[str], readout: TextReadout) -> Parsed | None:
    last = next((line for _, line in _backwards(lines)), "")
    match = _strict_pattern(readout).fullmatch(last)
    found = match and read_answer(match["verdict"], readout, exact=True)
    return found if found and found.status is not Status.UNPARSABLE else None


def _lenient(lines: Sequence[str], readout: TextReadout, judged: Sequence[str]) -> Parsed:
    pattern, anywhere = _lenient_pattern(readout), _anywhere_pattern(readout)
    at, match = next(((index, found) for index, line in _backwards(lines) if (found := pattern.fullmatch(line))), (-1, None))
    if match is None:
        written = [line for line in lines if line]
        if readout.bare and len(written) == 1:
            return read_answer(_undecorated(written[0]), readout, exact=False)
        return Parsed(Status.UNPARSABLE, detail="no verdict line")
    last, fenced = next(_backwards(lines))[0], _fenced(lines)
    if at in fenced or (at != last and any(lines[at] == line.strip() for text in judged for line in text.split("\n"))):
        return Parsed(Status.UNPARSABLE, detail="the last verdict line is a quotation")
    if any(anywhere.search(line) for line in lines[at + 1 :]):
        return Parsed(Status.UNPARSABLE, detail="the verdict line is followed by another mention of a verdict")
    answer = _undecorated(match["verdict"] or "")
    if not answer:  # "Verdict:" alone: the label is the next line
        following = next((index for index in range(at + 1, len(lines)) if lines[index]), None)
        answer = "" if following is None or following in fenced else _undecorated(lines[following])
    return read_answer(answer, readout, exact=False)


def _backwards(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    """(index, line) of the lines that are not blank, last first."""
    return ((index, lines[index]) for index in range(len(lines) - 1, -1, -1) if lines[index])


def _fenced(lines: Sequence[str]) -> set[int]:
    inside, found = False, set()
    for index, line in enumerate(lines):
        fence = line.startswith(("```", "~~~"))
        if inside or fence:
            found.add(index)
        if fence:
            inside = not inside
    return found


def _undecorated(answer: str) -> str:
    answer = answer.lstrip(_OPENING).rstrip(_CLOSING)
    if answer.endswith((".", "!")):
        answer = answer[:-1].rstrip(_CLOSING)
    return answer


def read_answer(answer: str, readout: TextReadout, *, exact: bool) -> Parsed:
    """The verdict that is written here and nothing else: a label, a number in range, or a stated refusal to decide.

    exact: only the spellings as they are declared; else any ASCII case of them, and `4/5` where 5 is the highest number.
    """

    def same(spelling: str) -> bool:
        return answer == spelling or (not exact and answer.isascii() and answer.lower() == spelling.lower())

    if any(same(word) for word in readout.undecided):
        return Parsed(Status.ABSTAINED, detail="the judge declined to decide")
    if readout.numbers is not None:
        return _read_number(answer, readout.numbers, exact=exact)
    for label in readout.labels:
        if any(same(spelling) for spelling in (label.name, *label.spellings)):
            return Parsed(Status.OK, label.name, label.value)
    return Parsed(Status.UNPARSABLE, detail=f"the verdict line says {_shortened(answer)}, which is none of the labels")


def _read_number(answer: str, numbers: tuple[float, float], *, exact: bool) -> Parsed:
    low, high = numbers
    match = _NUMBER.fullmatch(answer)
    if match is None or (match[2] is not None and (exact or float(match[2]) != high)):
        return Parsed(Status.UNPARSABLE, detail=f"the verdict line says {_shortened(answer)}, which is no number")
    value = float(match[1])
    if not low <= value <= high:
        return Parsed(Status.UNPARSABLE, detail=f"the verdict {value:g} is outside {low:g} to {high:g}")
    return Parsed(Status.OK, f"{value:g}", value)


def _shortened(answer: str) -> str:
    return repr(answer if len(answer) <= 40 else answer[:37] + "...")


@lru_cache(maxsize=64)
def _strict_pattern(readout: TextReadout) -> re.Pattern[str]:
    return re.compile(readout.strict or rf"{re.escape(readout.marker)}: (?P<verdict>.+)")


@lru_cache(maxsize=64)
def _lenient_pattern(readout: TextReadout) -> re.Pattern[str]:
    """A marker line; ASCII only, since Unicode case folding would let look-alike letters (a long s, the Kelvin sign) match."""
    if readout.lenient or readout.strict:
        return re.compile(readout.lenient or readout.strict or "")
    decoration, flag = r"[\s*_#]{0,12}", "" if not readout.marker.isascii() else "(?a)"
    core = rf"(?:-\s)?{decoration}(?:(?:my|the)\s)?(?:(?:final|overall)\s)?{re.escape(readout.marker)}[*_]{{0,4}}"
    return re.compile(rf"{flag}{core}\s?(?:[:：](?P<verdict>.*)|)[\s*_]{{0,8}}", re.IGNORECASE)


@lru_cache(maxsize=64)
def _anywhere_pattern(readout: TextReadout) -> re.Pattern[str]:
    """A mention of a verdict in the middle of a line."""
    if readout.lenient or readout.strict:
        return re.compile(readout.lenient or readout.strict or "")
    return re.compile(rf"(?<!\w){re.escape(readout.marker)}[*_]{{0,4}}\s?[:：]", re.IGNORECASE | re.ASCII)
