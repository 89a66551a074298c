"""`Pool`: all samples of one search with what they are worth, from which the cost of other searches can be read off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from plaudit.fitting.seeds import derive_seed, permutation
from plaudit.rewards.scoring import score_counted
from plaudit.search.adaptive import replay
from plaudit.search.comparing import expected_best_of_n, samples_of
from plaudit.types import Batch, Context, Reward, Scores, SearchResult

Lists = list[list[float | None]]
"""A list a prompt, in the order of drawing; None without a number."""


@dataclass(frozen=True)
class Stop:
    """An adaptive search at one tau: mean samples a prompt, mean worth of what it takes, and the samples of each prompt."""

    tau: float
    samples: float
    worth: float
    counts: list[int]


@dataclass
class Pool:
    """Samples of the same number for every prompt, prompt by prompt in the order of drawing.

    batch: the samples. values: what the search's reward said. worth: what they are worth by an independent reward; a sample
    without such a number is worth 0 (it answers nothing), and `unworthy` counts them.
    """

    batch: Batch
    values: Lists
    worth: list[list[float]]
    unworthy: int = 0

    @classmethod
    def of(cls, result: SearchResult, prompts: Batch, truth: Reward) -> Pool:
        """The pool of a search that drew equally many samples for every prompt. Raises ValueError for another."""
        history = result.history
        order = sorted(range(len(history)), key=lambda row: (history[row]["prompt"], row))
        if len(order) % max(1, len(prompts)) or len({history[row]["prompt"] for row in order}) != len(prompts):
            raise ValueError("the search did not draw equally many samples for every prompt")
        batch = samples_of(result, prompts).select(order)
        told = [history[row].get("value") for row in order]
        right = score_counted(truth, batch, Context()).scores.values.tolist()
        each = len(order) // len(prompts)
        worth = [0.0 if value != value else value for value in right]
        return cls(batch, _lists(told, each), _whole(worth, each), sum(value != value for value in right))

    @property
    def each(self) -> int:
        """Samples of a prompt."""
        return len(self.worth[0])

    def judged(self, scores: Scores) -> Lists:
        """What another reward said of `batch`, in the form of `values`."""
        return _lists([None if value != value else value for value in scores.values.tolist()], self.each)

    def mean(self) -> float:
        """Worth of one sample."""
        return math.fsum(value for row in self.worth for value in row) / sum(map(len, self.worth))

    def best(self, counts: Sequence[int] | None = None, values: Lists | None = None) -> float:
        """Mean worth of the best by `values` among the first so many samples (None: all) of each prompt; 0 without any value."""
        counts = counts or [self.each] * len(self.worth)
        rows = zip(values or self.values, counts, strict=True)
        taken = [replay(row[:count], math.inf)[1] for row, count in rows]
        return math.fsum(0.0 if place is None else row[place] for place, row in zip(taken, self.worth, strict=True)) / len(taken)

    def counts(self, tau: float) -> list[int]:
        """Samples that an adaptive search with this tau draws for each prompt."""
        return [replay(row, tau)[0] for row in self.values]

    def curve(self, taus: Sequence[float]) -> list[Stop]:
        """What the adaptive search costs and finds at each tau."""
        counts = [self.counts(tau) for tau in taus]
        means = [sum(drawn) / len(drawn) for drawn in counts]
        return [Stop(tau, mean, self.best(drawn), drawn) for tau, mean, drawn in zip(taus, means, counts, strict=True)]

    def stopped_at_random(self, counts: Sequence[int], *, draws: int = 10, seed: int = 0) -> float:
        """Worth where the same numbers of samples belong to prompts by chance, mean over so many draws."""
        orders = [permutation(len(counts), derive_seed(seed, "stops", draw)) for draw in range(draws)]
        return math.fsum(self.best([counts[row] for row in rows]) for rows in orders) / draws

    def expected(self, n: float) -> float:
        """Mean worth of fixed best-of-n, over all ways to draw n of these samples (`expected_best_of_n`)."""
        rows = zip(self.values, self.worth, strict=True)
        return math.fsum(expected_best_of_n(said, worth, n) for said, worth in rows) / len(self.worth)


def _lists(values: Sequence[float | None], each: int) -> Lists:
    return [list(values[start : start + each]) for start in range(0, len(values), each)]


def _whole(values: Sequence[float], each: int) -> list[list[float]]:
    return [list(values[start : start + each]) for start in range(0, len(values), each)]
