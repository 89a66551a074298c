"""What a reward does not implement itself is derived here from what it does: pointwise <-> pairwise <-> listwise.

The derivations (and where their numbers come from):

| wanted | native | rule |
|---|---|---|
| pairs | score | Bradley-Terry link: P(first beats second) = sigmoid((s1 - s2) / link_temperature) |
| pairs | score_group | the same link, after judging each pair as a group of two |
| scores | compare | round robin in each group: mean win probability (`tournament.round_robin`) |
| scores | score_group | the listwise reward itself, on the groups of the batch |

Order handling is in `ordering`, scores against fixed rivals in `rivals`, fits and knock-outs in `tournament`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from plaudit.rewards.tournament import round_robin
from plaudit.types import Batch, Context, Preferences, Scores, Status

if TYPE_CHECKING:
    from torch import Tensor

    from plaudit.rewards.base import BaseReward


def score_from_native(reward: BaseReward, batch: Batch, ctx: Context | None = None) -> Scores:
    """[B] scores of a reward that compares or ranks. Raises ValueError if the batch has no groups to do so in."""
    if reward.native == "score":
        raise TypeError(f"the reward '{reward.name}' says that it scores natively, but implements no score")
    if reward.native == "score_group":
        require_groups(reward, batch)
        return reward.score_group(batch, ctx)
    return _scores_by_round_robin(reward, batch, ctx)


def score_group_from_native(reward: BaseReward, batch: Batch, ctx: Context | None = None) -> Scores:
    """[B] scores within groups: a pointwise reward ignores the groups, a pairwise one plays a round robin in each."""
    if reward.native == "score_group":
        raise TypeError(f"the reward '{reward.name}' says that it ranks natively, but implements no score_group")
    if reward.native == "score":
        return reward.score(batch, ctx)
    return _scores_by_round_robin(reward, batch, ctx)


def compare_from_native(
    reward: BaseReward, batch: Batch, first: Tensor, second: Tensor, ctx: Context | None = None
) -> Preferences:
    """[P] probabilities of a reward that scores or ranks; every row that occurs is scored once.

    A pair with a row that has no score takes the first row's status, or else the second's.
    Raises ValueError if `reward.link_temperature` (default 1, in reward units) is not positive.
    """
    import torch

    if reward.native == "compare":
        raise TypeError(f"the reward '{reward.name}' says that it compares natively, but implements no compare")
    first, second = first.to(torch.int64), second.to(torch.int64)
    if len(first) == 0:
        return Preferences(first, second, torch.zeros(0))
    if reward.native == "score":
        rows, place = torch.unique(torch.cat([first, second]), return_inverse=True)
        scores = reward.score(batch.select(rows.tolist()), ctx)
        left, right = place[: len(first)], place[len(first) :]
    else:
        pairs = replace(
            batch.select(torch.stack([first, second], dim=1).flatten().tolist()),
            groups=torch.arange(len(first)).repeat_interleave(2),
        )
        scores = reward.score_group(pairs, ctx)
        left, right = torch.arange(0, 2 * len(first), 2), torch.arange(1, 2 * len(first), 2)
    prob, status = bradley_terry_link(
        scores, left, right, getattr(reward, "link_temperature", 1.0), higher_is_better=reward.higher_is_better
    )
    return Preferences(first, second, prob, status=status)


def bradley_terry_link(
    scores: Scores, left: Tensor, right: Tensor, temperature: float = 1.0, *, higher_is_better: bool = True
) -> tuple[Tensor, Tensor]:
    """([P] P(left beats right), [P] status) from scores on the log-odds scale (Bradley and Terry 1952).

    temperature: the difference in score that makes the odds e to 1. Raises ValueError unless it is positive.
    """
    import torch

    if not temperature > 0:
        raise ValueError(f"link_temperature must be positive, not {temperature}")
    sign = 1.0 if higher_is_better else -1.0
    gap = (scores.values[left].double() - scores.values[right].double()) * (sign / temperature)
    status = torch.where(scores.status[left] != Status.OK, scores.status[left], scores.status[right])
    return torch.sigmoid(gap), status


def require_groups(reward: BaseReward, batch: Batch) -> None:
    """Raise ValueError if the batch does not say which rows belong together."""
    if batch.groups is None:
        verb = "compares" if reward.native == "compare" else "judges within groups"
        raise ValueError(f"the reward '{reward.name}' only {verb}: give groups or a rivals bank")


def pairs_within(batch: Batch) -> tuple[Tensor, Tensor]:
    """(first, second), each [P]: every unordered pair of rows of one group once, the earlier row first."""
    import torch

    pairs = [torch.combinations(torch.tensor(rows, dtype=torch.int64)) for rows in batch.group_rows() if len(rows) > 1]
    joined = torch.cat(pairs) if pairs else torch.zeros((0, 2), dtype=torch.int64)
    return joined[:, 0], joined[:, 1]


def preferences_from_gold(batch: Batch, gold: Sequence[float | None] | Tensor) -> Preferences:
    """Labelled pairs from gold values, larger is better: all pairs of a group whose values differ, prob 1 or 0.

    Equal values make a labelled tie (prob 0.5) only in a group of exactly two rows: in a longer list they usually mean
    "not told apart", not "judged equal". Rows with gold None are not labelled. Raises ValueError for a NaN label.
    """
    import torch

    values = gold.tolist() if hasattr(gold, "tolist") else list(gold)
    if len(values) != len(batch):
        raise ValueError(f"there are {len(values)} gold values for {len(batch)} rows")
    if any(value is not None and value != value for value in values):
        raise ValueError("a gold value is NaN: use None for a row that is not labelled")
    edges: list[tuple[int, int, float]] = []
    for rows in batch.group_rows():
        for place, row in enumerate(rows):
            for other in rows[place + 1 :]:
                mine, its = values[row], values[other]
                if mine is None or its is None or (mine == its and len(rows) != 2):
                    continue
                edges.append((row, other, 0.5 if mine == its else float(mine > its)))
    first, second = (torch.tensor([edge[side] for edge in edges], dtype=torch.int64) for side in (0, 1))
    prob = torch.tensor([edge[2] for edge in edges])
    return Preferences(first, second, prob, tie=(prob == 0.5).float())


def _scores_by_round_robin(reward: BaseReward, batch: Batch, ctx: Context | None) -> Scores:
    """Each unordered pair is asked once: a reward that has an order effect symmetrises inside `compare`."""
    import torch

    require_groups(reward, batch)
    assert batch.groups is not None
    first, second = pairs_within(batch)
    judged = reward.compare(batch, first, second, ctx) if len(first) else Preferences(first, second, torch.zeros(0))
    return round_robin(judged, batch.groups)
