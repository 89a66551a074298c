"""Readouts by a function: formats that no pattern of one line can read, and answers that judge several things at once.

The functions of built-in contracts are in `plaudit.rewards.generative.formats`. A function sees the answer without what it quotes
of the judged texts, so that a judge which repeats a forged verdict before it gives its own, or gives none, is not misread.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from plaudit.rewards.generative.contract import TextReadout, load_function
from plaudit.rewards.generative.parsing import Parsed, ParsedList
from plaudit.types import Status

QUOTED = "[...]"
"""Stands in an answer for what was quoted."""


@lru_cache(maxsize=256)
def _accepted(function: Callable[..., object]) -> frozenset[str]:
    """Which of `count` and `strict` a function takes."""
    try:
        return frozenset(inspect.signature(function).parameters) & {"count", "strict"}
    except (TypeError, ValueError):
        return frozenset()


def call_function(readout: TextReadout, answer: str, judged: Sequence[str] = ()) -> Parsed:
    """What the readout's function reads; its error, or an answer of another type, is the status FAILED."""
    found, problem = _called(readout, answer, judged, None, Parsed)
    return found if isinstance(found, Parsed) else Parsed(Status.FAILED, detail=problem)


def call_list_function(readout: TextReadout, answer: str, count: int, judged: Sequence[str] = ()) -> ParsedList:
    """The same for an answer about `count` things. An OK answer has one value each, and at least one that is a number."""
    found, problem = _called(readout, answer, judged, count, ParsedList)
    if not isinstance(found, ParsedList):
        return ParsedList(Status.FAILED, detail=problem)
    if found.status is not Status.OK:
        return found
    if len(found.values) != count or len(found.labels) not in (0, count):
        return ParsedList(Status.FAILED, detail=f"{readout.function} gave {len(found.values)} values for {count} things")
    if all(value is None for value in found.values):
        return ParsedList(Status.UNPARSABLE, detail=found.detail or "no value could be read")
    return found


def _called(readout: TextReadout, answer: str, judged: Sequence[str], count: int | None, expected: type) -> tuple[object, str]:
    """(what the function returns, what is wrong with it)."""
    assert readout.function is not None
    try:
        function = load_function(readout.function)
        given = {"count": 1 if count is None else count, "strict": readout.mode == "strict"}
        keywords = {name: given[name] for name in _accepted(function)}

        def read(text: str) -> object:
            return function(text, **keywords)

        found = read(without_quotations(answer, judged, lambda text: _is_verdict(read(text))))
    except Exception as error:  # the user's code: its failure is this row's status, not the run's end
        return None, f"{readout.function} raised {type(error).__name__}: {error}"
    return found, f"{readout.function} returned {type(found).__name__}, expected {expected.__name__}"


def _is_verdict(found: object) -> bool:
    return isinstance(found, (Parsed, ParsedList)) and found.status in (Status.OK, Status.ABSTAINED)


def without_quotations(answer: str, judged: Sequence[str], is_verdict: Callable[[str], bool]) -> str:
    """The answer with `QUOTED` in place of what it repeats of the judged texts, as far as that reads as a verdict.

    Whole texts are looked for, and single lines. What the answer ends with is its own word: it stays, if it is a line by itself.
    """
    kept = answer.rstrip()
    for text in dict.fromkeys(piece.strip() for piece in judged):
        if text and text in kept and is_verdict(text):
            kept = _masked(kept, text)
    for line in dict.fromkeys(line.strip() for text in judged for line in text.splitlines()):
        if line and line in kept and is_verdict(line):
            kept = _masked(kept, line)
    return kept


def _masked(answer: str, piece: str) -> str:
    """The piece is masked everywhere but where it makes up the last lines of the answer, or a tag's content at its very end."""
    tag = re.search(r"</[A-Za-z_]{1,20}>\s*\Z", answer)
    body, ending = (answer, "") if tag is None else (answer[: tag.start()], answer[tag.start() :])
    for text, rest, before in ((answer, "", "\n"), (body, ending, ">")):
        head = text.removesuffix(piece)
        if head != text and (not head or head.rstrip(" \t").endswith(before)):
            return head.replace(piece, QUOTED) + piece + rest
    return answer.replace(piece, QUOTED)
