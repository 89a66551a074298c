"""Votes: the same row judged several times, with the seeds seed, seed + 1 ...; and VL-RewardBench, whose figures count votes.

The majority of votes is taken by the one rule for ties. A comparison's outcomes (1, 0.5 or 0) are averaged, and the pair goes to
the side on which the mean lies, to neither at 0.5; a score is the mean over its votes. A vote that could not be judged does not
vote; where not more than half of the votes could be, the thing has the status that most of the others have.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from plaudit.data import Row
from plaudit.data.cells import BadRow, Cells, Record
from plaudit.judging.metrics import outcome, pair_outcome, side
from plaudit.judging.results import PairResult, ResponseResult, RowResult
from plaudit.judging.voting import Voted as Voted
from plaudit.judging.voting import votes_of as votes_of
from plaudit.trust.agreement import Measured, cluster_of, contests
from plaudit.trust.benchmarks.cases import Case, Evidence, Parts, cases_in, macro_sections, share, total
from plaudit.trust.benchmarks.loading import Reading, Source
from plaudit.trust.benchmarks.spec import Benchmark
from plaudit.trust.figures import Figure
from plaudit.types import Status, UserError


def majority(votes: Sequence[RowResult]) -> RowResult:
    """One result out of the votes on one row; the vote itself where there is but one."""
    if len(votes) == 1:
        return votes[0]
    first = votes[0]
    pairs = [_pair([vote.pairs[place] for vote in votes]) for place in range(len(first.pairs))]
    responses = [_response([vote.responses[place] for vote in votes]) for place in range(len(first.responses))]
    return Voted(first.row, responses, pairs, list(votes))


def _status(statuses: Sequence[Status]) -> Status:
    """OK where more than half are, else the commonest of the others."""
    if sum(status == Status.OK for status in statuses) > len(statuses) / 2:
        return Status.OK
    return Counter(status for status in statuses if status != Status.OK).most_common(1)[0][0]


def _response(votes: Sequence[ResponseResult]) -> ResponseResult:
    status = _status([vote.status for vote in votes])
    values = [vote.value for vote in votes if vote.value is not None]
    return ResponseResult(math.fsum(values) / len(values) if status == Status.OK else None, status)


def _pair(votes: Sequence[PairResult]) -> PairResult:
    status = _status([vote.status for vote in votes])
    outcomes = [won for vote in votes if (won := pair_outcome(vote)) is not None]
    orders = [vote.by_order for vote in votes if vote.by_order is not None]
    by_order = (_game([order[0] for order in orders]), _game([order[1] for order in orders])) if orders else None
    prob = math.fsum(outcomes) / len(outcomes) if status == Status.OK else None
    return PairResult(votes[0].first, votes[0].second, prob, status, by_order)


def _game(probs: Sequence[float | None]) -> float | None:
    """Mean outcome of one order of showing; None where not more than half of the votes have one."""
    outcomes = [side(prob - 0.5) for prob in probs if prob is not None]
    return math.fsum(outcomes) / len(outcomes) if len(outcomes) > len(probs) / 2 else None


# VL-RewardBench

GROUPS = {
    "wildvision": "general",
    "LRVInstruction": "general",
    "svit": "general",
    "jailbreak": "general",
    "politics": "general",
    "hallucination_pair": "hallucination",
    "RLAIF-V": "hallucination",
    "RLHF-V": "hallucination",
    "mathverse": "reasoning",
    "mmmu_pro": "reasoning",
}
"""Group of each source, by the beginning of a row's id. The other VLFeedback sources (LRVInstruction ...) are general."""


def group_of(identity: str) -> str:
    """general, hallucination or reasoning. Raises BadRow for an unknown source: a wrong group would shift two figures."""
    for prefix, group in GROUPS.items():
        if identity.startswith(prefix):
            return group
    raise BadRow(f"id '{identity[:60]}' has an unknown source", f"one that begins with {', '.join(GROUPS)}")


def build_vl_rewardbench(benchmark: Benchmark, source: Source, reading: Reading, seed: int) -> list[Row]:  # noqa: ARG001
    """VL-RewardBench: a query about an image and two answers; rank 0 is the better one. Images by path (extras `image`).

    Raises UserError for a row of an unknown source. A row that is there twice, with its answers in any order, counts once.
    """
    rows: list[Row] = []
    seen: set[tuple[str, str, frozenset[str]]] = set()
    for part in source.values():
        for number, record in reading.records(part):
            try:
                row = _vl_row(record, part.container.name, number, Cells(record, part.stem))
            except BadRow as bad:
                if "unknown source" in bad.problem:
                    raise UserError(f"benchmark '{benchmark.name}': {bad.problem}; expected {bad.expected}") from bad
                reading.skip(part, number, bad)
                continue
            key = (row.id.split("@")[0], str(row.prompt), frozenset(map(str, row.responses)))
            if key in seen:
                reading.notes["duplicate row left out"] += 1
                continue
            seen.add(key)
            rows.append(row)
    return rows


def _vl_row(record: Record, source: str, number: int, cells: Cells) -> Row:
    responses = tuple(cells.as_response(text, "response") for text in cells.items("response"))
    ranks = [cells.number(rank, "human_ranking") for rank in cells.items("human_ranking")]
    if len(responses) != 2 or sorted(ranks) != [0, 1]:
        raise BadRow(f"{len(responses)} responses with the ranks {ranks}", "two responses with the ranks 0 and 1")
    identity = str(record["id"])
    return Row(
        f"{identity}@{number}", cells.prompt("query"), responses, gold=tuple(1.0 - rank for rank in ranks),
        section=group_of(identity), extras={"image": record.get("image")}, source=source, number=number,
    )  # fmt: skip


def verdict(result: RowResult) -> str:
    """agree, reject, unparsed or other: a strict majority of all votes on the row's pair, else other.

    A score has no third outcome: a tie of two scores rejects. A comparison's tie is `other`.
    """
    ((better, worse),) = contests(result.row)
    said: Counter[str] = Counter()
    votes = votes_of(result)
    for vote in votes:
        won = outcome(vote, better, worse)
        if won == 0.5 and not vote.pairs:
            won = 0.0
        said["unparsed" if won is None else {1.0: "agree", 0.0: "reject"}.get(won, "other")] += 1
    label, count = said.most_common(1)[0]
    return label if count > len(votes) / 2 else "other"


def vl_rewardbench(benchmark: Benchmark, results: Sequence[RowResult]) -> Parts:
    """accuracy = agree / (agree + reject), macro = its mean over the three groups, coverage = (agree + reject) / rows.

    strict counts every row: agree / rows. For one scoring reward and one vote a row is right where the better answer scores
    higher. random: one coin a vote; with an odd number of votes the majority of coins is a coin.
    """
    evidence = Evidence(benchmark, results)

    def right(result: RowResult) -> Iterator[Case]:
        said = verdict(result)
        credit = {"agree": 1.0, "reject": 0.0}.get(said)
        yield Case(result.row.id, cluster_of(result.row), credit, said, group=benchmark.section_of(result.row.section))

    def covered(result: RowResult) -> Iterator[Case]:
        yield Case(result.row.id, cluster_of(result.row), float(verdict(result) in ("agree", "reject")), chance=None)

    def figures(part: Evidence) -> list[Figure]:
        coverage = share("coverage", part, covered)
        plain = Figure("coverage", Measured(coverage.official.estimate))
        return [share("accuracy", part, right), plain]

    whole = figures(evidence)
    macro = total("macro accuracy", evidence, right, macro_sections(evidence))
    return Parts(
        [whole[0], macro, whole[1]],
        {name: figures(part) for name, part in evidence.sections.items()},
        cases_in(results, right),
        {name: cases_in(rival, right) for name, rival in evidence.rivals.items()},
    )
