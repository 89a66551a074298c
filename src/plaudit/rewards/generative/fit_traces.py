"""`fit_judge_on_traces`: a judge that writes its reasoning learns from traces, by supervised training of its generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from plaudit.fitting.imitation import fit_to_samples
from plaudit.fitting.seeds import cycled, derive_seed
from plaudit.types import Batch, Generator
from plaudit.types.joining import join_batches

if TYPE_CHECKING:
    from plaudit.fitting import FitConfig, TrainProgress, TrainResult


def fit_judge_on_traces(
    generator: Generator,
    traces: Batch,
    config: FitConfig | None = None,
    *,
    beside: Batch | None = None,
    beside_share: float = 0.5,
    batch_rows: int = 32,
    epochs: int = 1,
    seed: int = 0,
    progress: Callable[[TrainProgress], None] | None = None,
) -> TrainResult:
    """Supervised training on traces (`curation.traces`): the loss is that of the answers' tokens, prompts only are read.

    Text that the environment wrote (`extras["environment"]`, spans of characters a row) is read and not learned. beside: other
    reasoning data that keeps the model's ability to think (card 28 mixes them 1 to 1); as many rows of it, drawn by the seed and
    over again where there are too few, as make `beside_share` of all rows. The generator's weights change in place; judge with
    `Judge(LiveEngine(generator), contract)`.

    Raises ValueError without traces, or for a share outside [0, 1).
    """
    if not len(traces):
        raise ValueError("there are no traces to learn from")
    if not 0 <= beside_share < 1:
        raise ValueError(f"beside_share must lie in [0, 1), not {beside_share:g}")
    samples = _plain(traces)
    wanted = round(len(traces) * beside_share / (1 - beside_share))
    if beside is not None and len(beside) and wanted:
        samples = join_batches([samples, _plain(beside.select(cycled(len(beside), wanted, derive_seed(seed, "beside"))))])
    return fit_to_samples(generator, samples, config, batch_rows=batch_rows, epochs=epochs, seed=seed, progress=progress)


def _plain(batch: Batch) -> Batch:
    """What imitation reads, so that batches of different origin can be joined."""
    kept = {"environment": batch.extras["environment"]} if "environment" in batch.extras else {}
    finish = batch.finish or ["complete"] * len(batch)
    return Batch(batch.prompts, batch.require_responses(), finish=finish, extras=kept)
