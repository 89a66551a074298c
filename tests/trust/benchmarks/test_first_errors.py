"""First errors of step judges: the measures on indices, and the benchmark on recorded chains against a slow obvious version."""

import math
import random

import pytest

from plaudit.rewards.generative.steps import first_below
from plaudit.trust.benchmarks.loading import load_rows
from plaudit.trust.benchmarks.spec import load_benchmark
from plaudit.trust.benchmarks.steps import balanced_accuracy, first_error, first_error_scores

from .rows import scores, value


def test_scores_by_hand():
    found = first_error_scores([1, 1, None, -1, 2, -1], [1, 2, 0, -1, -1, -1])
    assert found["flawed"] == pytest.approx(1 / 3)
    assert found["sound"] == pytest.approx(2 / 3)
    assert found["F1"] == pytest.approx(2 * (1 / 3) * (2 / 3) / (1 / 3 + 2 / 3))
    assert first_error_scores([0, 0], [1, -1])["F1"] == 0.0
    assert math.isnan(first_error_scores([1], [1])["F1"])
    assert math.isnan(first_error_scores([1], [1])["sound"])
    with pytest.raises(ValueError, match="."):
        first_error_scores([1], [1, 2])


def test_balanced_accuracy_by_hand():
    assert balanced_accuracy([True, True, False, True], [True, True, True, False]) == pytest.approx((2 / 3 + 0) / 2)
    assert balanced_accuracy([True] * 9 + [False], [True] * 9 + [False]) == 1.0
    assert balanced_accuracy([True] * 10, [True] * 9 + [False]) == 0.5  # saying yes to everything is worth a coin
    assert math.isnan(balanced_accuracy([True], [True]))
    with pytest.raises(ValueError, match="."):
        balanced_accuracy([True], [])


def slow(chains):
    """(steps' values, mistake or None) -> F1, as one would write it down first."""
    right = {"flawed": 0, "sound": 0}
    total = {"flawed": 0, "sound": 0}
    for values, mistake in chains:
        kind = "sound" if mistake is None else "flawed"
        total[kind] += 1
        said = None
        for place in range(len(values)):
            if values[place] < 0.5:
                said = place
                break
        if said == mistake:
            right[kind] += 1
    a, b = right["flawed"] / total["flawed"], right["sound"] / total["sound"]
    return a, b, (2 * a * b / (a + b) if a + b else 0.0)


@pytest.mark.public_data
def test_recorded_chains_against_the_slow_version(public_data):
    benchmark = load_benchmark("big_bench_mistake")
    rows = load_rows(benchmark, public_data("big_bench_mistake").parent).rows
    draw, results, chains, predicted, gold = random.Random(0), [], [], [], []
    for row in rows:
        # a judge that is right most of the time, and never says exactly a half
        values = [min(0.999, max(0.001, label + draw.gauss(0, 0.3))) for label in row.gold]
        values = [0.499 if 0.4999 < one < 0.5001 else one for one in values]
        mistake = next((place for place, label in enumerate(row.gold) if label < 1), None)
        results.append(scores(row, *values))
        chains.append((values, mistake))
        predicted.append(first_below(values))
        gold.append(-1 if mistake is None else mistake)
    flawed, sound, f1 = slow(chains)
    assert len(rows) == 2186
    assert 0.2 < f1 < 0.95
    ours = first_error_scores(predicted, gold)
    assert (ours["flawed"], ours["sound"], ours["F1"]) == pytest.approx((flawed, sound, f1), abs=1e-12)
    figures = first_error(benchmark, results).figures
    assert value(figures, "F1") == pytest.approx(f1)
    assert value(figures, "accuracy with a mistake") == pytest.approx(flawed)
    assert value(figures, "accuracy without a mistake") == pytest.approx(sound)
