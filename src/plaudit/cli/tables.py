"""Summaries as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rich.table import Table

from plaudit.cli.common import err, out
from plaudit.judging import Interval, Summary
from plaudit.judging.metrics import PairTally
from plaudit.types import DataError

NOT_MEASURED = "[dim]not measured[/dim]"
SHOWN_SECTIONS = 30


class Reading(Protocol):
    """What reading the input has shown: a `RowStream` that was read, or what a run in parts keeps of it."""

    @property
    def layout(self) -> str:
        """Name of the recognised layout."""

    @property
    def notes(self) -> Mapping[str, int]:
        """Oddities that a stated rule has handled, counted."""

    @property
    def skipped(self) -> Sequence[DataError]:
        """The first rows that were left out."""

    @property
    def skipped_count(self) -> int:
        """How many were left out."""


def percent(interval: Interval | None) -> str:
    """A share with its 95 % interval and number of cases."""
    if interval is None:
        return NOT_MEASURED
    return f"{100 * interval.mean:.1f} %  [{100 * interval.low:.1f}, {100 * interval.high:.1f}]  n = {interval.n:,}"


def show_summary(name: str, summary: Summary, rows: Reading) -> None:
    """Print what a run found."""
    table = Table(title=f"{name} on {summary.rows:,} rows ({rows.layout})", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    judged = "pairs" if summary.pairs_compared else "responses"
    invalid = f"{summary.invalid:,} ({100 * summary.invalid / summary.judged:.1f} %)" if summary.judged else NOT_MEASURED
    table.add_row(f"judged {judged}", f"{summary.judged:,}")
    table.add_row("invalid", invalid)
    for status in sorted(summary.details):
        table.add_row(f"  {status.label}", f"{summary.status[status]:,}  [dim]{_escape(summary.details[status])}[/dim]")
    _add_labels(table, summary)
    values = summary.values
    if values.n:
        table.add_row("score", f"mean {values.mean:.4g}, from {values.low:.4g} to {values.high:.4g}, n = {values.n:,}")
    if summary.order_agrees.n:
        bias = summary.order_bias.estimate(share=False)
        table.add_row("order consistency", percent(summary.order_agrees.estimate()))
        if bias is not None:
            bounds = f"[{100 * bias.low:+.1f}, {100 * bias.high:+.1f}]" if bias.clusters > 1 else "one prompt: no interval"
            table.add_row("preference for the first shown", f"{100 * bias.mean:+.1f} points  {bounds}".replace("[", r"\["))
    out.print(table)
    if len(summary.sections) > 1:
        out.print(_sections(summary))
    _show_oddities(rows)


def show_votes(found: Mapping[str, Any]) -> None:
    """Print how votes agree and what more of them are worth (`trust.vote_section.votes_json`)."""
    table = Table(title=f"{found['votes']} votes, counted by {found['combine']}", title_justify="left")
    for column in ("votes counted", "accuracy", "without a usable vote"):
        table.add_column(column)
    for point in found["curve"]:
        table.add_row(str(point["k"]), _share(point["accuracy"]["estimate"]), f"{100 * point['undecided']:.1f} %")
    if found["curve"]:
        out.print(table)
    out.print(f"two votes agree in {_share(found['agreement']['estimate'])}", highlight=False)
    out.print(f"{found['without_number']:,} of {found['cast']:,} votes have no number", highlight=False)


def _share(estimate: Mapping[str, Any] | None) -> str:
    if estimate is None:
        return NOT_MEASURED
    mean, low, high = (100 * estimate[name] for name in ("mean", "low", "high"))
    return f"{mean:.1f} %  \\[{low:.1f}, {high:.1f}]  n = {estimate['n']:,}"


def _add_labels(table: Table, summary: Summary) -> None:
    labelled = summary.labelled
    if labelled.strict.n:
        table.add_row("accuracy on labelled pairs", percent(labelled.accuracy.estimate()) + "  [dim]chance 50 %[/dim]")
        if labelled.invalid:
            table.add_row("  invalid counted as wrong", percent(labelled.strict.estimate()))
        table.add_row("  picking the longest instead", percent(labelled.longest.estimate()))
        table.add_row("  predicted ties", f"{labelled.ties:,}")
    if labelled.gold_ties:
        table.add_row("labelled ties found", f"{labelled.gold_ties_found:,} of {labelled.gold_ties:,}")
    chance = summary.best_chance.estimate()
    if summary.best.n and chance is not None and summary.responses > 2 * summary.rows:
        best = percent(summary.best.estimate())
        table.add_row("best response picked", f"{best}  [dim]chance {100 * chance.mean:.1f} %[/dim]")
    if summary.correct.n:
        share = max(summary.positives, summary.correct.n - summary.positives) / summary.correct.n
        accuracy = percent(summary.correct.estimate())
        table.add_row("accuracy on labelled responses", f"{accuracy}  [dim]majority class {100 * share:.1f} %[/dim]")


def _sections(summary: Summary) -> Table:
    table = Table(title="by section", title_justify="left")
    for column in ("section", "accuracy", "invalid", "longest"):
        table.add_column(column)
    for name in sorted(summary.sections)[:SHOWN_SECTIONS]:
        tally: PairTally = summary.sections[name]
        longest = tally.longest.estimate()
        shown = NOT_MEASURED if longest is None else f"{100 * longest.mean:.1f} %"
        table.add_row(_escape(name), percent(tally.accuracy.estimate()), f"{tally.invalid:,}", shown)
    if len(summary.sections) > SHOWN_SECTIONS:
        table.caption = f"{len(summary.sections) - SHOWN_SECTIONS} more sections in --json"
    return table


def _show_oddities(rows: Reading) -> None:
    for note, count in sorted(rows.notes.items()):
        err.print(f"{count:,} rows: {note}", style="dim", highlight=False, markup=False)
    if rows.skipped_count:
        err.print(f"{rows.skipped_count:,} rows skipped:", style="yellow")
        for error in rows.skipped[:20]:
            err.print(f"  {error}", style="dim", highlight=False, markup=False)


def _escape(text: Any) -> str:
    from rich.markup import escape

    return escape(str(text)[:160])
