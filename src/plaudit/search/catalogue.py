"""Searches by name, for files of settings and the command line. Importing this imports no torch and no search."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from plaudit.types import Search, SpecError

Builder = Callable[..., Search]


def _built(place: str) -> Builder:
    """A builder that imports `module:Class` of this package when it is called."""
    module, name = place.split(":")

    def build(**settings: Any) -> Search:
        search: Search = getattr(import_module(f"plaudit.search.{module}"), name)(**settings)
        return search

    build.__doc__ = f"`plaudit.search.{module}.{name}`."
    return build


SEARCHES: dict[str, Builder] = {
    "best_of_n": _built("best_of_n:BestOfN"),
    "vote": _built("best_of_n:Vote"),
    "self_consistency": _built("best_of_n:SelfConsistency"),
    "adaptive": _built("adaptive:AdaptiveBestOfN"),
    "pruned": _built("adaptive:PrunedBestOfN"),
    "refine": _built("refine:Refine"),
    "step_beams": _built("step_beams:StepBeams"),
}
"""What `build_search` knows."""


def build_search(name: str, **settings: Any) -> Search:
    """The search of that name. Raises SpecError for an unknown name or settings that it does not take."""
    if name not in SEARCHES:
        raise SpecError(f"unknown search '{name}'; expected one of {', '.join(sorted(SEARCHES))}")
    try:
        return SEARCHES[name](**settings)
    except (TypeError, ValueError) as error:
        raise SpecError(f"search '{name}': {error}") from error
