"""Several draws as one: trajectories one below the other, groups kept apart (batches and scores: `plaudit.types.joining`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from plaudit.types import Trajectories, UserError
from plaudit.types.joining import join_batches, join_optional, join_scores

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["join_batches", "join_scores", "join_trajectories"]


def join_trajectories(parts: Sequence[Trajectories]) -> Trajectories:
    """The rows of all parts, in order; shorter ones get steps that the mask leaves out. Groups of different parts stay apart.

    Payloads: None, tensors, lists and dictionaries are joined by rows. An object is asked for its `join(payloads)`; a dataclass
    without one is joined field by field, if selecting each part's rows from the result gives that part back.
    Raises UserError for payloads that cannot be joined, ValueError for parts that were sampled in different ways.
    """
    if len(parts) == 1:
        return parts[0]
    if any(part.how != parts[0].how for part in parts):
        raise ValueError("trajectories that were sampled in different ways cannot be joined: evaluation would repeat only one")
    steps = max(part.log_probs.shape[1] for part in parts)
    columns = {name: [getattr(part, name) for part in parts] for name in ("log_probs", "mask", "rewards")}
    return Trajectories(
        join_batches([part.batch for part in parts]),
        **{name: _join_steps(values, steps) for name, values in columns.items()},
        segments=join_optional([part.segments for part in parts], [len(part) for part in parts], ()),
        done=join_optional([part.done for part in parts], [len(part) for part in parts], "terminal"),
        how=parts[0].how,
        payload=_join_payloads([part.payload for part in parts], [len(part) for part in parts]),
    )


def _join_steps(columns: Sequence[Tensor | None], steps: int) -> Any:
    """[B, T] columns; what is added is 0, and False in the mask. None if no part has any."""
    import torch

    present = [column for column in columns if column is not None]
    if not present:
        return None
    if len(present) != len(columns):
        raise ValueError("some of the trajectories have rewards on the way and some have none: they cannot be joined")
    return torch.cat([torch.nn.functional.pad(column, (0, steps - column.shape[1])) for column in present])


def _join_payloads(payloads: Sequence[Any], sizes: Sequence[int]) -> Any:
    first = payloads[0]
    if all(payload is None for payload in payloads):
        return None
    if callable(getattr(type(first), "join", None)) and not isinstance(first, str):
        return type(first).join(payloads)
    if is_dataclass(first) and hasattr(first, "select"):
        columns = {item.name: [getattr(payload, item.name) for payload in payloads] for item in fields(first)}
        kind: Any = type(first)
        joined = kind(**{name: _join_field(values, sizes) for name, values in columns.items()})
        start = 0
        for payload, size in zip(payloads, sizes, strict=True):
            if not _same(joined.select(range(start, start + size)), payload):
                raise _cannot(first)
            start += size
        return joined
    return _join_field(payloads, sizes)


def _join_field(values: Sequence[Any], sizes: Sequence[int]) -> Any:
    import torch

    first = values[0]
    by_row = all(hasattr(value, "__len__") and len(value) == size for value, size in zip(values, sizes, strict=True))
    if all(hasattr(value, "dim") for value in values) and by_row:
        return torch.cat(_same_width(list(values)))
    if isinstance(first, dict):
        return {name: _join_field([value[name] for value in values], sizes) for name in first}
    if all(isinstance(value, list | tuple) for value in values) and by_row:
        return [row for value in values for row in value]
    if all(value is first or (type(value) is type(first) and _same(value, first) and _same(first, value)) for value in values):
        return first  # shared by all rows; a copy, where it came from another process
    raise _cannot(first)


def _same_width(tensors: list[Tensor]) -> list[Tensor]:
    """Columns by step that differ in their number of steps (dimension 1): the last step is repeated, and never counts."""
    import torch

    if len({tuple(tensor.shape[1:]) for tensor in tensors}) == 1:
        return tensors
    if len({tensor.dim() for tensor in tensors}) > 1 or len({tuple(tensor.shape[2:]) for tensor in tensors}) > 1:
        raise _cannot(tensors[0])
    width = max(tensor.shape[1] for tensor in tensors)
    wide = []
    for tensor in tensors:
        if tensor.shape[1] == 0:
            raise _cannot(tensor)
        last = tensor[:, -1:].expand(-1, width - tensor.shape[1], *tensor.shape[2:])
        wide.append(torch.cat([tensor, last], dim=1))
    return wide


def _same(joined: Any, part: Any) -> bool:
    """Whether a selection of the joined payload is the part again, up to steps that were added."""
    import torch

    if joined is part:
        return True
    if hasattr(part, "dim"):
        if joined.dim() > 1 and part.dim() > 1:
            joined = joined[:, : part.shape[1]]
        return bool(torch.equal(joined, part))
    if isinstance(part, dict):
        return set(joined) == set(part) and all(_same(joined[name], part[name]) for name in part)
    if is_dataclass(part) and not isinstance(part, type):
        return all(_same(getattr(joined, item.name), getattr(part, item.name)) for item in fields(part))
    return bool(joined == part)


def _cannot(payload: Any) -> UserError:
    name = type(payload).__name__
    return UserError(f"a payload with a {name} cannot be joined by rows: give the payload's class a static `join(payloads)`")
