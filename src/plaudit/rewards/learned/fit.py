"""`fit`: labels in, a fitted and calibrated reward out, for every kind of learned reward, over `plaudit.fitting.train`."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plaudit.fitting.config import FitConfig
from plaudit.fitting.processes import Processes
from plaudit.fitting.seeds import derive_seed, seeded
from plaudit.fitting.train import ShuffledRows, TrainProgress, TrainResult, train
from plaudit.rewards.learned.base import LearnedReward
from plaudit.rewards.learned.calibrate import at_limit, fit_temperature
from plaudit.rewards.learned.data import ENCODED, FitData
from plaudit.rewards.learned.report import REPORT_FILE, FitReport, HeldOut, model_card
from plaudit.rewards.learned.usable import SplitBy, Usable, blocks, clusters, split_units, usable_units
from plaudit.types import Loss, Status, UserError
from plaudit.types.batch import select_rows
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from torch import Tensor

UNITS_AT_ONCE = 1024
"""Units of a forward pass without gradient."""


class NothingToFit(UserError, ValueError):
    """No unit of the data can be learned from."""


@dataclass(frozen=True)
class RewardFitConfig:
    """How a reward is fitted. Raises ValueError for numbers that make no sense.

    epochs: at most. batch_units: pairs or rated rows an update; users or groups for heads that are fitted on these.
    optimiser: rates (by module: "head", "backbone"), weight decay, schedule, precision, mini-batches.
    validation: share of the units that is held out, for early stopping, accuracy and temperature; 0: none is.
    split_by: what held-out units share with no other: the prompt, the user, or nothing.
    patience: stop after so many epochs without a better validation loss; None: never. The best epoch's weights are kept.
    calibrate: set the temperature on the held-out pairs.
    """

    epochs: int = 10
    batch_units: int = 64
    optimiser: FitConfig = field(default_factory=FitConfig)
    validation: float = 0.1
    split_by: SplitBy = "prompt"
    patience: int | None = 2
    calibrate: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_units < 1:
            raise ValueError("epochs and batch_units are at least 1")
        if not 0 <= self.validation < 1:
            raise ValueError(f"validation is a share in [0, 1), not {self.validation}")
        if self.split_by not in ("prompt", "user", "none"):
            raise ValueError(f"split_by is prompt, user or none, not '{self.split_by}'")


@dataclass(frozen=True)
class Part:
    """Some units of some data."""

    data: FitData
    units: Tensor

    def __len__(self) -> int:
        return len(self.units)

    def updates(self, reward: LearnedReward) -> Tensor | list[list[int]]:
        """What is shuffled and dealt out: units, or lists of those of one user or group."""
        return self.units if reward.units in ("pairs", "rows") else blocks(reward, self.data, self.units)

    def pieces(self, reward: LearnedReward) -> Iterator[FitData]:
        """All units, about `UNITS_AT_ONCE` at a time, users and groups whole."""
        if reward.units in ("pairs", "rows"):
            yield from self.data.chunks(self.units, UNITS_AT_ONCE)
            return
        piece: list[int] = []
        for block in blocks(reward, self.data, self.units):
            piece += block
            if len(piece) >= UNITS_AT_ONCE:
                yield self.data.select(piece)
                piece = []
        if piece:
            yield self.data.select(piece)


def fit(
    reward: LearnedReward,
    data: FitData,
    config: RewardFitConfig | None = None,
    *,
    validation: FitData | None = None,
    folder: str | Path | None = None,
    progress: Callable[[TrainProgress], None] | None = None,
) -> FitReport:
    """Fit a reward in place; its weights are then those of the best epoch, its temperature that of the held-out pairs.

    validation: held-out data of its own; None: a part of `data` is held out. folder: where the reward, its model card and the
    report are written in the end; a fit that was killed goes on from its last whole epoch when it is called again with the same
    data and settings, with the same numbers. A frozen backbone encodes every row once. progress: told after each update.
    What cannot be learned from is left out and counted (`usable.usable_units`). Heads that are fitted on rated rows do not read
    pairs where there are ratings. Raises NothingToFit if nothing is left, UserError
    for labels that this kind of reward is not fitted on, or for a folder with a half fit of something else.
    """
    config = config or RewardFitConfig()
    data, validation = _as_read(reward, data), None if validation is None else _as_read(reward, validation)
    usable = usable_units(reward, data)
    if not len(usable.units):
        raise NothingToFit(f"nothing can be learned from: {_reasons(usable, len(data))}")
    told, held = _split(reward, data, usable, config, validation)
    notes = _notes(told, held, config)
    partial = None if folder is None else _partial(Path(folder), reward, told, config)
    reward.temperature = 1.0
    told, held = _ready(reward, told, held, usable.left_out)
    result = _train(reward, told, held, config, partial, progress)
    for module in reward.fitted_modules().values():
        module.eval()
    known = None if held is None or held.data.preferences is None else _held_out(reward, held)
    if known is not None and config.calibrate:
        notes += _calibrate(reward, known)
    report = FitReport(
        kind=reward.kind, losses=result.losses, validation=result.validation, best_epoch=result.best_epoch,
        stopped=result.stopped, skipped=result.skipped, fitted=len(told), left_out=usable.left_out,
        contradictory=usable.contradictory, held_out=0 if held is None else len(held), held=known,
        held_units=held.units if held is not None and validation is None else None, temperature=reward.temperature, notes=notes,
    )  # fmt: skip
    if folder is not None and partial is not None and Processes().main:
        texts = {"README.md": model_card(reward, report), REPORT_FILE: json.dumps(report.to_json(), indent=1) + "\n"}
        reward.save(folder, texts=texts)
        shutil.rmtree(partial, ignore_errors=True)
    return report


def _as_read(reward: LearnedReward, data: FitData) -> FitData:
    """The data without its pairs, where the reward is fitted on rated rows and there are ratings."""
    by_rows = reward.units in ("rows", "groups") and data.ratings is not None
    return replace(data, preferences=None) if by_rows and data.preferences is not None else data


def _reasons(usable: Usable, total: int) -> str:
    listed = ", ".join(f"{count} {reason}" for reason, count in usable.left_out.items())
    return f"{total} labels, of which {listed} were left out" if listed else "there are no labels"


def _split(
    reward: LearnedReward, data: FitData, usable: Usable, config: RewardFitConfig, validation: FitData | None
) -> tuple[Part, Part | None]:
    """(what is fitted on, what is held out)."""
    import torch

    if validation is not None:
        held = Part(validation, usable_units(reward, validation).units)
        return Part(data, usable.units), held if len(held) else None
    of_unit = clusters(data, usable.units, config.split_by, whole_groups=reward.units == "groups")
    kept, out = split_units(of_unit, config.validation, config.seed)
    held_units = usable.units[out]
    if reward.units in ("users", "groups"):  # in the order in which they are read, so that `FitReport.held` is in it too
        held_units = torch.tensor([unit for block in blocks(reward, data, held_units) for unit in block], dtype=torch.int64)
    return Part(data, usable.units[kept]), Part(data, held_units) if len(out) else None


def _notes(told: Part, held: Part | None, config: RewardFitConfig) -> list[str]:
    """What a reader of the report should know about the labels."""
    notes = []
    if held is None and config.validation > 0:
        notes.append(f"no validation part: all labels hang together by {config.split_by}, or there is one only")
    preferences, ratings = told.data.preferences, told.data.ratings
    if preferences is not None and not bool((preferences.prob[told.units] != 0.5).any()):
        notes.append("all labels are ties: no order can be learned, scores are pulled together")
    if preferences is None and ratings is not None:
        columns = ratings[told.data.rated[told.units]].reshape(len(told), -1)
        spread = [column[~column.isnan()] for column in columns.T]
        if all(len(column.unique()) < 2 for column in spread):
            notes.append("all ratings are equal: a constant is learned")
    return notes


def _ready(reward: LearnedReward, told: Part, held: Part | None, left_out: dict[str, int]) -> tuple[Part, Part | None]:
    """The same parts after `prepare`, with the vectors of a frozen backbone beside their rows.

    Units with a row that came out as NaN are added to `left_out`. Raises NothingToFit if none is left to fit on.
    """
    import torch

    if held is not None and held.data is told.data:
        data = _with_vectors(reward, told.data, torch.cat([told.units, held.units]))
        told, held = Part(data, told.units), Part(data, held.units)
    else:
        told = Part(_with_vectors(reward, told.data, told.units), told.units)
        held = held and Part(_with_vectors(reward, held.data, held.units), held.units)
    shared = held is not None and held.data is told.data
    told = _readable(told, left_out)
    held = held and _readable(held, left_out if shared else {})
    if not len(told):
        raise NothingToFit(f"nothing can be learned from: the backbone could encode none of the rows ({left_out})")
    prepared = reward.prepare(told.data, told.units.tolist())
    if held is not None and len(held):
        return Part(prepared, told.units), Part(prepared, held.units) if shared else held
    return Part(prepared, told.units), None


def _readable(part: Part, left_out: dict[str, int]) -> Part:
    """The part without the units of rows whose vector is not finite; they are counted."""
    import torch

    vectors: Any = part.data.batch.extras.get(ENCODED)
    if vectors is None:
        return part
    fine, told = torch.isfinite(vectors).all(1), part.data.preferences
    kept = fine[part.data.rated[part.units]] if told is None else fine[told.first[part.units]] & fine[told.second[part.units]]
    lost = int((~kept).sum())
    if lost:
        label = Status.NOT_A_NUMBER.label
        left_out[label] = left_out.get(label, 0) + lost
    return Part(part.data, part.units[kept]) if lost else part


def _with_vectors(reward: LearnedReward, data: FitData, units: Tensor) -> FitData:
    """The data with an extra column of what a frozen backbone makes of the units' rows, each encoded once."""
    import torch

    if reward.backbone is None or reward.backbone.trainable:
        return data
    for module in reward.backbone.modules().values():
        module.eval()
    rows = data.rows(units)
    with torch.no_grad():
        if len(rows) == len(data.batch):
            vectors: Any = reward.backbone.encode(data.batch)
        else:
            vectors = torch.full((len(data.batch), reward.backbone.width), torch.nan)
            vectors[rows] = reward.backbone.encode(data.batch.select(rows.tolist()))
    return replace(data, batch=replace(data.batch, extras={**data.batch.extras, ENCODED: vectors.detach()}))


def _train(
    reward: LearnedReward, told: Part, held: Part | None, config: RewardFitConfig, partial: Path | None,
    progress: Callable[[TrainProgress], None] | None,
) -> TrainResult:  # fmt: skip
    """All epochs."""
    modules, updates = reward.fitted_modules(), told.updates(reward)
    shuffled = ShuffledRows(len(updates), config.batch_units, derive_seed(config.seed, "units"))
    whole = reward.units in ("users", "groups")

    def loss(chosen: Any) -> Loss:
        for module in modules.values():
            module.train()
        return reward.loss(told.data.select([unit for block in chosen for unit in block] if whole else chosen))

    def validate() -> float:
        for module in modules.values():
            module.eval()
        return math.nan if held is None else mean_loss(reward, held, derive_seed(config.seed, "validation"))

    return train(
        modules, _Batches(updates, shuffled), loss, config.optimiser, epochs=config.epochs,
        units=(lambda chosen: sum(map(len, chosen))) if whole else len, validate=None if held is None else validate,
        patience=config.patience, seed=config.seed, progress=progress, folder=None if partial is None else partial / "epochs",
    )  # fmt: skip


@dataclass(frozen=True)
class _Batches:
    """Units, or lists of them, in a new order each epoch; it has a length, so that a schedule knows its end."""

    updates: Tensor | list[list[int]]
    shuffled: ShuffledRows

    def __len__(self) -> int:
        return len(self.shuffled)

    def __call__(self, epoch: int) -> Iterator[Any]:
        for numbers in self.shuffled(epoch):
            yield select_rows(self.updates, numbers)


def mean_loss(reward: LearnedReward, part: Part, seed: int) -> float:
    """The loss a unit over a part, without gradient; `seed` is for rewards whose loss draws something."""
    import torch

    with torch.no_grad(), seeded(seed):
        return math.fsum(float(reward.loss(piece).total) for piece in part.pieces(reward)) / len(part)


def _held_out(reward: LearnedReward, held: Part) -> HeldOut:
    """What the reward says about held-out pairs, at temperature 1."""
    import torch

    with torch.no_grad():
        pieces = list(held.pieces(reward))
        gaps = torch.cat([reward.gaps(piece).detach().float() for piece in pieces])
    labels = [piece.preferences.prob for piece in pieces if piece.preferences is not None]
    return HeldOut(gaps, torch.cat(labels))


def _calibrate(reward: LearnedReward, known: HeldOut) -> list[str]:
    """Set the temperature; what there is to say about it."""
    found = fit_temperature(known.gaps, known.prob)
    if found is None:
        return ["the temperature stays 1: no held-out pair is decided, or the reward gives equal scores"]
    reward.temperature = found
    return ["the temperature is at its upper limit: held-out pairs are ordered no better than by chance"] * at_limit(
        found, known.gaps
    )


def _partial(folder: Path, reward: LearnedReward, told: Part, config: RewardFitConfig) -> Path:
    """The folder of a fit that is under way. Raises UserError if it is that of another fit."""
    key = content_key(reward.kind, reward.settings, asdict(config), _labels_key(told))
    partial = folder.parent / f".{folder.name}.fit"
    partial.mkdir(parents=True, exist_ok=True)
    mark = partial / "key.json"
    try:
        known = json.loads(mark.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = None
    if known is None:
        shutil.rmtree(partial / "epochs", ignore_errors=True)
        mark.write_text(json.dumps(key), encoding="utf-8")
    elif known != key:
        raise UserError(f"a fit with other data or settings was begun for {folder}: delete {partial}, or write to another folder")
    return partial


def _labels_key(told: Part) -> str:
    """Content of the labels and rows that are fitted on."""
    import hashlib

    digest = hashlib.sha256()
    data = told.data
    columns: list[Any] = [told.units, data.ratings]
    if data.preferences is not None:
        columns += [data.preferences.first, data.preferences.second, data.preferences.prob, data.preferences.weight]
    columns += [data.batch.prompts, data.batch.require_responses(), data.batch.references, data.batch.users, data.batch.groups]
    for column in columns:
        if hasattr(column, "untyped_storage"):
            digest.update(column.detach().cpu().contiguous().numpy().tobytes())
            continue
        for value in column if column is not None else ("no column",):
            digest.update(value.numpy().tobytes() if hasattr(value, "numpy") else repr(value).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
