"""`fit_follow_up_scorer`: a chat model learns to say what a user says, from feedback that users gave (FLR's fitted scorer)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from plaudit.fitting.imitation import fit_to_samples
from plaudit.rewards.generative.follow_up import feedback_dialogues
from plaudit.types import Batch, Generator

if TYPE_CHECKING:
    from plaudit.fitting import FitConfig, TrainResult


def fit_follow_up_scorer(
    generator: Generator,
    records: Sequence[tuple[str, str, str]],
    config: FitConfig | None = None,
    *,
    batch_rows: int = 8,
    epochs: int = 2,
    seed: int = 0,
) -> TrainResult:
    """Supervised training on (question, answer, feedback) in dialogues with swapped roles; the loss is that of the feedback only.

    The generator's weights (or its adapter's) change in place. Score with `FollowUpReward(LiveEngine(generator),
    role="swapped")`: the model then stands where the writer of the feedback stood. Raises ValueError without records.
    """
    if not records:
        raise ValueError("there is no feedback to learn from")
    told = feedback_dialogues(records)
    samples = Batch([turns[:-1] for turns in told], [turns[-1]["content"] for turns in told])
    return fit_to_samples(generator, samples, config, batch_rows=batch_rows, epochs=epochs, seed=seed)
