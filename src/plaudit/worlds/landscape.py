"""Landscapes of levels of detail: slots with options, general levels first, whose true score a search may see in pairs only.

`levels` levels of `slots` slots with `options` options each. The true score of a state is the sum over levels l of

    decay^l * [ 0.5 * unary + interactions of each slot with the same slot one level up + 0.5 * pairs of slots in the level ],

every table entry standard normal (card 32). A state is a tuple of option numbers, level by level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any

from plaudit.fitting.seeds import derive_seed
from plaudit.rewards.base import BaseReward
from plaudit.types import Batch, Budget, Context, Preferences, Prompt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from plaudit.search.proposing import Ask

    Floats = NDArray[np.float64]
    States = NDArray[np.int64]

State = tuple[int, ...]


@dataclass(frozen=True)
class Landscapes:
    """`count` landscapes, vectorised: every table has a row for each. The seed decides all of them."""

    count: int
    levels: int = 5
    slots: int = 4
    options: int = 6
    decay: float = 0.6
    seed: int = 0

    @cached_property
    def tables(self) -> tuple[Floats, Floats, Floats]:
        """unary [N, L, S, O], up [N, L - 1, S, O above, O], inside [N, L, pairs, O, O]."""
        import numpy as np

        draw = np.random.default_rng(derive_seed(self.seed, "landscapes"))
        n, depth, slots, options = self.count, self.levels, self.slots, self.options
        pairs = slots * (slots - 1) // 2
        return (
            draw.standard_normal((n, depth, slots, options)),
            draw.standard_normal((n, depth - 1, slots, options, options)),
            draw.standard_normal((n, depth, pairs, options, options)),
        )

    def level(self, number: int) -> State:
        """The slots of a level."""
        return tuple(range(number * self.slots, (number + 1) * self.slots))

    @property
    def all_slots(self) -> State:
        """Every slot: the one level of a search that knows none."""
        return tuple(range(self.levels * self.slots))

    def starts(self) -> list[State]:
        """A random state of each landscape."""
        import numpy as np

        draw = np.random.default_rng(derive_seed(self.seed, "starts"))
        states = draw.integers(self.options, size=(self.count, self.levels * self.slots))
        return [tuple(row) for row in states.tolist()]

    def scores(self, landscapes: Sequence[int], states: Sequence[State]) -> Floats:
        """[P] true score of each state in its landscape."""
        import numpy as np

        unary, up, inside = self.tables
        chosen: States = np.asarray(states, dtype=np.int64).reshape(-1, self.levels, self.slots)
        place = np.asarray(landscapes, dtype=np.int64)[:, None, None]
        level, slot = np.arange(self.levels)[None, :, None], np.arange(self.slots)[None, None, :]
        total = 0.5 * unary[place, level, slot, chosen].sum(axis=2)
        total[:, 1:] += up[place, level[:, :-1], slot, chosen[:, :-1], chosen[:, 1:]].sum(axis=2)
        left, right = (np.asarray(ends) for ends in zip(*combinations(range(self.slots), 2), strict=True))
        pair = np.arange(len(left))[None, None, :]
        total += 0.5 * inside[place, level, pair, chosen[:, :, left], chosen[:, :, right]].sum(axis=2)
        weighted: Floats = total @ self.decay ** np.arange(self.levels)
        return weighted


class LandscapeJudge(BaseReward):
    """Says which of two states is better: sign(true difference + normal noise - lean), for the second over the first shown.

    lean: its liking for the first shown, which in an accept test is the current one. Noise is drawn anew for every comparison,
    from `Batch.extras["seed"]` where there is one (so that it does not depend on what else is compared), else from `ctx.seed`.
    voter: another voter draws other noise.
    """

    def __init__(self, world: Landscapes, noise: float = 0.0, lean: float = 0.1, voter: int = 0) -> None:
        self.world, self.name = world, f"landscape-judge-{voter}"
        self.settings = {"world": repr(world), "noise": noise, "lean": lean, "voter": voter}
        self.noise, self.lean, self.voter = noise, lean, voter

    def compare(self, batch: Batch, first: Tensor, second: Tensor, ctx: Context | None = None) -> Preferences:
        """[P] 1 where the first shown is preferred, else 0."""
        import numpy as np
        import torch

        ctx = ctx or Context()
        ctx.budget.spend(reward_calls=len(first))
        one, two = first.tolist(), second.tolist()
        states: Any = batch.require_responses()
        landscapes = [int(batch.prompts[row]["landscape"]) for row in one]
        values = self.world.scores([*landscapes, *landscapes], [states[row] for row in [*one, *two]])
        gap = values[len(one) :] - values[: len(one)] - self.lean
        if self.noise:
            seeds = batch.extras.get("seed") or [derive_seed(ctx.seed, place) for place in range(len(batch))]
            gap = gap + self.noise * normal([seeds[row] for row in one], self.voter)
        return Preferences(first, second, torch.from_numpy(np.where(gap > 0, 0.0, 1.0)))


def normal(seeds: Sequence[int], salt: int = 0) -> Floats:
    """[P] standard normal numbers, one of each seed (SplitMix64's mixing, then the normal quantile of its top 53 bits).

    Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, figure 16.
    """
    import numpy as np
    from scipy.special import ndtri

    with np.errstate(over="ignore"):
        state = np.asarray(seeds, dtype=np.uint64) + np.uint64(salt + 1) * np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
        state ^= state >> np.uint64(31)
    uniform = ((state >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    found: Floats = ndtri(uniform)
    return found


class SlotProposer:
    """Changes one slot of the asked level at random; to recombine, copies a random half of them from one local optimum.

    A level is the tuple of its slots, so that a search in another order, or one that knows no levels, is one with other tuples.
    """

    def __init__(self, world: Landscapes) -> None:
        self.world = world

    def propose(self, asks: Sequence[Ask], *, budget: Budget) -> list[Any]:  # noqa: ARG002
        """One new state each."""
        return [self._joined(ask) if ask.optima else self._changed(ask) for ask in asks]

    def _changed(self, ask: Ask) -> State:
        import random

        draw = random.Random(ask.seed)
        slot = draw.choice(ask.level)
        options = [option for option in range(self.world.options) if option != ask.current[slot]]
        return (*ask.current[:slot], draw.choice(options), *ask.current[slot + 1 :])

    def _joined(self, ask: Ask) -> State:
        import random

        draw = random.Random(ask.seed)
        donor, taken = draw.choice(ask.optima), set(draw.sample(ask.level, len(ask.level) // 2))
        return tuple(donor[slot] if slot in taken else option for slot, option in enumerate(ask.current))

    def refine(self, asks: Sequence[Ask], drafts: Sequence[Any], *, budget: Budget) -> list[Any]:  # noqa: ARG002
        """As they are."""
        return list(drafts)

    def question(self, task: Any, level: Any, *, strict: bool) -> Prompt:  # noqa: ARG002
        """The landscape's number."""
        return {"landscape": task}
