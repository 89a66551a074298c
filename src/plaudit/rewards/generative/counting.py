"""How votes are counted, as plain functions of tensors: `Votes`, the vote curve and recipes count by the same ones.

values: [k, ...] a number a vote. used: [k, ...] bool, votes that count; what is not used may be NaN.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from plaudit.types import Status

if TYPE_CHECKING:
    from torch import Tensor


def moments_of_votes(values: Tensor, used: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """([...] mean, [...] standard deviation (divided by n), [...] votes used), float64; NaN where no vote is used."""
    import torch

    used = used.expand_as(values)
    values, count = values.double(), used.sum(dim=0)
    mean = torch.where(used, values, 0.0).sum(dim=0) / count
    variance = torch.where(used, (values - mean).square(), 0.0).sum(dim=0) / count
    return mean, variance.sqrt(), count.double()


def modal_value(values: Tensor, used: Tensor) -> Tensor:
    """[N] the value that most of the used votes name, the mean of several such; NaN where no vote is used. values: [k, N]."""
    import torch

    same = (values[:, None] == values[None, :]) & used[:, None] & used[None, :]
    support = same.sum(dim=1)
    modal = (support == support.amax(dim=0)) & used
    # a value with c votes stands c times among the modal ones, as every other modal value does: the plain mean is theirs
    return torch.where(modal, values.double(), 0.0).sum(dim=0) / modal.sum(dim=0)


def group_shares(values: Tensor, used: Tensor) -> Tensor:
    """[U, R] share of the used votes that each row of a group wins: a vote goes to its best row, in equal parts to several.

    values: [k, U, R], NaN where a group has no such row (the share is NaN there too). used: [k, U].
    """
    import torch

    there = ~values.isnan()
    best = there & (values == torch.where(there, values, -torch.inf).amax(dim=2, keepdim=True))
    shares = best.double() / best.sum(dim=2, keepdim=True).clamp_min(1)
    won = torch.where(used[:, :, None], shares, 0.0).sum(dim=0) / used.sum(dim=0)[:, None]
    return torch.where((there & used[:, :, None]).any(dim=0), won, torch.nan)


def top_votes(meta: Tensor, used: Tensor, keep: int) -> Tensor:
    """[k, U] bool: the `keep` usable votes with the highest meta score, equal ones by their number; all where there are fewer."""
    import torch

    ranked = torch.where(used, meta, -torch.inf)
    order = ranked.argsort(dim=0, descending=True, stable=True)
    places = torch.empty_like(order).scatter_(0, order, torch.arange(len(meta))[:, None].expand_as(order).contiguous())
    return used & (places < keep)


def status_of_votes(codes: Sequence[int]) -> Status:
    """Of a thing with these votes: OK where one is, UNREACHABLE where the engine was gone in one, so that it is judged again,
    else the commonest status."""
    counts = Counter(codes)
    if counts[int(Status.UNREACHABLE)]:
        return Status.UNREACHABLE
    if counts[int(Status.OK)]:
        return Status.OK
    return Status(min(counts, key=lambda code: (-counts[code], code)))
