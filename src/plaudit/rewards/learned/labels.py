"""Labelled rows as `FitData`: choices, rankings, ratings and ties in any layout that `plaudit.data` reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from plaudit.data.row import Row, rows_to_batch
from plaudit.rewards.learned.data import FitData
from plaudit.types import Batch, DataError, Preferences, UserError
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from torch import Tensor

Labels = Literal["pairs", "ratings", "both"]


@dataclass
class LabelledRows:
    """Rows and what they teach. unit_rows: [U] the row that each unit of `data` comes from. unlabelled: rows without a unit."""

    data: FitData
    rows: Sequence[Row]
    unit_rows: Tensor
    unlabelled: int


def labelled_rows(rows: Iterable[Row], labels: Labels, *, aspects: Sequence[str] = (), weight: str | None = None) -> LabelledRows:
    """What a reward can be fitted on.

    labels: "pairs" takes every two responses of a row whose gold values differ (all pairs of a ranking), and the labelled tie of
    two responses as 0.5. Two gold values of two responses that lie in [0, 1] and sum to 1 are the probability that the first is
    better, so soft labels stay soft. "ratings" takes the gold values, of responses to one prompt as one group; "both" takes both.
    aspects: extra columns that hold the ratings instead, a number for one response, a list for several: ratings are then [B, A].
    weight: an extra column with the weight of a row's pairs. Missing and null ratings are NaN: not rated.
    Raises UserError if no row has such labels, DataError, with the row, for a rating or weight that is no number.
    """
    kept = list(rows)
    batch = rows_to_batch(kept)
    starts = _starts(kept)
    pairs = _pairs(kept, starts, weight) if labels != "ratings" else None
    ratings = _ratings(kept, aspects) if labels != "pairs" else None
    if pairs is not None and labels == "both" and not len(pairs[0]):
        pairs = None  # ratings alone teach something
    if ratings is not None and labels == "both" and bool(ratings.isnan().all()):
        ratings = None
    if labels == "ratings":
        batch.groups = _prompt_groups(batch)
    if (pairs is not None and not len(pairs[0])) or (pairs is None and (ratings is None or bool(ratings.isnan().all()))):
        raise UserError(_nothing(labels, aspects))
    data = FitData(batch, None if pairs is None else pairs[0], ratings)
    unit_rows = pairs[1] if pairs is not None else _row_of(kept)[data.rated]
    return LabelledRows(data, kept, unit_rows, len(kept) - len(set(unit_rows.tolist())))


def _nothing(labels: Labels, aspects: Sequence[str]) -> str:
    if labels == "pairs":
        return (
            "no row has two responses with labels, which this head is fitted on; "
            "for ratings take the head regression, ordinal or ranking"
        )
    named = f"in {', '.join(aspects)}" if aspects else "on a response"
    return f"no row has a rating {named}" + (", nor two responses with labels" if labels == "both" else "")


def _starts(rows: Sequence[Row]) -> list[int]:
    """First batch row of each row."""
    starts, total = [], 0
    for row in rows:
        starts.append(total)
        total += len(row.responses)
    return starts


def _row_of(rows: Sequence[Row]) -> Tensor:
    """[B] int64 the row that each batch row comes from."""
    import torch

    sizes = torch.tensor([len(row.responses) for row in rows], dtype=torch.int64)
    return torch.arange(len(rows)).repeat_interleave(sizes)


def _pairs(rows: Sequence[Row], starts: Sequence[int], weight: str | None) -> tuple[Preferences, Tensor]:
    """All edges, and the row of each."""
    import torch

    first, second, prob, weights, owners = [], [], [], [], []
    for number, row in enumerate(rows):
        own = 1.0 if weight is None else _number(row, weight, row.extras.get(weight))
        for i, j in row.contests():
            first.append(starts[number] + i)
            second.append(starts[number] + j)
            prob.append(_probability(row, i, j))
            weights.append(own)
            owners.append(number)
    edges = Preferences(
        torch.tensor(first, dtype=torch.int64),
        torch.tensor(second, dtype=torch.int64),
        torch.tensor(prob, dtype=torch.float32),
        None if weight is None else torch.tensor(weights, dtype=torch.float32),
    )
    return edges, torch.tensor(owners, dtype=torch.int64)


def _probability(row: Row, i: int, j: int) -> float:
    """P(i beats j) as the labels say."""
    gold = row.gold or ()
    if len(gold) == 2 and min(gold) >= 0 and abs(sum(gold) - 1) < 1e-6:
        return gold[i]
    return 0.5 if gold[i] == gold[j] else float(gold[i] > gold[j])


def _ratings(rows: Sequence[Row], aspects: Sequence[str]) -> Tensor:
    """[B] gold values, or [B, A] aspects."""
    import torch

    if not aspects:
        values = [row.gold[place] if row.gold is not None else torch.nan for row in rows for place in range(len(row.responses))]
        return torch.tensor(values, dtype=torch.float32)
    table = [[_rating(row, name, place) for name in aspects] for row in rows for place in range(len(row.responses))]
    return torch.tensor(table, dtype=torch.float32)


def _rating(row: Row, name: str, place: int) -> float:
    value = row.extras.get(name)
    if isinstance(value, list | tuple):
        if len(value) != len(row.responses):
            raise DataError(row.source, row.number, f"'{name}' has {len(value)} ratings", f"one for each of {len(row.responses)}")
        value = value[place]
    elif len(row.responses) > 1 and value is not None:
        raise DataError(row.source, row.number, f"'{name}' is one number", f"a list of {len(row.responses)}")
    return float("nan") if value is None else _number(row, name, value)


def _number(row: Row, name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(row.source, row.number, f"'{name}' is {value!r}", "a number")
    return float(value)


def _prompt_groups(batch: Batch) -> Tensor:
    """[B] int64: rows of one prompt are one group."""
    import torch

    number: dict[str, int] = {}
    keys = [prompt if isinstance(prompt, str) else content_key(prompt) for prompt in batch.prompts]
    return torch.tensor([number.setdefault(key, len(number)) for key in keys], dtype=torch.int64)
