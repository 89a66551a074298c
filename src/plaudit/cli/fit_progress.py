"""A fit while it runs: two bars on a terminal (reading rows, updates), a line now and then elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from plaudit.cli.common import err, notice

if TYPE_CHECKING:
    from plaudit.fitting import TrainProgress

LINES = 10
"""About so many lines are written for a whole fit where there is no terminal."""


class FitWatch:
    """Shows a fit, and keeps its loss by update. `read` is for the backbone, `update` for the fit."""

    def __init__(self, *, quiet: bool) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[said]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self.quiet, self.updates = quiet, 0
        self.lines: list[dict[str, Any]] = []
        self._bar = Progress(*columns, console=err, disable=quiet or not err.is_terminal, transient=True)
        self._reading = self._bar.add_task("reading rows with the model", total=None, said="", visible=False)
        self._fitting = self._bar.add_task("fitting", total=None, said="", visible=False)
        self._said = 0

    def __enter__(self) -> FitWatch:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def read(self, done: int, total: int) -> None:
        """So many rows are computed, or were kept from before."""
        self._bar.update(self._reading, completed=done, total=total, visible=done < total)
        if not err.is_terminal:
            self._say(f"{done:,} of {total:,} rows read with the model", done, total)

    def update(self, progress: TrainProgress) -> None:
        """One more update."""
        report = progress.report
        self.lines.append({"step": progress.step, "loss": report.loss, "gradient norm": report.grad_norm})
        self._bar.update(
            self._fitting, completed=progress.step, total=self.updates or None, said=f"loss {report.loss:.4f}", visible=True
        )
        if not err.is_terminal:
            self._say(f"epoch {progress.epoch + 1}, update {progress.step}: loss {report.loss:.4f}", progress.step, self.updates)
        if report.skipped is not None and not self.quiet:
            notice(f"update {progress.step} was skipped: {report.skipped}")

    def _say(self, text: str, done: int, total: int) -> None:
        share = int(LINES * done / max(total, 1))
        if share > self._said or done == total:
            self._said = share
            if not self.quiet:
                notice(text)
        if done == total:
            self._said = 0
