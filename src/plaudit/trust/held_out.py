"""What a fitted reward is worth on labelled rows that it was not fitted on, beside what length alone is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plaudit.data.row import Row
from plaudit.judging.results import RowResult
from plaudit.judging.runner import Runner
from plaudit.rewards.base import BaseReward
from plaudit.trust.agreement import Measured, accuracy, baseline_results, cluster_of, length_preference
from plaudit.trust.bootstrap import cluster_bootstrap
from plaudit.types import Context

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class HeldOutAudit:
    """accuracy: on pairs of differently labelled responses to a prompt; chance is 0.5. longest: what taking the longer one gives.

    prefers_longer: how often the reward itself takes the longer one. rank_correlation: Spearman's, between scores and ratings of
    all responses that have both; only where rows have ratings and no pairs. All with 95 % intervals, clustered by prompt.
    rows: how many were judged.
    """

    rows: int
    accuracy: Measured
    longest: Measured
    prefers_longer: Measured
    rank_correlation: Measured

    def figures(self) -> dict[str, Measured]:
        """By the names that people read; those that were measured, or at least tried."""
        named = {
            "accuracy": self.accuracy,
            "picking the longest instead": self.longest,
            "takes the longer one": self.prefers_longer,
            "rank correlation with the ratings": self.rank_correlation,
        }
        return {name: found for name, found in named.items() if found.n or found.left_out}

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        fields = ("accuracy", "longest", "prefers_longer", "rank_correlation")
        return {"rows": self.rows, **{name: getattr(self, name).to_json() for name in fields}}


def held_out_audit(reward: BaseReward, rows: Sequence[Row], *, seed: int = 0) -> HeldOutAudit:
    """Judge labelled rows and measure. Rows and responses that cannot be judged are left out and counted."""
    results = list(Runner(reward, None, Context(seed=seed)).run(rows))
    paired = any(len(row.responses) > 1 for row in rows)
    nothing = Measured(None)
    return HeldOutAudit(
        len(results),
        accuracy(results) if paired else nothing,
        accuracy(baseline_results(rows)["longest"]) if paired else nothing,
        length_preference(results) if paired else nothing,
        nothing if paired else rank_correlation(results),
    )


def rank_correlation(results: Sequence[RowResult]) -> Measured:
    """Spearman's correlation of values and labels over all responses that have both, by a bootstrap over prompts.

    None where values or labels are all equal. The ranks are those of all cases (ties get their mean).
    """
    from scipy.stats import rankdata

    cases = []
    left_out: dict[str, int] = {}
    for result in results:
        for place, response in enumerate(result.responses):
            if result.row.gold is None or response.value is None:
                reason = "no label" if result.row.gold is None else response.status.label
                left_out[reason] = left_out.get(reason, 0) + 1
            else:
                cases.append((cluster_of(result.row), response.value, result.row.gold[place]))
    if len(cases) < 3:
        return Measured(None, left_out)
    values, labels = (rankdata([case[column] for case in cases]) for column in (1, 2))

    def statistic(weights: NDArray[np.int64]) -> NDArray[np.float64]:
        return _correlations(values, labels, weights)

    return Measured(cluster_bootstrap([case[0] for case in cases], statistic), left_out)


def _correlations(x: NDArray[np.float64], y: NDArray[np.float64], weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """[R] Pearson's correlation of x and y, each case counted as often as its weight says."""
    import numpy as np

    total = weights.sum(axis=1)
    left, right = ((weights @ column) / total for column in (x, y))
    covariance = (weights @ (x * y)) / total - left * right
    spreads = ((weights @ (column * column)) / total - mean * mean for column, mean in ((x, left), (y, right)))
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.sqrt(np.prod([np.maximum(spread, 0) for spread in spreads], axis=0))
        found: NDArray[np.float64] = np.where(scale > 1e-12, covariance / scale, np.nan)
        return found
