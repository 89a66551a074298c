"""Seeds made of seeds: every step, part and shuffle of a run derives its own from the run's, so no generator's state is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from plaudit.types.keys import content_key


def derive_seed(seed: int, *names: Any) -> int:
    """A seed in [0, 2^31) for one use; other names, other and independent seed. The same on every machine."""
    return int(content_key(seed, *names)[:8], 16) >> 1


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, torch's global generator (dropout reads no other) starts from `seed`; afterwards it is as it was."""
    import torch

    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def permutation(count: int, seed: int) -> list[int]:
    """The numbers 0 .. count - 1 in a random order."""
    import torch

    order: list[int] = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    return order


def cycled(rows: int, wanted: int, seed: int) -> list[int]:
    """`wanted` row numbers, over and over through all `rows` in new orders, so that unequal data make equally many steps."""
    passes = range(-(-wanted // rows))
    return [row for number in passes for row in permutation(rows, derive_seed(seed, number))][:wanted]
