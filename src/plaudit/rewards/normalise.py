"""Bringing rewards onto one scale before they are added, without inventing numbers.

Weights do nothing where scales differ: a part with ten times the spread takes the sum over. Each way here leaves rows that
have no number out of the mean and the deviation, so that a row that abstains changes nothing for the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from plaudit.types import Batch, Scores, Status

if TYPE_CHECKING:
    from torch import Tensor

How = Literal["group_zscore", "batch_zscore", "rank", "fixed"]
_RESOLUTION = 4 * 2.0**-23
"""Scores are float32: a deviation below a few units in the last place of the largest value is rounding, not signal."""


@dataclass(frozen=True)
class Normalisation:
    """How one reward's scores are normalised.

    how: "group_zscore": (value - mean) / standard deviation within the row's group; "batch_zscore": the same over the whole
    batch; "rank": (rows of the group beaten - rows lost to) / (usable rows - 1), in [-1, 1], ties at the middle;
    "fixed": (value - mean) / std with the given numbers.
    floor: smallest standard deviation, in units of the reward, that counts as a difference (at least the resolution of
    float32 at the group's largest value). Below it the group is equal, and its rows take EQUAL_GROUP (equal="status", the
    default: inside a sum a silent zero would look like an average row) or the neutral value 0 (equal="zero").
    A group with fewer than two usable rows has EMPTY_GROUP. Deviations are those of the population (divided by n).
    Raises ValueError for unknown names or numbers that make no sense.
    """

    how: How
    floor: float = 1e-6
    equal: Literal["status", "zero"] = "status"
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if self.how not in get_args(How):
            raise ValueError(f"unknown normalisation '{self.how}'; expected one of {', '.join(get_args(How))}")
        if self.equal not in ("status", "zero"):
            raise ValueError(f"equal is '{self.equal}'; expected status or zero")
        if not self.floor >= 0 or not self.std > 0:
            raise ValueError("floor must not be negative and std must be positive")

    @classmethod
    def of(cls, how: str | Normalisation) -> Normalisation:
        """A name, or a Normalisation as it is."""
        return how if isinstance(how, Normalisation) else cls(how)  # type: ignore[arg-type]  # checked on construction

    @property
    def relative(self) -> bool:
        """Whether a row's number depends on other rows."""
        return self.how != "fixed"

    def settings(self) -> dict[str, Any]:
        """What decides the numbers, for fingerprints."""
        return {"how": self.how, "floor": self.floor, "equal": self.equal, "mean": self.mean, "std": self.std}

    def apply(self, scores: Scores, batch: Batch) -> Scores:
        """[B] normalised scores; parts, verdicts and statuses are kept, spread is scaled (rank: dropped)."""
        import torch

        if self.how == "fixed":
            spread = None if scores.spread is None else scores.spread / self.std
            return replace(scores, values=(scores.values.double() - self.mean) / self.std, spread=spread)
        groups = _group_numbers(batch, whole=self.how == "batch_zscore")
        centred, deviation, count, largest = group_moments(scores, groups)
        equal = deviation < torch.maximum(largest * _RESOLUTION, torch.full_like(largest, self.floor))
        status = scores.status.clone()
        status[scores.ok & equal] = Status.EQUAL_GROUP if self.equal == "status" else Status.OK
        status[scores.ok & (count < 2)] = Status.EMPTY_GROUP
        if self.how == "rank":
            values = torch.where(equal, 0.0, _ranks(scores, groups))
            return replace(scores, values=values, status=status, spread=None)
        scale = torch.where(equal, 1.0, deviation)
        values = torch.where(equal, 0.0, centred / scale)
        spread = None if scores.spread is None else scores.spread / scale.float()
        return replace(scores, values=values, status=status, spread=spread)


def _group_numbers(batch: Batch, *, whole: bool) -> Tensor:
    """[B] 0, 1, 2 ... per row."""
    import torch

    if whole:
        return torch.zeros(len(batch), dtype=torch.int64)
    if batch.groups is None:
        return torch.arange(len(batch))
    numbers: Tensor = torch.unique(batch.groups, return_inverse=True)[1]
    return numbers


def group_moments(scores: Scores, groups: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Each [B], float64, of each row's group: (value - mean, deviation, usable rows, largest absolute value).

    Two passes in float64: the difference of mean squares in float32 gives deviations of 1e-4 where they are 0, by which an
    advantage is then divided.
    """
    import torch

    size = int(groups.max()) + 1 if len(groups) else 0
    zero = torch.zeros(size, dtype=torch.float64)
    ok = scores.ok.double()
    values = torch.where(scores.ok, scores.values, 0.0).double()
    count = zero.index_add(0, groups, ok)
    mean = zero.index_add(0, groups, values) / count.clamp_min(1)
    centred = (values - mean[groups]) * ok
    variance = zero.index_add(0, groups, centred.square()) / count.clamp_min(1)
    largest = zero.scatter_reduce(0, groups, values.detach().abs(), "amax")
    positive = variance > 0
    deviation = torch.where(positive, torch.where(positive, variance, 1.0).sqrt(), 0.0)  # the inner guard keeps gradients finite
    return centred, deviation[groups], count[groups], largest[groups]


def _ranks(scores: Scores, groups: Tensor) -> Tensor:
    """[B] (beaten - lost to) / (usable rows - 1) within each group."""
    import torch

    ranks = torch.zeros(len(groups), dtype=torch.float64)
    for group in range(int(groups.max()) + 1 if len(groups) else 0):
        rows = torch.nonzero((groups == group) & scores.ok).flatten()
        values = scores.values[rows]
        ranks[rows] = torch.sign(values[:, None] - values[None, :]).sum(dim=1).double() / max(1, len(rows) - 1)
    return ranks
