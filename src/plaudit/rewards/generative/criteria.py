"""From a rubric's criteria to one score: the weighted mean, and what happens where a criterion has no number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from plaudit.types import Batch, Scores, Status

if TYPE_CHECKING:
    from plaudit.rewards.generative.asking import Reading
    from plaudit.rewards.generative.contract import Criterion


def combine_criteria(
    rows: Sequence[Sequence[Reading]], criteria: Sequence[Criterion], on_missing: str | float, batch: Batch
) -> Scores:
    """Scores with one part per criterion; value = sum of weight * part / sum of weights.

    rows: [B][K] readings. on_missing: "row": the row takes the status of its first criterion without a number;
    "drop_for_group": such a criterion is left out for every row of the group (`batch.groups`), so that rows which are
    compared together are measured by the same criteria, and each row's verdict says so; a number: it stands in, and the
    verdict says so. A row without any criterion's number has a status under every policy but the number's.
    spread: standard deviation of the mean, criteria taken as independent; NaN where a criterion has no spread.
    """
    import torch

    columns = range(len(criteria))
    for row in rows:
        for reading in row:
            if reading.value is None and isinstance(on_missing, int | float):
                reading.detail.append(f"no number: counted as {on_missing:g}")
    kept = [list(columns) for _ in rows]
    if on_missing == "drop_for_group":
        for group in batch.group_rows():
            dropped = [column for column in columns if any(rows[index][column].value is None for index in group)]
            for index in group:
                kept[index] = [column for column in columns if column not in dropped]
                for column in dropped:
                    rows[index][column].detail.append("criterion left out for this group")
    means = [_mean(row, keep, criteria, on_missing) for row, keep in zip(rows, kept, strict=True)]
    nan = math.nan
    parts = {
        criterion.name: torch.tensor([nan if row[column].value is None else row[column].value for row in rows])
        for column, criterion in enumerate(criteria)
    }
    return Scores(
        torch.tensor([nan if value is None else value for value, _, _ in means], dtype=torch.float32),
        torch.tensor([int(status) for _, status, _ in means], dtype=torch.int8),
        parts=parts,
        spread=torch.tensor([nan if spread is None else spread for _, _, spread in means], dtype=torch.float32),
        verdicts=[[row[column].verdict(name=criteria[column].name) for column in columns] for row in rows],
    )


def _mean(
    row: Sequence[Reading], keep: Sequence[int], criteria: Sequence[Criterion], on_missing: str | float
) -> tuple[float | None, Status, float | None]:
    """(value, status, spread) of one row over the criteria that are kept."""
    stand_in = None if isinstance(on_missing, str) else float(on_missing)
    values = [row[column].value if row[column].value is not None else stand_in for column in keep]
    if not keep or any(value is None for value in values):
        # a row may lose all its criteria to other rows of its group: then the rubric says nothing about it
        status = next((reading.status for reading in row if reading.status is not Status.OK), Status.ABSTAINED)
        return None, status, None
    weights = [criteria[column].weight for column in keep]
    total = math.fsum(weights)
    value = math.fsum(weight * part for weight, part in zip(weights, values, strict=True) if part is not None) / total
    spreads = [0.0 if row[column].value is None else row[column].spread for column in keep]
    if any(spread is None for spread in spreads):
        return value, Status.OK, None
    variance = math.fsum((weight * spread) ** 2 for weight, spread in zip(weights, spreads, strict=True) if spread is not None)
    return value, Status.OK, math.sqrt(variance) / total
