"""Rewards made of rewards: sums, products, ensembles, and the operators `0.7 * helpful + 0.3 * brevity`, `gate * quality`.

Every part appears in `Scores.parts` under its own name, a part's parts as `quality/length`. A part that abstains is never
summed as 0 and never silently re-weighted: `on_missing` says what happens. Gates, routes and fallbacks are in `branching`,
normalisation in `normalise`. Segments are not combined: a composition's scores have none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from plaudit.rewards.base import BaseReward
from plaudit.rewards.branching import Constant, Gate, Normalised, Otherwise, Route, Shaped
from plaudit.rewards.composition_parts import (
    Composition,
    Gathered,
    OnMissing,
    as_parts,
    check_policy,
    gather,
    judge,
    name_verdicts,
    unique_names,
)
from plaudit.rewards.normalise import Normalisation
from plaudit.types import Batch, Context, Preferences, Reward, Scores, SpecError, Status

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Constant", "Ensemble", "Gate", "Normalised", "Otherwise", "PartScale", "Product", "Route", "Shaped", "WeightedSum",
    "add", "multiply", "scale_report",
]  # fmt: skip


class WeightedSum(Composition):
    """sum of weight x part.

    parts: name -> (weight, reward); a part of weight 0 is judged and shown, but decides nothing, not even the status.
    normalise: each part is brought onto one scale before it is weighted (`Normalisation` or its name); the values before
    that are kept as `NAME/raw`. spread: sqrt(sum of weight² spread²), parts taken as independent.
    Pairs of a single pairwise part: its log-odds times the weight. Raises ValueError for a weight that is not finite.
    """

    def __init__(
        self,
        parts: Mapping[str, tuple[float, Reward]],
        *,
        on_missing: OnMissing = "row",
        normalise: str | Normalisation | None = None,
        name: str | None = None,
    ) -> None:
        self.weights = {label: _weight(weight, label) for label, (weight, _) in parts.items()}
        self.on_missing = check_policy(on_missing)
        self.normalise = None if normalise is None else Normalisation.of(normalise)
        self.named = name is not None
        """A sum that was given a name stays one part of the sum that it is added to."""
        shown = " + ".join(f"{weight:g}*{label}" for label, weight in self.weights.items())
        super().__init__(name or shown, {label: reward for label, (_, reward) in parts.items()})
        if self.normalise is not None and self.normalise.how == "batch_zscore":
            self.needs_whole_batch = True
        self.higher_is_better = True
        how = self.normalise.settings() if self.normalise else None
        self.settings = {"weights": self.weights, "on_missing": self.on_missing, "normalise": how}

    @property
    def relative(self) -> bool:
        """Parts normalised within the group, or dropped for it."""
        return self.on_missing == "drop_for_group" or (self.normalise is not None and self.normalise.relative)

    @property
    def compares(self) -> bool:
        """One pairwise part and nothing relative."""
        return len(self.parts) == 1 and not self.relative and self.normalise is None and _all_compare(self.parts)

    def combine(self, batch: Batch, ctx: Context | None) -> Scores:
        """[B] weighted sums."""
        import torch

        results = {name: self._normalised(judge(part, batch, ctx), batch) for name, part in self.parts.items()}
        weights = torch.tensor(list(self.weights.values()), dtype=torch.float64)[:, None]
        found = gather(results, self.on_missing, batch, [weight != 0 for weight in self.weights.values()])
        values = torch.where(found.used, found.values * weights, 0.0).sum(dim=0)
        spread = None if found.spread is None else (found.spread * weights).square().sum(dim=0).sqrt()
        return _scores(values, found, spread)

    def combine_pairs(self, batch: Batch, first: Tensor, second: Tensor, ctx: Context | None) -> Preferences:
        """[P] the only part's log-odds times its weight: -1 turns a preference round, 1 changes nothing."""
        import torch

        ((name, part),), (weight,) = self.parts.items(), self.weights.values()
        judged = part.compare(batch, first, second, ctx)
        prob = judged.prob.double()
        scaled = torch.sigmoid(weight * torch.logit(prob)) if weight else torch.where(judged.ok, 0.5, torch.nan)
        prob = prob if weight == 1 else 1 - prob if weight == -1 else scaled
        tie = judged.tie if abs(weight) == 1 else None
        verdicts = judged.verdicts if weight == 1 else name_verdicts({name: judged})
        return Preferences(first, second, prob, judged.weight, judged.status, tie, verdicts)

    def _normalised(self, scores: Scores, batch: Batch) -> Scores:
        if self.normalise is None:
            return scores
        raw = scores.values.detach()
        scores = self.normalise.apply(scores, batch)
        scores.parts = {"raw": raw, **scores.parts}
        return scores

    def check_direction(self) -> None:
        """Raise SpecError if a part for which lower is better adds to the reward."""
        for name, part in self.parts.items():
            if self.weights[name] > 0 and not part.higher_is_better:
                raise SpecError(f"{self.name}: lower is better for {name}: give it a negative weight")

    def scale_report(self, scores: Scores, groups: Tensor | None = None) -> list[PartScale]:
        """`scale_report` of this sum's scores with its own weights."""
        return scale_report(scores, self.weights, groups)


class Product(Composition):
    """Product of parts: `gate * quality`. Meant for parts >= 0: two negative factors make a positive reward.

    parts: name -> reward, or rewards that keep their own names. spread: exact for independent parts,
    sqrt(prod(value² + spread²) - prod(value²)). A part that is left out for a group leaves its factor out.
    """

    def __init__(
        self, parts: Mapping[str, Reward] | Sequence[Reward], *, on_missing: OnMissing = "row", name: str | None = None
    ) -> None:
        named = as_parts(parts)
        super().__init__(name or "*".join(named), named)
        self.named = name is not None
        self.on_missing = check_policy(on_missing)
        self.settings = {"on_missing": self.on_missing}

    @property
    def relative(self) -> bool:
        """Parts dropped for the group."""
        return self.on_missing == "drop_for_group"

    def combine(self, batch: Batch, ctx: Context | None) -> Scores:
        """[B] products."""
        import torch

        results = {name: judge(part, batch, ctx) for name, part in self.parts.items()}
        found = gather(results, self.on_missing, batch)
        values = torch.where(found.used, found.values, 1.0)
        spread = None
        if found.spread is not None:
            squares = values.square()
            variance = (squares + found.spread.square()).prod(dim=0) - squares.prod(dim=0)
            spread = variance.clamp_min(0).sqrt()
        return _scores(values.prod(dim=0), found, spread)


Reduce = Literal["mean", "median", "min", "lcb"]


class Ensemble(Composition):
    """Several rewards asked the same: their mean, median, minimum, or lower confidence bound mean - k x deviation.

    spread: standard deviation (divided by n) over the members that gave a number; the members' own spreads are in nobody's
    way and stay in nobody's sum. Parts are named after the members. With only one usable member a lower bound abstains.
    Members that all compare are averaged as probabilities (mean, median), order by order as they are.
    """

    def __init__(
        self,
        members: Sequence[Reward] | Mapping[str, Reward],
        reduce: Reduce = "mean",
        *,
        k: float = 1.0,
        on_missing: OnMissing = "row",
        name: str | None = None,
    ) -> None:
        if reduce not in get_args(Reduce):
            raise ValueError(f"reduce is '{reduce}'; expected one of {', '.join(get_args(Reduce))}")
        named = as_parts(members)
        super().__init__(name or f"{reduce}({', '.join(named)})", named)
        self.reduce, self.k, self.on_missing = reduce, k, check_policy(on_missing)
        self.settings = {"reduce": reduce, "k": k if reduce == "lcb" else None, "on_missing": self.on_missing}

    @property
    def relative(self) -> bool:
        """Members dropped for the group."""
        return self.on_missing == "drop_for_group"

    @property
    def compares(self) -> bool:
        """All members compare, and the mean or median of probabilities is a probability that both sides agree on."""
        return _all_compare(self.parts) and self.reduce in ("mean", "median") and self.on_missing == "row"

    def combine(self, batch: Batch, ctx: Context | None) -> Scores:
        """[B] of the members' scores."""
        import torch

        results = {name: judge(part, batch, ctx) for name, part in self.parts.items()}
        found = gather(results, self.on_missing, batch)
        values, spread, count = self._reduced(found.values, found.used)
        if self.reduce == "lcb":
            alone = (count < 2) & (found.status == Status.OK)
            found.status = torch.where(alone, int(Status.ABSTAINED), found.status).to(torch.int8)
        return _scores(values, found, spread)

    def combine_pairs(self, batch: Batch, first: Tensor, second: Tensor, ctx: Context | None) -> Preferences:
        """[P] mean or median of the members' probabilities; a pair that a member did not decide takes its status."""
        import torch

        results = {name: part.compare(batch, first, second, ctx) for name, part in self.parts.items()}
        columns = {name: Scores(result.prob, result.status) for name, result in results.items()}
        found = gather(columns, self.on_missing, batch.select(first.tolist()))
        prob = self._reduced(found.values, found.used)[0]
        ties = [result.tie for result in results.values() if result.tie is not None]
        tie = torch.stack(ties).mean(dim=0) if len(ties) == len(results) else None
        return Preferences(first, second, prob, status=found.status, tie=tie, verdicts=name_verdicts(results))

    def _reduced(self, values: Tensor, used: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """([B] reduced, [B] standard deviation, [B] members used) over the used members."""
        import torch

        count = used.sum(dim=0)
        mean = torch.where(used, values, 0.0).sum(dim=0) / count.clamp_min(1)
        variance = torch.where(used, (values - mean).square(), 0.0).sum(dim=0) / count.clamp_min(1)
        spread = torch.where(variance > 0, torch.where(variance > 0, variance, 1.0).sqrt(), 0.0)
        if self.reduce == "mean":
            return mean, spread, count
        if self.reduce == "lcb":
            return mean - self.k * spread, spread, count
        if self.reduce == "min":
            return torch.where(used, values, math.inf).amin(dim=0), spread, count
        return torch.nanquantile(torch.where(used, values, math.nan), 0.5, dim=0), spread, count


def multiply(left: BaseReward, right: float | BaseReward) -> WeightedSum | Product:
    """number * reward is a weighted sum (of one part, or with all weights scaled); reward * reward is a product."""
    if isinstance(right, BaseReward):
        factors = [factor for side in (left, right) for factor in _factors(side)]
        return Product(dict(zip(unique_names(name for name, _ in factors), (part for _, part in factors), strict=True)))
    if isinstance(right, bool) or not isinstance(right, int | float):
        raise TypeError(f"a reward is multiplied by a number or a reward, not by a {type(right).__name__}")
    if isinstance(left, WeightedSum) and not left.named:
        scaled = {name: (right * left.weights[name], part) for name, part in left.parts.items()}
        return WeightedSum(scaled, on_missing=left.on_missing, normalise=left.normalise)
    return WeightedSum({left.name: (right, left)})


def add(left: BaseReward, right: float | BaseReward) -> WeightedSum:
    """One flat weighted sum with unique part names. A number is added as a constant.

    Sums with different policies, or that were given a name, stay parts of their own.
    """
    if not isinstance(right, BaseReward):
        right = Constant(right)
    sums = [side for side in (left, right) if isinstance(side, WeightedSum) and not side.named]
    policies = {(side.on_missing, side.normalise) for side in sums if len(side.parts) > 1 or side.relative}
    flat = len(policies) <= 1
    terms: list[tuple[str, float, BaseReward]] = []
    for side in (left, right):
        if flat and side in sums and isinstance(side, WeightedSum):
            terms += [(name, side.weights[name], part) for name, part in side.parts.items()]
        else:
            terms.append((side.name, 1.0, side))
    names = unique_names(name for name, _, _ in terms)
    on_missing, normalise = policies.pop() if len(policies) == 1 else ("row", None)
    parts = {name: (weight, part) for name, (_, weight, part) in zip(names, terms, strict=True)}
    return WeightedSum(parts, on_missing=on_missing, normalise=normalise)


def _factors(side: BaseReward) -> list[tuple[str, BaseReward]]:
    """The parts of a product without a name and with the default policy, or the reward itself."""
    if isinstance(side, Product) and not side.named and side.on_missing == "row":
        return list(side.parts.items())
    return [(side.name, side)]


@dataclass(frozen=True)
class PartScale:
    """One line of a scale report.

    spread: standard deviation of the part, in its own units. weighted: the same times |weight|, in units of the sum.
    share: cov(weight x part, sum) / var(sum); the shares add up to 1; negative where a part works against the rest. None
    where the sum does not vary. rows: rows with all parts, on which the line rests.
    """

    name: str
    weight: float
    spread: float
    weighted: float
    share: float | None
    rows: int


def scale_report(scores: Scores, weights: Mapping[str, float], groups: Tensor | None = None) -> list[PartScale]:
    """Which part of a weighted sum decides: spread of each part and its share of the sum's variance. Read it before training.

    weights: by part name, as in the sum. groups: [B]; given, all spreads are taken within groups, which is what
    group-relative advantages see. Rows where the sum or a part has no number are left out and not counted.
    """
    import torch

    columns = torch.stack([scores.parts[name].double() for name in weights])
    usable = scores.ok & torch.isfinite(columns).all(dim=0)
    columns = columns[:, usable]
    rows = columns.shape[1]
    number = torch.zeros(rows, dtype=torch.int64) if groups is None else torch.unique(groups[usable], return_inverse=True)[1]
    size = int(number.max()) + 1 if rows else 0
    count = torch.zeros(size, dtype=torch.float64).index_add(0, number, torch.ones(rows, dtype=torch.float64))
    means = torch.zeros(len(weights), size, dtype=torch.float64).index_add(1, number, columns) / count
    centred = columns - means[:, number]
    weighted = centred * torch.tensor(list(weights.values()), dtype=torch.float64)[:, None]
    total = weighted.sum(dim=0)
    variance = float(total.square().sum())
    report = []
    for place, (name, weight) in enumerate(weights.items()):
        spread = math.sqrt(float(centred[place].square().mean())) if rows else math.nan
        share = float((weighted[place] * total).sum()) / variance if variance > 1e-24 * max(rows, 1) else None
        report.append(PartScale(name, weight, spread, abs(weight) * spread, share, rows))
    return report


def _weight(weight: float, name: str) -> float:
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
        raise ValueError(f"the weight of '{name}' is {weight!r}; expected a finite number")
    return float(weight)


def _all_compare(parts: Mapping[str, BaseReward]) -> bool:
    return all(part.native == "compare" for part in parts.values())


def _scores(values: Tensor, found: Gathered, spread: Tensor | None) -> Scores:
    """A composition's scores: a number only where the policy gave the row one."""
    import torch

    values = torch.where(found.status == Status.OK, values, torch.nan)
    if spread is not None:
        spread = torch.where(found.status == Status.OK, spread, torch.nan).float()
    return Scores(values, found.status, found.parts, spread=spread, verdicts=found.verdicts)
