"""The sequential knock-out: a champion meets one challenger after the other, several times in both orders.

n candidates cost (n - 1) * 2 * repeats comparisons. Only the champion and whom it beat last are known well; for a bracket over
groups of a batch, with one comparison a match, there is `plaudit.rewards.tournament.knockout`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from plaudit.search.proposing import Comparison, Failure, Step
from plaudit.search.tree_file import SearchTree


@dataclass(frozen=True)
class Knockout:
    """winner, runner_up: places of the champion and of the one that it (or its last match) left second; None for one candidate.

    votes: mean vote for the champion in the last match that was judged; None where none was.
    """

    winner: int
    runner_up: int | None = None
    votes: float | None = None


def knockout(tree: SearchTree, key: str, level: Any, candidates: Sequence[Any], *, repeats: int) -> Step[Knockout]:
    """Champion among at least one candidate: the first, until a challenger gets more than half of the votes of a match.

    A match is `repeats` comparisons in each order; a tie keeps the champion, and so does a match of which no vote could be read.
    Votes without a verdict are left out and counted (`unparsable`). Where the search stops, the champion so far is it.
    """
    champion, second, votes = 0, None, None
    for challenger in range(1, len(candidates)):
        shown = [(candidates[champion], candidates[challenger]), (candidates[challenger], candidates[champion])]
        asked = [
            Comparison(tree, f"{key}/{challenger}/{order}/{turn}", level, *shown[order])
            for order in (0, 1)
            for turn in range(repeats)
        ]
        answers = yield list(asked)
        won = []  # votes for the challenger
        for number, answer in enumerate(answers):
            if isinstance(answer, Failure):
                tree.counts["errors"] += 1
                tree.errors.append(f"{asked[number].key}: {type(answer.error).__name__}: {answer.error}")
            elif answer is not None and math.isnan(answer.prob):
                tree.counts["unparsable"] += 1
            elif answer is not None:
                won.append(1 - answer.prob if number < repeats else answer.prob)
        if tree.stopped is not None and len(won) < len(asked):
            break  # half a match decides nothing
        share = sum(won) / len(won) if won else 0.5
        if share > 0.5:
            champion, second, votes = challenger, champion, share
        else:
            second, votes = challenger if second is None else second, 1 - share
    return Knockout(champion, second, votes)
