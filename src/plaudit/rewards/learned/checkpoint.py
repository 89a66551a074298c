"""Learned rewards on disk: reward.json (kind, settings, temperature) and model.safetensors. Nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from plaudit.rewards.learned.base import FORMAT, REWARD_FILE, WEIGHTS_FILE, LearnedReward
from plaudit.types import UserError

Learned = TypeVar("Learned", bound=LearnedReward)


def is_reward_folder(folder: str | Path) -> bool:
    """Whether a folder holds a learned reward."""
    return (_place(folder) / REWARD_FILE).is_file()


def _place(folder: str | Path) -> Path:
    """The folder, or the one that was about to be replaced when a save was killed."""
    from plaudit.fitting.states import complete

    return complete(Path(folder)) or Path(folder)


def load_reward(folder: str | Path) -> LearnedReward:
    """The learned reward that `LearnedReward.save` wrote, of whatever kind. Raises UserError if it cannot be read."""
    from plaudit.rewards.learned.catalogue import HEADS

    kind = read_about(folder)["kind"]
    if kind not in HEADS:
        raise UserError(f"{folder} is a learned reward of the unknown kind '{kind}'; known are {', '.join(HEADS)}")
    return load_as(HEADS[kind], folder)


def load_as(cls: type[Learned], folder: str | Path) -> Learned:
    """`load_reward` for a kind that is known, or that is in no catalogue."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    about = read_about(folder)
    if about["kind"] != cls.kind:
        raise UserError(f"{folder} is a learned reward of the kind '{about['kind']}', not '{cls.kind}'")
    try:
        reward = cls(**about["settings"])
    except (TypeError, ValueError) as error:
        raise UserError(f"{folder}/{REWARD_FILE}: settings that '{cls.kind}' does not take: {error}") from error
    try:
        weights = load_file(str(_place(folder) / WEIGHTS_FILE))
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder}/{WEIGHTS_FILE} cannot be read: {error}") from error
    reward.load_state_dict({"weights": weights, "temperature": about["temperature"]})
    reward.name = about["name"]
    if reward.fingerprint() != about["fingerprint"]:
        raise UserError(f"{folder} does not hold what was saved there, or its backbone is not the one that it was fitted on")
    return reward


def read_about(folder: str | Path) -> Mapping[str, Any]:
    """reward.json. Raises UserError if it is missing, damaged, or of a newer format."""
    path = _place(folder) / REWARD_FILE
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{folder} holds no learned reward: {path.name} cannot be read") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    wanted = {"format", "kind", "name", "settings", "temperature", "fingerprint"}
    if not isinstance(about, dict) or not wanted <= set(about) or not isinstance(about["settings"], dict):
        raise UserError(f"{path} is no description of a learned reward; expected {', '.join(sorted(wanted))}")
    if about["format"] != FORMAT:
        raise UserError(f"{path} has format {about['format']}; this version reads {FORMAT}")
    return about
