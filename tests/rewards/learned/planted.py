"""Labels with a known truth, for tests of learned rewards."""

import torch

from plaudit.fitting import FitConfig
from plaudit.rewards.learned.data import FitData
from plaudit.rewards.learned.fit import RewardFitConfig
from plaudit.rewards.learned.heads import BradleyTerryReward
from plaudit.rewards.learned.vectors import VectorBackbone
from plaudit.types import Batch, Preferences

TRUTH = torch.tensor([1.0, -2.0, 0.5, 0.0])
QUICK = RewardFitConfig(epochs=6, batch_units=50, optimiser=FitConfig(learning_rate=0.05), patience=None)


def vectors(n, seed=0, scale=1.0):
    """[n, 4] standard normal vectors, each with its own prompt for two rows."""
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(seed)) * scale


def pairs(n=200, seed=0, *, noise=True, truth=TRUTH):
    """n pairs of two prompts' vectors; labels drawn by Bradley-Terry on the planted truth, or without noise."""
    found = vectors(2 * n, seed)
    first = torch.arange(0, 2 * n, 2)
    chance = torch.sigmoid((found[first] - found[first + 1]) @ truth)
    drawn = torch.rand(n, generator=torch.Generator().manual_seed(seed + 1000))
    prob = (drawn < chance).float() if noise else (chance > 0.5).float()
    return FitData(Batch([f"{seed}.{row // 2}" for row in range(2 * n)], found), Preferences(first, first + 1, prob))


def rated(n=300, seed=0, noise=0.1):
    """n rated vectors: 10 + 3 x truth, with a little noise."""
    found = vectors(n, seed)
    error = torch.randn(n, generator=torch.Generator().manual_seed(seed + 1000)) * noise
    return FitData(Batch([f"{seed}.{row}" for row in range(n)], found), ratings=10 + 3 * (found @ TRUTH + error))


def direction(weights):
    """A vector of length 1."""
    return weights.detach() / weights.detach().norm()


def linear():
    return BradleyTerryReward(VectorBackbone(4))


def told(batch, edges, prob):
    first, second = (torch.tensor(column, dtype=torch.int64) for column in zip(*edges, strict=True))
    return FitData(batch, Preferences(first, second, torch.tensor(prob)))


def texts(responses, prompts=None):
    """A batch of texts whose vectors are in an extra column."""
    return Batch(prompts or ["q"] * len(responses), responses, extras={"x": vectors(len(responses))})
