"""Worlds by name, for files of settings and the command line. Importing this imports no torch and no world."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from plaudit.types import SpecError, World

Builder = Callable[..., World]


def _built(place: str) -> Builder:
    """A builder that imports `module:Class` of this package when it is called."""
    module, name = place.split(":")

    def build(**settings: Any) -> World:
        world: World = getattr(import_module(f"plaudit.worlds.{module}"), name)(**settings)
        return world

    build.__doc__ = f"`plaudit.worlds.{module}.{name}`."
    return build


WORLDS: dict[str, Builder] = {
    "arithmetic": _built("arithmetic:ArithmeticWorld"),
    "bits": _built("bits:BitWorld"),
    "digits": _built("digits:Digits"),
    "dimensions": _built("dimensions:HiddenDimensions"),
    "grid": _built("grids:GridWorld"),
    "motifs": _built("motifs:MotifWorld"),
    "reasoning_gym": _built("reasoning_gym:ReasoningGymWorld"),
    "scenes": _built("scenes:Scenes"),
    "set": _built("sets:SetWorld"),
    "sorting": _built("self_judged:SelfJudgedSorting"),
    "strings": _built("strings:StringWorld"),
}
"""What `build_world` knows."""


def build_world(name: str, **settings: Any) -> World:
    """The world of that name. Raises SpecError for an unknown name or settings that it does not take."""
    if name not in WORLDS:
        raise SpecError(f"unknown world '{name}'; expected one of {', '.join(sorted(WORLDS))}")
    try:
        return WORLDS[name](**settings)
    except (TypeError, ValueError) as error:
        raise SpecError(f"world '{name}': {error}") from error
