"""Pairs chosen so that length does not say which response is better.

Two ways. `length_filter` drops pairs whose winner is much longer (card 63, after InternLM-XComposer2.5-Reward; its thresholds are
not public). It cuts one side only: where the longer response won in about half of the pairs before, the shorter one wins more
often afterwards, and brevity is the cue. `balance_lengths` drops as few pairs as it takes for the longer response to win as often
as the shorter one, at every size of the difference; it removes the cue, also where people are right to like longer answers. Only
decided pairs (two responses, different gold values) are looked at; other rows are kept and counted.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from plaudit.curation.dedupe import text_of
from plaudit.data.row import Row
from plaudit.fitting.seeds import derive_seed

Length = Callable[[Any], int]


def words(response: Any) -> int:
    """Length in words."""
    return len(text_of(response).split())


def characters(response: Any) -> int:
    """Length in characters."""
    return len(text_of(response))


@dataclass(frozen=True)
class LengthReport:
    """rows, kept: read and given back. decided: decided pairs among the rows; other rows are kept unlooked.

    longer_before, longer_after: share of decided pairs of different length whose longer response wins; None without any.
    dropped: by the row's section ("" where it has none). mostly_dropped: sections that lost more than 70 % of their decided
    pairs: what is preferred there may BE length.
    """

    rows: int
    kept: int
    decided: int
    longer_before: float | None
    longer_after: float | None
    dropped: Mapping[str, int] = field(default_factory=dict)
    mostly_dropped: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Every field by name."""
        return asdict(self)


def winner(row: Row) -> int | None:
    """The place of the better response of a decided pair; None for other rows."""
    if len(row.responses) != 2 or row.gold is None or row.gold[0] == row.gold[1]:
        return None
    return 0 if row.gold[0] > row.gold[1] else 1


def longer_wins(rows: Iterable[Row], length: Length = characters) -> float | None:
    """Share of decided pairs of different length whose longer response wins; None without any."""
    gaps = [_gap(row, won, length) for row in rows if (won := winner(row)) is not None]
    different = [gap for gap in gaps if gap]
    return sum(gap > 0 for gap in different) / len(different) if different else None


def _gap(row: Row, won: int, length: Length) -> int:
    """Length of the winner minus that of the loser."""
    return length(row.responses[won]) - length(row.responses[1 - won])


def length_filter(
    rows: Iterable[Row], *, ratio: float = 1.5, gap: int = 20, length: Length = words
) -> tuple[list[Row], LengthReport]:
    """Without the decided pairs whose winner is more than `ratio` times as long as the loser and longer by more than `gap`.

    length: of a response, in words unless told (the card counts tokens). Raises ValueError for a ratio below 1.
    """
    if ratio < 1 or gap < 0:
        raise ValueError(f"ratio must be at least 1 and gap not negative, not {ratio} and {gap}")
    given, drop = list(rows), set()
    for place, row in enumerate(given):
        won = winner(row)
        if won is not None:
            better, worse = length(row.responses[won]), length(row.responses[1 - won])
            if better > ratio * worse and better - worse > gap:
                drop.add(place)
    return _without(given, drop, length)


def balance_lengths(
    rows: Iterable[Row], *, bins: int = 10, length: Length = characters, seed: int = 0
) -> tuple[list[Row], LengthReport]:
    """As many wins of the longer as of the shorter response among pairs of about the same difference in length.

    Decided pairs of different length are sorted by the size of the difference and cut into `bins` of equal count; in each the
    more frequent outcome loses pairs, drawn with `seed`, until both are equal. Pairs of equal length stay. Raises ValueError
    for bins < 1.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, not {bins}")
    given = list(rows)
    gaps = [(place, _gap(row, won, length)) for place, row in enumerate(given) if (won := winner(row)) is not None]
    ordered = sorted(((place, gap) for place, gap in gaps if gap), key=lambda one: (abs(one[1]), one[0]))
    draw, drop = random.Random(derive_seed(seed, "balance")), set[int]()
    for number in range(bins):
        part = ordered[number * len(ordered) // bins : (number + 1) * len(ordered) // bins]
        sides = [[place for place, gap in part if gap > 0], [place for place, gap in part if gap < 0]]
        more, less = sorted(sides, key=len, reverse=True)
        drop.update(draw.sample(more, len(more) - len(less)))
    return _without(given, drop, length)


def _without(rows: Sequence[Row], drop: set[int], length: Length) -> tuple[list[Row], LengthReport]:
    kept = [row for place, row in enumerate(rows) if place not in drop]
    decided = Counter(row.section or "" for row in rows if winner(row) is not None)
    dropped = Counter(rows[place].section or "" for place in drop)
    mostly = tuple(sorted(name for name, count in dropped.items() if count > 0.7 * decided[name]))
    before, after = longer_wins(rows, length), longer_wins(kept, length)
    return kept, LengthReport(len(rows), len(kept), sum(decided.values()), before, after, dict(sorted(dropped.items())), mostly)
