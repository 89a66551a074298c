"""From a lesson to optimiser steps: inner epochs, updates, mini-batches; and the check that learning sees what was sampled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from plaudit.fitting import Fitter, UpdateReport, derive_seed
from plaudit.training.config import RunConfig
from plaudit.training.splitting import blocks_of, mini_batches, share_of, updates_of
from plaudit.types import Context, Generator, Lesson, Loss, Objective, UserError


@dataclass
class Learned:
    """What the updates of one step did. figures: means over updates, and counts. stop: why the run should end, or None."""

    figures: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    updates: int = 0
    stop: str | None = None


@dataclass
class Learner:
    """Runs the updates of one lesson."""

    generator: Generator
    objective: Objective
    fitter: Fitter
    config: RunConfig

    def learn(self, lesson: Lesson, ctx: Context, *, check_ratio: bool) -> Learned:
        """All inner epochs over the lesson. check_ratio: compare with sampling's log-probabilities before the first update."""
        size = self.config.fit.mini_batch_rows
        blocks = blocks_of(lesson, size)
        learned = Learned()
        reports: list[UpdateReport] = []
        for epoch in range(self.config.inner_epochs):
            for update in updates_of(blocks, self.config.updates_per_draw, derive_seed(ctx.seed, "epoch", epoch)):
                whole = _rows_of(lesson, [row for block in update for row in block])
                units = self.objective.units(whole)
                if not units > 0:
                    continue
                processes = self.fitter.processes
                batches = mini_batches(share_of(update, processes.index, processes.count), size)
                if check_ratio and not reports:
                    error = self._ratio_error(lesson.select(batches[0] if batches else mini_batches(update, size)[0]))
                    learned.figures |= {} if error is None else {"ratio_error": error}
                reports.append(self._update(lesson, update, batches, units / processes.count, ctx))
                if reports[-1].stop is not None:
                    learned.stop = reports[-1].stop
                    return self._summed(learned, reports)
        return self._summed(learned, reports)

    def _update(
        self, lesson: Lesson, update: Sequence[list[int]], batches: Sequence[list[int]], units: float, ctx: Context
    ) -> UpdateReport:
        """One step. The first block with a step that counts is there for processes that have nothing to run."""

        def part(rows: list[int]) -> Loss:
            return self.objective.loss(self.generator, _rows_of(lesson, rows), ctx)

        mask = lesson.trajectories.mask
        spare = next((rows for rows in update if bool(mask[rows].any())), None)
        parts = [lambda rows=rows: part(rows) for rows in batches]
        return self.fitter.update(
            parts, units, rows=[len(rows) for rows in batches], spare=None if spare is None else lambda: part(spare)
        )

    def _ratio_error(self, lesson: Lesson) -> float | None:
        """Largest |log-probability now - when sampled|, nats a step. Raises UserError if it is above the tolerance.

        Before the first update both are of the same weights, so a difference means that sampling and evaluation disagree (a
        temperature, a mask, dropout, another precision), which would bias every ratio of the run.
        """
        import torch

        tolerance = self.config.ratio_tolerance
        if tolerance is None or lesson.old_log_probs is None:
            return None
        mask = lesson.trajectories.mask
        with self.fitter.whole(), torch.no_grad(), self.fitter.precision():
            now = self.generator.evaluate(lesson.trajectories, need=("log_prob",)).log_prob
        if now is None or not bool(mask.any()):
            return None
        gap = (now.double() - lesson.old_log_probs.to(now.device).double())[mask.to(now.device)].abs()
        error = float(gap.max())
        if not error <= tolerance:
            raise UserError(
                f"before the first update, log-probabilities differ by {error:.3g} from those of sampling (tolerance "
                f"{tolerance:g}): evaluation does not repeat the rollout; compare temperature, masks, dropout and precision, "
                "or set ratio_tolerance"
            )
        return error

    def _summed(self, learned: Learned, reports: Sequence[UpdateReport]) -> Learned:
        """Figures of all updates: means, and how many were skipped."""
        learned.updates = len(reports)
        if not reports:
            return learned
        rows = [
            {
                "loss": report.loss,
                "grad_norm": report.grad_norm,
                **{f"loss/{name}": value for name, value in report.parts.items()},
                **report.stats,
            }
            for report in reports
        ]
        for name in dict.fromkeys(name for row in rows for name in row):
            values = [row[name] for row in rows if math.isfinite(row.get(name, math.nan))]
            if values:
                learned.figures[name] = math.fsum(values) / len(values)
        skipped = [report.skipped for report in reports if report.skipped is not None]
        learned.notes += [f"{len(skipped)} of {len(reports)} updates skipped: {skipped[0]}"] if skipped else []
        learned.figures |= {"updates": float(len(reports)), "skipped": float(len(skipped))}
        learned.figures["learning_rate"] = reports[-1].learning_rate
        return learned


def _rows_of(lesson: Lesson, rows: list[int]) -> Lesson:
    """The given rows; all of them are the lesson itself, whose order decides nothing in a sum."""
    return lesson if len(rows) == len(lesson) else lesson.select(rows)
