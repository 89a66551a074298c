"""Learned rewards: models with a scalar head."""

from plaudit.rewards.learned.scalar import ScalarRewardModel

__all__ = ["ScalarRewardModel"]
