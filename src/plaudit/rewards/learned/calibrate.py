"""The temperature of a fitted reward: so that a difference of scores means the log-odds that it shows on held-out pairs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 100.0
"""The temperature lies in [1 / 100, 100] typical gaps; at the upper end held-out pairs are ordered no better than by chance."""


def fit_temperature(gaps: Tensor, prob: Tensor) -> float | None:
    """T that minimises the mean of -p log sigmoid(gap / T) - (1 - p) log sigmoid(-gap / T); None where nothing can be told.

    gaps: [P] reward differences of held-out pairs. prob: [P] their labels. Guo et al., arXiv 1706.04599, section 4.2, for pairs.
    Each hard label is softened to (P + 1) / (P + 2) (Platt, 1999): pairs that are all ordered rightly would have T = 0.
    None: no decided pair, or all gaps 0.
    """
    from scipy.optimize import minimize_scalar

    from plaudit.rewards.learned.losses import pair_losses

    gaps, prob = gaps.detach().double(), prob.double()
    size = gaps.abs().median()
    size = size if size > 0 else gaps.abs().mean()
    if not len(gaps) or not bool((prob != 0.5).any()) or not size > 0:
        return None
    most = (len(gaps) + 1) / (len(gaps) + 2)
    target = prob.clamp(1 - most, most)

    def cost(log_share: float) -> float:
        return float(pair_losses(gaps / (float(size) * math.exp(log_share)), target).mean())

    limit = math.log(LARGEST)
    found = minimize_scalar(cost, bounds=(-limit, limit), method="bounded", options={"xatol": 1e-6})
    return float(size) * math.exp(float(found.x))


def at_limit(temperature: float, gaps: Tensor) -> bool:
    """Whether the temperature is as large as it may be: held-out pairs are ordered no better than by chance."""
    size = float(gaps.detach().double().abs().median()) or float(gaps.detach().double().abs().mean())
    return temperature > 0.99 * LARGEST * size
