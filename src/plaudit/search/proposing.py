"""What a search over edits asks for: proposals and judgements of pairs, and the two that answer.

A search is written as coroutines: each *line* yields the questions that it has now and is sent their answers, so that the
questions of all lines, branches and tasks reach the proposer and the judge as one batch (`plaudit.search.lockstep`).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from plaudit.types import Budget, Prompt, Status

if TYPE_CHECKING:
    from plaudit.search.tree_file import SearchTree

Answered = TypeVar("Answered")


@dataclass(frozen=True)
class Ask:
    """What a proposer is told.

    current: the candidate to be changed, None where there is none yet. level: what may be changed now. path: the best candidate
    of each earlier level on this branch, first level first. optima: local optima whose strengths are to be joined, best first;
    empty outside of recombination. failed: proposals that lost to `current`, each with the judge's words. seed: its only chance.
    """

    task: Any
    current: Any
    level: Any
    path: tuple[Any, ...] = ()
    optima: tuple[Any, ...] = ()
    failed: tuple[tuple[Any, str], ...] = ()
    seed: int = 0


class Proposer(Protocol):
    """Makes new candidates out of old ones, for many lines at once. A proposer is no `Generator`: it needs no probabilities."""

    def propose(self, asks: Sequence[Ask], *, budget: Budget) -> list[Any]:
        """One changed candidate each; None or an empty text where it found none."""
        ...

    def refine(self, asks: Sequence[Ask], drafts: Sequence[Any], *, budget: Budget) -> list[Any]:
        """Each draft after a critique of it; may give the drafts back as they are."""
        ...

    def question(self, task: Any, level: Any, *, strict: bool) -> Prompt:
        """What a judge is asked two candidates about. strict: whether the second would replace the first for good."""
        ...


@dataclass(frozen=True)
class Proposal:
    """A question to the proposer. key: its name within the tree, which decides its seed."""

    tree: SearchTree
    key: str
    ask: Ask


@dataclass(frozen=True)
class Comparison:
    """A question to the judge: is `second` better than `first`?"""

    tree: SearchTree
    key: str
    level: Any
    first: Any
    second: Any
    strict: bool = False


@dataclass(frozen=True)
class Vote:
    """P(first beats second), NaN where the judge gave none: then `status` says why. flipped: whether the judge, shown the pair
    both ways round, preferred the same place; None where it was not shown both ways. reason: what it said."""

    prob: float
    status: Status = Status.OK
    flipped: bool | None = None
    reason: str = ""


@dataclass(frozen=True)
class Failure:
    """An answer that could not be given because somebody's code raised an error; it is raised again in the line that asked."""

    error: Exception


Question = Proposal | Comparison
Step = Generator[list[Question], list[Any], Answered]
"""A coroutine that yields questions and is sent a list of answers: candidates, votes, None where the search has stopped, or
`Failure`s."""


@dataclass(frozen=True)
class Limits:
    """What one task may spend: judged pairs and proposals; None: no limit."""

    reward_calls: int | None = None
    proposals: int | None = None


def asked_once(question: Question) -> Step[Any]:
    """Ask one thing. Raises the error of the proposer or judge; gives None where the search has stopped."""
    answer = (yield [question])[0]
    if isinstance(answer, Failure):
        raise answer.error
    return answer


def together(parts: Sequence[Step[Answered]]) -> Step[list[Answered]]:
    """Run coroutines side by side: their questions are asked as one list. Results in the order of the parts."""
    results: list[Any] = [None] * len(parts)
    waiting: dict[int, list[Question]] = {}

    def advance(number: int, answers: list[Any] | None) -> None:
        try:
            waiting[number] = next(parts[number]) if answers is None else parts[number].send(answers)
        except StopIteration as end:
            results[number] = end.value
            waiting.pop(number, None)

    for number in range(len(parts)):
        advance(number, None)
    while waiting:
        answers = yield [question for questions in waiting.values() for question in questions]
        start = 0
        for number, questions in list(waiting.items()):
            advance(number, answers[start : start + len(questions)])
            start += len(questions)
    return results
