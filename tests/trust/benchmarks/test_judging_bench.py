"""The bench of judges: invalid verdicts are wrong, thresholds are said, writers are told apart."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.curation.judging_items import JudgingItem
from plaudit.rewards.rules import rule
from plaudit.trust.benchmarks.judging_bench import best_threshold, judging_bench
from plaudit.types import Status

ITEMS = [
    JudgingItem(f"q{number}", f"question {number}", f"{text} {number}", label, solver, "easy" if number < 2 else "hard")
    for number in range(4)
    for text, label, solver in (("good", 1, "one"), ("bad", 0, "one"), ("fine", 1, "two"), ("poor", 0, "two"))
]


@rule(settings={})
def judge(response: str) -> float | Status:
    """Right about the first solver; of the second it calls everything right, and one thing it cannot say."""
    if response == "poor 3":
        return Status.UNPARSABLE
    return float(response.split()[0] != "bad")


def test_accuracy_by_subset_and_generator():
    report = judging_bench(judge, ITEMS)
    assert report.accuracy.estimate.mean == pytest.approx(12 / 16)
    assert {name: one.estimate.mean for name, one in report.by_generator.items()} == {"one": 1.0, "two": 0.5}
    assert {name: one.estimate.mean for name, one in report.by_subset.items()} == {"easy": 0.75, "hard": 0.75}
    assert report.invalid == {"unparsable": 1}
    assert report.invalid_share == 1 / 16
    assert report.items == 16
    assert (report.threshold, report.fitted) == (0.5, False)
    assert report.report.figures[0].official.estimate.mean == pytest.approx(12 / 15), "the official figure leaves it out"
    assert report.to_json()["threshold_is"] == "given"


@rule(settings={})
def scale(response: str) -> float:
    """A scalar reward on a scale of its own."""
    return {"good": 12.0, "fine": 11.0, "bad": 10.0, "poor": 11.5}[response.split()[0]]


def test_a_scalar_reward_gets_its_best_threshold_and_the_report_says_so():
    assert judging_bench(scale, ITEMS).accuracy.estimate.mean == 0.5
    report = judging_bench(scale, ITEMS, threshold=None)
    assert report.accuracy.estimate.mean == 0.75
    assert 10.0 < report.threshold < 11.0
    assert "favours" in report.to_json()["threshold_is"]


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0, 2.0]), st.booleans()), min_size=1, max_size=12))
def test_no_threshold_is_better(cases):
    values, labels = zip(*cases, strict=True)

    def right(threshold):
        return sum((value > threshold) == label for value, label in cases)

    found = best_threshold(values, labels)
    assert right(found) == max(right(other) for other in (-math.inf, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0))
    assert best_threshold([], []) == 0.0
