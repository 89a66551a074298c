"""plaudit gives any generator a reward that can be built, trusted and optimised against.

Everything public can be imported from here; nothing heavy is loaded until it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "plaudit.types": (
        "Batch", "Budget", "Context", "DataError", "Engine", "EngineError", "Generation", "Generator", "Lesson", "Loss",
        "Message", "Objective", "Preferences", "Request", "Reward", "Sampling", "Scores", "Search", "Source", "SpecError",
        "States", "Status", "StepStats", "Trajectories", "UserError", "Verdict", "World",
    ),
    "plaudit.data": ("FieldMap", "Row", "read_rows", "rows_to_batch"),
    "plaudit.store": ("Store",),
    "plaudit.engines.catalogue": ("open_engine",),
    "plaudit.rewards.base": ("BaseReward",),
    "plaudit.rewards.algebra": ("Constant", "Ensemble", "Gate", "Product", "WeightedSum"),
    "plaudit.rewards.generative": ("Contract", "Judge", "load_contract"),
    "plaudit.rewards.rules": ("MathAnswer", "as_reward", "reward"),
    "plaudit.rewards.learned": ("ScalarRewardModel",),
    "plaudit.judging": ("RowResult", "Runner", "Summary"),
    "plaudit.judging.easy": ("judge", "load_reward"),
    "plaudit.search.easy": ("best_of_n",),
}  # fmt: skip
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
__all__ = ["__version__", *sorted(_HOME_OF)]


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first used."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'plaudit' has no attribute '{name}'")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
