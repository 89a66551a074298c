"""A meta reward: how likely is it that what a judge wrote is right? It chooses which votes count (`rewards.generative.voting`).

Liu et al. 2025, Inference-Time Scaling for Generalist Reward Modeling, section 4.2: a scalar head, fitted by binary
cross-entropy on critiques that are known to be right or wrong, those of the judge to be guided among them.
"""

from __future__ import annotations

from collections.abc import Sequence

from plaudit.fitting import FitConfig
from plaudit.rewards.learned.base import Backbone
from plaudit.rewards.learned.data import FitData
from plaudit.rewards.learned.heads import OrdinalReward
from plaudit.types import Batch, UserError


def fit_meta_reward(
    backbone: Backbone,
    judgements: Batch,
    right: Sequence[bool],
    *,
    epochs: int = 2,
    batch: int = 32,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> OrdinalReward:
    """The fitted reward; its score is the log-odds of being right, up to a constant.

    judgements: prompts are what the judge was asked, responses what it wrote. right: [B], `critique_correct`. The
    proportional-odds model with two levels is logistic regression, so `OrdinalReward` is the head.
    Raises UserError where all judgements are right, or all wrong: nothing tells them apart.
    """
    import torch

    from plaudit.rewards.learned.fit import RewardFitConfig, fit

    ratings = torch.tensor([float(one) for one in right])
    if not 0 < float(ratings.sum()) < len(ratings):
        raise UserError("a meta reward is fitted on right and wrong judgements; these are all alike")
    reward = OrdinalReward(backbone, levels=(0.0, 1.0), seed=seed)
    optimiser = FitConfig(learning_rate=learning_rate, warmup_steps=10, schedule="cosine")
    plan = RewardFitConfig(epochs, batch, optimiser, 0.0, split_by="none", patience=None, calibrate=False, seed=seed)
    fit(reward, FitData(judgements, ratings=ratings), plan)
    reward.name = "meta"
    return reward
