"""`run_benchmark`: judge a benchmark's rows with the one runner, and report; `report_of`: report on results that are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from plaudit.data import Row
from plaudit.judging import Runner
from plaudit.judging.results import PairResult, RowResult
from plaudit.rewards.base import BaseReward
from plaudit.store import Store
from plaudit.trust.agreement import Measured
from plaudit.trust.benchmarks.cases import Case, Parts
from plaudit.trust.benchmarks.loading import Loaded
from plaudit.trust.benchmarks.metrics import metric_of
from plaudit.trust.benchmarks.spec import Benchmark, Published
from plaudit.trust.benchmarks.votes import majority, votes_of
from plaudit.trust.bootstrap import holm, paired_difference
from plaudit.trust.figures import Figure
from plaudit.types import Context, Status, UserError
from plaudit.types.keys import content_key

Progress = Callable[[Runner, int], None]
"""Called with the runner and the number of rows judged in this vote after every row."""
CHANCE = "chance"


@dataclass(frozen=True)
class SectionTest:
    """A section's main figure against a trivial one: mean difference, p-value, and Holm's correction over all sections."""

    against: str
    difference: Measured
    p_value: float | None
    corrected: float | None

    def to_json(self) -> dict[str, Any]:
        """Numbers rounded to 6 decimals."""
        known = {"p_value": self.p_value, "p_holm": self.corrected}
        rounded = {name: None if value is None else round(value, 6) for name, value in known.items()}
        return {"against": self.against, "difference": self.difference.to_json(), **rounded}


@dataclass
class BenchmarkReport:
    """What a benchmark says about a reward.

    rows: results behind the figures. asked: rows that were to be judged; complete: all of them were, and none was left out
    by a limit. figures: over all rows; sections: of each section. invalid: what could not be judged, by reason, and by section
    and reason (responses of a scoring reward, pairs of a comparing one, over all votes). tests: sections against
    trivial figures. cases: of the main figure, for paired comparisons; results: what was judged (neither is in `to_json`).
    """

    name: str
    title: str
    rows: int
    asked: int
    figures: list[Figure]
    sections: dict[str, list[Figure]] = field(default_factory=dict)
    invalid: dict[str, int] = field(default_factory=dict)
    invalid_by_section: dict[str, dict[str, int]] = field(default_factory=dict)
    judged: int = 0
    tests: dict[str, list[SectionTest]] = field(default_factory=dict)
    published: Sequence[Published] = ()
    votes: int = 1
    complete: bool = True
    stopped: str | None = None
    loaded: Loaded | None = None
    cases: list[Case] = field(default_factory=list)
    results: list[RowResult] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """JSON-able, without times or paths: equal runs give equal bytes."""
        return {
            "name": self.name,
            "title": self.title,
            "rows": self.rows,
            "asked": self.asked,
            "complete": self.complete,
            "stopped": self.stopped,
            "votes": self.votes,
            "judged": self.judged,
            "invalid": dict(sorted(self.invalid.items())),
            "invalid_by_section": {name: dict(sorted(found.items())) for name, found in sorted(self.invalid_by_section.items())},
            "figures": [figure.to_json() for figure in self.figures],
            "sections": {name: [figure.to_json() for figure in figures] for name, figures in sorted(self.sections.items())},
            "section_tests": {name: [test.to_json() for test in tests] for name, tests in sorted(self.tests.items())},
            "published": [item.to_json() for item in self.published],
            "data": None if self.loaded is None else self.loaded.to_json(),
        }


def run_benchmark(
    benchmark: Benchmark,
    reward: BaseReward,
    rows: Sequence[Row] | Loaded,
    *,
    store: Store | None = None,
    context: Context | None = None,
    votes: int = 1,
    progress: Progress | None = None,
) -> BenchmarkReport:
    """Judge the rows and report.

    votes: how often each row is judged, with the seeds seed, seed + 1 ... (once where the reward has no use for a seed).
    Pairs and lists are shown to the reward in an order drawn by row, so that a reward that favours a place gains nothing from
    files that list the better response first. Rows that cannot be judged are counted, the rest is finished.
    Raises UserError where the reward cannot do what the benchmark asks.
    """
    loaded = rows if isinstance(rows, Loaded) else None
    given = loaded.rows if loaded is not None else list(rows)  # type: ignore[arg-type]
    whole, rounds, stopped = judge_rows(benchmark, reward, given, store=store, context=context, votes=votes, progress=progress)
    report = report_of(benchmark, whole, asked=len(given), loaded=loaded)
    report.votes, report.stopped = rounds, stopped
    report.complete = report.complete and stopped is None
    return report


def judge_rows(
    benchmark: Benchmark,
    reward: BaseReward,
    rows: Sequence[Row],
    *,
    store: Store | None = None,
    context: Context | None = None,
    votes: int = 1,
    progress: Progress | None = None,
) -> tuple[list[RowResult], int, str | None]:
    """`run_benchmark` without the report: (results with their votes, how many votes there are, why the run ended early)."""
    if votes < 1:
        raise UserError(f"votes is {votes}, expected 1 or more")
    if benchmark.needs == "score" and reward.native == "compare":
        raise UserError(f"benchmark '{benchmark.name}' judges responses one by one: the reward '{reward.name}' only compares")
    context = context or Context()
    rounds = votes if getattr(reward, "uses_seed", True) else 1
    turns: list[list[RowResult]] = []
    stopped: str | None = None
    for turn in range(rounds):
        judged, stopped = _judge(benchmark, reward, rows, store, replace(context, seed=context.seed + turn), progress)
        turns.append(judged)
        if stopped is not None:
            break
    return [majority(list(each)) for each in zip(*turns, strict=False)], rounds, stopped


def _judge(
    benchmark: Benchmark,
    reward: BaseReward,
    rows: Sequence[Row],
    store: Store | None,
    context: Context,
    progress: Progress | None,
) -> tuple[list[RowResult], str | None]:
    """One vote on every row, in the rows' own order of responses; and why the run ended early, if it did."""
    orders = [_order(row) if reward.native != "score" else None for row in rows]
    runner = Runner(reward, store, context, benchmark.pairs)
    results: list[RowResult] = []
    for result in runner.run(shown(row, order) for row, order in zip(rows, orders, strict=True)):
        place = len(results)
        results.append(restored(result, rows[place], orders[place]))
        if progress is not None:
            progress(runner, place + 1)
    return results, runner.progress.stopped


def _order(row: Row) -> list[int] | None:
    """Places in the order in which they are shown, drawn by what the row holds; None: as they are."""
    keys = [content_key(row.prompt, response, place) for place, response in enumerate(row.responses)]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return order if order != sorted(order) else None


def shown(row: Row, order: Sequence[int] | None) -> Row:
    """The row with its responses, and all that goes with each, in another order."""
    if order is None:
        return row

    def moved(column: Any) -> Any:
        return tuple(column[place] for place in order) if isinstance(column, tuple) and len(column) == len(order) else column

    extras = {name: moved(value) for name, value in row.extras.items()}
    return replace(
        row,
        responses=moved(row.responses),
        references=moved(row.references),
        gold=moved(row.gold),
        finish=moved(row.finish),
        extras=extras,
    )


def restored(result: RowResult, row: Row, order: Sequence[int] | None) -> RowResult:
    """The result of a row that was shown in another order, in its own order again."""
    if order is None:
        return RowResult(row, result.responses, result.pairs)
    back = {place: position for position, place in enumerate(order)}
    responses = [result.responses[back[place]] for place in range(len(order))] if result.responses else []
    pairs = [replace(pair, first=order[pair.first], second=order[pair.second]) for pair in result.pairs]
    return RowResult(row, responses, [_forward(pair) for pair in pairs])


def _forward(pair: PairResult) -> PairResult:
    """The pair said from the side of the earlier response; `by_order` goes with who was shown first."""
    if pair.first < pair.second:
        return pair
    turned = [None if prob is None else 1.0 - prob for prob in (pair.prob, *(pair.by_order or (None, None)))]
    by_order = None if pair.by_order is None else (turned[2], turned[1])
    return replace(pair, first=pair.second, second=pair.first, prob=turned[0], by_order=by_order)


def report_of(
    benchmark: Benchmark, results: Sequence[RowResult], *, asked: int | None = None, loaded: Loaded | None = None
) -> BenchmarkReport:
    """The report on results that are there, such as a recorded run.

    asked: how many rows there were to be judged (default: as many). Raises UserError where there is no result at all.
    """
    if not results:
        raise UserError(f"benchmark '{benchmark.name}': no row was judged")
    parts = metric_of(benchmark)(benchmark, results)
    asked = len(results) if asked is None else asked
    whole = len(results) == asked and (loaded is None or (len(loaded.rows) == loaded.total and not loaded.skipped))
    invalid, by_section, judged = count_invalid(benchmark, results)
    return BenchmarkReport(
        benchmark.name, benchmark.title, len(results), asked, parts.figures, parts.sections, invalid, by_section, judged,
        section_tests(benchmark, results, parts), benchmark.published, complete=whole, loaded=loaded, cases=parts.main,
        votes=max(len(votes_of(result)) for result in results), results=list(results),
    )  # fmt: skip


def count_invalid(benchmark: Benchmark, results: Iterable[RowResult]) -> tuple[dict[str, int], dict[str, dict[str, int]], int]:
    """(by reason, by section and reason, how many were judged): pairs of a comparing reward, responses of any other."""
    reasons: Counter[str] = Counter()
    sections: dict[str, Counter[str]] = {}
    judged = 0
    for result in results:
        section = sections.setdefault(benchmark.section_of(result.row.section), Counter())
        for vote in votes_of(result):
            units: Sequence[Any] = vote.pairs or vote.responses
            judged += len(units)
            for unit in units:
                if unit.status != Status.OK:
                    reasons[unit.status.label] += 1
                    section[unit.status.label] += 1
    return dict(reasons), {name: dict(found) for name, found in sections.items() if found}, judged


def section_tests(benchmark: Benchmark, results: Sequence[RowResult], parts: Parts) -> dict[str, list[SectionTest]]:
    """Does a section's main figure differ from chance, and from the longest response? Strict credits, Holm over all tests."""
    section = {result.row.id: benchmark.section_of(result.row.section) for result in results}
    if len(set(section.values())) < 2:
        return {}
    longest = parts.rivals.get("longest", [])
    rivals = {CHANCE: [case.chance for case in parts.main]}
    if len(longest) == len(parts.main):
        rivals["longest"] = [case.under("wrong") for case in longest]
    found: dict[tuple[str, str], tuple[Measured, float | None]] = {}
    for name in dict.fromkeys(section.values()):
        places = [place for place, case in enumerate(parts.main) if section.get(case.row) == name]
        places.sort(key=lambda place: (str(parts.main[place].cluster), parts.main[place].row))
        for rival, credits in rivals.items():
            ours = [parts.main[place].under("wrong") for place in places]
            clusters = [parts.main[place].cluster for place in places]
            tested = paired_difference([credits[place] for place in places], ours, clusters)
            if tested.p_value is not None:
                found[name, rival] = tested.measured, tested.p_value
    corrected = _holm(found)
    tests: dict[str, list[SectionTest]] = {}
    for key, (difference, p_value) in found.items():
        tests.setdefault(key[0], []).append(SectionTest(key[1], difference, p_value, corrected[key]))
    return tests


def _holm(found: Mapping[tuple[str, str], tuple[Measured, float | None]]) -> dict[tuple[str, str], float]:
    keys = list(found)
    named = {str(number): p_value for number, key in enumerate(keys) if (p_value := found[key][1]) is not None}
    corrected = holm(named)
    return {key: corrected[str(number)] for number, key in enumerate(keys)}
