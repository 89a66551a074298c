"""What generators produce and objectives learn from: `Trajectories`, `States`, `StepStats`, `Lesson`, `Loss`, `Draw`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from plaudit.types.batch import Batch, select_rows
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
    payload: whatever its own generator needs to evaluate it again; nobody else reads it. It must be None or something that
    `select_rows` can select rows of: tensors or lists of length B, a dictionary of them, or an object with `select(rows)`.
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

    def select(self, rows: Sequence[int]) -> Trajectories:
        """The given rows, in the given order."""
        columns = ("log_probs", "mask", "rewards", "segments", "done", "payload")
        return Trajectories(
            self.batch.select(rows), how=self.how, **{name: select_rows(getattr(self, name), rows) for name in columns}
        )


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

    def select(self, rows: Sequence[int]) -> States:
        """The given rows, in the given order; a row may be taken more than once, to branch."""
        chosen = list(rows)
        payload = select_rows(self.payload, chosen)
        return States(self.time[chosen], self.finished[chosen], payload, stochastic=self.stochastic)


@dataclass
class StepStats:
    """What `Generator.evaluate` was asked for, each [B, T]; None where it was not asked for.

    flow is [B, T + 1]: the log flow of every state, that after the last step included.
    """

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

    weights: [B, T] advantages or sample weights. keep: [B] bool, rows that take part in the loss. old_log_probs,
    reference_log_probs: [B, T] of the policy that sampled, and of the reference policy. preferences: edges over the rows.
    columns: whatever else the objective's `loss` reads, by name, each of length B (returns, old values, log_pb ...).
    """

    trajectories: Trajectories
    scores: Scores
    weights: Tensor | None = None
    keep: Tensor | None = None
    preferences: Preferences | None = None
    old_log_probs: Tensor | None = None
    reference_log_probs: Tensor | None = None
    columns: dict[str, Any] = field(default_factory=dict)
    stats: dict[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.trajectories)

    def select(self, rows: Sequence[int]) -> Lesson:
        """The given rows, in the given order. Preferences keep the edges whose two rows are both there, renumbered."""
        names = ("trajectories", "scores", "weights", "keep", "old_log_probs", "reference_log_probs", "columns")
        chosen = {name: select_rows(getattr(self, name), rows) for name in names}
        preferences = None if self.preferences is None else self.preferences.among(rows)
        return Lesson(**chosen, preferences=preferences, stats=dict(self.stats))


@dataclass
class Loss:
    """What one mini-batch costs. total: scalar with gradient, the SUM over the mini-batch's units (`Objective.units`), so that
    mini-batches add up to the whole whatever their sizes; the loop divides by the units of the whole update.

    parts: detached summands of it by name. stats: plain numbers for the log, means over the mini-batch.
    """

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
    """The chosen samples, one row a prompt in the prompts' order, their scores, and what the search cost.

    spent: what this run added to `Budget.spent`. history: one record a sample or step, JSON-able, in the order it was made.
    stopped: why the search ended before its plan was done (budget spent, reward not reachable); None: it was done.
    state: JSON-able; given back to `Search.run(state=...)` it goes on where it stopped; None: nothing is left to do.
    A prompt without any scored candidate has the status of its last one, never a made-up winner.
    """

    batch: Batch
    scores: Scores
    spent: dict[str, float]
    history: list[dict[str, Any]] = field(default_factory=list)
    stopped: str | None = None
    state: dict[str, Any] | None = None
