"""`judging_bench`: how often does a judge know whether a response is right? Items of `curation.judging_items`, any reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from plaudit.curation.judging_items import JudgingItem, items_to_rows
from plaudit.rewards.base import BaseReward
from plaudit.store import Store
from plaudit.trust.agreement import Measured
from plaudit.trust.benchmarks.run import BenchmarkReport, judge_rows, report_of
from plaudit.trust.benchmarks.spec import Benchmark
from plaudit.types import Context

JUDGING = Benchmark(
    "judging", "Is this response right?", "pointwise_correctness", folder="", rules={"threshold": 0.5}, needs="score",
    citation="Libra, arXiv 2507.21645",
)  # fmt: skip


@dataclass(frozen=True)
class JudgingReport:
    """accuracy: share of items whose verdict is the label; an item without a verdict counts as wrong.

    threshold: above it a response was called right. fitted: that threshold was the best one on these very items, which favours
    the reward. by_subset, by_generator: the same accuracy. invalid: items without a verdict, by reason. report: everything else
    (AUC, bounds, intervals, always-right baselines).
    """

    accuracy: Measured
    threshold: float
    fitted: bool
    items: int
    by_subset: Mapping[str, Measured] = field(default_factory=dict)
    by_generator: Mapping[str, Measured] = field(default_factory=dict)
    invalid: Mapping[str, int] = field(default_factory=dict)
    report: BenchmarkReport | None = None

    @property
    def invalid_share(self) -> float:
        """Share of the items that have no verdict."""
        return sum(self.invalid.values()) / self.items

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        named = {"by_subset": self.by_subset, "by_generator": self.by_generator}
        return {
            "accuracy": self.accuracy.to_json(),
            "threshold": self.threshold,
            "threshold_is": "the best on these very items, which favours the reward" if self.fitted else "given",
            "items": self.items,
            "invalid": dict(self.invalid),
            **{name: {key: one.to_json() for key, one in found.items()} for name, found in named.items()},
        }


def judging_bench(
    reward: BaseReward,
    items: Sequence[JudgingItem],
    *,
    threshold: float | None = 0.5,
    votes: int = 1,
    context: Context | None = None,
    store: Store | None = None,
) -> JudgingReport:
    """Judge the items. threshold: of a verdict or probability; None: the best global one, for scores without a natural
    threshold (it is chosen on these items, so that such an accuracy is an upper bound, and the report says so).

    votes: how often each item is judged; its score is then the mean verdict. Raises UserError for a reward that only compares,
    and where nothing was judged.
    """
    rows = items_to_rows(items)
    results, _, _ = judge_rows(JUDGING, reward, rows, context=context, store=store, votes=votes)
    if threshold is None:
        known = [(one.value, label) for result in results for one, label in
                 zip(result.responses, result.row.gold or (), strict=True) if one.value is not None]  # fmt: skip
        chosen = best_threshold([value for value, _ in known], [label > 0.5 for _, label in known])
    else:
        chosen = threshold
    bench = replace(JUDGING, rules={"threshold": chosen})
    whole = report_of(bench, results)
    subsets = {str(row.section) for row in rows if row.section}
    parts = {name: report_of(bench, [one for one in results if one.row.section == name]) for name in sorted(subsets)}
    return JudgingReport(
        _strict(whole.figures[0]), chosen, threshold is None, len(items),
        {name: _strict(part.figures[0]) for name, part in parts.items()},
        {name: _strict(figures[0]) for name, figures in whole.sections.items()},
        whole.invalid, whole,
    )  # fmt: skip


def _strict(figure: Any) -> Measured:
    """The reading in which what could not be judged is wrong."""
    found: Measured = figure.strict or figure.official
    return found


def best_threshold(values: Sequence[float], labels: Sequence[bool]) -> float:
    """The threshold for which "above it means right" is right most often, in the middle between two values.

    The lowest of equals; without values 0.
    """
    ranked = sorted(set(values))
    if not ranked:
        return 0.0
    between = [(low + high) / 2 for low, high in pairwise(ranked)]
    margin = 1.0 + abs(ranked[0]) + abs(ranked[-1])
    candidates = [ranked[0] - margin, *between, ranked[-1] + margin]
    right_below, wrong_below = 0, 0
    order = sorted(zip(values, labels, strict=True))
    total_right, place = sum(labels), 0
    best, chosen = -1, candidates[0]
    for candidate in candidates:
        while place < len(order) and order[place][0] <= candidate:
            right_below += order[place][1]
            wrong_below += not order[place][1]
            place += 1
        correct = wrong_below + total_right - right_below
        if correct > best:
            best, chosen = correct, candidate
    return chosen
