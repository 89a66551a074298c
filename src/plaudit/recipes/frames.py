"""What checks have in common: figures that stand beside them, and what one figure has over another, seed by seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from plaudit.recipes.base import Figures, figure_over_seeds
from plaudit.trust.agreement import Measured


def figures_beside(figures: Sequence[Figures], names: Iterable[str], form: str = "{}") -> dict[str, Measured]:
    """`figure_over_seeds` of several by name. form: of a figure's full name, such as "{}/accuracy"."""
    return {name: figure_over_seeds(figures, form.format(name)) for name in names}


def differences(figures: Sequence[Figures], first: str, second: str) -> list[float | None]:
    """first minus second of every seed; None where either is missing."""
    return [one.difference(first, second) for one in figures]
