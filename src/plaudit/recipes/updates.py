"""`improve`: an arm of a recipe is trained by the one training loop, on prompts that are drawn anew for every update."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from plaudit.fitting import FitConfig, derive_seed
from plaudit.recipes.base import Arm
from plaudit.training.sources import RowSource
from plaudit.types import Batch, Budget, Context, Decision, Draw, Generator, Lesson, Monitor, Trajectories, UserError

if TYPE_CHECKING:
    from plaudit.training.config import RunConfig

Prompts = Callable[[int], Batch]
"""Seed -> the prompts of one draw."""
Change = Callable[[Trajectories, int], Trajectories]
OnUpdate = Callable[[int, Lesson | None], None]


@dataclass(frozen=True)
class Updates:
    """count: draws to learn from. samples: a prompt. how: sampling. epochs: passes over a draw. per_draw: optimiser steps that
    an epoch is split into. change: what happens to a draw before it is scored, by (trajectories, seed)."""

    count: int
    prompts: Prompts
    samples: int = 1
    how: Any = None
    fit: FitConfig = field(default_factory=FitConfig)
    epochs: int = 1
    per_draw: int = 1
    change: Change | None = None

    def run_config(self, seed: int) -> RunConfig:
        """The same as settings of a run, which no number of draws without anything to learn from stops: a recipe counts them."""
        from plaudit.training.config import RunConfig

        return RunConfig(
            steps=self.count,
            seed=seed,
            updates_per_draw=self.per_draw,
            inner_epochs=self.epochs,
            max_empty_steps=self.count,
            checkpoint_every=0,
            distance_every=0,
            fit=self.fit,
        )


class FreshPrompts(RowSource):
    """Samples of the current policy for new prompts in each draw. Spends the tokens of what it samples."""

    def __init__(self, updates: Updates) -> None:
        self.updates, self.rows_per_draw = updates, 0
        self.on_policy = updates.change is None

    def take(self, generator: Generator, ctx: Context, rows: int) -> Draw:  # noqa: ARG002  # prompts decide the rows
        """One draw, changed where that is asked for."""
        import torch

        plan = self.updates
        with torch.no_grad():
            drawn = generator.rollout(plan.prompts(ctx.seed), plan.samples, how=plan.how, seed=ctx.seed)
        if plan.change is not None:
            drawn = plan.change(drawn, ctx.seed)
        ctx.budget.spend(completion_tokens=int(drawn.mask.sum()))
        return Draw(drawn)


@dataclass
class _Watch(Monitor):
    """Tells a recipe of every update."""

    on_update: OnUpdate

    def observe(self, ctx: Context, lesson: Lesson) -> Decision:
        self.on_update(ctx.step + 1, lesson)
        return Decision()


def improve(
    arm: Arm,
    updates: Updates,
    seed: int,
    *,
    budget: Budget,
    reference: Generator | None = None,
    on_update: OnUpdate | None = None,
) -> dict[str, float]:
    """Train the arm's generator. on_update(done, lesson) is called before the first update, with None, and after each.

    Returns what the lessons counted, summed over updates (rows without a score, equal groups ...). A draw without anything to
    learn from makes no step. Raises UserError where the run stops before its end.
    """
    from plaudit.training import Run

    if on_update is not None:
        on_update(0, None)
    counted: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        run = Run(
            arm.generator,
            arm.objective,
            FreshPrompts(updates),
            reward=arm.reward,
            reference_policy=reference,
            monitors=[] if on_update is None else [_Watch(on_update)],
            config=updates.run_config(derive_seed(seed, "updates")),
            run_dir=folder,
        )
        while not run.finished:
            record = run.step()
            for name, value in record.metrics.items():
                if name.startswith(("lesson/rows_", "lesson/groups_")):
                    short = name.removeprefix("lesson/")
                    counted[short] = counted.get(short, 0.0) + value
        if run.stopped is not None and run.done < updates.count:
            raise UserError(f"training stopped after {run.done} of {updates.count} updates: {run.stopped}")
        budget.spend(**run.budget.spent)
    return counted
