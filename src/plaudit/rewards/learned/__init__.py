"""Learned rewards: models with a scalar head, and every kind of head that is fitted here on preferences, ratings or rankings."""

from plaudit.rewards.learned.base import Backbone, LearnedReward
from plaudit.rewards.learned.checkpoint import load_reward
from plaudit.rewards.learned.data import FitData
from plaudit.rewards.learned.scalar import ScalarRewardModel

__all__ = ["Backbone", "FitData", "LearnedReward", "ScalarRewardModel", "load_reward"]
