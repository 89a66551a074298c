"""What a hierarchical search must beat at the same number of judged pairs: searches that know no levels.

Iterated self-consistency is a `HierarchicalSearch` whose levels are all alike and whose beam is 1; one patient line is one with
a single line and unlimited patience (`flat`). Restarts need a loop of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from plaudit.search.hierarchy import HierarchicalSearch
from plaudit.search.proposing import Step
from plaudit.search.tree_file import SearchTree

ENDLESS = 1_000_000


@dataclass(frozen=True)
class Restarts(HierarchicalSearch):
    """Lines from the start one after another; each local optimum challenges the champion. Ends with its limits, or `rounds`."""

    rounds: int = 1000

    def search(self, tree: SearchTree, start: Any, seed: int) -> Step[None]:
        """One task."""
        champion = base = tree.add(None, "start", "start", start)
        for number in range(self.rounds):
            found = yield from self._guarded(tree, f"0.{number}", self.levels[0], base, seed)
            if tree.stopped is not None:
                champion = champion if found is None or champion is not base else found
                break
            if found is None:
                continue
            rivals = [found] if champion is base else [champion, found]
            champion = yield from self._winner(tree, f"0/champion{number}", self.levels[0], rivals, self.votes)
        tree.best = champion


def flat(level: Any, *, rounds: int = 1, lines: int = 1, patience: int = 2) -> HierarchicalSearch:
    """A search without levels. rounds: of self-consistency (lines, knock-out, recombination), each from the last one's result.

    One round and one line is the greedy search; patience=ENDLESS makes it one that gives up only when its limits are spent.
    """
    patient = patience >= ENDLESS
    return HierarchicalSearch(
        (level,) * rounds,
        beam=1,
        lines=lines,
        patience=patience,
        max_steps=ENDLESS if patient else 150,
        rounds_of_cycle=None if patient else 3,
    )
