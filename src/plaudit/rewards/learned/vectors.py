"""Responses that are vectors: the backbone of worlds whose truth is known, and `VectorReward`, a small reward model on it.

`VectorReward` stands for what a large reward model is in the end: a network whose last representation `features` is read by one
linear head. It fits on labelled preferences by the Bradley-Terry loss, and can be probed and gated like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from plaudit.rewards.learned.data import FitData
from plaudit.rewards.learned.heads import BradleyTerryReward
from plaudit.rewards.learned.networks import mlp
from plaudit.types import Batch, Context, Loss, Preferences, Status
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


class VectorBackbone:
    """Rows that are vectors, as they are, or through a multilayer perceptron (GELU between layers) that is trained with the head.

    widths: a number: vectors of this width, as they are. Several: of the input, hidden layers and the representation.
    column: the extra column that holds the vectors; None: the responses. seed: of the initial weights.
    A row whose vector is not finite has NOT_A_NUMBER. Raises ValueError for fewer than two widths.
    """

    kind = "vector"

    def __init__(self, widths: int | Sequence[int], *, column: str | None = None, seed: int = 0) -> None:
        several = None if isinstance(widths, int) else tuple(widths)
        if several is not None and len(several) < 2:
            raise ValueError(f"widths are those of the input, hidden layers and the representation; got {several}")
        self.column = column
        self.trunk = None if several is None else mlp(several, seed=seed)
        self.width: int = several[-1] if several is not None else int(widths)  # type: ignore[arg-type]  # an int here
        self.settings: dict[str, Any] = {"kind": self.kind, "widths": list(several) if several else self.width}
        if column is not None:
            self.settings["column"] = column
        if several is not None:
            self.settings["seed"] = seed

    @property
    def trainable(self) -> bool:
        """Whether there is a perceptron."""
        return self.trunk is not None and any(parameter.requires_grad for parameter in self.trunk.parameters())

    def modules(self) -> dict[str, Module]:
        """The perceptron, if there is one."""
        return {} if self.trunk is None else {"trunk": self.trunk}

    def status(self, batch: Batch) -> Tensor:
        """[B] OK where all numbers are finite. Raises ValueError for anything but a matrix."""
        import torch

        finite = torch.isfinite(self.vectors(batch)).all(1)
        return torch.where(finite, int(Status.OK), int(Status.NOT_A_NUMBER)).to(torch.int8)

    def encode(self, batch: Batch) -> Tensor:
        """[B, width] the vectors, or what the perceptron makes of them."""
        vectors = self.vectors(batch)
        encoded: Tensor = vectors if self.trunk is None else self.trunk(vectors)
        return encoded

    def vectors(self, batch: Batch) -> Tensor:
        """[B, d] float32 the input. Raises ValueError for anything but a matrix."""
        import torch

        column: Any = batch.require_responses() if self.column is None else batch.extras[self.column]
        vectors = torch.as_tensor(column, dtype=torch.float32)
        if vectors.dim() != 2:
            raise ValueError(f"responses must be vectors [B, width], found the shape {tuple(vectors.shape)}")
        return vectors

    def fingerprint(self) -> str:
        """Of the settings, which decide the initial weights too."""
        return content_key(self.settings)


class VectorReward(BradleyTerryReward):
    """A multilayer perceptron (GELU between layers) with a linear head.

    widths: of the input, the hidden layers and the representation, which is linear in the last hidden layer: (64, 96, 64, 6).
    steps, batch_pairs, learning_rate: of the method `fit` (AdamW, cosine to zero, no weight decay, all pairs, no validation).
    seed: of the initial weights. Rows whose vector is not finite are NOT_A_NUMBER.
    """

    kind = "vector"

    def __init__(
        self,
        widths: Sequence[int],
        *,
        name: str = "vector",
        steps: int = 500,
        batch_pairs: int = 256,
        learning_rate: float = 1e-3,
        seed: int = 0,
    ) -> None:
        super().__init__(VectorBackbone(tuple(widths), seed=seed), standardise=False, seed=seed)
        drawn: Any = mlp((*widths, 1), seed=seed, bias=False)
        self.head = drawn[-1]
        self.name, self.steps, self.batch_pairs, self.learning_rate = name, steps, batch_pairs, learning_rate
        self.settings = {
            "widths": list(widths), "name": name, "steps": steps, "batch_pairs": batch_pairs,
            "learning_rate": learning_rate, "seed": seed,
        }  # fmt: skip

    def fit(self, batch: Batch, preferences: Preferences, ctx: Context) -> dict[str, float]:
        """`steps` updates on usable pairs; the others are left out and counted. Raises ValueError without a usable pair."""
        from plaudit.fitting.config import FitConfig
        from plaudit.fitting.train import train
        from plaudit.rewards.learned.usable import usable_units

        data = FitData(batch, preferences)
        units = usable_units(self, data, keep_equal=True).units
        if not len(units):
            raise ValueError("no labelled pair can be used to fit a reward")
        config = FitConfig(learning_rate=self.learning_rate, schedule="cosine", total_steps=self.steps)

        def loss(pairs: list[int]) -> Loss:
            return self.loss(data.select(units[pairs]))

        found = train(self.fitted_modules(), lambda _: self._batches(len(units), ctx.seed), loss, config, seed=ctx.seed)
        return {"loss": found.losses[-1], "pairs": float(len(units)), "pairs_left_out": float(len(preferences) - len(units))}

    def fingerprint(self) -> str:
        """Of the widths, the weights and the temperature: how it was fitted does not count."""
        return content_key("vector", self.settings["widths"], self.temperature, self.weights_key())

    def _batches(self, pairs: int, seed: int) -> Iterator[list[int]]:
        """`steps` batches, over and over through the pairs in new orders."""
        from plaudit.fitting.train import ShuffledRows

        rows, done, epoch = ShuffledRows(pairs, min(pairs, self.batch_pairs), seed), 0, 0
        while done < self.steps:
            for batch in rows(epoch):
                if done < self.steps:
                    yield batch
                done += 1
            epoch += 1
