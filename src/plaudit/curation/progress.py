"""Labels for steps out of rollouts: Monte-Carlo values of prefixes, and how a step changes them (GenPRM, arXiv 2504.00891).

MC(s) is the share of a completer's continuations from a prefix that end right (Wang et al. 2024, Math-Shepherd, arXiv
2312.08935). A hard label asks whether a right ending is still possible after a step; relative progress compares the value after
with the value before, so a step that spoils a solution is found although a completer sometimes recovers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from plaudit.fitting.seeds import derive_seed
from plaudit.types import Batch, Context, Generator, Prompt, Reward

if TYPE_CHECKING:
    from torch import Tensor

Mode = Literal["ratio", "difference", "hard"]
Continued = Callable[[Prompt, str], Prompt]
"""(problem, beginning of a solution) -> the prompt whose response goes on from there."""
Samples = int | Callable[[float], int]
"""Continuations of a prefix, or how many by MC(s_1), the problem's own solve rate."""
ROLLOUTS_AT_ONCE = 4096


def dynamic_samples(solve_rate: float) -> int:
    """128 for problems that are hardly ever solved, 64 for most, 32 for those that nearly always are (the paper's K).

    Raises ValueError outside [0, 1].
    """
    if not 0 <= solve_rate <= 1:
        raise ValueError(f"a solve rate lies between 0 and 1, not {solve_rate:g}")
    return 128 if solve_rate < 0.1 else 64 if solve_rate < 0.9 else 32


def continued_text(problem: Prompt, beginning: str) -> str:
    """The beginning right after the problem, for models that continue text. Raises ValueError for a chat."""
    if not isinstance(problem, str):
        raise ValueError("how a chat is continued must be said: give continued=(problem, beginning) -> prompt")
    return problem + beginning


def mc_values(
    completer: Generator,
    solutions: Batch,
    right: Reward,
    *,
    samples: Samples = dynamic_samples,
    how: Any,
    seed: int,
    solve_rates: Sequence[float] | None = None,
    upto: Sequence[int] | None = None,
    continued: Continued = continued_text,
    threshold: float = 0.5,
    ctx: Context | None = None,
) -> list[Tensor]:
    """Per solution [T + 1] MC values: before the first step, then after each of its T steps.

    solutions: responses with `segments`, the spans of their steps; what a reward needs to know a right answer (references ...)
    goes along. right: scores above `threshold` are right; continuations without a score are not counted, a prefix with none has
    NaN. samples: K, or a function of MC(s_1), which is `solve_rates` where given and else measured with 64 continuations. upto:
    how many steps of each solution are looked at. Equal prefixes of a call are continued apart. Counts `samples` and
    `completion_tokens`. Raises ValueError without segments.
    """
    import torch

    if solutions.segments is None:
        raise ValueError("solutions need segments: the spans of their steps")
    ctx = ctx or Context()
    work = _Rollouts(completer, solutions, right, how, continued, threshold, ctx)
    steps = [len(spans) if upto is None else min(upto[row], len(spans)) for row, spans in enumerate(solutions.segments)]
    rows = range(len(solutions))
    first = [math.nan] * len(solutions) if solve_rates is None else list(solve_rates)
    if solve_rates is None:
        # without a rule for K there is no need for another number of samples at the first state
        count = samples if isinstance(samples, int) else 64
        first = work.values([(row, 0) for row in rows], count, derive_seed(seed, "first"))
    wanted: dict[int, list[tuple[int, int]]] = {}
    for row in rows:
        count = samples if isinstance(samples, int) else 0 if math.isnan(first[row]) else samples(first[row])
        wanted.setdefault(count, []).extend((row, step) for step in range(1, steps[row] + 1))
    found: dict[tuple[int, int], float] = {(row, 0): first[row] for row in rows}
    for count, states in sorted(wanted.items()):
        values = [math.nan] * len(states) if count == 0 else work.values(states, count, derive_seed(seed, "after"))
        found |= dict(zip(states, values, strict=True))
    return [torch.tensor([found[row, step] for step in range(steps[row] + 1)]) for row in rows]


@dataclass
class _Rollouts:
    """Continuations of prefixes, and the share of them that ends right."""

    completer: Generator
    solutions: Batch
    right: Reward
    how: Any
    continued: Continued
    threshold: float
    ctx: Context

    def values(self, states: Sequence[tuple[int, int]], count: int, seed: int) -> list[float]:
        """MC of (solution, steps taken)."""
        size = max(1, ROLLOUTS_AT_ONCE // count)
        found: list[float] = []
        for start in range(0, len(states), size):
            found += self._some(states[start : start + size], count, derive_seed(seed, start))
        return found

    def _some(self, states: Sequence[tuple[int, int]], count: int, seed: int) -> list[float]:
        import torch

        rows, texts = [row for row, _ in states], self.solutions.require_responses()
        begun = [str(texts[row])[: self._end(row, taken)] for row, taken in states]
        problems = self.solutions.select(rows)
        prompts = [self.continued(problem, text) for problem, text in zip(problems.prompts, begun, strict=True)]
        bare = replace(problems, responses=None, segments=None, lengths=None, finish=None, groups=None)
        with torch.no_grad():
            drawn = self.completer.rollout(replace(bare, prompts=prompts), count, how=self.how, seed=seed).batch
        self.ctx.budget.spend(samples=len(drawn), completion_tokens=float(sum(drawn.lengths or ())))
        whole = [begun[row // count] + str(text) for row, text in enumerate(drawn.require_responses())]
        asked = replace(
            drawn, prompts=[problems.prompts[row // count] for row in range(len(whole))], responses=whole, segments=None
        )
        scores = self.right.score(asked, self.ctx)
        known = scores.ok.reshape(-1, count)
        good = ((scores.values > self.threshold) & scores.ok).reshape(-1, count).sum(dim=1).double()
        return torch.where(known.any(dim=1), good / known.sum(dim=1), torch.nan).tolist()

    def _end(self, row: int, taken: int) -> int:
        """Where the prefix ends: where the next step begins, so that what stands between two steps goes along."""
        spans = (self.solutions.segments or [])[row]
        return 0 if taken == 0 else len(str(self.solutions.require_responses()[row])) if taken == len(spans) else spans[taken][0]


def rpe_labels(mc: Tensor, eps: float = 0.8, mode: Mode = "ratio") -> Tensor:
    """[T] bool: whether each step is labelled right, out of the [T + 1] values before the first and after each step.

    "ratio": MC(s_{t+1}) / MC(s_t) >= eps (the paper's relative progress estimation; more than 1 is fine). "difference":
    MC(s_{t+1}) - MC(s_t) >= -eps. "hard": MC(s_{t+1}) > 0. From the first state of value 0 on, every step is wrong in every mode,
    which also settles 0 / 0. Raises ValueError for values outside [0, 1], missing ones, fewer than two, or another mode.
    """

    if mode not in ("ratio", "difference", "hard"):
        raise ValueError(f"mode is '{mode}', expected ratio, difference or hard")
    if mc.ndim != 1 or len(mc) < 2:
        raise ValueError("a solution of T >= 1 steps has T + 1 values")
    if not bool(((mc >= 0) & (mc <= 1)).all()):
        raise ValueError("Monte-Carlo values lie between 0 and 1, and none is missing")
    before, after = mc[:-1].double(), mc[1:].double()
    alive = (mc > 0).cumprod(dim=0)[1:].bool()
    # a share of K samples is an exact fraction, and a ratio of exactly eps must not fail by rounding
    if mode == "hard":
        return alive
    if mode == "difference":
        return alive & (after - before >= -eps - 1e-9)
    return alive & (after >= eps * before - 1e-9) & (before > 0)


def first_error(labels: Tensor | Sequence[bool]) -> int:
    """Index of the first step that is labelled wrong, -1 where none is."""
    return next((place for place, right in enumerate(torch_list(labels)) if not right), -1)


def torch_list(column: Tensor | Sequence[bool]) -> list[bool]:
    """A column as plain truth values."""
    return [bool(value) for value in (column.tolist() if hasattr(column, "tolist") else column)]


def consensus_keep(labels: Tensor | Sequence[bool], judged_index: int) -> bool:
    """Whether every step's label agrees with a judge's index of the first error (-1: all right).

    The index says that the steps before it are right and that it is wrong, and nothing about later ones. Raises ValueError for an
    index that is no step.
    """
    steps = torch_list(labels)
    if not -1 <= judged_index < len(steps):
        raise ValueError(f"the judged index is {judged_index}, of {len(steps)} steps")
    return all(steps) if judged_index == -1 else all(steps[:judged_index]) and not steps[judged_index]
