"""`LearnedReward`: what every reward that is fitted on labels has in common, and `Backbone`, what its head reads.

To write one: subclass `LearnedReward`, set `kind` and `settings`, implement `modules` and `logit` (and `loss`, where it is not
Bradley-Terry), and add the class to `plaudit.rewards.learned.catalogue.HEADS`. `plaudit.rewards.learned.fit.fit` does the rest.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, runtime_checkable

from plaudit.rewards.base import BaseReward
from plaudit.rewards.learned.data import ENCODED, FitData
from plaudit.types import Batch, Context, Loss, Preferences, Scores, Status, UserError
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

Units = Literal["pairs", "rows", "groups", "users"]
REWARD_FILE, WEIGHTS_FILE = "reward.json", "model.safetensors"
FORMAT = 1
"""Version of reward.json."""


@runtime_checkable
class Backbone(Protocol):
    """What turns rows into vectors. Frozen ones are run once over all rows of a fit, trainable ones in every update.

    settings has a "kind" of `catalogue.BACKBONES`; its class called with the others gives the backbone before training.
    """

    @property
    def width(self) -> int:
        """Length of a vector."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """What rebuilds it, with its "kind"."""
        ...

    @property
    def trainable(self) -> bool:
        """Whether `encode` has parameters that fitting changes."""
        ...

    def modules(self) -> dict[str, Module]:
        """What is trained: modules whose parameters with requires_grad change. Empty where it is frozen."""
        ...

    def status(self, batch: Batch) -> Tensor:
        """[B] int8 of `Status`: which rows can be encoded, and why the others cannot. Runs no model."""
        ...

    def encode(self, batch: Batch) -> Tensor:
        """[B, width] float32 on the CPU, with gradient where trainable; is only asked about rows whose status is OK."""
        ...

    def fingerprint(self) -> str:
        """Content key of everything that decides its vectors before training."""
        ...


class LearnedReward(BaseReward):
    """A reward with weights. `logit` is what is fitted; `score` is logit / temperature, a log-odds when two are subtracted.

    kind: its name in `HEADS` and in a checkpoint. settings: JSON-able; `cls(**settings)` rebuilds it without its weights.
    units: what an update is made of. "users" and "groups" are never split over two updates; "rows" are rated rows.
    temperature: set after fitting, on held-out pairs. backbone: None for a reward that reads batches itself.
    """

    kind: ClassVar[str] = ""
    units: ClassVar[Units] = "pairs"
    abstract = True
    uses_seed = False
    batch_size = 256
    temperature: float = 1.0
    backbone: Backbone | None = None

    @abstractmethod
    def modules(self) -> dict[str, Module]:
        """Its own torch modules by name, all of which is saved; those of the backbone are added by `fitted_modules`."""

    @abstractmethod
    def logit(self, batch: Batch) -> Tensor:
        """[B] with gradient; is only asked about rows whose status is OK."""

    def loss(self, data: FitData) -> Loss:
        """The SUM over the data's units. Here: Bradley-Terry with soft labels and weights (`losses.bradley_terry_loss`)."""
        from plaudit.rewards.learned.losses import bradley_terry_loss

        return bradley_terry_loss(self.logit(data.batch), pairs_of(data))

    def gaps(self, data: FitData) -> Tensor:
        """[P] log-odds that the first beats the second, at temperature 1: what held-out pairs are judged and calibrated by."""
        scores, told = self.logit(data.batch), pairs_of(data)
        return scores[told.first] - scores[told.second]

    def prepare(self, data: FitData, units: Sequence[int]) -> FitData:  # noqa: ARG002
        """Called once before fitting, with all data and the units that are fitted on: set what comes from the data.

        It draws nothing that `settings` do not decide. Gives the data back, perhaps with another column. Raises UserError for
        labels that it cannot be fitted on.
        """
        return data

    def status(self, batch: Batch) -> Tensor:
        """[B] int8 of `Status`: which rows can be judged at all. Here: those that the backbone can encode."""
        import torch

        return torch.zeros(len(batch), dtype=torch.int8) if self.backbone is None else self.backbone.status(batch)

    def encode(self, batch: Batch) -> Tensor:
        """[B, d] the backbone's vectors, or those that `fit` has computed once. Raises TypeError without a backbone."""
        if ENCODED in batch.extras:
            known: Any = batch.extras[ENCODED]
            vectors: Tensor = known
            return vectors
        if self.backbone is None:
            raise TypeError(f"{type(self).__name__} has no backbone")
        return self.backbone.encode(batch)

    def fitted_modules(self) -> dict[str, Module]:
        """Everything that fitting may change: `modules`, and the backbone's as one module "backbone"."""
        from torch.nn import ModuleDict

        of_backbone = {} if self.backbone is None else self.backbone.modules()
        return {**self.modules(), **({"backbone": ModuleDict(of_backbone)} if of_backbone else {})}

    def score_rows(self, batch: Batch) -> Scores:
        """Scores of rows whose status is OK, called without gradient; override it to add parts or a spread."""
        return Scores(self.logit(batch) / self.temperature)

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:
        """[B] logit / temperature, modules in evaluation mode; rows that cannot be judged have their status and NaN."""
        import torch

        if ctx is not None:
            ctx.budget.spend(reward_calls=len(batch))
        for module in self.fitted_modules().values():
            module.eval()
        status = self.status(batch)
        rows = (status == Status.OK).nonzero()[:, 0].tolist()
        with torch.no_grad():
            chunks = [rows[at : at + self.batch_size] for at in range(0, len(rows), self.batch_size)]
            found = [self.score_rows(batch if len(chunk) == len(batch) else batch.select(chunk)) for chunk in chunks]
        return _spread_out(found, rows, status)

    def fit(self, batch: Batch, preferences: Preferences, ctx: Context) -> dict[str, float]:
        """Fit on labelled pairs with the default settings of `RewardFitConfig`; figures for the log."""
        from plaudit.rewards.learned.fit import RewardFitConfig, fit

        return fit(self, FitData(batch, preferences), RewardFitConfig(seed=ctx.seed)).figures()

    def weights(self) -> dict[str, Tensor]:
        """What a checkpoint holds, by MODULE/NAME: all of the own modules, and what is trained of the backbone."""
        from plaudit.fitting.weights import kept_weights

        own = {f"{name}/{path}": value for name, module in self.modules().items() for path, value in _state(module).items()}
        of_backbone = {} if self.backbone is None else kept_weights(self.backbone.modules())
        return {**own, **{f"backbone/{path}": value for path, value in of_backbone.items()}}

    def state_dict(self) -> dict[str, Any]:
        """Weights (copies) and temperature."""
        return {
            "weights": {name: value.detach().cpu().clone() for name, value in self.weights().items()},
            "temperature": self.temperature,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave. Raises UserError for weights of other names or shapes."""
        from plaudit.fitting.weights import set_weights

        set_weights(self.weights(), state["weights"], f"the state of '{self.name}'")
        self.temperature = float(state["temperature"])

    def fingerprint(self) -> str:
        """Of kind, settings, backbone, weights and temperature."""
        backbone = None if self.backbone is None else self.backbone.fingerprint()
        return content_key("learned", self.kind, self.settings, backbone, self.temperature, self.weights_key())

    def weights_key(self) -> str:
        """sha256 of `weights`, names and shapes included."""
        import hashlib

        digest = hashlib.sha256()
        for name, value in sorted(self.weights().items()):
            digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            digest.update(_bytes(value))
        return digest.hexdigest()

    def save(self, folder: str | Path, *, texts: Mapping[str, str] | None = None) -> None:
        """Write reward.json, model.safetensors and other texts by file name (a README.md) as a folder, all or nothing."""
        from safetensors.torch import save_file

        from plaudit.fitting.states import atomic_folder

        about = {
            "format": FORMAT, "kind": self.kind, "name": self.name, "settings": self.settings,
            "temperature": self.temperature, "fingerprint": self.fingerprint(),
        }  # fmt: skip
        with atomic_folder(Path(folder)) as temporary:
            weights = {name: value.detach().cpu().contiguous().clone() for name, value in self.weights().items()}
            save_file(weights, str(temporary / WEIGHTS_FILE))
            (temporary / REWARD_FILE).write_text(json.dumps(about, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            for name, text in (texts or {}).items():
                (temporary / name).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote; nothing is unpickled. Raises UserError for a folder of another kind, or a damaged one."""
        from plaudit.rewards.learned.checkpoint import load_as

        return load_as(cls, folder)


def pairs_of(data: FitData) -> Preferences:
    """The preferences of data. Raises UserError if there are none."""
    if data.preferences is None:
        raise UserError("this reward is fitted on pairs; the data has only ratings")
    return data.preferences


def ratings_of(data: FitData) -> Tensor:
    """The ratings of data. Raises UserError if there are none."""
    if data.ratings is None:
        raise UserError("this reward is fitted on ratings; the data has only pairs")
    return data.ratings


def _state(module: Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers, as they are (no copies)."""
    return dict(module.state_dict(keep_vars=True))


def _bytes(value: Tensor) -> bytes:
    """The bits of a tensor of any type."""
    import torch

    raw: bytes = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return raw


def _spread_out(found: Sequence[Scores], rows: Sequence[int], status: Tensor) -> Scores:
    """Scores of chosen rows as scores of the whole batch."""
    import torch

    def column(parts: Sequence[Tensor]) -> Tensor:
        whole = torch.full((len(status),), torch.nan)
        whole[list(rows)] = torch.cat([part.float() for part in parts])
        return whole

    if not found:
        return Scores(torch.full((len(status),), torch.nan), status)
    status = status.clone()
    status[list(rows)] = torch.cat([scores.status for scores in found])
    spreads = [scores.spread for scores in found if scores.spread is not None]
    return Scores(
        column([scores.values for scores in found]),
        status,
        {name: column([scores.parts[name] for scores in found]) for name in found[0].parts},
        spread=column(spreads) if len(spreads) == len(found) else None,
    )
