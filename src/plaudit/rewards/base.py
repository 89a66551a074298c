"""`BaseReward`: implement one of score / compare / score_group, and the others follow."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from plaudit.types import Batch, Context, Preferences, Reward, Scores
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from torch import Tensor

    from plaudit.rewards.algebra import Product, WeightedSum

Native = Literal["score", "compare", "score_group"]
Shaper = Callable[[Scores, Batch], Scores]


class BaseReward(Reward):
    """Base of every reward. A subclass overrides at least one of `score`, `compare`, `score_group`.

    What it does not override is derived (`plaudit.rewards.adapters`): pairs from scores by the Bradley-Terry link, scores
    within a group from pairs by a round robin, pairs from a listwise reward by groups of two.
    """

    name: str = "reward"
    uses_seed: bool = True
    """Whether `ctx.seed` can change the numbers. The safe default makes the seed part of every key."""
    batch_size: int = 1024
    """How many rows the runner gives at once: large for rules, small for models."""
    higher_is_better: bool = True
    settings: dict[str, Any]
    """Everything, apart from the class, that decides the numbers. JSON-able; hashed into the fingerprint."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.natives() == () and not getattr(cls, "abstract", False):
            raise TypeError(f"{cls.__name__} must implement one of score, compare, score_group")

    @classmethod
    @cache
    def natives(cls) -> tuple[Native, ...]:
        """The methods that the class implements itself."""
        names: tuple[Native, ...] = ("score", "compare", "score_group")
        return tuple(name for name in names if getattr(cls, name) is not getattr(BaseReward, name))

    @property
    def native(self) -> Native:
        """The way of judging that costs least and loses nothing; the runner uses it."""
        return self.natives()[0]

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:
        """One number a row. Raises ValueError if the reward only compares and the batch has no groups."""
        from plaudit.rewards import adapters

        return adapters.score_from_native(self, batch, ctx)

    def compare(self, batch: Batch, first: Tensor, second: Tensor, ctx: Context | None = None) -> Preferences:
        """One probability a pair."""
        from plaudit.rewards import adapters

        return adapters.compare_from_native(self, batch, first, second, ctx)

    def score_group(self, batch: Batch, ctx: Context | None = None) -> Scores:
        """One number a row, within its group."""
        from plaudit.rewards import adapters

        return adapters.score_group_from_native(self, batch, ctx)

    def fingerprint(self) -> str:
        """Class, name and `settings`, hashed."""
        return content_key(type(self).__module__, type(self).__qualname__, self.name, getattr(self, "settings", {}))

    def check(self) -> None:
        """Raise UserError or EngineError, in one sentence, if the reward cannot work here. Called once before a run."""

    def shaped(self, shaper: Shaper) -> BaseReward:
        """The same reward with its scores passed through `shaper(scores, batch)`."""
        from plaudit.rewards.algebra import Shaped

        return Shaped(self, shaper)

    def __mul__(self, other: float | BaseReward) -> WeightedSum | Product:
        from plaudit.rewards import algebra

        return algebra.multiply(self, other)

    __rmul__ = __mul__

    def __add__(self, other: BaseReward) -> WeightedSum:
        from plaudit.rewards import algebra

        return algebra.add(self, other)

    def __sub__(self, other: BaseReward) -> WeightedSum:
        return self + (-1.0) * other

    def otherwise(self, fallback: BaseReward) -> BaseReward:
        """This reward, and `fallback` for the rows where this one has no number."""
        from plaudit.rewards.algebra import Otherwise

        return Otherwise(self, fallback)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"
