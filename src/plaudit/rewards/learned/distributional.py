"""`MeanVarianceReward`: a normal distribution of the reward instead of one number, for people who differ without saying so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from plaudit.rewards.learned.base import Backbone, pairs_of
from plaudit.rewards.learned.data import FitData
from plaudit.rewards.learned.heads import HeadReward
from plaudit.types import Batch, Loss, Scores

if TYPE_CHECKING:
    from torch import Tensor


class MeanVarianceReward(HeadReward):
    """r(s) ~ N(mean(s), deviation(s)^2), P(a beats b) = Phi((mean_a - mean_b) / sqrt(deviation_a^2 + deviation_b^2)).

    Siththaranjan et al., "Distributional preference learning", arXiv 2312.08358, section 4: the variance shows where hidden
    context matters. deviation = softplus of the head's second number; `score` gives the mean, with the deviation as spread.
    """

    kind = "mean-variance"

    def __init__(self, backbone: Backbone | Mapping[str, Any], **settings: Any) -> None:
        super().__init__(backbone, outputs=2, **settings)

    def moments(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """([B] mean, [B] variance, at least 1e-6)."""
        from torch.nn.functional import softplus

        found = self.head(self.inputs(batch))
        return found[:, 0], softplus(found[:, 1]).square() + 1e-6

    def score_rows(self, batch: Batch) -> Scores:
        """Mean and deviation over the temperature."""
        mean, variance = self.moments(batch)
        return Scores(mean / self.temperature, spread=variance.sqrt() / self.temperature)

    def loss(self, data: FitData) -> Loss:
        """Sum over pairs of weight x (-p log Phi(gap) - (1 - p) log Phi(-gap))."""
        from torch.special import log_ndtr

        from plaudit.rewards.learned.losses import pair_accuracy

        told = pairs_of(data)
        mean, variance = self.moments(data.batch)
        gaps = mean[told.first] - mean[told.second]
        scaled = gaps / (variance[told.first] + variance[told.second]).sqrt()
        prob = told.prob.to(scaled)
        losses = -prob * log_ndtr(scaled) - (1 - prob) * log_ndtr(-scaled)
        losses = losses if told.weight is None else losses * told.weight.to(losses)
        return Loss(losses.sum(), stats={"accuracy": pair_accuracy(gaps.detach(), told.prob)})
