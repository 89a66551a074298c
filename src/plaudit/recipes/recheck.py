"""Results are run again, a few a day: one seed of a recipe against the committed figures of the same recipe."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plaudit.fitting import derive_seed
from plaudit.recipes.base import Recipe
from plaudit.recipes.catalogue import recipes
from plaudit.recipes.results import Results
from plaudit.recipes.runner import reproduce

SHARE = 0.9
"""Of the figures that must lie in their bands."""


@dataclass(frozen=True)
class Band:
    """Where a figure of one seed may lie: between the committed seeds' extremes, widened by their distance on either side.

    Trajectories of training differ between processors after a few hundred steps, so a seed is no exact number elsewhere.
    """

    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Band:
        """The band of committed values, at least one."""
        width = max(values) - min(values) + 1e-4 * max(1.0, *map(abs, values))
        return cls(min(values) - width, max(values) + width)

    def holds(self, value: float | None) -> bool:
        """Whether the value lies in it; a missing one does not."""
        return value is not None and self.low <= value <= self.high


@dataclass(frozen=True)
class Recheck:
    """One seed again. outside: name -> (value, band) of figures out of their bands. figures: how many were compared."""

    slug: str
    seed: int
    seconds: float
    figures: int
    outside: Mapping[str, tuple[float | None, Band]]

    @property
    def agrees(self) -> bool:
        """Whether nine of ten figures lie where the committed seeds lie."""
        return self.figures > 0 and len(self.outside) <= math.floor((1 - SHARE) * self.figures)

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        outside = {name: {"value": value, "low": band.low, "high": band.high} for name, (value, band) in self.outside.items()}
        return {"name": self.slug, "seed": self.seed, "agrees": self.agrees, "figures": self.figures, "outside": outside}


def chosen(results: Results, date: datetime.date, count: int, longest: float) -> list[Recipe]:
    """So many recipes that have a laptop result of at most `longest` seconds a seed; each day has its own order of them."""
    known = [recipe for recipe in recipes().values() if (record := results.of(recipe.slug)) and _longest(record) <= longest]
    return sorted(known, key=lambda recipe: derive_seed(date.toordinal(), recipe.slug))[:count]


def _longest(record: Mapping[str, Any]) -> float:
    return max(float(one["seconds"]) for one in record["by_seed"])


def run_again(recipe: Recipe, record: Mapping[str, Any], folder: Path | None = None) -> Recheck:
    """Run the recipe's first seed, and hold its figures against those that are committed. Nothing is taken from the cache."""
    done = reproduce(recipe, seeds=1, again=True, folder=folder).figures[0]
    committed: dict[str, list[float]] = {}
    for one in record["by_seed"]:
        for name, value in one["values"].items():
            if value is not None:
                committed.setdefault(name, []).append(value)
    bands = {name: Band.of(values) for name, values in committed.items()}
    outside = {name: (done.values.get(name), band) for name, band in bands.items() if not band.holds(done.values.get(name))}
    return Recheck(recipe.slug, done.seed, done.seconds, len(bands), outside)
