"""Best-of-n, votes over final answers, and self-consistency: n samples a prompt, one answer out of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from plaudit.fitting.seeds import derive_seed, permutation
from plaudit.rewards.rules.answers import as_number, extract_answer
from plaudit.search.base import BaseSearch, Stopped, best_row
from plaudit.types import Status, UserError, prompt_text

if TYPE_CHECKING:
    from plaudit.search.work import Candidate, Progress, Work

Answer = Callable[[Any], Hashable | None]
"""The final answer of a response; None where none can be found."""
VoteWeight = Literal["value", "exp"]


def final_answer(response: Any) -> str | None:
    """The final answer of a text (`rewards.rules.answers.extract_answer`: boxed, marked, else the last number); 8 and 8.0 are
    one answer."""
    text = response if isinstance(response, str) else prompt_text(response) if isinstance(response, list | dict) else None
    found = None if text is None else extract_answer(text)
    if found is None:
        return None
    number = as_number(found.text)
    return found.text.strip() if number is None else f"{number.value}{'%' if number.percent else ''}"


def whole_answer(response: Any) -> Hashable | None:
    """The whole response, without the blanks around it, as its answer."""
    return response.strip() or None if isinstance(response, str) else None


ANSWERS: dict[str, Answer] = {"final": final_answer, "whole": whole_answer}
"""Ways to find an answer, by name."""


def answer_of(answer: str | Answer) -> Answer:
    """A way by name, or a function as it is. Raises UserError for an unknown name."""
    if callable(answer):
        return answer
    if answer not in ANSWERS:
        raise UserError(f"unknown answer '{answer}'; expected one of {', '.join(ANSWERS)}, or a function")
    return ANSWERS[answer]


def allotted(n: float, prompts: int, seed: int) -> list[int]:
    """How many samples each prompt gets at a mean of n: whole numbers next to n, round(n * prompts) in all, drawn by seed."""
    low = math.floor(n)
    more = round(n * prompts) - low * prompts
    lucky = set(permutation(prompts, derive_seed(seed, "allotted"))[:more]) if more else set()
    return [low + (prompt in lucky) for prompt in range(prompts)]


@dataclass
class BestOfN(BaseSearch):
    """The best of n samples by the reward.

    n: samples a prompt. A fraction is a mean over prompts: at 2.5, half of the prompts, drawn by seed, get three; a list gives
    each prompt its own number. how: sampling, by default the generator's own, else temperature 1. Equal values: the first sample.
    """

    n: float | Sequence[int] = 8
    how: Any = None
    on_progress: Progress | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        least = self.n if isinstance(self.n, int | float) else min(self.n, default=1)
        if not least >= 1:
            raise UserError(f"best-of-n needs n of at least 1, not {least:g}")

    def search(self, work: Work) -> None:
        """Draw and judge, portion by portion."""
        counts = allotted(self.n, len(work.prompts), work.seed) if isinstance(self.n, int | float) else list(self.n)
        if len(counts) != len(work.prompts):
            raise UserError(f"{len(counts)} numbers of samples for {len(work.prompts)} prompts")
        for rows in work.chunks(max(counts, default=1)):
            try:
                for count in sorted({counts[row] for row in rows}):
                    work.draw([row for row in rows if counts[row] == count], count, how=self.how, key=count)
            except Stopped:
                self.judge(work)  # what there is shall be worth something, where judging is still possible
                raise
            self.judge(work)

    def judge(self, work: Work) -> None:
        """Judge what was drawn."""
        work.judge()


@dataclass
class Vote(BestOfN):
    """n samples a prompt, one vote each for its final answer, weighed by the reward; the best sample of the winning answer.

    answer: how a response's answer is found, by name (`ANSWERS`) or as a function; samples without one have no vote.
    weight: "value", the reward itself, which must not be negative (a probability of being right: Li et al., arXiv 2206.02336);
    "exp": exp(value / temperature), for rewards on any scale. Samples without a score have no vote, and no answer that only
    they give can win. Equal sums: the answer that came first.
    """

    answer: str | Answer = "final"
    weight: VoteWeight = "value"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        answer_of(self.answer)
        if self.weight not in ("value", "exp") or self.temperature <= 0:
            raise UserError(f"weight must be value or exp and the temperature positive, not {self.weight}, {self.temperature:g}")

    def choose(self, work: Work, prompt: int) -> int | None:
        """The best row of the answer with the largest sum; None where no row has both an answer and a score."""
        found = work.of(prompt)
        answers = [answer_of(self.answer)(one.response) for one in found]
        shares = self._shares(found)
        sums: dict[Hashable, float] = {}
        for answer, share in zip(answers, shares, strict=True):
            if answer is not None and share is not None:
                sums[answer] = sums.get(answer, 0.0) + share
        if not sums:
            return None
        winner = max(sums, key=lambda answer: sums[answer])
        values = [one.value if answer == winner else None for one, answer in zip(found, answers, strict=True)]
        return best_row(values, [one.status for one in found])

    def _shares(self, found: Sequence[Candidate]) -> list[float | None]:
        """The weight of each row; None without a score."""
        known = [one.value for one in found if one.value is not None]
        if self.weight == "exp":
            top = max(known, default=0.0)  # a common factor changes no vote and keeps the exponentials finite
            return [None if one.value is None else math.exp((one.value - top) / self.temperature) for one in found]
        if known and min(known) < 0:
            raise UserError("votes weighed by the reward need values that are not negative: use weight='exp'")
        return [one.value for one in found]


@dataclass
class SelfConsistency(Vote):
    """The most frequent final answer of n samples (Wang et al., arXiv 2203.11171). The reward is never asked.

    A row's score is the share of the prompt's samples that give its answer; a sample without an answer is UNPARSABLE. The first
    sample with the most frequent answer is taken.
    """

    def judge(self, work: Work) -> None:
        """Every row's share, as soon as its prompt's samples are all there."""
        for prompt in sorted({one.prompt for one in work.candidates if not one.judged}):
            found = work.of(prompt)
            answers = [answer_of(self.answer)(one.response) for one in found]
            for one, answer in zip(found, answers, strict=True):
                one.status = Status.UNPARSABLE if answer is None else Status.OK
                one.value = None if answer is None else answers.count(answer) / len(found)

    def choose(self, work: Work, prompt: int) -> int | None:
        """The first row of the most frequent answer."""
        return BaseSearch.choose(self, work, prompt)
