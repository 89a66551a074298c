"""`FitData`: what a reward is fitted on. Rows as a `Batch`, each once; pairs or ratings over them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from plaudit.types import Batch, Preferences

if TYPE_CHECKING:
    from torch import Tensor

ENCODED = "plaudit.encoded"
"""Name of the extra column [B, d] in which `fit` keeps the vectors of a frozen backbone, computed once."""


@dataclass
class FitData:
    """Rows, each encoded once, and what is known about them. Its units are the pairs, or else the rated rows.

    batch: the rows; `batch.users` where people differ, `batch.references` where a reference is read, `batch.groups` where
    rated rows are ranked together.
    preferences: edges over the rows, prob = P(first beats second): 1 or 0, 0.5 for a tie, anything between for soft labels.
    ratings: [B] or [B, A] float, NaN where a row was not rated.
    Columns are shared, never copied. Raises ValueError if there are neither preferences nor ratings, or if they do not fit.
    """

    batch: Batch
    preferences: Preferences | None = None
    ratings: Tensor | None = None
    rated: Tensor = field(init=False, repr=False)
    """[U] int64 numbers of the rated rows; empty where the units are pairs."""

    def __post_init__(self) -> None:
        import torch

        if self.preferences is None and self.ratings is None:
            raise ValueError("a reward is fitted on preferences or on ratings; there are neither")
        if self.ratings is not None and (self.ratings.dim() not in (1, 2) or len(self.ratings) != len(self.batch)):
            raise ValueError(f"ratings are [B] or [B, A]; found the shape {tuple(self.ratings.shape)} for {len(self.batch)} rows")
        if self.preferences is not None:
            for column in (self.preferences.first, self.preferences.second):
                if len(column) and (int(column.min()) < 0 or int(column.max()) >= len(self.batch)):
                    raise ValueError(f"a preference names a row that is not there; the batch has {len(self.batch)}")
        self.rated = torch.zeros(0, dtype=torch.int64)
        if self.preferences is None and self.ratings is not None:
            known = ~self.ratings.isnan()
            self.rated = (known if known.dim() == 1 else known.any(1)).nonzero()[:, 0]

    def __len__(self) -> int:
        return len(self.rated) if self.preferences is None else len(self.preferences)

    def rows(self, units: Sequence[int] | Tensor) -> Tensor:
        """Sorted int64 numbers of the rows that units touch, each once."""
        import torch

        index = torch.as_tensor(units, dtype=torch.int64)
        if self.preferences is None:
            touched = self.rated[index]
        else:
            touched = torch.cat([self.preferences.first[index], self.preferences.second[index]])
        rows: Tensor = torch.unique(touched)
        return rows

    def select(self, units: Sequence[int] | Tensor) -> FitData:
        """The given units, in the given order, over only the rows that they touch, in their old order and renumbered."""
        import torch

        index = torch.as_tensor(units, dtype=torch.int64)
        told = self.preferences
        rows = self.rows(index)
        preferences = None
        if told is not None:
            preferences = Preferences(
                torch.searchsorted(rows, told.first[index]),
                torch.searchsorted(rows, told.second[index]),
                told.prob[index],
                None if told.weight is None else told.weight[index],
                told.status[index],
                None if told.tie is None else told.tie[index],
            )
        ratings = None if self.ratings is None else self.ratings[rows]
        return FitData(self.batch.select(rows.tolist()), preferences, ratings)

    def chunks(self, units: Sequence[int] | Tensor, size: int = 4096) -> Iterator[FitData]:
        """`select` of so many units at a time: how something is computed over all of them without a second copy."""
        for at in range(0, len(units), size):
            yield self.select(units[at : at + size])
