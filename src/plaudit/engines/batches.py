"""Rows of different lengths as padded batches, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def plan_batches(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Row numbers grouped into batches of at most `max_tokens` padded tokens, longest rows first.

    Rows of similar length come together, so little is padded; the longest come first, so that a lack of memory shows
    at once. A row that is longer than `max_tokens` is a batch of its own.
    """
    batches: list[list[int]] = []
    widest = 0
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        if batches and (len(batches[-1]) + 1) * widest <= max_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
            widest = max(lengths[row], 1)
    return batches


def pad_right(rows: Sequence[Sequence[int]], pad: int) -> Tensor:
    """[B, L] int64 token ids, padded after the last token."""
    import torch

    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], dtype=torch.int64)


def pad_left(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """([B, L] int64 token ids, [B, L] int64 mask with 0 where padded), padded before the first token."""
    import torch

    width = max(len(row) for row in rows)
    ids = torch.tensor([[*[pad] * (width - len(row)), *row] for row in rows], dtype=torch.int64)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], dtype=torch.int64)
    return ids, mask
