"""The chain of rubrics of RM-R1 (Chen et al. 2025, arXiv 2505.02387): sort the task, solve it or write a rubric, then decide.

`<type>Reasoning</type> <solution>...</solution>` or `<type>Chat</type> <rubric>... <justify>...</justify></rubric>`, then
`<eval>...</eval>` and `<answer>[[A]]</answer>`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from plaudit.rewards.generative.parsing import Parsed, after_thinking
from plaudit.types import Status

Winner = Literal["A", "B"]
TAIL = 80
"""Characters at the end of an answer that the training reward looks at (the released code's number)."""
_TYPE = re.compile(r"<type>\s{0,8}(reasoning|chat)\s{0,8}</type>", re.IGNORECASE | re.ASCII)
_STRICT_ANSWER = re.compile(r"<answer>\s{0,8}\[\[([AB])\]\]\s{0,8}</answer>")
_BRANCH = {"Reasoning": "solution", "Chat": "rubric"}


@dataclass(frozen=True)
class ChainVerdict:
    """What a chain says; None where a part is not there.

    kind: the judge's own sorting of the task. winner: None where both tags stand in the answer, or none.
    well_formed: all parts of the branch that `kind` names are there once, closed, filled and in order, and the answer ends.
    """

    kind: Literal["Reasoning", "Chat"] | None
    solution: str | None
    rubric: str | None
    evaluation: str | None
    winner: Winner | None
    well_formed: bool


def section(text: str, tag: str) -> str | None:
    """The content of the last closed `<tag>...</tag>`; None without one."""
    end = text.rfind(f"</{tag}>")
    start = text.rfind(f"<{tag}>", 0, end) if end >= 0 else -1
    return None if start < 0 else text[start + len(tag) + 2 : end].strip()


def parse_chain(text: str) -> ChainVerdict:
    """All parts of a chain. The winner is read from the last `<answer>`, without one from what follows `</eval>`, else from all
    that follows the thinking; `[[A]]` and `[[B]]` both there is no decision."""
    body = after_thinking(text)
    if body is None:
        return ChainVerdict(None, None, None, None, None, well_formed=False)
    found = list(_TYPE.finditer(body))
    kind: Literal["Reasoning", "Chat"] | None = None
    if found:
        kind = "Reasoning" if found[-1][1].lower() == "reasoning" else "Chat"
    solution, rubric, evaluation = (section(body, tag) for tag in ("solution", "rubric", "eval"))
    answer = section(body, "answer")
    if answer is None:
        answer = body[body.rfind("</eval>") + len("</eval>") :] if "</eval>" in body else body
    said = [label for label in ("A", "B") if f"[[{label}]]" in answer]
    winner: Winner | None = None
    if len(said) == 1:
        winner = "A" if said == ["A"] else "B"
    return ChainVerdict(kind, solution, rubric, evaluation, winner, _well_formed(body, kind))


def _well_formed(body: str, kind: str | None) -> bool:
    if kind is None:
        return False
    place = 0
    for tag in ("type", _BRANCH[kind], "eval", "answer"):
        opening, closing = f"<{tag}>", f"</{tag}>"
        if body.count(opening) != 1 or body.count(closing) != 1:
            return False
        start, end = body.index(opening), body.index(closing)
        if start < place or end < start or not body[start + len(opening) : end].strip():
            return False
        place = end + len(closing)
    return not body[place:].strip() and _STRICT_ANSWER.search(body) is not None


def chain_verdict(text: str, strict: bool = False) -> Parsed:
    """The winner as a verdict of a pair. strict: only of a chain that is well formed."""
    chain = parse_chain(text)
    if chain.winner is None:
        return Parsed(Status.UNPARSABLE, detail="not exactly one of [[A]] and [[B]] in the answer")
    if strict and not chain.well_formed:
        return Parsed(Status.UNPARSABLE, detail="the chain is not well formed")
    return Parsed(Status.OK, chain.winner, 1.0 if chain.winner == "A" else 0.0)


def tail_reward(text: str, gold: Winner, *, tail: int = TAIL) -> float:
    """+1 if the last `tail` characters hold the answer tag of the gold label and not the other one, else -1 (card 23, step 7).

    Missing, malformed and hedged answers are wrong answers here, so that a judge cannot gain by them; text after the tag
    that pushes it out of the tail is, too. Characters are counted, not tokens. Raises ValueError for another gold label.
    """
    if gold not in ("A", "B") or tail < 1:
        raise ValueError(f"gold is {gold!r} and tail {tail}; expected A or B, and at least one character")
    said = {match[1] for match in _STRICT_ANSWER.finditer(text[-tail:])}
    return 1.0 if said == {gold} else -1.0
