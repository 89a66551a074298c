"""How far a run is, how fast, and how long (and how dear) the rest will be."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from plaudit.cli.common import err, notice
from plaudit.judging import Progress as Done
from plaudit.rewards.base import BaseReward
from plaudit.types import Context

WARM_UP = 5.0
"""Seconds before an estimate is made: by then the time to load a model is a part of the truth, not all of it."""
LONG_RUN = 60.0
"""Seconds from which a run is announced with an estimate."""


class Run(Protocol):
    """What is watched: a `Runner`, or a run on a cluster."""

    reward: BaseReward
    progress: Done
    context: Context


class Watch:
    """A progress bar on standard error (only on a terminal), and one estimate for a long or paid run."""

    def __init__(self, runner: Run, total: int, *, quiet: bool) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self.runner, self.total, self.quiet = runner, total, quiet
        self.rows = 0
        self._bar = Progress(*columns, console=err, disable=quiet or not err.is_terminal, transient=True)
        self._task = self._bar.add_task("judging", total=total, rate="")
        self._announced = False
        self._started = time.perf_counter()

    def __enter__(self) -> Watch:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.perf_counter() - self._started

    @property
    def batch_judged(self) -> bool:
        """Whether the rows so far end a batch, and something of them was really judged, not found in the store."""
        return self.runner.progress.judged_rows > 0 and self.rows == self.runner.progress.rows

    def row_done(self, count: int = 1) -> None:
        """Count one row, or those of a part."""
        self.rows += count
        if self.rows < self.runner.progress.rows and self.rows % 64:
            return  # a bar that moves at every row would cost more than a fast rule
        judged = self.runner.progress.judged
        rate = f"{judged / self.seconds:,.1f} judged/s" if judged else "from the store"
        self._bar.update(self._task, completed=self.rows, rate=rate)
        if not self._announced and not self.quiet and self.batch_judged and self.seconds > WARM_UP:
            self._announced = True
            self.announce(only_if_long=True)

    def announce(self, *, only_if_long: bool = False) -> None:
        """Say how long the rest will take and what it will cost, at the pace so far."""
        left = self.total - self.rows
        judged = self.runner.progress.judged_rows
        if left <= 0 or judged == 0:
            return
        seconds = self.seconds * left / judged
        spent = float(self.runner.context.budget.spent["cost"])
        cost = spent * left / judged
        if only_if_long and seconds < LONG_RUN and cost == 0:
            return
        price = f", cost about {spent + cost:.4g} in all" if cost > 0 else ""
        notice(f"about {_duration(seconds)} for the other {left:,} rows{price} (less where the store has them)")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
