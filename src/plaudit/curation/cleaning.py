"""Doubtful data found by a reward that is there already: pairs whose label it contradicts, and responses that it likes least.

A reward that was fitted on the same rows agrees with their mistakes: clean with one that was not, or across folds.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from plaudit.curation.balance import winner
from plaudit.curation.factory import CHUNK, judged_pairs
from plaudit.data.row import Row, rows_to_batch
from plaudit.types import Context, Reward, Status

Action = Literal["drop", "flip"]


@dataclass(frozen=True)
class PairCleaning:
    """rows, kept: read and given back. contradicted: pairs whose label the reward contradicts with confidence; they were
    dropped, or flipped. unsure: dropped because the reward saw no difference. undecided: rows without a better response, kept.
    unjudged: pairs that the reward gave no verdict on, by status; kept.

    changed: ids of the contradicted rows, the first 1,000.
    """

    rows: int
    kept: int
    contradicted: int
    flipped: int
    unsure: int
    undecided: int
    unjudged: Mapping[str, int] = field(default_factory=dict)
    changed: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Every field by name."""
        return asdict(self)


def clean_pairs(
    rows: Iterable[Row],
    reward: Reward,
    *,
    action: Action = "drop",
    confidence: float = 0.9,
    least: float = 0.0,
    ctx: Context | None = None,
) -> tuple[list[Row], PairCleaning]:
    """Drop or flip the decided pairs whose labelled loser wins with a probability of at least `confidence`.

    least: drop pairs, too, where |P - 0.5| is below it: they teach the reward's own ties. The reward judges in chunks. Pairs
    without a verdict stay as they are: that nobody could judge them is no evidence against their label.
    Raises ValueError for another action, or a confidence outside (0.5, 1].
    """
    if action not in ("drop", "flip") or not 0.5 < confidence <= 1.0 or not 0.0 <= least <= 0.5:
        raise ValueError(f"action is drop or flip, confidence in (0.5, 1], least in [0, 0.5]: {action}, {confidence}, {least}")
    kept: list[Row] = []
    counts, unjudged, changed = Counter[str](), Counter[str](), list[str]()
    for row, prob, status in judged_pairs(_seen(rows, counts), reward, ctx):
        won = winner(row)
        if won is None:
            counts["undecided"] += 1
        elif prob is None:
            unjudged[status.label] += 1
        elif (prob if won == 1 else 1.0 - prob) >= confidence:
            changed.append(row.id)
            if action == "drop":
                continue
            row = replace(row, gold=(row.gold[1], row.gold[0]), notes=(*row.notes, "label flipped"))  # type: ignore[index]
        elif abs(prob - 0.5) < least:
            counts["unsure"] += 1
            continue
        kept.append(row)
    flipped = len(changed) if action == "flip" else 0
    found = PairCleaning(counts["rows"], len(kept), len(changed), flipped, counts["unsure"], counts["undecided"])
    return kept, replace(found, unjudged=dict(sorted(unjudged.items())), changed=tuple(changed[:1000]))


def _seen(rows: Iterable[Row], counts: Counter[str]) -> Iterable[Row]:
    for row in rows:
        counts["rows"] += 1
        yield row


@dataclass(frozen=True)
class LowestReport:
    """rows, kept: read and given back. dropped: ids, worst first. thresholds: by section, the standard score below which rows
    went; sections without two different scores lose nothing and have none. unjudged: rows without a score, by status; kept.
    """

    rows: int
    kept: int
    dropped: tuple[str, ...]
    thresholds: Mapping[str, float] = field(default_factory=dict)
    unjudged: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Every field by name."""
        return asdict(self)


def drop_lowest(
    rows: Sequence[Row], reward: Reward, *, share: float = 0.05, per_section: bool = True, ctx: Context | None = None
) -> tuple[list[Row], LowestReport]:
    """Without the rows whose response the reward likes least: hallucinated, empty and mismatched answers (card 63, use 3).

    A row counts by its lowest response. per_section: scores are compared within a section only, as standard scores, since a
    reward's scale differs from one kind of prompt to another; `share` (rounded down) of each section goes. Rows where a
    response has no score stay, and are counted. Raises ValueError for a share outside [0, 1).
    """
    if not 0.0 <= share < 1.0:
        raise ValueError(f"share must lie in [0, 1), not {share}")
    values, unjudged = _lowest(rows, reward, ctx)
    sections: dict[str, list[int]] = defaultdict(list)
    for place in values:
        sections[(rows[place].section or "") if per_section else ""].append(place)
    dropped: list[tuple[float, int]] = []
    thresholds: dict[str, float] = {}
    for name, places in sorted(sections.items()):
        mean = math.fsum(values[place] for place in places) / len(places)
        spread = math.sqrt(math.fsum((values[place] - mean) ** 2 for place in places) / len(places))
        worst = sorted(places, key=lambda place: (values[place], place))[: int(share * len(places))]
        if spread > 0 and worst:
            dropped += [((values[place] - mean) / spread, place) for place in worst]
            thresholds[name] = (values[worst[-1]] - mean) / spread
    gone = {place for _, place in dropped}
    kept = [row for place, row in enumerate(rows) if place not in gone]
    ids = tuple(rows[place].id for _, place in sorted(dropped))
    return kept, LowestReport(len(rows), len(kept), ids, thresholds, dict(sorted(unjudged.items())))


def _lowest(rows: Sequence[Row], reward: Reward, ctx: Context | None) -> tuple[dict[int, float], Counter[str]]:
    """By place: the lowest score among a row's responses; and why others have none."""
    values: dict[int, float] = {}
    unjudged: Counter[str] = Counter()
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        scores = reward.score(rows_to_batch(chunk), ctx)
        listed, statuses, at = scores.values.tolist(), scores.status.tolist(), 0
        for place, row in enumerate(chunk, start):
            own = slice(at, at + len(row.responses))
            at += len(row.responses)
            reasons = [status for status in statuses[own] if status != Status.OK]
            if reasons:
                unjudged[Status(reasons[0]).label] += 1
            else:
                values[place] = min(listed[own])
    return values, unjudged
