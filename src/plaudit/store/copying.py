"""Moving verdicts from one store to another, as a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from plaudit.store.store import Store
from plaudit.types import UserError

BATCH = 1000
"""Verdicts per transaction."""


@dataclass(frozen=True)
class Copied:
    """What a copy did. read: verdicts in the source. written: of these, those that the target did not have yet."""

    rewards: int
    read: int
    written: int

    @property
    def present(self) -> int:
        """Verdicts that the target had already; they stay as they were there."""
        return self.read - self.written


def copy_verdicts(
    source: Store, target: Store, *, reward: str | None = None, progress: Callable[[int], None] | None = None
) -> Copied:
    """Copy verdicts, with the time at which they were first written. What the target has already stays.

    A copy that was stopped is taken up by calling again. reward: a fingerprint or its beginning. progress: called with the
    number of verdicts read so far. Raises UserError for one store twice and for a reward that the source does not have, and
    StoreUnavailable where one of the two goes away; every batch that was written stays.
    """
    if source.url == target.url:
        raise UserError(f"{source.label} cannot be copied to itself")
    found = [entry for entry in source.rewards() if reward is None or entry.fingerprint.startswith(reward)]
    if reward is not None and not found:
        raise UserError(f"the verdict store {source.label} has no reward whose fingerprint begins with '{reward}'")
    read = written = 0
    stream: Iterator[dict[str, object]] = source.records(reward)
    while batch := list(islice(stream, BATCH)):
        written += target.add(batch)
        read += len(batch)
        if progress is not None:
            progress(read)
    return Copied(len(found), read, written)
