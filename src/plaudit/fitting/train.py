"""`train`: a plain loop over `Fitter` for heads and judges: epochs, validation, early stopping, exact resume."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from plaudit.fitting.config import FitConfig
from plaudit.fitting.fitter import Fitter, UpdateReport
from plaudit.fitting.seeds import derive_seed, permutation, seeded
from plaudit.fitting.states import atomic_folder, complete, load_state, save_state
from plaudit.fitting.weights import copy_weights, set_weights
from plaudit.types import Loss
from plaudit.types.batch import select_rows

if TYPE_CHECKING:
    from torch.nn import Module


class Sized(Protocol):
    """A batch: has a length, and rows that `select_rows` can take (list, tensor, dictionary of columns, `select`)."""

    def __len__(self) -> int:
        """Number of rows."""
        ...


@dataclass(frozen=True)
class ShuffledRows:
    """Row numbers 0 .. rows - 1 in a new random order each epoch, `batch_rows` an update; the last batch may be smaller."""

    rows: int
    batch_rows: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rows < 1 or self.batch_rows < 1:
            raise ValueError("ShuffledRows needs rows >= 1 and batch_rows >= 1")

    def __len__(self) -> int:
        return -(-self.rows // self.batch_rows)

    def __call__(self, epoch: int) -> Iterator[list[int]]:
        """The batches of an epoch (0-based)."""
        order = permutation(self.rows, derive_seed(self.seed, "rows", epoch))
        for at in range(0, self.rows, self.batch_rows):
            yield order[at : at + self.batch_rows]


@dataclass
class TrainProgress:
    """What the callback is told after each update. epoch: 0-based. step: updates so far, this one included."""

    epoch: int
    step: int
    report: UpdateReport


@dataclass
class TrainResult:
    """How fitting went. losses: mean loss of each epoch. validation: value after each epoch, smaller is better.

    best_epoch: whose weights the modules have now, where validation was asked for. stopped: why it ended early, or None.
    """

    losses: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    best_epoch: int | None = None
    skipped: int = 0
    stopped: str | None = None


def train(
    modules: Mapping[str, Module],
    batches: Sequence[Any] | Callable[[int], Iterable[Any]],
    loss: Callable[[Any], Loss],
    config: FitConfig | None = None,
    *,
    epochs: int = 1,
    units: Callable[[Any], float] = len,
    validate: Callable[[], float] | None = None,
    patience: int | None = None,
    seed: int = 0,
    progress: Callable[[TrainProgress], None] | None = None,
    folder: str | Path | None = None,
) -> TrainResult:
    """Fit modules: one update a batch, split into mini-batches of `config.mini_batch_rows`.

    batches: a list of batches, or a function of the epoch that gives them (`ShuffledRows`). loss: of a mini-batch, a sum over
    its units. units: of a whole batch. validate: called after each epoch; smaller is better, NaN counts as worst; the modules
    end with the weights of the best epoch. patience: stop after so many epochs without a better one. seed: of dropout.
    folder: keep a checkpoint after each epoch, and go on from the one that is there.
    With a schedule, `config.total_steps` is filled in where the number of batches is known.
    """
    loop = _Loop(modules, batches, loss, units, _with_length(config or FitConfig(), batches, epochs), seed, progress)
    kept = None if folder is None else Path(folder)
    if kept is not None and complete(kept) is not None:
        loop.load_state_dict(load_state(complete(kept) or kept))
    while loop.epoch < epochs and loop.result.stopped is None:
        loop.run_epoch()
        if validate is not None:
            with loop.fitter.whole():
                value = float(validate())
            loop.validated(value, patience)
        if kept is not None:
            loop.save(kept)
    if loop.best is not None:
        set_weights(loop.fitter.parameters, loop.best, "the best epoch")
    loop.fitter.release()
    return loop.result


def _with_length(config: FitConfig, batches: Any, epochs: int) -> FitConfig:
    """The number of updates as the schedule's length, where it is known and not given."""
    if config.total_steps is None and hasattr(batches, "__len__"):
        return replace(config, total_steps=max(1, epochs * len(batches)))
    return config


class _Loop:
    """The state of one call of `train`."""

    def __init__(
        self,
        modules: Mapping[str, Module],
        batches: Sequence[Any] | Callable[[int], Iterable[Any]],
        loss: Callable[[Any], Loss],
        units: Callable[[Any], float],
        config: FitConfig,
        seed: int,
        progress: Callable[[TrainProgress], None] | None,
    ) -> None:
        self.fitter = Fitter(modules, config)
        self.batches, self.loss, self.units, self.seed, self.progress = batches, loss, units, seed, progress
        self.epoch = 0
        self.result = TrainResult()
        self.best: dict[str, Any] | None = None

    def run_epoch(self) -> None:
        """All updates of one epoch."""
        losses = []
        for batch in self.batches(self.epoch) if callable(self.batches) else self.batches:
            with seeded(derive_seed(self.seed, "update", self.fitter.steps)):
                report = self._update(batch)
            losses.append(report.loss)
            if self.progress is not None:
                self.progress(TrainProgress(self.epoch, self.fitter.steps, report))
            if report.stop is not None:
                self.result.stopped = report.stop
                break
        finite = [value for value in losses if math.isfinite(value)]
        self.result.losses.append(math.fsum(finite) / len(finite) if finite else math.nan)
        self.result.skipped = self.fitter.skipped
        self.epoch += 1

    def _update(self, batch: Any) -> UpdateReport:
        processes = self.fitter.processes
        rows = list(range(processes.index, len(batch), processes.count))
        size = self.fitter.config.mini_batch_rows or max(1, len(rows))
        chunks = [rows[at : at + size] for at in range(0, len(rows), size)]
        whole = len(chunks) == 1 and processes.count == 1
        parts = [lambda chunk=chunk: self.loss(batch if whole else select_rows(batch, chunk)) for chunk in chunks]
        return self.fitter.update(
            parts,
            self.units(batch) / processes.count,
            rows=[len(chunk) for chunk in chunks],
            spare=lambda: self.loss(select_rows(batch, [0])),
        )

    def validated(self, value: float, patience: int | None) -> None:
        """Note the value after an epoch; keep the weights if it is the best."""
        value = math.inf if math.isnan(value) else value
        self.result.validation.append(value)
        best = self.result.best_epoch
        if best is None or value < self.result.validation[best]:
            self.result.best_epoch = self.epoch - 1
            self.best = copy_weights(self.fitter.parameters)
        elif patience is not None and self.epoch - 1 - best >= patience and self.result.stopped is None:
            self.result.stopped = f"no better validation in {patience} epochs"

    def save(self, folder: Path) -> None:
        """A checkpoint after this epoch."""
        state = {"fitter": self.fitter.state_dict(), "epoch": self.epoch, "result": self.result, "best": self.best}
        if self.fitter.processes.main:
            with atomic_folder(folder) as temporary:
                save_state(temporary, state)
        self.fitter.processes.wait()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after a checkpoint's epoch."""
        self.fitter.load_state_dict(state["fitter"])
        self.epoch, self.result, self.best = state["epoch"], state["result"], state["best"]
