"""Which units of `FitData` can be learned from, and how they fall into parts that share no prompt (or user)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from plaudit.fitting.seeds import derive_seed, permutation
from plaudit.rewards.learned.base import LearnedReward
from plaudit.rewards.learned.data import FitData
from plaudit.types import Batch, Prompt, Status, UserError, prompt_text

if TYPE_CHECKING:
    from torch import Tensor

SplitBy = Literal["prompt", "user", "none"]


@dataclass
class Usable:
    """units: [U] int64 numbers of the units that can be learned from. left_out: how many others, by reason.

    contradictory: pairs whose opposite is labelled too (they are kept: the optimum is the mean of the labels).
    """

    units: Tensor
    left_out: dict[str, int] = field(default_factory=dict)
    contradictory: int = 0


def usable_units(reward: LearnedReward, data: FitData, *, keep_equal: bool = False) -> Usable:
    """The units whose labels and rows can be used.

    Left out, in this order: pairs without a usable label; with a weight of 0; with a row that the reward cannot judge; pairs of
    equal samples (unless `keep_equal`), which say nothing about a reward that scores each. Raises ValueError for a weight that is
    negative or not a number. Rated rows: those that the reward cannot judge.
    """
    import torch

    status = reward.status(data.batch)
    left_out: Counter[str] = Counter()
    if data.preferences is None:
        fine = status[data.rated] == Status.OK
        left_out.update(Status(code).label for code in status[data.rated][~fine].tolist())
        return Usable(fine.nonzero()[:, 0], dict(left_out))
    told = data.preferences
    _check_weights(told.weight)
    contents = row_contents(data.batch)
    rows = torch.where(status[told.first] != Status.OK, status[told.first], status[told.second])
    reasons = [(told.status != Status.OK, "no label"), (rows != Status.OK, "")]
    if told.weight is not None:
        reasons.append((told.weight == 0, "weight 0"))
    if not keep_equal:
        reasons.append((contents[told.first] == contents[told.second], "equal samples"))
    usable = torch.ones(len(told), dtype=torch.bool)
    for bad, reason in reasons:
        newly = usable & bad
        left_out.update([reason] * int(newly.sum()) if reason else [Status(code).label for code in rows[newly].tolist()])
        usable &= ~bad
    units = usable.nonzero()[:, 0]
    sides = contents[told.first[units]], contents[told.second[units]]
    return Usable(units, dict(left_out), _contradictory(*sides, told.prob[units]))


def _check_weights(weight: Tensor | None) -> None:
    """Raise ValueError for weights that make no sense."""
    import torch

    if weight is not None and not bool((torch.isfinite(weight) & (weight >= 0)).all()):
        raise ValueError("the weights of pairs must be finite and not negative")


def _contradictory(first: Tensor, second: Tensor, prob: Tensor) -> int:
    """How many decided pairs have a twin, in either order, that is decided the other way."""
    import torch

    low, high, swapped = torch.minimum(first, second), torch.maximum(first, second), first > second
    wins = torch.where(swapped, 1 - prob, prob)
    if not len(low):
        return 0
    names, pair = torch.unique(low * (int(high.max()) + 1) + high, return_inverse=True)
    count = len(names)
    for_low, for_high = (torch.zeros(count, dtype=torch.bool) for _ in range(2))
    for_low[pair[wins > 0.5]] = True
    for_high[pair[wins < 0.5]] = True
    both = for_low & for_high
    return int((both[pair] & (wins != 0.5)).sum())


def row_contents(batch: Batch) -> Tensor:
    """[B] int64: rows with equal prompts, responses, references and users have equal numbers."""
    import torch

    responses: Any = batch.require_responses()
    columns = [map(_prompt_key, batch.prompts), _keys(responses)]
    columns += [_keys(column) for column in (batch.references, batch.users) if column is not None]
    return torch.tensor(_numbers(zip(*columns, strict=True)), dtype=torch.int64)


def _keys(column: Any) -> Iterable[Hashable]:
    """Something hashable per value: texts and numbers as they are, tensors as their bytes, the rest by representation."""
    if hasattr(column, "untyped_storage"):
        return (hash(row.tobytes()) for row in column.detach().cpu().numpy())
    return (value if isinstance(value, str | int | float) or value is None else repr(value) for value in column)


def _prompt_key(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else prompt_text(prompt)


def _numbers(keys: Iterable[Hashable]) -> list[int]:
    """0, 1, 2 ... in the order of first appearance; equal keys, equal numbers."""
    found: dict[Hashable, int] = {}
    return [found.setdefault(key, len(found)) for key in keys]


def clusters(data: FitData, units: Tensor, by: SplitBy, *, whole_groups: bool = False) -> Tensor:
    """[U] int64: units that hang together by a prompt (or user) that their rows share, directly or through other units.

    by "none": every unit on its own. whole_groups: rated rows of one `batch.groups` hang together as well.
    Raises UserError for a split by user without users, or for whole groups without groups.
    """
    import torch

    names = torch.arange(len(data.batch))
    if by == "user" and data.batch.users is None:
        raise UserError("the data has no users to split by")
    if by != "none":
        keys = map(_prompt_key, data.batch.prompts) if by == "prompt" else _keys(data.batch.users)
        names = torch.tensor(_numbers(keys), dtype=torch.int64)
    if data.preferences is not None:
        if by == "none":
            return torch.arange(len(units))
        first, second = names[data.preferences.first[units]], names[data.preferences.second[units]]
        return _components(first, second)
    own = names[data.rated[units]]
    if not whole_groups:
        return own
    if data.batch.groups is None:
        raise UserError("groups are to be kept whole, and the data has none")
    _, group = torch.unique(data.batch.groups[data.rated[units]], return_inverse=True)
    return _components(own, len(names) + group)


def _components(first: Tensor, second: Tensor) -> Tensor:
    """[U] the component that each edge lies in, of the graph of edges between numbered nodes."""
    import numpy
    import torch
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if not len(first):
        return torch.zeros(0, dtype=torch.int64)
    count = int(torch.maximum(first, second).max()) + 1
    edges = coo_matrix((numpy.ones(len(first), dtype=numpy.int8), (first.numpy(), second.numpy())), shape=(count, count))
    _, component = connected_components(edges, directed=False)
    return torch.from_numpy(component).to(torch.int64)[first]


def split_units(cluster: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """(kept, held out) places of [U] units: whole clusters, in a random order, are held out as long as they fit into the share.

    A cluster larger than what is left of the share stays. If none fits, the smallest is held out, unless it is the only one.
    """
    import torch

    names, place, sizes = torch.unique(cluster, return_inverse=True, return_counts=True)
    room, chosen = max(1, round(share * len(cluster))), []
    for number in permutation(len(names), derive_seed(seed, "split")) if len(names) > 1 and share > 0 else []:
        if sizes[number] <= room:
            chosen.append(number)
            room -= int(sizes[number])
        if room == 0:
            break
    if not chosen and len(names) > 1 and share > 0:
        chosen = [int(sizes.argmin())]
    out = torch.zeros(len(names), dtype=torch.bool)
    out[chosen] = True
    held = out[place]
    return (~held).nonzero()[:, 0], held.nonzero()[:, 0]


def blocks(reward: LearnedReward, data: FitData, units: Tensor) -> list[list[int]]:
    """The units of each user or group, for rewards that are made of these. Raises UserError where the column is missing."""
    rows = data.rated[units] if data.preferences is None else data.preferences.first[units]
    of_unit = _block_numbers(reward, data.batch, rows)
    found: dict[int, list[int]] = {}
    for unit, number in zip(units.tolist(), of_unit, strict=True):
        found.setdefault(number, []).append(unit)
    return list(found.values())


def _block_numbers(reward: LearnedReward, batch: Batch, rows: Tensor) -> Sequence[int]:
    if reward.units == "groups":
        if batch.groups is None:
            raise UserError(f"a head '{reward.kind}' is fitted on groups; the data has none")
        numbers: list[int] = batch.groups[rows].tolist()
        return numbers
    if batch.users is None:
        raise UserError(f"a head '{reward.kind}' is fitted on users; the data has none")
    names = _numbers(_keys(batch.users))
    return [names[row] for row in rows.tolist()]
