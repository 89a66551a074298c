"""The report's section on votes: how far they agree, and what more of them are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from plaudit.judging.results import RowResult
from plaudit.judging.voting import Voted, votes_of
from plaudit.rewards.base import Native
from plaudit.rewards.generative.voting import Combine
from plaudit.trust.agreement import Measured
from plaudit.trust.report_plots import Plot, against_counts
from plaudit.trust.report_words import counts, share
from plaudit.trust.vote_curve import VotePoint, vote_agreement, vote_curve
from plaudit.types import Status

Ways = Mapping[str, tuple[Combine, Native]]
"""How each reward's votes were counted; "mean" and "score" where nothing is said."""


def votes_section(results: Mapping[str, Sequence[RowResult]], ways: Ways | None = None) -> Plot | None:
    """Agreement of votes, votes without a number, and accuracy against their number; None where nothing was voted on."""
    voted = {name: column for name, column in results.items() if any(isinstance(result, Voted) for result in column)}
    if not voted:
        return None
    says: list[str] = []
    cells: list[list[str]] = []
    drawn = {}
    for name, column in voted.items():
        combine, native = (ways or {}).get(name, ("mean", "score"))
        curve = vote_curve(column, combine=combine, native=native)
        says += _says(name, column, curve)
        cells += [
            [
                name,
                str(point.k),
                share(point.accuracy),
                counts(point.accuracy.left_out) or "none",
                f"{100 * point.undecided:.1f} %",
            ]
            for point in curve
        ]
        if curve:
            drawn[name] = [(point.k, point.accuracy.estimate) for point in curve if point.accuracy.estimate is not None]
    return Plot(
        "votes",
        "Votes",
        "How far do several votes on the same thing agree, and does counting more of them help?",
        says,
        "Accuracy against the number of votes counted, per reward, with 95 % intervals; points are subsets of the stored votes.",
        against_counts(drawn, "votes counted", "accuracy") if drawn else None,
        ("reward", "votes", "accuracy [95 %]", "left out", "subsets without a usable vote"),
        cells,
    )


def _says(name: str, column: Sequence[RowResult], curve: Sequence[VotePoint]) -> list[str]:
    statuses = [status for result in column for vote in votes_of(result) for status in _statuses(vote)]
    lost = sum(status != Status.OK for status in statuses)
    told = [
        f"{name}: two votes on the same thing agree in {share(vote_agreement(column))}; "
        f"{lost:,} of {len(statuses):,} single votes have no number and do not count."
    ]
    if curve:
        first, last = curve[0], curve[-1]
        told.append(
            f"{name}: one vote is right in {share(first.accuracy)}, {last.k} votes in {share(last.accuracy)}{_gain(first, last)}."
        )
    return told


def _gain(first: VotePoint, last: VotePoint) -> str:
    a, b = first.accuracy.estimate, last.accuracy.estimate
    return "" if a is None or b is None else f", {100 * (b.mean - a.mean):+.1f} points"


def _statuses(vote: RowResult) -> list[Status]:
    return [pair.status for pair in vote.pairs] or [response.status for response in vote.responses]


def votes_json(column: Sequence[RowResult], combine: Combine, native: Native) -> dict[str, object]:
    """What `--json` says about votes: how many, how they agree, and the curve."""
    statuses = [status for result in column for vote in votes_of(result) for status in _statuses(vote)]
    agreement: Measured = vote_agreement(column)
    return {
        "votes": max((len(votes_of(result)) for result in column), default=0),
        "combine": combine,
        "cast": len(statuses),
        "without_number": sum(status != Status.OK for status in statuses),
        "agreement": agreement.to_json(),
        "curve": [point.to_json() for point in vote_curve(column, combine=combine, native=native)],
    }
