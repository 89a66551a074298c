"""Several batches or scores as one, one below the other, groups kept apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from plaudit.types.batch import Batch
from plaudit.types.scores import Scores

if TYPE_CHECKING:
    from torch import Tensor


def join_batches(parts: Sequence[Batch]) -> Batch:
    """The rows of all parts, in order. A column that only some have is None in the rows of the others."""
    import torch

    sizes = [len(part) for part in parts]
    groups = []
    offset = 0
    for part in parts:
        own = torch.arange(len(part)) if part.groups is None else torch.unique(part.groups, return_inverse=True)[1]
        groups.append(own + offset)
        offset += int(own.max()) + 1 if len(own) else 0
    responses = [part.responses for part in parts]
    names = ("references", "ids", "users", "segments", "lengths", "finish")
    return Batch(
        prompts=[prompt for part in parts for prompt in part.prompts],
        responses=join_rows(responses) if all(one is not None for one in responses) else None,
        groups=torch.cat(groups) if any(part.groups is not None for part in parts) else None,
        **{name: join_optional([getattr(part, name) for part in parts], sizes, None) for name in names},
        extras={
            name: join_optional([part.extras.get(name) for part in parts], sizes, None)
            for name in dict.fromkeys(name for part in parts for name in part.extras)
        },
    )


def join_scores(parts: Sequence[Scores]) -> Scores:
    """The rows of all parts, in order. Parts of a composition, segments and spreads that one lacks are NaN in its rows."""
    import torch

    if len(parts) == 1:
        return parts[0]
    sizes = [len(part) for part in parts]
    names = dict.fromkeys(name for part in parts for name in part.parts)

    def column(values: Sequence[Tensor | None]) -> Tensor:
        rows = zip(values, sizes, strict=True)
        return torch.cat([torch.full((size,), torch.nan) if value is None else value.float() for value, size in rows])

    width = max((part.segments.shape[1] for part in parts if part.segments is not None), default=0)
    segments = [part.segments if part.segments is not None else torch.full((len(part), 0), torch.nan) for part in parts]
    padded = [torch.nn.functional.pad(one.float(), (0, width - one.shape[1]), value=torch.nan) for one in segments]
    verdicts = [part.verdicts for part in parts]
    return Scores(
        torch.cat([part.values for part in parts]),
        torch.cat([part.status for part in parts]),
        {name: column([part.parts.get(name) for part in parts]) for name in names},
        torch.cat(padded) if any(part.segments is not None for part in parts) else None,
        column([part.spread for part in parts]) if any(part.spread is not None for part in parts) else None,
        [rows for part in verdicts for rows in part or ()] if all(one is not None for one in verdicts) else None,
    )


def join_optional(columns: Sequence[Any], sizes: Sequence[int], missing: Any) -> Any:
    """Columns of the given sizes as one; those that are None get `missing` in their rows, and None stays if all are."""
    if all(column is None for column in columns):
        return None
    if all(hasattr(column, "dim") for column in columns):
        return join_rows(columns)
    pairs = zip(columns, sizes, strict=True)
    return [item for column, size in pairs for item in ([missing] * size if column is None else column)]


def join_rows(columns: Sequence[Any]) -> Any:
    """Tensors of one shape as a tensor, anything else as a list of rows."""
    import torch

    if all(hasattr(column, "dim") for column in columns) and len({tuple(column.shape[1:]) for column in columns}) == 1:
        return torch.cat(list(columns))
    return [row for column in columns for row in column]
