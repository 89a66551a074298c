"""A `Unit` is the smallest thing that is judged and kept: one response, one pair, or one group.

Rows become units (`units_of`), units find their record in the store or are judged, and records become a `RowResult` again
(`assemble`). A fresh judgement takes the same way through its record as a stored one, so both give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from plaudit.data.row import Row
from plaudit.judging.results import PairResult, ResponseResult, RowResult
from plaudit.rewards.base import Native
from plaudit.types import Preferences, Scores, Status, Verdict
from plaudit.types.keys import content_key

Pairs = Literal["labelled", "all", "extremes"]
"""Which pairs of a row a comparing reward is asked about: those that the labels speak about (rows without labels: all),
all, or only the best labelled response against the worst (rows without labels: the first against the last)."""


@dataclass(frozen=True)
class Unit:
    """row: position of the row in the chunk. places: the responses it is about: one, two, or all of the row."""

    row: int
    places: tuple[int, ...]
    key: str


def units_of(rows: Sequence[Row], native: Native, context: str, pairs: Pairs) -> list[Unit]:
    """The units of a chunk of rows. `context` is what all keys share: the reward's fingerprint, and the seed where it counts."""
    units = []
    for index, row in enumerate(rows):
        shared = content_key(context, native, row.prompt, row.user, row.extras)
        for places in _places(row, native, pairs):
            units.append(Unit(index, places, content_key(shared, [_sample(row, place) for place in places])))
    return units


def _places(row: Row, native: Native, pairs: Pairs) -> list[tuple[int, ...]]:
    everything = tuple(range(len(row.responses)))
    if native == "score":
        return [(place,) for place in everything]
    if native == "score_group":
        return [everything]
    if pairs == "extremes":
        return _extremes(row)
    if pairs == "labelled" and row.gold is not None:
        return list(row.contests())
    return list(combinations(everything, 2))


def _extremes(row: Row) -> list[tuple[int, ...]]:
    """One pair, in the order of the responses; none where there is but one response."""
    if len(row.responses) < 2:
        return []
    if row.gold is None or min(row.gold) == max(row.gold):
        return [(0, len(row.responses) - 1)]
    best, worst = row.gold.index(max(row.gold)), row.gold.index(min(row.gold))
    return [(min(best, worst), max(best, worst))]


def _sample(row: Row, place: int) -> list[Any]:
    reference = row.references[place] if row.references else None
    return [row.responses[place], reference, row.finish[place] if row.finish else None]


def number(value: float) -> float | None:
    """A float as it is kept: 7 significant digits, all that a float32 has; None for NaN."""
    return None if value != value else float(f"{value:.7g}")


def score_records(scores: Scores) -> list[dict[str, Any]]:
    """One record a row of `scores`."""
    values, status = scores.values.tolist(), scores.status.tolist()
    parts = {name: part.tolist() for name, part in scores.parts.items()}
    spread = None if scores.spread is None else scores.spread.tolist()
    records = []
    for row in range(len(scores)):
        record: dict[str, Any] = {"value": number(values[row]), "status": status[row]}
        if parts:
            record["parts"] = {name: number(part[row]) for name, part in parts.items()}
        if spread is not None:
            record["spread"] = number(spread[row])
        if scores.verdicts is not None and scores.verdicts[row]:
            record["verdicts"] = [_kept(verdict) for verdict in scores.verdicts[row]]
        records.append(record)
    return records


def preference_records(preferences: Preferences) -> list[dict[str, Any]]:
    """One record a pair of `preferences`."""
    prob, status = preferences.prob.tolist(), preferences.status.tolist()
    tie = None if preferences.tie is None else preferences.tie.tolist()
    records = []
    for pair in range(len(preferences)):
        record: dict[str, Any] = {"prob": number(prob[pair]), "status": status[pair]}
        if tie is not None:
            record["tie"] = number(tie[pair])
        if preferences.verdicts is not None and preferences.verdicts[pair]:
            record["verdicts"] = [_kept(verdict) for verdict in preferences.verdicts[pair]]
        records.append(record)
    return records


def failed_record(status: Status, detail: str) -> dict[str, Any]:
    """The record of a unit that could not be judged."""
    return {"value": None, "prob": None, "status": int(status), "verdicts": [_kept(Verdict(status=status, detail=detail))]}


def _kept(verdict: Verdict) -> dict[str, Any]:
    record = verdict.to_json()
    if verdict.value is not None:
        record["value"] = number(verdict.value)
    return record


def _verdicts(record: Mapping[str, Any]) -> list[Verdict]:
    verdicts = []
    for kept in record.get("verdicts", ()):
        fields = dict(kept, status=Status[kept["status"].upper()])
        if "order" in fields:
            fields["order"] = tuple(fields["order"])
        verdicts.append(Verdict(**fields))
    return verdicts


def assemble(row: Row, native: Native, judged: Sequence[tuple[Unit, Mapping[str, Any]]]) -> RowResult:
    """The result of one row out of the records of its units."""
    if native == "compare":
        pairs = [_pair(unit, record) for unit, record in judged]
        return RowResult(row, wins(row, pairs), pairs)
    if native == "score":
        return RowResult(row, [_response(record) for _, record in judged])
    ((_, group),) = judged
    members = group.get("members") or [group] * len(row.responses)
    return RowResult(row, [_response(record) for record in members])


def _response(record: Mapping[str, Any]) -> ResponseResult:
    return ResponseResult(
        record["value"], Status(record["status"]), dict(record.get("parts", {})), record.get("spread"), _verdicts(record)
    )


def _pair(unit: Unit, record: Mapping[str, Any]) -> PairResult:
    verdicts = _verdicts(record)
    ordered = any(verdict.order is not None for verdict in verdicts)
    by_order = (_mean_in_order(verdicts, (0, 1)), _mean_in_order(verdicts, (1, 0))) if ordered else None
    first, second = unit.places
    return PairResult(first, second, record["prob"], Status(record["status"]), by_order, record.get("tie"), verdicts)


def _mean_in_order(verdicts: Sequence[Verdict], order: tuple[int, int]) -> float | None:
    """Mean over the verdicts in one order of showing (several where votes were counted); None where none has a number."""
    values = [verdict.value for verdict in verdicts if verdict.order == order and verdict.value is not None]
    return sum(values) / len(values) if values else None


def wins(row: Row, pairs: Sequence[PairResult]) -> list[ResponseResult]:
    """Mean win probability of each response over its pairs, where every pair of the row was compared; else nothing.

    A response with a failed pair takes that pair's status: a mean over fewer rivals would not be comparable.
    """
    if len(row.responses) < 2:
        return [ResponseResult(None, Status.EMPTY_GROUP)]
    if len(pairs) < len(row.responses) * (len(row.responses) - 1) // 2:
        return []
    results = []
    for place in range(len(row.responses)):
        wins: list[float] = []
        status = Status.OK
        for pair in pairs:
            if place not in (pair.first, pair.second):
                continue
            if pair.prob is None:
                status = pair.status
                continue
            wins.append(pair.prob if pair.first == place else 1.0 - pair.prob)
        value = number(sum(wins) / len(wins)) if status == Status.OK else None
        results.append(ResponseResult(value, status))
    return results
