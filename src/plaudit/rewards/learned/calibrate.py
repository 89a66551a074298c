"""The temperature of a fitted reward: so that a difference of scores means the log-odds that it shows on held-out pairs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 100.0
"""The temperature lies between a hundredth of a typical gap and a hundred gaps, or a hundred where gaps are below 1. At the upper
end held-out pairs are ordered no better than by chance."""


def fit_temperature(gaps: Tensor, prob: Tensor) -> float | None:
    """T that minimises the mean of -p log sigmoid(gap / T) - (1 - p) log sigmoid(-gap / T); None where nothing can be told.

    gaps: [P] reward differences of held-out pairs. prob: [P] their labels. Guo et al., arXiv 1706.04599, section 4.2, for pairs.
    Each hard label is softened to (P + 1) / (P + 2) (Platt, 1999): pairs that are all ordered rightly would have T = 0.
    None: no decided pair, or all gaps 0.
    """
    from scipy.optimize import minimize_scalar

    from plaudit.rewards.learned.losses import pair_losses

    gaps, prob = gaps.detach().double(), prob.double()
    if not len(gaps) or not bool((prob != 0.5).any()) or not bool(gaps.any()):
        return None
    most = (len(gaps) + 1) / (len(gaps) + 2)
    target = prob.clamp(1 - most, most)

    def cost(logarithm: float) -> float:
        return float(pair_losses(gaps / math.exp(logarithm), target).mean())

    bounds = math.log(_typical(gaps) / LARGEST), math.log(_largest(gaps))
    found = minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return math.exp(float(found.x))


def at_limit(temperature: float, gaps: Tensor) -> bool:
    """Whether the temperature is as large as it may be: held-out pairs are ordered no better than by chance."""
    return temperature > 0.99 * _largest(gaps.detach().double())


def _typical(gaps: Tensor) -> float:
    """The median size of the gaps, or their mean size where most are 0."""
    return float(gaps.abs().median()) or float(gaps.abs().mean())


def _largest(gaps: Tensor) -> float:
    """Tiny gaps of a head that has hardly learned must not be blown up: 1 is always within reach."""
    return LARGEST * max(1.0, _typical(gaps))
