"""What a run says about a reward: how often it is right, what it could not judge, whether it depends on the order shown.

The one written rule for ties. A reward's outcome on a pair is 1 (first wins), 0 (second wins) or 0.5 (tie): a tie if P(first
wins) is 0.5 to within 1e-6 (or two scores are equal), or if the tie's own probability is the largest of the three. On pairs
with a better side, accuracy gives a predicted tie half a point. Pairs that people labelled a tie are counted apart.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field, fields
from typing import Any

from plaudit.data.row import Row
from plaudit.judging.intervals import ClusteredMean, Interval
from plaudit.judging.results import PairResult, ResponseResult, RowResult
from plaudit.types import Status
from plaudit.types.keys import content_key

TIE_MARGIN = 1e-6


def pair_outcome(pair: PairResult) -> float | None:
    """1.0, 0.5 or 0.0 by the rule for ties; None where the pair has no number."""
    if pair.prob is None:
        return None
    if pair.tie is not None and pair.tie > max(pair.prob - pair.tie / 2, 1 - pair.prob - pair.tie / 2):
        return 0.5
    return side(pair.prob - 0.5)


def side(difference: float) -> float:
    """1.0 above, 0.0 below, 0.5 within the margin of a tie."""
    return 0.5 if abs(difference) <= TIE_MARGIN else float(difference > 0)


def outcome(result: RowResult, first: int, second: int) -> float | None:
    """Which of two responses the reward prefers, from its pairs where it compared, else from its scores."""
    for pair in result.pairs:
        if (pair.first, pair.second) == (first, second):
            return pair_outcome(pair)
        if (pair.first, pair.second) == (second, first):
            won = pair_outcome(pair)
            return None if won is None else 1.0 - won
    if not result.values:
        return None
    ours, theirs = result.values[first], result.values[second]
    return None if ours is None or theirs is None else side(ours - theirs)


def _length(response: Any) -> int:
    return len(response) if isinstance(response, str) else len(str(response))


@dataclass
class Moments:
    """Running mean, deviation and range of the values (Welford)."""

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    def add(self, value: float) -> None:
        """Count one value."""
        self.n += 1
        step = value - self.mean
        self.mean += step / self.n
        self.squares += step * (value - self.mean)
        self.low, self.high = min(self.low, value), max(self.high, value)

    def merge(self, other: Moments) -> None:
        """Count the values of another part (Chan, Golub and LeVeque: the pairwise update)."""
        if other.n == 0:
            return
        n = self.n + other.n
        step = other.mean - self.mean
        self.squares += other.squares + step * step * self.n * other.n / n
        self.mean += step * other.n / n
        self.n = n
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)

    def to_json(self) -> dict[str, Any] | None:
        """None where no value was counted."""
        if self.n == 0:
            return None
        deviation = math.sqrt(self.squares / (self.n - 1)) if self.n > 1 else None
        rounded = {"mean": self.mean, "std": deviation, "min": self.low, "max": self.high}
        return {"n": self.n, **{name: None if value is None else round(value, 6) for name, value in rounded.items()}}


@dataclass
class PairTally:
    """Labelled pairs of one section (or of all). strict counts a pair that could not be judged as wrong."""

    accuracy: ClusteredMean = field(default_factory=ClusteredMean)
    strict: ClusteredMean = field(default_factory=ClusteredMean)
    longest: ClusteredMean = field(default_factory=ClusteredMean)
    ties: int = 0
    invalid: int = 0
    gold_ties: int = 0
    gold_ties_found: int = 0

    def add(self, cluster: Hashable, result: RowResult, first: int, second: int) -> None:
        """Count one labelled pair."""
        gold = result.row.gold or ()
        won = outcome(result, first, second)
        if gold[first] == gold[second]:
            self.gold_ties += 1
            self.gold_ties_found += won == 0.5
            return
        wanted = float(gold[first] > gold[second])
        longer = side(_length(result.row.responses[first]) - _length(result.row.responses[second]))
        self.longest.add(cluster, 1.0 - abs(longer - wanted))
        if won is None:
            self.invalid += 1
            self.strict.add(cluster, 0.0)
            return
        right = 1.0 - abs(won - wanted)
        self.ties += won == 0.5
        self.accuracy.add(cluster, right)
        self.strict.add(cluster, right)

    def merge(self, other: PairTally) -> None:
        """Count the pairs of another part."""
        _merge_fields(self, other)

    def to_json(self) -> dict[str, Any]:
        """Counts and intervals; a figure without cases is null."""
        return {
            "pairs": self.strict.n,
            "accuracy": _interval(self.accuracy.estimate()),
            "accuracy_strict": _interval(self.strict.estimate()),
            "longest_response": _interval(self.longest.estimate()),
            "predicted_ties": self.ties,
            "invalid": self.invalid,
            "labelled_ties": self.gold_ties,
            "labelled_ties_found": self.gold_ties_found,
        }


def _merge_fields(ours: PairTally | Summary, theirs: PairTally | Summary) -> None:
    """Add up the counts and means that two of a kind hold."""
    for one in fields(ours):
        mine, other = getattr(ours, one.name), getattr(theirs, one.name)
        if isinstance(mine, int):
            setattr(ours, one.name, mine + other)
        elif isinstance(mine, Counter):
            mine.update(other)
        elif isinstance(mine, ClusteredMean | Moments | PairTally):
            mine.merge(other)


def _interval(interval: Interval | None) -> dict[str, Any] | None:
    return None if interval is None else interval.to_json()


@dataclass
class Summary:
    """Running figures of one run; memory grows with the number of labelled prompts only."""

    rows: int = 0
    responses: int = 0
    pairs_compared: int = 0
    status: Counter[Status] = field(default_factory=Counter)
    details: dict[Status, str] = field(default_factory=dict)
    """The first explanation seen for each status that is not OK."""
    values: Moments = field(default_factory=Moments)
    labelled: PairTally = field(default_factory=PairTally)
    sections: dict[str, PairTally] = field(default_factory=dict)
    best: ClusteredMean = field(default_factory=ClusteredMean)
    best_chance: ClusteredMean = field(default_factory=ClusteredMean)
    correct: ClusteredMean = field(default_factory=ClusteredMean)
    positives: int = 0
    order_agrees: ClusteredMean = field(default_factory=ClusteredMean)
    order_bias: ClusteredMean = field(default_factory=ClusteredMean)

    def add(self, result: RowResult) -> None:
        """Count one judged row."""
        self.rows += 1
        self.responses += len(result.row.responses)
        cluster = content_key(result.row.prompt)[:16] if result.row.gold is not None or result.pairs else ""
        self._add_status(result)
        for value in result.values:
            if value is not None:
                self.values.add(value)
        for pair in result.pairs:
            self._add_order(cluster, pair)
        if result.row.gold is not None:
            self._add_labels(cluster, result, result.row.gold)

    def merge(self, other: Summary) -> None:
        """Count the rows of another part of the same run; parts are merged in the order of their rows."""
        _merge_fields(self, other)
        for status, detail in other.details.items():
            self.details.setdefault(status, detail)
        for name, tally in other.sections.items():
            self.sections.setdefault(name, PairTally()).merge(tally)

    def _add_status(self, result: RowResult) -> None:
        """Pairs carry the status of a comparing reward, responses that of any other."""
        judged: list[PairResult] | list[ResponseResult] = result.pairs or result.responses
        self.pairs_compared += len(result.pairs)
        for one in judged:
            self.status[one.status] += 1
            if one.status != Status.OK and one.status not in self.details:
                said = next((verdict.detail for verdict in one.verdicts if verdict.detail), "")
                self.details[one.status] = f"row {result.row.id}: {said}" if said else f"row {result.row.id}"

    def _add_order(self, cluster: Hashable, pair: PairResult) -> None:
        shown_first, shown_second = pair.by_order or (None, None)
        if shown_first is None or shown_second is None:
            return
        self.order_agrees.add(cluster, float(side(shown_first - 0.5) == side(shown_second - 0.5)))
        self.order_bias.add(cluster, (shown_first - shown_second) / 2)

    def _add_labels(self, cluster: Hashable, result: RowResult, gold: tuple[float, ...]) -> None:
        row: Row = result.row
        if len(gold) == 1:
            self._add_correctness(cluster, result.values, gold[0])
            return
        tallies = [self.labelled]
        if row.section is not None:
            tallies.append(self.sections.setdefault(row.section, PairTally()))
        for first, second in row.contests():
            for tally in tallies:
                tally.add(cluster, result, first, second)
        top = max(gold)
        pick = result.best()
        if pick is not None and min(gold) < top:
            self.best.add(cluster, float(gold[pick] == top))
            self.best_chance.add(cluster, sum(value == top for value in gold) / len(gold))

    def _add_correctness(self, cluster: Hashable, values: list[float | None], gold: float) -> None:
        """A single response labelled right (1) or wrong (0) against the threshold 0.5."""
        if gold in (0.0, 1.0) and values and values[0] is not None:
            self.positives += gold == 1.0
            self.correct.add(cluster, float((values[0] > 0.5) == (gold == 1.0)))

    @property
    def judged(self) -> int:
        """How many things (responses, or pairs for a comparing reward) were judged."""
        return sum(self.status.values())

    @property
    def invalid(self) -> int:
        """How many of them have no number."""
        return self.judged - self.status[Status.OK]

    def to_json(self) -> dict[str, Any]:
        """Everything, JSON-able; a figure without cases is null."""
        record: dict[str, Any] = {
            "rows": self.rows,
            "responses": self.responses,
            "pairs_compared": self.pairs_compared,
            "judged": self.judged,
            "invalid": self.invalid,
            "invalid_rate": round(self.invalid / self.judged, 6) if self.judged else None,
            "status": {status.label: self.status[status] for status in sorted(self.status)},
            "values": self.values.to_json(),
            "order_consistency": _interval(self.order_agrees.estimate()),
            "order_bias": _interval(self.order_bias.estimate(share=False)),
        }
        if self.labelled.strict.n or self.labelled.gold_ties:
            record["labelled_pairs"] = self.labelled.to_json()
            record["best_response"] = {
                "accuracy": _interval(self.best.estimate()),
                "chance": _interval(self.best_chance.estimate()),
            }
            record["sections"] = {name: self.sections[name].to_json() for name in sorted(self.sections)}
        if self.correct.n:
            share = self.positives / self.correct.n
            record["correctness"] = {
                "accuracy": _interval(self.correct.estimate()),
                "majority_class": round(max(share, 1 - share), 6),
            }
        return record
