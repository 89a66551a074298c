"""What recipes about people who differ have in common: comparisons to fit on, and how often a reward agrees with their owners."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from plaudit.fitting import FitConfig, derive_seed
from plaudit.rewards.learned.base import pairs_of
from plaudit.rewards.learned.data import FitData
from plaudit.rewards.learned.fit import RewardFitConfig
from plaudit.rewards.learned.losses import pair_accuracy
from plaudit.types import Batch, Preferences, Reward


class Asking(Protocol):
    """A world whose users can be asked."""

    def comparisons(self, users: Sequence[str], pairs: int, seed: int, *, noisy: bool = True) -> tuple[Batch, Preferences]:
        """So many pairs a user, with labels."""
        ...


def asked(world: Asking, users: Sequence[str], pairs: int, seed: int, *, noisy: bool = True) -> FitData:
    """Comparisons of users as data to fit on."""
    return FitData(*world.comparisons(users, pairs, seed, noisy=noisy))


def accuracy(reward: Reward, data: FitData) -> float:
    """Share of decided pairs whose winner has the higher score; NaN, which is no figure, where a row has none."""
    told, values = pairs_of(data), reward.score(data.batch).values
    gaps = values[told.first] - values[told.second]
    return float("nan") if bool(gaps.isnan().any()) else pair_accuracy(gaps, told.prob)


def of_the_next(data: FitData, users: Sequence[str]) -> FitData:
    """The same pairs, each under the name of the user after its own in the list, the first after the last."""
    after = dict(zip(users, [*users[1:], users[0]], strict=True))
    renamed = [after[str(user)] for user in data.batch.users or ()]
    return FitData(Batch(data.batch.prompts, data.batch.responses, users=renamed), data.preferences)


def all_epochs(epochs: int, batch: int, seed: int, **rates: float) -> RewardFitConfig:
    """All pairs, a fixed number of epochs, nothing held out; learning rate 1e-3, other rates by module."""
    optimiser = FitConfig(learning_rate=1e-3, learning_rates=rates, max_grad_norm=None)
    return RewardFitConfig(epochs, batch, optimiser, 0.0, calibrate=False, seed=derive_seed(seed, "fit"))
