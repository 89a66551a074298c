"""One self-contained page on what rewards are worth on the same rows. Every figure carries its 95 % interval and cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plaudit.data.row import Row
from plaudit.judging.output import atomic
from plaudit.judging.results import RowResult
from plaudit.trust import agreement
from plaudit.trust.agreement import Measured
from plaudit.trust.report_cards import worst_disagreements
from plaudit.trust.report_page import render
from plaudit.trust.report_plots import Plot
from plaudit.trust.report_sections import (
    Picks,
    Results,
    accuracy_section,
    agreement_section,
    distribution_section,
    length_section,
    order_section,
    parts_section,
    picks_section,
    section_names,
    worse_kind,
)
from plaudit.trust.report_words import NOT_MEASURED, counts, percent, share
from plaudit.trust.vote_section import Ways, votes_section
from plaudit.types import Status

NO_FAILURE = ("labelled tie", "not compared", Status.NOT_APPLICABLE.label, Status.MISSING_REFERENCE.label)
"""Reasons for a missing number that are not the reward's failure."""


@dataclass(frozen=True)
class Headline:
    """One line of the first table."""

    name: str
    judged: str
    invalid: str
    accuracy: str
    bounds: str
    picks: str
    agreement: str
    baseline: bool = False


def write_report(
    path: str | Path,
    title: str,
    rows: Sequence[Row],
    results: Mapping[str, Sequence[RowResult]],
    *,
    picks: Mapping[str, Sequence[int | None]] | None = None,
    rationales: Mapping[tuple[str, int], str] | None = None,
    notes: Sequence[str] = (),
    facts: Mapping[str, str] | None = None,
    ways: Ways | None = None,
) -> Path:
    """Write the report of one or several rewards on the same rows; the file appears whole or not at all.

    results: per reward one result a row, in the order of `rows`. picks: per reward the place of the response that it would
    choose in each row, None where it chooses none; without them `agreement.best_response` chooses.
    rationales: (row id, place) -> text. notes: sentences shown under the title. facts: what was run (engine, seed ...).
    ways: how the votes of each reward were counted, where rows were voted on (`judging.voting`).
    Equal input gives equal bytes.
    Raises ValueError where results are not of these rows, UserError where the file cannot be written.
    """
    path = Path(path)
    if not results:
        raise ValueError("a report needs the results of at least one reward")
    judged = {name: list(column) for name, column in results.items()}
    expected = [RowResult(row) for row in rows]
    for column in judged.values():
        for _ in agreement.aligned(expected, column):
            pass
    chosen = (
        picks
        if picks is not None
        else {name: [agreement.best_response(result) for result in column] for name, column in judged.items()}
    )
    page = render(
        "report.html.j2",
        title=title,
        notes=[*notes, *_oddities(rows)],
        facts={"rows": f"{len(rows):,}", "responses": f"{sum(len(row.responses) for row in rows):,}", **(facts or {})},
        rewards=list(judged),
        headlines=_headlines(rows, judged, chosen),
        plots=_plots(rows, judged, chosen, ways),
        cards=worst_disagreements(rows, judged, chosen, rationales or {}),
        labelled=any(row.gold is not None for row in rows),
    )
    with atomic(path) as file:
        file.write(page)
    return path


def _oddities(rows: Sequence[Row]) -> list[str]:
    found = Counter(note for row in rows for note in row.notes)
    return [f"{count:,} x {note}" for note, count in sorted(found.items())]


def _plots(rows: Sequence[Row], results: Results, picks: Picks, ways: Ways | None) -> list[Plot]:
    several = any(len(row.responses) > 1 for row in rows)
    plots = [distribution_section(results)]
    if several:
        plots = [
            accuracy_section(results, agreement.baseline_results(rows)),
            picks_section(rows, picks),
            *plots,
            agreement_section(results),
            order_section(results),
            length_section(results),
        ]
    if (voted := votes_section(results, ways)) is not None:
        plots.append(voted)
    parts = (
        ("sections", "Accuracy by section", "Where is the reward right, and where not?", section_names, "lowest on"),
        (
            "kinds",
            "What fools which reward",
            "Accuracy by the kind of the worse response: below 50 %, that kind beats better responses more often than not.",
            worse_kind,
            "most fooled by",
        ),
    )
    return plots + [plot for part in parts if (plot := parts_section(results, *part)) is not None]


def _headlines(rows: Sequence[Row], results: Results, picks: Picks) -> list[Headline]:
    lines = [_headline(name, rows, results, picks) for name in results]
    for name, column in agreement.baseline_results(rows).items():
        found = agreement.accuracy(column)
        if found.estimate is not None:
            chosen = agreement.pick_accuracy(rows, [result.best() for result in column])
            lines.append(Headline(f"baseline: {name}", "", "", share(found), "", share(chosen), "", True))
    chance = agreement.chance_pick(rows)
    if chance is not None:
        lines.append(Headline("chance", "", "", "50 %", "", percent(chance), "", True))
    return lines


def _headline(name: str, rows: Sequence[Row], results: Results, picks: Picks) -> Headline:
    column = results[name]
    found = agreement.accuracy(column)
    if found.estimate is None and not found.left_out:
        found = agreement.correctness(column)
    pick = agreement.pick_accuracy(rows, picks[name]) if name in picks else Measured(None)
    others = [agreement.ranking_agreement(column, other) for key, other in results.items() if key != name]
    known = [other.estimate.mean for other in others if other.estimate is not None]
    judged, invalid = _statuses(column)
    return Headline(
        name,
        judged,
        invalid,
        share(found),
        _bounds(found),
        share(pick),
        f"{percent(sum(known) / len(known))} on average" if known else NOT_MEASURED,
    )


def _statuses(column: Sequence[RowResult]) -> tuple[str, str]:
    """(`120 of 134 pairs`, `14 unparsable`); pairs carry the status of a comparing reward, responses that of any other."""
    pairs = [pair.status for result in column for pair in result.pairs]
    statuses = pairs or [response.status for result in column for response in result.responses]
    failed = Counter(status.label for status in sorted(statuses) if status != Status.OK)
    ok = len(statuses) - failed.total()
    return f"{ok:,} of {len(statuses):,} {'pairs' if pairs else 'responses'}", counts(failed)


def _bounds(found: Measured) -> str:
    """Accuracy if everything that could not be judged were wrong, and if it were right: what silence may hide."""
    failed = sum(count for reason, count in found.left_out.items() if reason not in NO_FAILURE)
    if found.estimate is None or not failed:
        return ""
    right, cases = found.estimate.mean * found.n, found.n + failed
    return f"{percent(right / cases)} if all {failed:,} without a number were wrong, {percent((right + failed) / cases)} if right"
