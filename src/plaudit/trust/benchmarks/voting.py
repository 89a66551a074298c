"""What votes say about a judge: accuracy against the number of votes, errors by type (VL-RewardBench, Li et al. 2024).

A row's stored calls are shuffled by a seed and its name, and the first K are counted by the benchmark's strict majority
(`votes.verdict`): calls that could not be parsed count against both sides. A row with fewer calls than K is `short`, not voted.
Voting moves a row to the side of 0.5 on which its single calls lie: strong judges gain by it, weak ones lose.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from plaudit.fitting.seeds import derive_seed, permutation
from plaudit.judging.results import RowResult
from plaudit.trust.agreement import Case, Measured, cluster_of, measure
from plaudit.trust.benchmarks.votes import majority, verdict, votes_of

CREDIT = {"agree": 1.0, "reject": 0.0}


def voted_at(result: RowResult, k: int, seed: int = 0) -> RowResult | None:
    """The majority of k of a row's calls, drawn without replacement; None where fewer are stored. Raises ValueError for k < 1."""
    if k < 1:
        raise ValueError(f"{k} votes are no vote")
    calls = votes_of(result)
    if len(calls) < k:
        return None
    order = permutation(len(calls), derive_seed(seed, "votes", result.row.id))
    return majority([calls[place] for place in order[:k]])


@dataclass
class VotingPoint:
    """One judge at K votes. accuracy: by section, agree / (agree + reject); a section without either has no estimate.

    overall: pooled over sections. macro: unweighted mean over sections, None where one has no accuracy. strict: agree / all rows,
    short ones included. coverage: (agree + reject) / all rows. said: rows by verdict.
    """

    k: int
    accuracy: dict[str, Measured]
    overall: Measured
    macro: float | None
    strict: Measured
    coverage: Measured
    said: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        sections = {name: found.to_json() for name, found in self.accuracy.items()}
        whole = {name: getattr(self, name).to_json() for name in ("overall", "strict", "coverage")}
        return {"k": self.k, "accuracy": sections, "macro": self.macro, "said": dict(self.said), **whole}


def voting_curve(results: Sequence[RowResult], ks: Sequence[int] = (1, 3, 5, 7, 9), *, seed: int = 0) -> list[VotingPoint]:
    """One judge's figures at each number of votes; the K calls of a smaller K are among those of a larger one."""
    return [voting_point(results, k, seed=seed) for k in ks]


def voting_point(results: Sequence[RowResult], k: int, *, seed: int = 0) -> VotingPoint:
    """One judge's figures at K votes. Raises ValueError without results."""
    if not results:
        raise ValueError("no row was judged")
    said = [(result, "short" if (voted := voted_at(result, k, seed)) is None else verdict(voted)) for result in results]

    def credits(section: str | None) -> Iterator[tuple[Any, Case]]:
        for result, word in said:
            if section is None or result.row.section == section:
                yield cluster_of(result.row), (CREDIT.get(word), word)

    sections = {name: measure(credits(name)) for name in dict.fromkeys(result.row.section or "" for result in results)}
    means = [found.estimate.mean for found in sections.values() if found.estimate is not None]
    return VotingPoint(
        k,
        sections,
        measure(credits(None)),
        math.fsum(means) / len(means) if len(means) == len(sections) else None,
        measure((cluster_of(result.row), (float(word == "agree"), "")) for result, word in said),
        measure((cluster_of(result.row), (float(word in CREDIT), "")) for result, word in said),
        dict(sorted(Counter(word for _, word in said).items())),
    )


def error_table(results: Sequence[RowResult], *, tag: str = "tag") -> dict[str, Measured]:
    """Error rate, reject / (agree + reject), by the error type in a row's extras; rows without one are under "untagged"."""
    cases: dict[str, list[tuple[Any, Case]]] = {}
    for result in results:
        word = verdict(result)
        credit = CREDIT.get(word)
        case = (None if credit is None else 1.0 - credit, word)
        cases.setdefault(str(result.row.extras.get(tag) or "untagged"), []).append((cluster_of(result.row), case))
    return {name: measure(found) for name, found in sorted(cases.items())}


def moved_from_half(before: float | None, after: float | None, *, least: float = 0.04) -> bool | None:
    """Whether voting moved an accuracy away from 0.5; None where it began within `least` of it, or where one is missing."""
    if before is None or after is None or abs(before - 0.5) <= least:
        return None
    return (after - before) * (before - 0.5) > 0
