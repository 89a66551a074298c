"""Objectives by name, for files of settings and the command line: name -> builder, called with the settings by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from plaudit.objectives import policy_gradient
from plaudit.objectives.filtering import FilteredFit, Selector, argmax, extremes, luce, threshold, top_fraction
from plaudit.objectives.flow_balance import FLOW_BALANCE
from plaudit.objectives.imitation import Imitation
from plaudit.objectives.preference import PREFERENCE
from plaudit.types import Generator, Objective, SpecError

Builder = Callable[..., Objective]

SELECTORS: dict[str, Callable[..., Selector]] = {
    "argmax": argmax,
    "top_fraction": top_fraction,
    "threshold": threshold,
    "luce": luce,
    "extremes": extremes,
}


def raft(*, selector: str | Mapping[str, Any] | Selector = "argmax", **settings: Any) -> FilteredFit:
    """`FilteredFit`; the selector may be a name, or a mapping with a `name` and its settings.
    Raises SpecError for an unknown selector."""
    if callable(selector):
        return FilteredFit(selector, **settings)
    arguments = {"name": selector} if isinstance(selector, str) else dict(selector)
    name = arguments.pop("name", None)
    if name not in SELECTORS:
        raise SpecError(f"unknown selector '{name}'; expected one of {', '.join(SELECTORS)}")
    return FilteredFit(SELECTORS[name](**arguments), **settings)


def ppo(*, critic: Any = None, generator: Generator | None = None, **settings: Any) -> Objective:
    """`policy_gradient.ppo`; critic: one that is there, or a kind of `build_critic`, or a mapping with its settings, for which
    the generator is needed. Raises SpecError without either."""
    if not isinstance(critic, policy_gradient.Critic):
        if generator is None:
            raise SpecError("ppo needs a critic, or the generator that one is built for")
        wanted = {"kind": critic} if critic is None or isinstance(critic, str) else dict(critic)
        critic = policy_gradient.build_critic(generator, **wanted)
    return policy_gradient.ppo(critic, **settings)


WITH_CRITIC = frozenset({"ppo"})
"""Objectives that may need the generator to build their critic."""
OBJECTIVES: dict[str, Builder] = {
    "grpo": policy_gradient.grpo,
    "dr_grpo": policy_gradient.dr_grpo,
    "dapo": policy_gradient.dapo,
    "gspo": policy_gradient.gspo,
    "rloo": policy_gradient.rloo,
    "reinforce": policy_gradient.reinforce,
    "ppo": ppo,
    "pairwise_grpo": policy_gradient.pairwise_grpo,
    "brpo": policy_gradient.brpo,
    "raft": raft,
    "imitation": Imitation,
    **PREFERENCE,
    **FLOW_BALANCE,
}
"""What `build_objective` knows."""


def build_objective(name: str, *, generator: Generator | None = None, **settings: Any) -> Objective:
    """The objective of that name. generator: what it will train, for objectives that build a critic (`WITH_CRITIC`).
    Raises SpecError for an unknown name or settings that it does not take."""
    if name not in OBJECTIVES:
        raise SpecError(f"unknown objective '{name}'; expected one of {', '.join(sorted(OBJECTIVES))}")
    if name in WITH_CRITIC:
        settings["generator"] = generator
    try:
        return OBJECTIVES[name](**settings)
    except (TypeError, ValueError) as error:
        raise SpecError(f"objective '{name}': {error}") from error
