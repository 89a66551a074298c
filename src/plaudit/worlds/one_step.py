"""Trajectories of generators that decide once a row: a latent is drawn, a cell is chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plaudit.types import Batch, Generator, Trajectories

if TYPE_CHECKING:
    from torch import Tensor


def one_step(generator: Generator, batch: Batch, payload: dict[str, Tensor], how: Any) -> Trajectories:
    """[B, 1] trajectories that end by themselves, with the log-probabilities that the generator's `evaluate` gives now.

    payload: what `evaluate` reads, each [B, ...].
    """
    import torch

    mask = torch.ones(len(batch), 1, dtype=torch.bool)
    made = Trajectories(batch, torch.zeros(len(batch), 1), mask, done=["terminal"] * len(batch), how=how, payload=payload)
    with torch.no_grad():
        found = generator.evaluate(made).log_prob
    assert found is not None
    made.log_probs = found
    return made
