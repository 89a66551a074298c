"""Heads on a backbone: one number by Bradley-Terry or from a ranking, levels, ratings, and several aspects mixed by a gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from plaudit.rewards.learned.base import Backbone, LearnedReward, Units, pairs_of, ratings_of
from plaudit.rewards.learned.data import FitData
from plaudit.rewards.learned.networks import Standardiser, mlp, moments
from plaudit.types import Batch, Loss, Scores, Status, UserError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from plaudit.rewards.features import Features


class HeadReward(LearnedReward):
    """A network on the vectors of a backbone.

    backbone: one, or its settings. hidden: widths of hidden layers (GELU); none: a linear head. dropout: after each of them.
    standardise: each number of a frozen backbone's vector is brought to mean 0 and deviation 1 over the rows that are fitted on
    (hidden states have a few very large ones); a constant one becomes 0. seed: of the initial weights of hidden layers; the last
    layer starts at 0, so that an unfitted head says that nothing is better than anything else.
    """

    outputs: ClassVar[int] = 1
    bias: ClassVar[bool] = False
    backbone: Backbone

    def __init__(
        self,
        backbone: Backbone | Mapping[str, Any],
        *,
        hidden: Sequence[int] = (),
        dropout: float = 0.0,
        standardise: bool = True,
        seed: int = 0,
        outputs: int | None = None,
    ) -> None:
        from plaudit.rewards.learned.catalogue import build_backbone

        self.backbone = build_backbone(backbone) if isinstance(backbone, Mapping) else backbone
        self.name = self.kind
        self.standardise, self.dropout = standardise, dropout
        widths = (self.backbone.width, *hidden, self.outputs if outputs is None else outputs)
        self.scaler = Standardiser(self.backbone.width).module
        self.head = mlp(widths, dropout=dropout, bias=self.bias, seed=seed, zero_last=True)
        self.settings = {
            "backbone": dict(self.backbone.settings), "hidden": list(hidden), "dropout": dropout,
            "standardise": standardise, "seed": seed,
        }  # fmt: skip

    def modules(self) -> dict[str, Module]:
        """The head, and the means and deviations of its input."""
        return {"scaler": self.scaler, "head": self.head}

    def inputs(self, batch: Batch) -> Tensor:
        """[B, d] what the head reads: the vectors, standardised."""
        scaled: Tensor = self.scaler(self.encode(batch))
        return scaled

    def logit(self, batch: Batch) -> Tensor:
        """[B] the head's first number."""
        scores: Tensor = self.head(self.inputs(batch))[:, 0]
        return scores

    def prepare(self, data: FitData, units: Sequence[int]) -> FitData:
        """Take the moments of the vectors, where the backbone is frozen."""
        if self.standardise and not self.backbone.trainable:
            mean, deviation = moments(self.encode(part.batch) for part in data.chunks(units))
            self.scaler.set(mean, deviation)
        return data

    def features(self, batch: Batch) -> Tensor:
        """[B, d] the backbone's vectors; NaN where a row has none."""
        return self.read_features(batch).vectors

    def read_features(self, batch: Batch) -> Features:
        """The backbone's vectors, and why a row has none."""
        import torch

        from plaudit.rewards.features import Features

        for module in self.fitted_modules().values():
            module.eval()
        status = self.status(batch)
        rows = (status == Status.OK).nonzero()[:, 0].tolist()
        vectors = torch.full((len(batch), self.backbone.width), torch.nan)
        with torch.no_grad():
            if rows:
                vectors[rows] = self.encode(batch.select(rows)).float()
        return Features(vectors, status)


class BradleyTerryReward(HeadReward):
    """Fitted on pairs; see `losses.bradley_terry_loss` for margin, smoothing and centring.

    margin: a number, multiplied by the difference of the rows' ratings where the data has them too (Touvron et al., 2023).
    """

    kind = "bt"

    def __init__(
        self,
        backbone: Backbone | Mapping[str, Any],
        *,
        margin: float = 0.0,
        smoothing: float = 0.0,
        centring: float = 0.0,
        **settings: Any,
    ) -> None:
        super().__init__(backbone, **settings)
        if not 0 <= smoothing < 0.5 or margin < 0 or centring < 0:
            raise ValueError("smoothing lies in [0, 0.5), margin and centring are not negative")
        self.margin, self.smoothing, self.centring = margin, smoothing, centring
        self.settings = {**self.settings, "margin": margin, "smoothing": smoothing, "centring": centring}

    def loss(self, data: FitData) -> Loss:
        """Sum over pairs."""
        from plaudit.rewards.learned.losses import bradley_terry_loss

        told = pairs_of(data)
        margin: Tensor | float = self.margin
        if self.margin and data.ratings is not None and data.ratings.dim() == 1:
            margin = self.margin * (data.ratings[told.first] - data.ratings[told.second]).abs().nan_to_num()
        return bradley_terry_loss(
            self.logit(data.batch), told, margin=margin, smoothing=self.smoothing, centring=self.centring
        )  # fmt: skip


class RankingReward(HeadReward):
    """Fitted on ranked groups: rated rows of one `batch.groups`, by the Plackett-Luce likelihood of their order.

    Groups are never split. A group of one rated row says nothing and costs nothing.
    """

    kind = "ranking"
    units: ClassVar[Units] = "groups"

    def loss(self, data: FitData) -> Loss:
        """Sum over rated rows of the cost of being chosen first among those of their group that are rated no higher."""
        from plaudit.rewards.learned.losses import plackett_luce_losses

        ratings = single(ratings_of(data))
        if data.batch.groups is None:
            raise UserError("a ranking head is fitted on groups of rated rows; the data has no groups")
        return Loss(plackett_luce_losses(self.logit(data.batch), ratings, data.batch.groups).sum())


class RegressionReward(HeadReward):
    """Fitted on ratings by squared error, in units of their standard deviation; it scores in the units of the ratings."""

    kind = "regression"
    units: ClassVar[Units] = "rows"
    bias = True

    def __init__(self, backbone: Backbone | Mapping[str, Any], **settings: Any) -> None:
        super().__init__(backbone, **settings)
        self.ratings = Standardiser(1).module

    def modules(self) -> dict[str, Module]:
        """The head, and the means and deviations of its input and of the ratings."""
        return {**super().modules(), "ratings": self.ratings}

    def logit(self, batch: Batch) -> Tensor:
        """[B] predicted rating."""
        found: Tensor = self.ratings.inverse(self.head(self.inputs(batch)))[:, 0]
        return found

    def prepare(self, data: FitData, units: Sequence[int]) -> FitData:
        """Take the moments of the ratings as well. Ratings that are all equal keep the deviation 1."""
        data = super().prepare(data, units)
        self.ratings.set(*moments(single(ratings_of(part))[:, None] for part in data.chunks(units)))
        return data

    def loss(self, data: FitData) -> Loss:
        """Sum over rated rows."""
        from plaudit.rewards.learned.losses import rating_losses

        return Loss(rating_losses(self.logit(data.batch), single(ratings_of(data)), self.ratings.deviation).sum())


class OrdinalReward(HeadReward):
    """Fitted on ratings that are ordered levels (stars, classes) by the proportional-odds model; scores are its latent number.

    levels: the ratings that occur, lowest first, at least two; only their order counts, not how far they lie apart.
    """

    kind = "ordinal"
    units: ClassVar[Units] = "rows"

    def __init__(self, backbone: Backbone | Mapping[str, Any], *, levels: Sequence[float], **settings: Any) -> None:
        import torch

        super().__init__(backbone, **settings)
        if len(levels) < 2 or list(levels) != sorted(set(levels)):
            raise ValueError(f"levels are two or more different ratings, lowest first; got {list(levels)}")
        self.levels = torch.tensor(list(levels), dtype=torch.float64)
        self.cuts = torch.nn.ParameterDict(
            {"lowest": torch.nn.Parameter(torch.zeros(1)), "steps": torch.nn.Parameter(torch.zeros(len(levels) - 2))}
        )
        self.settings = {**self.settings, "levels": list(levels)}

    def modules(self) -> dict[str, Module]:
        """The head and the cut points."""
        return {**super().modules(), "cuts": self.cuts}

    def thresholds(self) -> Tensor:
        """[K - 1] increasing cut points."""
        from plaudit.rewards.learned.losses import ordered_thresholds

        return ordered_thresholds(self.cuts["lowest"], self.cuts["steps"])

    def level_numbers(self, ratings: Tensor) -> Tensor:
        """[B] int64 the place of each rating among the levels. Raises UserError for a rating that is none of them."""
        import torch

        numbers = torch.searchsorted(self.levels, ratings.double())
        known = self.levels[numbers.clamp(max=len(self.levels) - 1)] == ratings.double()
        if not bool(known.all()):
            raise UserError(f"the rating {float(ratings[~known][0]):g} is none of the levels {self.levels.tolist()}")
        return numbers

    def prepare(self, data: FitData, units: Sequence[int]) -> FitData:
        """Start the cut points at the log-odds of the levels' shares. Raises UserError for ratings that are no levels."""
        import torch

        data = super().prepare(data, units)
        counts = torch.full((len(self.levels),), 0.5)  # half a row more each, so that a level without rows has a cut point too
        for part in data.chunks(units):
            counts += torch.bincount(self.level_numbers(single(ratings_of(part))), minlength=len(self.levels))
        cuts = -torch.logit(1 - (counts.cumsum(0) / counts.sum())[:-1])
        with torch.no_grad():
            self.cuts["lowest"].copy_(cuts[:1])
            self.cuts["steps"].copy_(torch.log(torch.expm1(cuts.diff())))
        return data

    def loss(self, data: FitData) -> Loss:
        """Sum over rated rows of -log P(level)."""
        from plaudit.rewards.learned.losses import ordinal_losses

        levels = self.level_numbers(single(ratings_of(data)))
        return Loss(ordinal_losses(self.logit(data.batch), self.thresholds(), levels).sum())


class AspectsReward(HeadReward):
    """A ratings, mixed into one number by a gate: sum over aspects of softmax(gate(x))_a x standardised rating_a.

    Wang et al., arXiv 2406.12845: the ratings are regressed, the gate is fitted on pairs. aspects: their names. gate_hidden:
    widths of the gate's hidden layers. gate_column: the extra column [B, d] that the gate reads (the prompt's vectors in the
    paper), with `gate_width`; None: the same vectors as the ratings. separate: pairs change the gate only, as in the paper.
    Data may have ratings, pairs, or both; what it does not have is not fitted. `score` gives the ratings as parts, in their
    units.
    """

    kind = "aspects"
    bias = True

    def __init__(
        self,
        backbone: Backbone | Mapping[str, Any],
        *,
        aspects: Sequence[str],
        gate_hidden: Sequence[int] = (),
        gate_column: str | None = None,
        gate_width: int | None = None,
        separate: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__(backbone, outputs=len(aspects), **settings)
        self.aspects, self.gate_column, self.separate = tuple(aspects), gate_column, separate
        width = self.backbone.width if gate_width is None else gate_width
        seed = self.settings["seed"] + 1
        self.gate = mlp((width, *gate_hidden, len(aspects)), dropout=self.dropout, bias=True, seed=seed, zero_last=True)
        self.ratings = Standardiser(len(aspects)).module
        self.settings = {
            **self.settings, "aspects": list(aspects), "gate_hidden": list(gate_hidden), "gate_column": gate_column,
            "gate_width": gate_width, "separate": separate,
        }  # fmt: skip

    def modules(self) -> dict[str, Module]:
        """The ratings' head, the gate, and the moments of vectors and ratings."""
        return {**super().modules(), "gate": self.gate, "ratings": self.ratings}

    def mixed(self, batch: Batch, inputs: Tensor, standardised: Tensor) -> Tensor:
        """[B] the gate's mixture of [B, A] standardised ratings."""
        column: Any = inputs if self.gate_column is None else batch.extras[self.gate_column]
        weights: Tensor = self.gate(column).softmax(1)
        return (weights * standardised).sum(1)

    def logit(self, batch: Batch) -> Tensor:
        """[B] the mixture."""
        inputs = self.inputs(batch)
        return self.mixed(batch, inputs, self.head(inputs))

    def score_rows(self, batch: Batch) -> Scores:
        """The mixture, and each rating in its own units as a part."""
        inputs = self.inputs(batch)
        standardised = self.head(inputs)
        told = self.ratings.inverse(standardised)
        parts = {name: told[:, number] for number, name in enumerate(self.aspects)}
        return Scores(self.mixed(batch, inputs, standardised) / self.temperature, parts=parts)

    def prepare(self, data: FitData, units: Sequence[int]) -> FitData:
        """Take the moments of the ratings. Raises UserError where the data has another number of aspects."""
        data = super().prepare(data, units)
        if data.ratings is not None:
            if data.ratings.dim() != 2 or data.ratings.shape[1] != len(self.aspects):
                raise UserError(f"ratings have the shape {tuple(data.ratings.shape)}; expected [rows, {len(self.aspects)}]")
            self.ratings.set(*moments(ratings_of(part) for part in data.chunks(units)))
        return data

    def loss(self, data: FitData) -> Loss:
        """Sum over rated rows of the mean squared error, and over pairs of Bradley-Terry on the mixture."""
        from plaudit.rewards.learned.losses import bradley_terry_loss, rating_losses

        inputs = self.inputs(data.batch)
        standardised = self.head(inputs)
        parts: dict[str, Tensor] = {}
        stats: dict[str, float] = {}
        if data.ratings is not None:
            parts["ratings"] = rating_losses(standardised, self.ratings(data.ratings.float())).sum()
        if data.preferences is not None:
            read = standardised.detach() if self.separate else standardised
            of_pairs = bradley_terry_loss(
                self.mixed(data.batch, inputs.detach() if self.separate else inputs, read), data.preferences
            )
            parts["pairs"], stats = of_pairs.total, of_pairs.stats
        return Loss(sum(parts.values()), {name: part.detach() for name, part in parts.items()}, stats)  # type: ignore[arg-type]  # never empty


def single(ratings: Tensor) -> Tensor:
    """[B] ratings. Raises UserError where rows have several."""
    if ratings.dim() != 1:
        raise UserError(
            f"this head is fitted on one rating a row; the data has {ratings.shape[1]} (the aspects head takes several)"
        )
    return ratings
