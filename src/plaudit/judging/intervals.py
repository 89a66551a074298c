"""Intervals for shares and means whose cases come in clusters (several pairs of one prompt are not independent).

A share over clusters c with t_c successes in n_c cases is p = sum t / sum n. Its variance is the linearised ratio estimator
k/(k-1) * sum (t_c - p n_c)^2 / (sum n)^2 (Cochran, Sampling Techniques, section 6.3). The share's interval is Wilson's with the
effective number of cases p(1-p)/variance; with one case a cluster that is Wilson's own interval up to the factor k/(k-1).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the standard normal distribution."""


@dataclass(frozen=True)
class Interval:
    """mean with its 95 % interval [low, high] over n cases in `clusters` clusters."""

    mean: float
    low: float
    high: float
    n: int
    clusters: int

    def to_json(self) -> dict[str, Any]:
        """Rounded to 6 decimals: more would pretend. Infinite bounds are null, as JSON has no infinity."""
        low, high = (round(bound, 6) if math.isfinite(bound) else None for bound in (self.low, self.high))
        return {
            "mean": round(self.mean, 6),
            "low": low,
            "high": high,
            "n": self.n,
            "clusters": self.clusters,
        }


def t_95(degrees: float) -> float:
    """Two-sided 95 % quantile of Student's t; degrees may be fractional, and count as at least 1."""
    from scipy.special import stdtrit

    return float(stdtrit(max(1.0, degrees), 0.975))


def wilson(share: float, n: float, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of a share in [0, 1] over n > 0 cases; n may be an effective, fractional number."""
    if not 0.0 <= share <= 1.0 or n <= 0:
        raise ValueError(f"wilson needs a share in [0, 1] and n > 0, got {share} and {n}")
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


class ClusteredMean:
    """Running mean over clustered cases; memory grows with the number of clusters only."""

    def __init__(self) -> None:
        self._sums: dict[Hashable, tuple[float, int]] = {}
        self._closed: tuple[int, int, float, float] | None = None

    def add(self, cluster: Hashable, total: float, count: int = 1) -> None:
        """Add `count` cases with the sum `total` to a cluster.

        Raises ValueError on NaN (a missing case is not a case), and once the clusters are forgotten.
        """
        if math.isnan(total):
            raise ValueError("a missing case cannot be added to a mean")
        if self._closed is not None:
            raise ValueError("the clusters of this mean are forgotten, so nothing can be added to it")
        before = self._sums.get(cluster, (0.0, 0))
        self._sums[cluster] = (before[0] + total, before[1] + count)

    def merge(self, other: ClusteredMean) -> None:
        """Add the cases of another mean; a cluster that is in both is one cluster."""
        for cluster, (total, count) in other.clusters.items():
            self.add(cluster, total, count)

    @property
    def clusters(self) -> Mapping[Hashable, tuple[float, int]]:
        """(sum, number of cases) of each cluster. Raises ValueError once they are forgotten."""
        if self._closed is not None:
            raise ValueError("the clusters of this mean are forgotten")
        return self._sums

    def forget_clusters(self) -> None:
        """Keep only what the estimate needs, in constant memory; nothing can be added any more."""
        self._closed, self._sums = self._figures(), {}

    @property
    def n(self) -> int:
        """Number of cases."""
        return self._closed[0] if self._closed is not None else sum(count for _, count in self._sums.values())

    def _figures(self) -> tuple[int, int, float, float]:
        """Cases, clusters, their mean, and the squared deviations of the clusters' sums from it."""
        if self._closed is not None:
            return self._closed
        n = self.n
        mean = math.fsum(total for total, _ in self._sums.values()) / n if n else math.nan
        squares = math.fsum((total - mean * count) ** 2 for total, count in self._sums.values())
        return n, len(self._sums), mean, squares

    def estimate(self, *, share: bool = True) -> Interval | None:
        """The mean with its interval; None where nothing was added.

        share: cases lie in [0, 1] and the interval is Wilson's; else Student's t for the mean, infinite for one cluster.
        """
        n, clusters, mean, squares = self._figures()
        if n == 0:
            return None
        variance = squares / n**2 * clusters / (clusters - 1) if clusters > 1 else math.inf
        if not share:
            # the normal interval of 25 clusters covers 922 times in 1,000
            half = t_95(clusters - 1) * math.sqrt(variance)
            return Interval(mean, mean - half, mean + half, n, clusters)
        mean = min(1.0, max(0.0, mean))
        spread = mean * (1 - mean)
        # all right or all wrong: the variance is 0 and says nothing, so each cluster counts as one case;
        # clusters may never claim more evidence than the cases that they hold
        effective = float(clusters) if spread == 0 or math.isinf(variance) else min(float(n), spread / max(variance, 1e-300))
        return Interval(mean, *wilson(mean, effective), n, clusters)
