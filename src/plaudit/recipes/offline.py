"""`learn_from`: an arm of a recipe is trained on one draw of given samples, by the one training loop."""

from __future__ import annotations

import tempfile

from plaudit.fitting import FitConfig
from plaudit.recipes.base import Arm
from plaudit.types import Budget, Scores, Trajectories, UserError


def learn_from(
    arm: Arm,
    samples: Trajectories,
    scores: Scores,
    *,
    fit: FitConfig,
    per_draw: int = 1,
    epochs: int = 1,
    seed: int,
    budget: Budget,
) -> dict[str, float]:
    """Train the arm's generator against a frozen copy of itself on samples whose scores are known (DPO on judged pairs).

    The arm's reward is not asked again. per_draw: optimiser steps that an epoch is split into. Returns what the
    objective counted (edges ...). A draw without anything to learn from changes nothing.
    """
    from plaudit.training import Fixed, Run, RunConfig

    settings = RunConfig(steps=1, seed=seed, updates_per_draw=per_draw, inner_epochs=epochs, max_empty_steps=1,
                         checkpoint_every=0, distance_every=0, fit=fit)  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        run = Run(arm.generator, arm.objective, Fixed(samples, scores=scores, shuffle=False), reward=arm.reward,
                  reference_policy="frozen copy", config=settings, run_dir=folder)  # fmt: skip
        record = run.step()
        budget.spend(**run.budget.spent)
    if run.stopped is not None and "empty" not in run.stopped and "nothing" not in run.stopped:
        raise UserError(f"training stopped: {run.stopped}")
    return {name.removeprefix("lesson/"): value for name, value in record.metrics.items() if name.startswith("lesson/")}
