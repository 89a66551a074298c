"""Searches by name, for files of settings and the command line. Importing this imports no torch and no search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from plaudit.types import Search
from plaudit.types.named import build_named, built

Builder = Callable[..., Search]


SEARCHES: dict[str, Builder] = {
    "best_of_n": built("plaudit.search", "best_of_n:BestOfN"),
    "vote": built("plaudit.search", "best_of_n:Vote"),
    "self_consistency": built("plaudit.search", "best_of_n:SelfConsistency"),
    "adaptive": built("plaudit.search", "adaptive:AdaptiveBestOfN"),
    "pruned": built("plaudit.search", "adaptive:PrunedBestOfN"),
    "refine": built("plaudit.search", "refine:Refine"),
    "step_beams": built("plaudit.search", "step_beams:StepBeams"),
}
"""What `build_search` knows."""


def build_search(name: str, **settings: Any) -> Search:
    """The search of that name. Raises SpecError for an unknown name or settings that it does not take."""
    found: Search = build_named("search", SEARCHES, name, settings)
    return found
