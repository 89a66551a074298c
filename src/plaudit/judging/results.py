"""What judging one row gives: numbers for its responses, probabilities for its pairs, and what was said."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from plaudit.data.row import Row
from plaudit.types import Status, Verdict


@dataclass
class ResponseResult:
    """One response: `value` is None exactly where `status` is not OK."""

    value: float | None
    status: Status
    parts: dict[str, float | None] = field(default_factory=dict)
    spread: float | None = None
    verdicts: list[Verdict] = field(default_factory=list)


@dataclass
class PairResult:
    """Two responses of a row, by position. prob: P(first beats second), half of a tie counted; None unless OK.

    by_order: the same probability as read when first was shown first, and when it was shown second, mapped back;
    None for rewards that have no order. tie: P(tie) where the judge can say it.
    """

    first: int
    second: int
    prob: float | None
    status: Status
    by_order: tuple[float | None, float | None] | None = None
    tie: float | None = None
    verdicts: list[Verdict] = field(default_factory=list)


@dataclass
class RowResult:
    """One row judged by one reward. `responses` is empty where the reward only compared."""

    row: Row
    responses: list[ResponseResult] = field(default_factory=list)
    pairs: list[PairResult] = field(default_factory=list)

    @property
    def values(self) -> list[float | None]:
        """The value of each response, None where there is none."""
        return [result.value for result in self.responses]

    def best(self) -> int | None:
        """Position of the response with the highest value; the first of equals; None unless every response has a value."""
        values = self.values
        if not values or any(value is None for value in values):
            return None
        return max(range(len(values)), key=lambda place: (values[place], -place))

    def to_json(self) -> dict[str, Any]:
        """A JSON-able record. It holds no times, paths or cache counts, so that equal runs give equal bytes."""
        record: dict[str, Any] = {"id": self.row.id}
        if self.row.section is not None:
            record["section"] = self.row.section
        if self.row.gold is not None:
            record["gold"] = list(self.row.gold)
        if self.responses:
            record["responses"] = [_response_json(result) for result in self.responses]
        if self.pairs:
            record["pairs"] = [_pair_json(pair) for pair in self.pairs]
        return record


def _response_json(result: ResponseResult) -> dict[str, Any]:
    record: dict[str, Any] = {"value": result.value, "status": result.status.label}
    if result.parts:
        record["parts"] = result.parts
    if result.spread is not None:
        record["spread"] = result.spread
    if result.verdicts:
        record["verdicts"] = [verdict.to_json() for verdict in result.verdicts]
    return record


def _pair_json(pair: PairResult) -> dict[str, Any]:
    record: dict[str, Any] = {"first": pair.first, "second": pair.second, "prob": pair.prob, "status": pair.status.label}
    if pair.by_order is not None:
        record["by_order"] = list(pair.by_order)
    if pair.tie is not None:
        record["tie"] = pair.tie
    if pair.verdicts:
        record["verdicts"] = [verdict.to_json() for verdict in pair.verdicts]
    return record
