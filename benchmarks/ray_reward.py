"""A reward that keeps one processor busy for a fixed amount of work a row: `--reward benchmarks/ray_reward.py:Hashing`."""

from __future__ import annotations

import hashlib

from plaudit.rewards.base import BaseReward
from plaudit.types import Batch, Context, Scores

HASHES = 25_000
"""SHA-256 of 64 bytes, one after another, for each row: 10 ms or more of one processor."""


class Hashing(BaseReward):
    """First byte of the last of many hashes."""

    name = "hashing"
    uses_seed = False
    batch_size = 16

    def __init__(self) -> None:
        self.settings = {"hashes": HASHES}

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:  # noqa: ARG002  # part of the interface
        """One row after another."""
        import torch

        values = []
        for response in batch.require_responses():
            digest = str(response).encode()
            for _ in range(HASHES):
                digest = hashlib.sha256(digest * 2).digest()
            values.append(float(digest[0]))
        return Scores(torch.tensor(values))
