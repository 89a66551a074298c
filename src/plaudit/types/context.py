"""`Context`: what a reward, objective or search may know about the moment it is called in, and the budget it spends."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plaudit.types.interfaces import Generator


class BudgetExceeded(RuntimeError):
    """A limit of the budget meter was reached."""


@dataclass
class Budget:
    """Counts what is spent, from any thread: `reward_calls`, `network_calls`, `prompt_tokens`, `computed_tokens`
    (those that really went through a local model: shared prefixes once, padding included), `completion_tokens`, `cost`.

    limits: the most of each that may be spent; `spend` raises BudgetExceeded, after counting, when one is passed.
    """

    limits: dict[str, float] = field(default_factory=dict)
    spent: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def spend(self, **amounts: float) -> None:
        """Add the amounts by name."""
        with self._lock:
            for name, amount in amounts.items():
                self.spent[name] += amount  # type: ignore[assignment]  # costs are fractions of a unit of money
        for name, limit in self.limits.items():
            if self.spent[name] > limit:
                raise BudgetExceeded(f"{name}: {self.spent[name]:g} spent, the limit is {limit:g}")


@dataclass
class Context:
    """step: of the training run. progress: share of training done, 0 to 1. seed: the only source of randomness."""

    step: int = 0
    progress: float = 0.0
    seed: int = 0
    budget: Budget = field(default_factory=Budget)
    reference_policy: Generator | None = None
