"""Majority vote over samples of which the unpromising are stopped while they are written (card 40, use B).

Each sample has a value a token, such as the cosine of its state with a goal. The first value below a threshold stops the
sample: it does not vote, and its tokens from there on are saved. Nath et al., arXiv 2407.13887, section 4.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Vote:
    """winner: None where nobody voted. tokens: of all samples. saved: of those stopped. stopped, unparsable: counts of samples.

    fallback: all samples were stopped, so that all vote and nothing is saved.
    """

    winner: Hashable | None
    tokens: int
    saved: int
    stopped: int
    unparsable: int
    fallback: bool


def majority(answers: Sequence[Hashable | None]) -> Hashable | None:
    """The most frequent answer, the first of those that are equally frequent; None (unparsable) never counts."""
    counts = Counter(answer for answer in answers if answer is not None)
    return max(counts, key=counts.__getitem__) if counts else None


def first_below(values: Tensor, theta: float, skip: int = 5, skip_share: float = 0.0) -> int | None:
    """The place of the first value < theta after the first max(skip, floor(skip_share x n)) of n values; None if there is none.

    values: [T], padded with NaN behind the sample.
    """
    known = [value for value in values.tolist() if not math.isnan(value)]
    start = max(skip, int(skip_share * len(known)))
    return next((place for place in range(start, len(known)) if known[place] < theta), None)


def filtered_vote(
    answers: Sequence[Hashable | None], values: Sequence[Tensor] | Tensor, theta: float, *, skip: int = 5, skip_share: float = 0.0
) -> Vote:
    """Vote among the samples that are not stopped; among all where every one is.

    answers: what each sample ended with, None where it cannot be read: it has no vote, and its tokens count all the same.
    values: [T] a sample, or [N, T]. A sample is stopped after the token at which it falls below. Raises ValueError
    without samples, or where answers and values differ in number.
    """
    if not answers or len(answers) != len(values):
        raise ValueError(
            f"a vote needs samples, each with values: there are {len(answers)} answers and {len(values)} rows of values"
        )
    crossed = [first_below(row, theta, skip, skip_share) for row in values]
    lengths = [int((~row.isnan()).sum()) for row in values]
    kept = [answer for answer, place in zip(answers, crossed, strict=True) if place is None]
    stopped = len(answers) - len(kept)
    fallback = not kept
    saved = 0 if fallback else sum(n - place - 1 for n, place in zip(lengths, crossed, strict=True) if place is not None)
    unparsable = sum(answer is None for answer in answers)
    return Vote(majority(answers if fallback else kept), sum(lengths), saved, stopped, unparsable, fallback)


@dataclass(frozen=True)
class VoteFigures:
    """Over questions: accuracy of the vote, share of tokens saved, share of questions where all samples were stopped."""

    accuracy: float
    saved: float
    fallback: float


def vote_figures(
    questions: Sequence[tuple[Sequence[Hashable | None], Tensor]],
    gold: Sequence[Hashable],
    theta: float,
    *,
    skip: int = 5,
    skip_share: float = 0.0,
) -> VoteFigures:
    """Votes over (answers, values [N, T]) of many questions; a question without a winner is wrong. theta = -inf stops nobody.

    Raises ValueError without questions, or where there are not as many right answers.
    """
    if not questions or len(questions) != len(gold):
        raise ValueError(f"{len(questions)} questions and {len(gold)} right answers: there must be as many, and at least one")
    votes = [filtered_vote(answers, values, theta, skip=skip, skip_share=skip_share) for answers, values in questions]
    right = sum(vote.winner == wanted for vote, wanted in zip(votes, gold, strict=True))
    tokens = sum(vote.tokens for vote in votes)
    return VoteFigures(
        right / len(votes), sum(vote.saved for vote in votes) / max(1, tokens), sum(vote.fallback for vote in votes) / len(votes)
    )


def tune_theta(
    questions: Sequence[tuple[Sequence[Hashable | None], Tensor]],
    gold: Sequence[Hashable],
    *,
    most_lost: float = 0.01,
    candidates: int = 32,
    skip: int = 5,
    skip_share: float = 0.0,
) -> float:
    """The threshold that saves most tokens of validation questions and loses at most `most_lost` of the vote's accuracy.

    Candidates are quantiles of the samples' least values after the skipped ones; -inf (stop nobody) is always one of them.
    """
    import torch

    least = []
    for _, values in questions:
        for row in values:
            known = row[~row.isnan()]
            start = max(skip, int(skip_share * len(known)))
            if len(known) > start:
                least.append(float(known[start:].min()))
    if not least:
        return -math.inf
    points = torch.quantile(torch.tensor(least, dtype=torch.float64), torch.linspace(0, 1, candidates, dtype=torch.float64))
    base = vote_figures(questions, gold, -math.inf, skip=skip, skip_share=skip_share).accuracy
    best, most = -math.inf, 0.0
    for theta in points.tolist():
        found = vote_figures(questions, gold, theta, skip=skip, skip_share=skip_share)
        if found.accuracy >= base - most_lost and found.saved > most:
            best, most = theta, found.saved
    return best
