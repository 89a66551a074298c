"""Results with planted properties, built without any model."""

from __future__ import annotations

import random
from collections.abc import Sequence

from plaudit.data.row import Row
from plaudit.judging.results import PairResult, ResponseResult, RowResult
from plaudit.types import Status


def row(number: int, gold: Sequence[float] | None = (1.0, 0.0), *, responses: Sequence[str] | None = None, **more: object) -> Row:
    """A row with distinct texts of growing length, unless responses are given."""
    count = len(gold) if gold is not None else 2
    texts = tuple(responses or [f"answer {number} " + "x" * place for place in range(count)])
    return Row(f"r{number}", f"question {number}", texts, gold=None if gold is None else tuple(gold), **more)  # type: ignore[arg-type]


def scored(of: Row, values: Sequence[float | None], status: Status = Status.UNPARSABLE) -> RowResult:
    """Values as given; None takes `status`."""
    return RowResult(of, [ResponseResult(value, Status.OK if value is not None else status) for value in values])


def compared(of: Row, forward: float | None, backward: float | None) -> RowResult:
    """The first two responses compared in both orders."""
    known = [prob for prob in (forward, backward) if prob is not None]
    prob = sum(known) / 2 if len(known) == 2 else None
    status = Status.OK if prob is not None else Status.UNPARSABLE
    return RowResult(of, pairs=[PairResult(0, 1, prob, status, by_order=(forward, backward))])


def biased_pairs(count: int, bias: float, *, seed: int = 0, gold: bool = True) -> list[RowResult]:
    """Pairs of random true probability; being shown first adds `bias`, with noise of deviation 0.05, to P(winning)."""
    draw = random.Random(seed)
    results = []
    for number in range(count):
        labels = ((1.0, 0.0) if number % 2 else (0.0, 1.0)) if gold else None
        true = draw.uniform(0.35, 0.65)
        added = bias + draw.gauss(0, 0.05)
        results.append(compared(row(number, labels), true + added, true - added))
    return results
