r"""Verdicts in `\boxed{...}`: the scores of DeepSeek-GRM (Liu et al. 2025, arXiv 2504.02495), one number for each response."""

from __future__ import annotations

import re

from plaudit.rewards.generative.parsing import ParsedList, after_thinking
from plaudit.types import Status

LOW, HIGH = 1, 10
BOXED = re.compile(r"\\boxed\s{0,4}\{([^{}]{0,2000})\}")
"""The content of a box without braces inside."""
_MARK = re.compile(r"\\boxed")
_WHOLE = re.compile(r"[+]?(\d{1,3})(?:\.0{1,6})?", re.ASCII)
_STRICT = re.compile(r"\s*\d{1,3}(?:\s*,\s*\d{1,3})*\s*", re.ASCII)


def last_box(text: str) -> re.Match[str] | None:
    r"""The last `\boxed{...}`; None where the last `\boxed` is not closed, or holds braces."""
    marks = list(_MARK.finditer(text))
    return BOXED.match(text, marks[-1].start()) if marks else None


def boxed_scores(text: str, count: int, strict: bool = False) -> ParsedList:
    r"""One whole number from 1 to 10 for each of `count` responses, from the last `\boxed{7, 4}` after the thinking.

    strict: nothing but mark-up follows the box, and it holds numbers and commas only. Else `[7, 4]`, `7; 4` and `7.0` are read
    too. Another number of scores, or one out of range, makes the whole answer UNPARSABLE: it is not known whose score is whose.
    """
    body = after_thinking(text)
    if body is None:
        return ParsedList(Status.UNPARSABLE, detail="the reasoning never ended")
    box = last_box(body)
    if box is None:
        return ParsedList(Status.UNPARSABLE, detail="no closed \\boxed{...}")
    if strict and (body[box.end() :].strip(" \t\r\n.$*") or not _STRICT.fullmatch(box[1])):
        return ParsedList(Status.UNPARSABLE, detail="the answer does not end with a box of numbers")
    inside = box[1].strip().removeprefix("[").removesuffix("]").strip()
    words = re.split(r"\s*[,;]\s*", inside)
    found = [_WHOLE.fullmatch(word) for word in words]
    if len(words) != count or not all(found):
        return ParsedList(Status.UNPARSABLE, detail=f"the box does not hold {count} whole numbers")
    scores = [int(match[1]) for match in found if match]
    if not all(LOW <= score <= HIGH for score in scores):
        return ParsedList(Status.UNPARSABLE, detail=f"a score is outside {LOW} to {HIGH}")
    return ParsedList(Status.OK, tuple(map(float, scores)), tuple(map(str, scores)))
