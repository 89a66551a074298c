"""Worlds by name, for files of settings and the command line. Importing this imports no torch and no world."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from plaudit.types import World
from plaudit.types.named import build_named, built

Builder = Callable[..., World]


WORLDS: dict[str, Builder] = {
    "arithmetic": built("plaudit.worlds", "arithmetic:ArithmeticWorld"),
    "bits": built("plaudit.worlds", "bits:BitWorld"),
    "digits": built("plaudit.worlds", "digits:Digits"),
    "dimensions": built("plaudit.worlds", "dimensions:HiddenDimensions"),
    "grid": built("plaudit.worlds", "grids:GridWorld"),
    "motifs": built("plaudit.worlds", "motifs:MotifWorld"),
    "reasoning_gym": built("plaudit.worlds", "reasoning_gym:ReasoningGymWorld"),
    "scenes": built("plaudit.worlds", "scenes:Scenes"),
    "set": built("plaudit.worlds", "sets:SetWorld"),
    "sorting": built("plaudit.worlds", "self_judged:SelfJudgedSorting"),
    "strings": built("plaudit.worlds", "strings:StringWorld"),
}
"""What `build_world` knows."""


def build_world(name: str, **settings: Any) -> World:
    """The world of that name. Raises SpecError for an unknown name or settings that it does not take."""
    found: World = build_named("world", WORLDS, name, settings)
    return found
