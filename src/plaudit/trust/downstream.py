"""Does a benchmark say what a judge is worth? Best-of-N with the judge on a task with known answers, and the correlation.

VL-RewardBench (Li et al. 2024, section 4.4) reports Pearson r above 0.9 between a judge's accuracy and what best-of-N with that
judge reaches; whether it chose by scores or by comparisons is not stated, so both are here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from plaudit.data import Row
from plaudit.data.row import rows_to_batch
from plaudit.judging.intervals import Z_95
from plaudit.rewards.base import BaseReward
from plaudit.rewards.tournament import knockout
from plaudit.trust.agreement import Measured, pick_accuracy
from plaudit.types import Context, Scores

Choice = Literal["score", "knockout"]


def best_of_n(reward: BaseReward, rows: Sequence[Row], *, how: Choice | None = None, ctx: Context | None = None) -> Measured:
    """Share of rows in which the response that the reward picks is one of the best by the labels.

    how: "score" takes the highest score, the first of equals; "knockout" plays single elimination; None: scores where the reward
    gives them natively, else a knock-out. A row without a pick (a response, or a match, that could not be judged) is left out.
    """
    batch = rows_to_batch(rows)
    chosen = how or ("knockout" if reward.native == "compare" else "score")
    scores = knockout(reward, batch, ctx) if chosen == "knockout" else reward.score_group(batch, ctx)
    return pick_accuracy(rows, [_pick(scores, members) for members in batch.group_rows()])


def _pick(scores: Scores, members: Sequence[int]) -> int | None:
    """Place of the best row of a group; None unless every row has a number."""
    if not bool(scores.ok[list(members)].all()):
        return None
    values = scores.values[list(members)].tolist()
    return max(range(len(values)), key=lambda place: (values[place], -place))


@dataclass(frozen=True)
class Correlation:
    """Pearson's r, of values or of ranks, over `n` judges with Fisher's 95 % interval (NaN below four).

    r is None where a side does not vary. left_out: judges without one of the two numbers.
    """

    r: float | None
    low: float
    high: float
    n: int
    left_out: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON-able: an end that is not finite is null."""
        ends = {"low": self.low, "high": self.high}
        known = {name: end if math.isfinite(end) else None for name, end in ends.items()}
        return {"r": self.r, **known, "n": self.n, "left_out": list(self.left_out)}


def downstream_correlation(benchmark: Mapping[str, float | None], downstream: Mapping[str, float | None]) -> Correlation:
    """Correlation over judges, by name, of benchmark and downstream accuracy. Raises ValueError where the names differ."""
    known, left_out = _known(benchmark, downstream)
    return _with_interval(known, left_out)


def usefulness_correlation(benchmark: Mapping[str, float | None], gain: Mapping[str, float | None]) -> Correlation:
    """Spearman's rank correlation over judges, by name, of benchmark accuracy and what training with the judge gained (card 28).

    Ties get their mean rank. `Correlation.r` is the rank correlation; its interval is Fisher's on the ranks, which for few
    judges is wide, and says no more than that they are few. Raises ValueError where the names differ.
    """
    from scipy.stats import rankdata

    known, left_out = _known(benchmark, gain)
    columns = [rankdata([pair[side] for pair in known]).tolist() for side in (0, 1)] if known else [[], []]
    return _with_interval(list(zip(*columns, strict=True)), left_out)


def _known(
    benchmark: Mapping[str, float | None], downstream: Mapping[str, float | None]
) -> tuple[list[tuple[float, float]], tuple[str, ...]]:
    """The pairs that are whole, and the names of the others."""
    if set(benchmark) != set(downstream):
        raise ValueError("the benchmark and the downstream task measured different judges")
    pairs = {name: (benchmark[name], downstream[name]) for name in benchmark}
    known = [(a, b) for a, b in pairs.values() if a is not None and b is not None]
    return known, tuple(name for name, pair in pairs.items() if None in pair)


def _with_interval(known: list[tuple[float, float]], left_out: tuple[str, ...]) -> Correlation:
    """Pearson's r of the pairs with Fisher's interval."""
    r = pearson(known)
    if r is None or len(known) < 4:
        return Correlation(r, math.nan, math.nan, len(known), left_out)
    centre, half = math.atanh(min(1 - 1e-12, max(-1 + 1e-12, r))), Z_95 / math.sqrt(len(known) - 3)
    return Correlation(r, math.tanh(centre - half), math.tanh(centre + half), len(known), left_out)


def pearson(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Pearson's r; None for fewer than two pairs, or where one side does not vary."""
    if len(pairs) < 2:
        return None
    means = [math.fsum(pair[side] for pair in pairs) / len(pairs) for side in (0, 1)]
    gaps = [(a - means[0], b - means[1]) for a, b in pairs]
    squares = [math.fsum(gap[side] ** 2 for gap in gaps) for side in (0, 1)]
    if min(squares) <= 1e-24:
        return None
    return math.fsum(a * b for a, b in gaps) / math.sqrt(squares[0] * squares[1])
