"""Heads and backbones by name: what `plaudit fit --head` accepts, and what a checkpoint's `kind` names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plaudit.rewards.learned.backbones import TextBackbone
from plaudit.rewards.learned.base import Backbone, LearnedReward
from plaudit.rewards.learned.decoder import TokenDecoder
from plaudit.rewards.learned.discriminator import PolicyDiscriminator
from plaudit.rewards.learned.distributional import MeanVarianceReward
from plaudit.rewards.learned.ensemble import EnsembleReward
from plaudit.rewards.learned.goal_reward import GoalReward
from plaudit.rewards.learned.heads import AspectsReward, BradleyTerryReward, OrdinalReward, RankingReward, RegressionReward
from plaudit.rewards.learned.ideal_point import MixtureIdealPoint
from plaudit.rewards.learned.two_tower import TwoTowerReward
from plaudit.rewards.learned.variational import VariationalReward
from plaudit.rewards.learned.vectors import VectorBackbone, VectorReward
from plaudit.types import UserError

_HEADS: tuple[type[LearnedReward], ...] = (
    BradleyTerryReward,
    RankingReward,
    OrdinalReward,
    RegressionReward,
    AspectsReward,
    EnsembleReward,
    VectorReward,
    MixtureIdealPoint,
    VariationalReward,
    MeanVarianceReward,
    TwoTowerReward,
    GoalReward,
    PolicyDiscriminator,
)
HEADS: dict[str, type[LearnedReward]] = {head.kind: head for head in _HEADS}
"""Every kind of learned reward; a new one is added above."""

BACKBONES: dict[str, type[Backbone]] = {one.kind: one for one in (VectorBackbone, TextBackbone, TokenDecoder)}
"""Every kind of backbone, by the "kind" of its settings."""


def build_backbone(settings: Mapping[str, Any]) -> Backbone:
    """A backbone from its settings. Raises UserError for one of an unknown kind, or for settings that it does not have."""
    given = dict(settings)
    kind = given.pop("kind", None)
    if kind not in BACKBONES:
        raise UserError(f"unknown backbone '{kind}'; expected one of {', '.join(BACKBONES)}")
    try:
        return BACKBONES[kind](**given)
    except TypeError as error:
        raise UserError(f"backbone '{kind}': {error}") from error


def build_head(kind: str, settings: Mapping[str, Any]) -> LearnedReward:
    """A learned reward without its weights. Raises UserError for an unknown kind, or for settings that it does not have."""
    if kind not in HEADS:
        raise UserError(f"unknown head '{kind}'; expected one of {', '.join(HEADS)}")
    try:
        return HEADS[kind](**settings)
    except (TypeError, ValueError) as error:
        raise UserError(f"head '{kind}': {error}") from error
