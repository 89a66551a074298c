"""Learned rewards in recipes: fitted for a given number of steps, and measured on labelled pairs."""

from __future__ import annotations

from plaudit.fitting import FitConfig
from plaudit.rewards.base import BaseReward
from plaudit.rewards.learned.base import LearnedReward, pairs_of
from plaudit.rewards.learned.data import FitData


def fit_pairs(reward: LearnedReward, data: FitData, *, epochs: int, batch: int, rate: float, seed: int) -> None:
    """Fit on all pairs, without a validation part or a temperature: arms of a recipe take equally many steps."""
    from plaudit.rewards.learned.fit import RewardFitConfig, fit

    optimiser = FitConfig(learning_rate=rate, warmup_steps=10, schedule="cosine")
    fit(reward, data, RewardFitConfig(epochs, batch, optimiser, 0.0, patience=None, calibrate=False, seed=seed))


def label_accuracy(reward: BaseReward, data: FitData) -> float:
    """Share of decided pairs that a reward orders as they are labelled; equal scores count half, NaN where one is missing."""
    from plaudit.rewards.learned.losses import pair_accuracy

    told, values = pairs_of(data), reward.score(data.batch).values
    return pair_accuracy(values[told.first] - values[told.second], told.prob)
