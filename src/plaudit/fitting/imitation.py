"""`fit_to_samples`: supervised training of a generator on given samples, by the one optimiser loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from plaudit.fitting.config import FitConfig
from plaudit.fitting.seeds import derive_seed
from plaudit.fitting.train import ShuffledRows, TrainProgress, TrainResult, train
from plaudit.types import Batch, Generator, Loss

if TYPE_CHECKING:
    from plaudit.types import Trajectories


def fit_to_samples(
    generator: Generator,
    samples: Batch,
    config: FitConfig | None = None,
    *,
    batch_rows: int = 32,
    epochs: int = 1,
    seed: int = 0,
    progress: Callable[[TrainProgress], None] | None = None,
) -> TrainResult:
    """Minus the log-probability of the samples' steps, mean over the steps of an update; prompts are read, not learned.

    Steps outside the mask of `generator.encode` (deterministic ones, text of the environment) teach nothing. Raises ValueError
    where the generator gives no log-probabilities.
    """
    scored = getattr(generator, "score_encoded", None)
    if scored is not None:
        generator.score_encoded = False  # type: ignore[attr-defined]  # nobody asks how likely they were before
    try:
        taught = generator.encode(samples, seed=seed)
    finally:
        if scored is not None:
            generator.score_encoded = scored  # type: ignore[attr-defined]

    def loss(rows: Trajectories) -> Loss:
        log_prob = generator.evaluate(rows).log_prob
        if log_prob is None:
            raise ValueError("the generator gave no log-probabilities")
        return Loss(-(log_prob * rows.mask).sum())

    shuffled = ShuffledRows(len(taught), batch_rows, derive_seed(seed, "order"))
    config = config or FitConfig(schedule="cosine", warmup_steps=10)
    if config.total_steps is None:
        config = replace(config, total_steps=epochs * len(shuffled))
    return train(
        generator.modules(),
        lambda epoch: (taught.select(rows) for rows in shuffled(epoch)),
        loss,
        config,
        epochs=epochs,
        units=lambda rows: float(rows.mask.sum()),
        seed=seed,
        progress=progress,
    )
