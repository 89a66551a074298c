"""Scoring a batch, whatever the reward does: its native way, the direction, rows on which it raises, and the count of calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from plaudit.types import Batch, BudgetExceeded, Context, EngineError, Reward, Scores, Status, UserError

Judge = Callable[[Batch, Context], Scores]


@dataclass
class Scored:
    """Scores of a batch, larger is better, and what went wrong on the way, one sentence each kind."""

    scores: Scores
    errors: list[str] = field(default_factory=list)


def score_batch(reward: Reward, batch: Batch, ctx: Context, *, maximise: bool = True) -> Scored:
    """Score rows in the reward's native way; lower-is-better rewards are negated, since training maximises.

    maximise=False keeps every reward's own numbers, for reports.

    A reward that raises is asked again for one row (or group) at a time, and only those that raise again are FAILED.

    EngineError, UserError and BudgetExceeded pass through: the reward as a whole cannot be used, or must not be any more.
    Raises UserError if the reward answers for another number of rows than it was given.
    """
    by_row = getattr(reward, "native", "score") == "score"
    judge: Judge = reward.score if by_row else reward.score_group
    try:
        scored = Scored(_asked(judge, batch, ctx, reward))
    except (BudgetExceeded, EngineError, UserError):
        raise
    except Exception:
        units = [[row] for row in range(len(batch))] if by_row else batch.group_rows()
        scored = _one_by_one(judge, batch, units, ctx, reward)
    if maximise and not getattr(reward, "higher_is_better", True):
        scores = scored.scores
        segments = None if scores.segments is None else -scores.segments
        scored.scores = replace(scores, values=-scores.values, segments=segments)
    return scored


def _asked(judge: Judge, batch: Batch, ctx: Context, reward: Reward) -> Scores:
    import torch

    with torch.no_grad():
        scores = judge(batch, ctx)
    if len(scores) != len(batch):
        raise UserError(f"the reward '{_name(reward)}' gave {len(scores)} scores for {len(batch)} rows")
    return scores


def _one_by_one(judge: Judge, batch: Batch, units: Sequence[Sequence[int]], ctx: Context, reward: Reward) -> Scored:
    """Score each unit on its own; one that raises takes FAILED."""
    import torch

    from plaudit.types.joining import join_scores

    found: list[Scores] = []
    errors: list[str] = []
    order: list[int] = []
    for rows in units:
        try:
            scores = _asked(judge, batch.select(rows), ctx, reward)
        except (BudgetExceeded, EngineError, UserError):
            raise
        except Exception as error:
            scores = Scores(torch.full((len(rows),), torch.nan), torch.full((len(rows),), int(Status.FAILED)))
            errors.append(f"the reward '{_name(reward)}' raised {type(error).__name__}: {error}")
        found.append(replace(scores, verdicts=None))
        order += rows
    place = {row: at for at, row in enumerate(order)}
    return Scored(join_scores(found).select([place[row] for row in range(len(batch))]), list(dict.fromkeys(errors)))


def _name(reward: Reward) -> str:
    return getattr(reward, "name", type(reward).__name__)


def score_counted(reward: Reward, batch: Batch, ctx: Context) -> Scored:
    """`score_batch`, with `reward_calls` counted once: rewards that cost something count their calls themselves, and the rows
    of others are counted here."""
    before = ctx.budget.spent["reward_calls"]
    scored = score_batch(reward, batch, ctx)
    if ctx.budget.spent["reward_calls"] == before:
        ctx.budget.spend(reward_calls=len(batch))
    return scored
