"""Order handling: rewards that judge differently when the same rows are shown in another order.

Judging places candidates in both orders by default, never at random without a seed (design law 4).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import islice, permutations
from typing import TYPE_CHECKING, Literal

from plaudit.rewards.base import BaseReward
from plaudit.rewards.tournament import group_seed
from plaudit.types import Batch, Context, Preferences, Scores, Status, Verdict
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from torch import Tensor

Compare = Callable[[Batch, "Tensor", "Tensor", Context | None], Preferences]


def both_orders(compare_once: Compare) -> Compare:
    """Make a comparison symmetric: ask in both orders, in one call, and average.

    The result satisfies P(a beats b) = 1 - P(b beats a) exactly. Each order's own answer is kept as a Verdict with `order`
    (0, 1) or (1, 0) and `value` = P(first beats second), mapped back to the caller's order; what was said (texts, choices)
    stays in it. If one order has no answer the pair takes its status: half the evidence is not used in silence.
    """

    def compare(batch: Batch, first: Tensor, second: Tensor, ctx: Context | None = None) -> Preferences:
        import torch

        asked = compare_once(batch, torch.cat([first, second]), torch.cat([second, first]), ctx)
        size = len(first)
        straight, turned = asked.prob[:size].double(), asked.prob[size:].double()
        status = torch.where(asked.status[:size] != Status.OK, asked.status[:size], asked.status[size:])
        tie = None if asked.tie is None else (asked.tie[:size] + asked.tie[size:]) / 2
        verdicts = [
            [
                *_placed(asked, pair, (0, 1), straight[pair].item()),
                *_placed(asked, size + pair, (1, 0), 1 - turned[pair].item()),
            ]
            for pair in range(size)
        ]
        prob = 0.5 + (straight - turned) / 2
        return Preferences(first, second, prob, status=status, tie=tie, verdicts=verdicts)

    return compare


def _placed(asked: Preferences, pair: int, order: tuple[int, int], value: float) -> list[Verdict]:
    """The verdicts of one asked pair with the order that it was shown in; one is made if the reward gave none."""
    status = Status(int(asked.status[pair]))
    given = asked.verdicts[pair] if asked.verdicts is not None else []
    known = None if math.isnan(value) else value
    if len(given) <= 1:
        return [replace(given[0] if given else Verdict(), value=known, order=order, status=status)]
    turn = order == (1, 0)
    return [
        replace(verdict, order=order, value=None if verdict.value is None else 1 - verdict.value if turn else verdict.value)
        for verdict in given
    ]


class Symmetrised(BaseReward):
    """A pairwise reward with an order effect, asked in both orders (`both_orders`)."""

    def __init__(self, reward: BaseReward) -> None:
        self.reward = reward
        self.name = reward.name
        self.higher_is_better = reward.higher_is_better
        self.batch_size = reward.batch_size
        self.uses_seed = getattr(reward, "uses_seed", True)
        self.settings = {}

    def compare(self, batch: Batch, first: Tensor, second: Tensor, ctx: Context | None = None) -> Preferences:
        """[P] probabilities, exactly antisymmetric."""
        return both_orders(self.reward.compare)(batch, first, second, ctx)

    def fingerprint(self) -> str:
        """Class, settings and the reward's fingerprint."""
        return content_key(super().fingerprint(), self.reward.fingerprint())

    def check(self) -> None:
        """Forwarded to the reward."""
        self.reward.check()


class Shuffled(BaseReward):
    """A listwise reward with an order effect: the rows of each group are shuffled before it and put back after it.

    shuffles: how many seeded shuffles are averaged, or "all" for every order of each group (at most `largest` rows, since
    n rows have n! orders; a longer group raises ValueError). The average over all orders depends on no order at all.
    spread is the standard deviation over the shuffles. A row that any shuffle left without a number takes that status.
    """

    def __init__(self, reward: BaseReward, shuffles: int | Literal["all"] = 1, *, largest: int = 5) -> None:
        if shuffles != "all" and shuffles < 1:
            raise ValueError(f"shuffles must be at least 1 or 'all', not {shuffles}")
        self.reward, self.shuffles, self.largest = reward, shuffles, largest
        self.name = reward.name
        self.higher_is_better = reward.higher_is_better
        self.batch_size = reward.batch_size
        self.settings = {"shuffles": shuffles}

    def score_group(self, batch: Batch, ctx: Context | None = None) -> Scores:
        """[B] mean over the shuffles, in the order of the batch."""
        import torch

        groups = batch.group_rows()
        if self.shuffles == "all" and max(map(len, groups), default=0) > self.largest:
            raise ValueError(f"a group has more than {self.largest} rows: too many orders to try them all")
        # n! divides m! for n < m, so smaller groups go through all of their orders equally often
        times = math.factorial(max(map(len, groups), default=1)) if self.shuffles == "all" else self.shuffles
        draws = [self._once(batch, groups, turn, ctx) for turn in range(times)]
        values = torch.stack([draw.values.double() for draw in draws])
        status = draws[0].status
        for draw in draws[1:]:
            status = torch.where(status != Status.OK, status, draw.status)
        names = set.intersection(*(set(draw.parts) for draw in draws))
        parts = {name: torch.stack([draw.parts[name] for draw in draws]).mean(dim=0) for name in sorted(names)}
        spread = values.std(dim=0, correction=0).float() if times > 1 else draws[0].spread
        told = [draw.verdicts for draw in draws if draw.verdicts is not None]
        verdicts = [[verdict for draw in told for verdict in draw[row]] for row in range(len(batch))] if told else None
        return Scores(values.mean(dim=0), status, parts, spread=spread, verdicts=verdicts)

    def _once(self, batch: Batch, groups: list[list[int]], turn: int, ctx: Context | None) -> Scores:
        """Judge one shuffle. Position groups[g][k] of the shuffled batch holds the k-th drawn row of group g."""
        shown, back = list(range(len(batch))), list(range(len(batch)))
        for rows in groups:
            for place, row in zip(rows, self._order(batch, rows, turn, ctx), strict=True):
                shown[place], back[row] = row, place
        return self.reward.score_group(batch.select(shown), ctx).select(back)

    def _order(self, batch: Batch, rows: list[int], turn: int, ctx: Context | None) -> list[int]:
        if self.shuffles == "all":
            return list(next(islice(permutations(rows), turn % math.factorial(len(rows)), None)))
        drawn = list(rows)
        random.Random(group_seed((ctx or Context()).seed, batch, rows, f"shuffle {turn}")).shuffle(drawn)
        return drawn

    def fingerprint(self) -> str:
        """Class, settings and the reward's fingerprint."""
        return content_key(super().fingerprint(), self.reward.fingerprint())

    def check(self) -> None:
        """Forwarded to the reward."""
        self.reward.check()
