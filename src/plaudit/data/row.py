"""`Row`: one prompt with its responses and, where people or rules have judged them, their gold values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from plaudit.types import Batch, Finish, Prompt

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Row:
    """One prompt and k >= 1 responses.

    gold: one value a response, larger is better: (1.0, 0.0) says that the first is preferred, (0.5, 0.5) is a labelled
    tie, (1.0,) a response known to be right. None: not labelled. Never NaN.
    section: the part of a benchmark that the row belongs to. source, number: file and 1-based row, for messages.
    notes: oddities that a reader handled by its stated rule, e.g. "empty response"; the run counts them.
    """

    id: str
    prompt: Prompt
    responses: tuple[Any, ...]
    references: tuple[Any, ...] | None = None
    """One reference answer a response (usually the same one), or None."""
    gold: tuple[float, ...] | None = None
    section: str | None = None
    user: Any = None
    finish: tuple[Finish, ...] | None = None
    extras: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    number: int = 0
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.responses:
            raise ValueError("a row needs at least one response")
        for name in ("references", "gold", "finish"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self.responses):
                raise ValueError(f"{name} has {len(column)} values for {len(self.responses)} responses")
        if self.gold is not None and any(math.isnan(value) for value in self.gold):
            raise ValueError("a gold value is NaN")

    def contests(self) -> Iterator[tuple[int, int]]:
        """Pairs of responses that the labels speak about: all pairs of different gold, or the one labelled tie of two."""
        if self.gold is None:
            return
        for i in range(len(self.gold)):
            for j in range(i + 1, len(self.gold)):
                if self.gold[i] != self.gold[j] or len(self.gold) == 2:
                    yield i, j


def rows_to_batch(rows: Sequence[Row]) -> Batch:
    """One batch row per response, in order; the responses of a row form one group.

    Extras that a row does not have are None there; ids are `ROW#RESPONSE`.
    """
    import torch

    each = [(index, row, place) for index, row in enumerate(rows) for place in range(len(row.responses))]
    names = sorted({name for row in rows for name in row.extras})
    any_reference = any(row.references is not None for row in rows)
    any_finish = any(row.finish is not None for row in rows)
    return Batch(
        prompts=[row.prompt for _, row, _ in each],
        responses=[row.responses[place] for _, row, place in each],
        references=[row.references[place] if row.references else None for _, row, place in each] if any_reference else None,
        groups=torch.tensor([index for index, _, _ in each], dtype=torch.int64),
        ids=[f"{row.id}#{place}" for _, row, place in each],
        users=[row.user for _, row, _ in each] if any(row.user is not None for row in rows) else None,
        finish=[row.finish[place] if row.finish else "complete" for _, row, place in each] if any_finish else None,
        extras={name: [row.extras.get(name) for _, row, _ in each] for name in names},
    )
