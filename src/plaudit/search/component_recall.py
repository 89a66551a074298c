"""How much of an expert's hypothesis was found, component by component (MOOSE-Chem2's evaluation)."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

EXACT = 3
"""The highest level at which a component can be found; 0 is absent."""


def component_recall(
    truth: Sequence[object], found_levels: Sequence[int], found: Sequence[Hashable | None] | None = None
) -> tuple[float, float]:
    """(soft, hard) recall: the share of true components found at all, and the sum of their levels over 3 times their number.

    found_levels: for each true component 0 (absent) to 3 (exact). found: for each, which component of the judged text it was
    found in; one such component counts once, where its level is highest. NaN where there are no true components: nothing was
    there to be found. Raises ValueError for other levels or lengths.
    """
    if len(truth) != len(found_levels) or (found is not None and len(found) != len(truth)):
        raise ValueError(f"{len(truth)} true components, but {len(found_levels)} levels")
    if wrong := [level for level in found_levels if level not in range(EXACT + 1)]:
        raise ValueError(f"a component is found at level 0 to {EXACT}, not {wrong[0]}")
    if not truth:
        return math.nan, math.nan
    used: set[Hashable] = set()
    levels = []
    for place in sorted(range(len(truth)), key=lambda place: -found_levels[place]):
        source = None if found is None else found[place]
        levels.append(0 if source is not None and source in used else found_levels[place])
        if source is not None and found_levels[place]:
            used.add(source)
    return sum(level > 0 for level in levels) / len(truth), sum(levels) / (EXACT * len(truth))
