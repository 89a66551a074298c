"""What generators produce and objectives learn from: `Trajectories`, `States`, `StepStats`, `Lesson`, `Loss`, `Draw`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from plaudit.types.batch import Batch
from plaudit.types.scores import Preferences, Scores
from plaudit.types.text import Sampling

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Trajectories:
    """B samples with the steps that made them.

    batch: the samples, with responses. log_probs: [B, T] log-probability of each step under the sampler.
    mask: [B, T] bool, steps that have a density and count (a deterministic step has none).
    rewards: [B, T] or None, rewards that the environment gave on the way. segments: per row the (start, end) steps of parts.
    done: per row "terminal", "truncated" or "time_limit". how: sampling settings, kept so that evaluation repeats the rollout.
    payload: whatever its own generator needs to evaluate it again; nobody else reads it.
    """

    batch: Batch
    log_probs: Tensor
    mask: Tensor
    rewards: Tensor | None = None
    segments: Sequence[Sequence[tuple[int, int]]] | None = None
    done: Sequence[str] | None = None
    how: Sampling | Any = None
    payload: Any = None

    def __post_init__(self) -> None:
        expected = (len(self.batch), self.log_probs.shape[-1])
        for name in ("log_probs", "mask", "rewards"):
            column = getattr(self, name)
            if column is not None and tuple(column.shape) != expected:
                raise ValueError(f"Trajectories.{name} has shape {tuple(column.shape)}, expected {expected}")

    def __len__(self) -> int:
        return len(self.batch)


@dataclass
class States:
    """B partial samples of one generator, each at its own time.

    time: [B] steps taken so far. finished: [B] bool. stochastic: whether the next step draws anything.
    payload: tensors that its own generator reads.
    """

    time: Tensor
    finished: Tensor
    payload: Any
    stochastic: bool = True

    def __len__(self) -> int:
        return len(self.time)


@dataclass
class StepStats:
    """What `Generator.evaluate` was asked for, each [B, T]; None where it was not asked for."""

    log_prob: Tensor | None = None
    entropy: Tensor | None = None
    value: Tensor | None = None
    log_pb: Tensor | None = None
    flow: Tensor | None = None
    x0_hat: Tensor | None = None
    kl: Tensor | None = None


@dataclass
class Draw:
    """What a source gives for one update: trajectories, and their scores if they were known already."""

    trajectories: Trajectories
    scores: Scores | None = None


@dataclass
class Lesson:
    """What `Objective.prepare` makes of one draw, without gradient, once for all inner epochs.

    weights: [B, T] advantages or sample weights. keep: [B] bool, rows that take part in the loss.
    """

    trajectories: Trajectories
    scores: Scores
    weights: Tensor | None = None
    keep: Tensor | None = None
    preferences: Preferences | None = None
    old_log_probs: Tensor | None = None
    reference_log_probs: Tensor | None = None
    stats: dict[str, float] = field(default_factory=dict)


@dataclass
class Loss:
    """total: scalar with gradient. parts: detached summands by name. stats: plain numbers for the log."""

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    stats: dict[str, float] = field(default_factory=dict)


@dataclass
class Decision:
    """What a monitor asks the run to do after one observation."""

    readings: dict[str, float] = field(default_factory=dict)
    stop: str | None = None
    """The reason to stop, None to go on."""
    keep: bool = False
    """Whether this checkpoint is the best so far."""


@dataclass
class SearchResult:
    """The chosen samples, their scores, and what the search cost (`Budget.spent`)."""

    batch: Batch
    scores: Scores
    spent: dict[str, float]
    history: list[dict[str, Any]] = field(default_factory=list)
