"""What the scores of a draw tell: which groups have something to teach, and the figures (scoring: `plaudit.rewards.scoring`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from plaudit.rewards.scoring import Scored, score_batch, score_counted
from plaudit.types import Batch, Scores, Status, status_counts

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Groups", "Scored", "score_batch", "score_counted", "score_figures", "sort_groups", "status_figures"]


@dataclass
class Groups:
    """Groups of a draw by what can be learned from them; each a list of row numbers. Groups of one row are never degenerate
    for want of a second.

    equal: all usable values and parts are the same. empty: fewer than two usable rows, or none in a group of one.
    """

    useful: list[list[int]] = field(default_factory=list)
    equal: list[list[int]] = field(default_factory=list)
    empty: list[list[int]] = field(default_factory=list)

    def counts(self) -> dict[str, float]:
        """Figures for the log."""
        total = len(self.useful) + len(self.equal) + len(self.empty)
        return {"groups": float(total), "groups_equal": float(len(self.equal)), "groups_empty": float(len(self.empty))}


def sort_groups(batch: Batch, scores: Scores) -> Groups:
    """Tell degenerate groups from useful ones."""
    found = Groups()
    # what a shaper or a normalisation keeps of before is no part of what is learned from
    columns = [scores.values, *(part for name, part in scores.parts.items() if name.split("/")[-1] != "raw")]
    if scores.segments is not None:
        columns += list(scores.segments.unbind(1))
    lists, ok = [column.tolist() for column in columns], scores.ok.tolist()
    for rows in batch.group_rows():
        usable = [row for row in rows if ok[row]]
        if len(usable) < min(2, len(rows)):
            found.empty.append(rows)
        elif len(rows) > 1 and all(_equal([column[row] for row in usable]) for column in lists):
            found.equal.append(rows)
        else:
            found.useful.append(rows)
    return found


def _equal(values: Sequence[float]) -> bool:
    """Whether the numbers differ by no more than float32's resolution; NaN equals NaN."""
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < len(values):
        return not finite
    return max(finite) - min(finite) <= 4 * 2.0**-23 * max(abs(value) for value in finite)


def score_figures(scores: Scores, name: str) -> dict[str, float]:
    """Mean and deviation of the usable values, and of each part."""
    figures: dict[str, float] = {}
    for label, values in {name: scores.values, **{f"{name}/{part}": column for part, column in scores.parts.items()}}.items():
        usable = _finite(values)
        if len(usable):
            figures[f"{label}_mean"] = float(usable.mean())
            figures[f"{label}_deviation"] = float(usable.std(correction=0))
    return figures


def status_figures(scores: Scores) -> dict[str, float]:
    """Rows that have no usable score, in all and by status."""
    counts = status_counts(scores.status)
    invalid = {status: count for status, count in counts.items() if status != Status.OK}
    return {
        "rows_invalid": float(sum(invalid.values())),
        **{f"rows_{status.label}": float(count) for status, count in invalid.items()},
    }


def _finite(values: Tensor) -> Any:
    import torch

    return values.detach()[torch.isfinite(values.detach())].double()
