"""`hard_filter`: keep the labelled pairs that weak judges get wrong; what is hard for them proved to stay hard (VL-RewardBench).

Selection by error regresses to the mean: part of what is kept was bad luck of the filter's own judges. Judges that took part in
the filter must not be measured on what it kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from plaudit.data import Row
from plaudit.judging.results import RowResult
from plaudit.trust.agreement import aligned
from plaudit.trust.benchmarks.votes import verdict


@dataclass
class Hardened:
    """rows: what is left. kept: their places. by_fails: how many rows so many judges got wrong. left_out: rows, by reason."""

    rows: list[Row]
    kept: list[int]
    by_fails: dict[int, int]
    left_out: dict[str, int]


def hard_filter(
    judged: Sequence[Sequence[RowResult]], *, fail_votes: int | None = None, verify: Callable[[Row], bool] | None = None
) -> Hardened:
    """Rows on which at least `fail_votes` judges prefer the rejected answer (None: a majority of the judges).

    judged: for each weak judge its results on the same labelled pairs, in the same order. A verdict that is unparsed or undecided
    is no failure: it says nothing about which answer the judge prefers. verify: a last look at each kept row (people, in the
    original); rows that it refuses are left out and counted. Raises ValueError without judges, for fail_votes that cannot be
    reached or are 0, or for results of different rows.
    """
    if not judged:
        raise ValueError("a hard filter needs at least one judge")
    needed = len(judged) // 2 + 1 if fail_votes is None else fail_votes
    if not 1 <= needed <= len(judged):
        raise ValueError(f"fail_votes is {needed}, expected 1 to {len(judged)} judges")
    for other in judged[1:]:
        list(aligned(judged[0], other))  # raises where the rows differ
    rows, kept, by_fails, left_out = [], [], Counter[int](), Counter[str]()
    for place, results in enumerate(zip(*judged, strict=True)):
        row, fails = results[0].row, sum(verdict(result) == "reject" for result in results)
        by_fails[fails] += 1
        if fails < needed:
            left_out["not hard"] += 1
        elif verify is not None and not verify(row):
            left_out["not verified"] += 1
        else:
            rows.append(row)
            kept.append(place)
    return Hardened(rows, kept, dict(sorted(by_fails.items())), dict(left_out))
