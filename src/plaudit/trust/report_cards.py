"""The worst disagreements: where two rewards, or a reward and the labels, are surest of opposite orders."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from plaudit.data.row import Row
from plaudit.judging.results import RowResult
from plaudit.trust.agreement import places, probability, response_text
from plaudit.trust.report_words import number, shortened
from plaudit.types import Status, prompt_text

Results = Mapping[str, Sequence[RowResult]]
LABELS = "the labels"
MOST_CARDS = 8


@dataclass(frozen=True)
class Answer:
    """One response on a card. marks: names of the rewards that pick it. numbers: one text per reward, in their order."""

    place: int
    text: str
    gold: str
    kind: str
    marks: tuple[str, ...]
    numbers: tuple[str, ...]
    rationale: str | None
    said: tuple[tuple[str, str], ...]
    """(who, text): what judges wrote."""


@dataclass(frozen=True)
class Card:
    """One row on which two sides disagree, and by how much (0 to 1)."""

    row: str
    section: str
    prompt: str
    sentence: str
    size: float
    answers: tuple[Answer, ...] = field(default=())


class Strength:
    """How strongly a reward puts one response above another, in [-1, 1], comparable between rewards.

    Comparisons: 2 P - 1. Values: the difference of their percentiles among all values of that reward.
    """

    def __init__(self, results: Sequence[RowResult]) -> None:
        self._sorted = sorted(value for result in results for value in result.values if value is not None)

    def percentile(self, value: float) -> float:
        """Mid-rank of a value among all, in [0, 1]."""
        low, high = bisect.bisect_left(self._sorted, value), bisect.bisect_right(self._sorted, value)
        return (low + high) / (2 * len(self._sorted))

    def __call__(self, result: RowResult, i: int, j: int) -> float | None:
        """Strength of i over j; None where the reward has no usable number."""
        prob, reason = probability(result, i, j)
        if prob is not None:
            return 2 * prob - 1
        if reason != "not compared" or not result.responses:
            return None
        first, second = result.values[i], result.values[j]
        return None if first is None or second is None else self.percentile(first) - self.percentile(second)


@dataclass(frozen=True)
class _Clash:
    size: float
    row: int
    i: int
    j: int
    for_i: str
    for_j: str


def _row_clashes(place: int, row: Row, sides: Mapping[str, Mapping[tuple[int, int], float]]) -> list[_Clash]:
    found = []
    for i, j in places(row):
        strengths = {name: side[i, j] for name, side in sides.items() if (i, j) in side}
        for (a, left), (b, right) in combinations(strengths.items(), 2):
            if left * right < 0:
                # the weaker of two opposite convictions: both have to be sure for a clash to be large
                first, second = (a, b) if left > 0 else (b, a)
                found.append(_Clash(min(abs(left), abs(right)), place, i, j, first, second))
    return found


def _clashes(rows: Sequence[Row], results: Results) -> list[_Clash]:
    """The largest clash of each row that has one, worst first. With one reward the labels are the other side."""
    strengths = {name: Strength(column) for name, column in results.items()}
    worst = []
    for place, row in enumerate(rows):
        sides: dict[str, dict[tuple[int, int], float]] = {}
        for name, column in results.items():
            pairs = {(i, j): strengths[name](column[place], i, j) for i, j in places(row)}
            sides[name] = {pair: strength for pair, strength in pairs.items() if strength is not None}
        if len(results) == 1 and row.gold is not None:
            sides[LABELS] = {(i, j): float((row.gold[i] > row.gold[j]) - (row.gold[i] < row.gold[j])) for i, j in places(row)}
        found = _row_clashes(place, row, sides)
        if found:
            worst.append(max(found, key=lambda clash: clash.size))
    return sorted(worst, key=lambda clash: (-clash.size, clash.row))


def disputed_responses(rows: Sequence[Row], results: Results, *, limit: int = MOST_CARDS) -> list[tuple[Row, int]]:
    """(row, place) of the two responses of each card that the report will show: those whose rationales are worth asking for."""
    return [(rows[clash.row], place) for clash in _clashes(rows, results)[:limit] for place in (clash.i, clash.j)]


def _number_of(result: RowResult, place: int) -> str:
    if result.responses:
        response = result.responses[place]
        return number(response.value) if response.value is not None else response.status.label.replace("_", " ")
    probs = [prob for other in range(len(result.row.responses)) if (prob := probability(result, place, other)[0]) is not None]
    if probs:
        return f"wins\u00a0{100 * sum(probs) / len(probs):.0f}\u00a0%"  # no line break inside a number
    failed = [pair.status.label for pair in result.pairs if place in (pair.first, pair.second) and pair.status != Status.OK]
    return failed[0].replace("_", " ") if failed else "not compared"


def _said(name: str, result: RowResult, place: int) -> list[tuple[str, str]]:
    texts = [
        (name, verdict.text) for response in result.responses[place : place + 1] for verdict in response.verdicts if verdict.text
    ]
    for pair in result.pairs:
        if pair.first == place:
            texts += [(f"{name}, #{pair.first + 1} against #{pair.second + 1}", said.text) for said in pair.verdicts if said.text]
    return texts


def _answer(
    row: Row,
    place: int,
    at: int,
    results: Results,
    picks: Mapping[str, Sequence[int | None]],
    rationales: Mapping[tuple[str, int], str],
) -> Answer:
    kinds = row.extras.get("kinds")
    said: list[tuple[str, str]] = []
    for name, column in results.items():
        said += _said(name, column[at], place)
    return Answer(
        place + 1,
        shortened(response_text(row.responses[place])).strip() or "(empty)",
        number(row.gold[place]) if row.gold is not None else "",
        str(kinds[place]) if isinstance(kinds, Sequence) and len(kinds) == len(row.responses) else "",
        tuple(name for name, column in picks.items() if column[at] == place),
        tuple(_number_of(column[at], place) for column in results.values()),
        shortened(rationales[row.id, place], 800) if (row.id, place) in rationales else None,
        tuple(dict.fromkeys((who, shortened(text, 800)) for who, text in said)),
    )


def _sentence(row: Row, clash: _Clash) -> str:
    text = f"{clash.for_i} puts #{clash.i + 1} above #{clash.j + 1}, {clash.for_j} the other way round."
    if row.gold is None or row.gold[clash.i] == row.gold[clash.j] or LABELS in (clash.for_i, clash.for_j):
        return text
    return f"{text} The labels side with {clash.for_i if row.gold[clash.i] > row.gold[clash.j] else clash.for_j}."


def worst_disagreements(
    rows: Sequence[Row],
    results: Results,
    picks: Mapping[str, Sequence[int | None]],
    rationales: Mapping[tuple[str, int], str],
    *,
    limit: int = MOST_CARDS,
) -> list[Card]:
    """The `limit` largest disagreements, largest first, and every other row that has a rationale."""
    clashes = _clashes(rows, results)
    explained = {row for row, _ in rationales}
    shown = [clash for place, clash in enumerate(clashes) if place < limit or rows[clash.row].id in explained]
    clashing = {clash.row for clash in clashes}
    quiet = [place for place, row in enumerate(rows) if row.id in explained and place not in clashing]
    cards = [(clash.row, clash.size, _sentence(rows[clash.row], clash)) for clash in shown]
    cards += [(place, 0.0, "No two sides contradict each other here; shown for its rationale.") for place in quiet]
    return [
        Card(
            rows[at].id,
            rows[at].section or "",
            shortened(prompt_text(rows[at].prompt)),
            sentence,
            size,
            tuple(_answer(rows[at], place, at, results, picks, rationales) for place in range(len(rows[at].responses))),
        )
        for at, size, sentence in cards
    ]
