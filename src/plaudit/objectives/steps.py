"""What objectives share about steps: which rows and steps take part, how much each counts, what a draw is evaluated with.

Losses are sums (`Loss.total`) that the loop divides by the units of the whole update, so that a batch of 8 and eight
batches of 1 give the same gradient. A normalisation is therefore a pair: the weight of each step, and what a unit is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

from plaudit.fitting.seeds import derive_seed
from plaudit.types import Batch, Context, Generator, Lesson, Loss, StepStats, Trajectories

if TYPE_CHECKING:
    from torch import Tensor

Normalisation = Literal["rows", "steps", "constant"]
"""How the steps of an update are averaged. With n_i counted steps in row i of B rows:

rows: (1/B) sum_i (1/n_i) sum_t, GRPO (Shao et al. 2024, eq. 3). steps: sum_i sum_t / sum_i n_i, DAPO (Yu et al. 2025):
a long row weighs more. constant: (1/B) sum_i (1/L) sum_t with a fixed L, Dr. GRPO (Liu et al. 2025): no length bias.
"""


def check_normalisation(normalisation: str, length: float) -> None:
    """Raise ValueError for an unknown name or a length that is not positive."""
    if normalisation not in get_args(Normalisation):
        raise ValueError(f"unknown normalisation '{normalisation}'; expected one of {', '.join(get_args(Normalisation))}")
    if not length > 0:
        raise ValueError(f"length must be positive, not {length}")


def step_weights(mask: Tensor, normalisation: Normalisation, *, length: float = 1.0, like: Tensor | None = None) -> Tensor:
    """[B, T] weight of each step, 0 where the mask is False. mask: [B, T] bool. length: L of "constant".

    A row's weights depend on that row alone, so they are the same in every mini-batch. like: gives the number format.
    """
    import torch

    weights = mask.to(torch.float32 if like is None else like.dtype)
    if normalisation == "rows":
        return weights / mask.sum(dim=1, keepdim=True).clamp_min(1)
    return weights / length if normalisation == "constant" else weights


def count_units(lesson: Lesson, normalisation: Normalisation, mask: Tensor | None = None) -> float:
    """What the sum over an update is divided by: counted steps for "steps", else rows that take part. 0 where none does.

    mask: [B, T] bool, the counted steps; None: those of the trajectories.
    """
    import torch

    mask = lesson.trajectories.mask if mask is None else mask
    keep = torch.ones(len(lesson), dtype=torch.bool) if lesson.keep is None else lesson.keep
    if normalisation == "steps":
        return float((mask & keep.to(mask.device)[:, None]).sum())
    return float(keep.sum())


def kept_rows(lesson: Lesson) -> Lesson:
    """The rows that take part in the loss; only they are evaluated."""
    if lesson.keep is None or bool(lesson.keep.all()):
        return lesson
    return lesson.select([row for row, kept in enumerate(lesson.keep.tolist()) if kept])


def masked(values: Tensor, mask: Tensor) -> Tensor:
    """[B, T] with 0 where the mask is False, whatever stood there (padding may hold NaN)."""
    import torch

    return torch.where(mask, values, torch.zeros((), dtype=values.dtype, device=values.device))


def row_sums(values: Tensor, mask: Tensor) -> Tensor:
    """[B] sum over the counted steps: of log-probabilities, that of the whole sequence."""
    return masked(values, mask).sum(dim=1)


def group_numbers(batch: Batch) -> Tensor:
    """[B] int64 group of each row, 0, 1, 2 ...; without groups each row is its own."""
    import torch

    if batch.groups is None:
        return torch.arange(len(batch))
    numbers: Tensor = torch.unique(batch.groups.cpu(), return_inverse=True)[1]
    return numbers


def distinct(groups: Tensor) -> list[int]:
    """The group numbers that occur, ascending."""
    import torch

    numbers: list[int] = torch.unique(groups).tolist()
    return numbers


def empty_groups(groups: Tensor, usable: Tensor) -> int:
    """How many groups have no usable row. groups: [B] group numbers. usable: [B] bool, rows that can be compared, or could but
    for being equal. A group whose rows all lost their score is one of them, whatever status those rows carry."""
    return len(distinct(groups)) - len(distinct(groups[usable]))


def step_log_probs(stats: StepStats, mask: Tensor) -> Tensor:
    """[B, T] log-probabilities with 0 outside the mask. Raises ValueError if the generator gave none."""
    if stats.log_prob is None:
        raise ValueError("the generator gave no log-probabilities of its steps: it cannot be trained by this objective")
    return masked(stats.log_prob, mask)


def evaluate_without_gradient(
    generator: Generator, t: Trajectories, need: Sequence[str], *, rows_at_once: int | None = None
) -> StepStats:
    """`generator.evaluate` on a whole draw, in parts of at most `rows_at_once` rows (None: at once), without gradient."""
    import torch

    with torch.no_grad():
        if rows_at_once is None or rows_at_once >= len(t):
            return generator.evaluate(t, need=need)
        starts = range(0, len(t), rows_at_once)
        parts = [generator.evaluate(t.select(range(s, min(s + rows_at_once, len(t)))), need=need) for s in starts]
        columns = {name: [getattr(part, name) for part in parts] for name in vars(parts[0])}
        return StepStats(**{name: torch.cat(parts) for name, parts in columns.items() if parts[0] is not None})


def zero_loss(generator: Generator) -> Loss:
    """The loss of a mini-batch in which no row takes part: 0, with a gradient of 0, so that `backward` works."""
    import torch

    for module in generator.modules().values():
        for parameter in module.parameters():
            if parameter.requires_grad:
                return Loss(parameter.reshape(-1)[:0].sum())
    return Loss(torch.zeros((), requires_grad=True))


def seed_for(ctx: Context, purpose: str) -> int:
    """A seed for one use of randomness in one step of a run: distinct uses and steps never share draws."""
    return derive_seed(ctx.seed, ctx.step, purpose)
