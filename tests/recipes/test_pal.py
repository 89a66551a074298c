"""Card 24 in small: its pieces run, the same seed gives the same figures, and its checks can fail."""

import pytest

from plaudit.recipes import pal
from plaudit.recipes.base import Figures, verdict_of
from plaudit.recipes.pal import POOLED, Config

SMALL = Config(seen=4, unseen=2, pairs=4, test_pairs=10, few=(5, 20), epochs=2, localize_steps=3, scratch_epochs=2)


def figures(seed, **changed):
    values = {"seen/K=1": 0.7, "seen/K=2": 0.8, "seen/K=3": 0.85, "seen/K=5": 0.85, "seen/PAL-B": 0.7, f"seen/{POOLED}": 0.7}
    values |= {"unseen/K=3/5": 0.8, "unseen/K=3/20": 0.85, "unseen/from scratch/20": 0.7, f"unseen/{POOLED}": 0.7}
    values |= {"control/seen/K=1": 0.9, "control/seen/K=3": 0.89, f"control/seen/{POOLED}": 0.9}
    return Figures(seed, values | changed)


def outcomes(**changed):
    return [check.outcome for check in pal.check([figures(seed, **changed) for seed in range(3)])]


def test_checks_can_hold_and_fail():
    assert outcomes() == ["holds"] * 6
    assert outcomes(**{f"control/seen/{POOLED}": 0.6})[0] == "invalid"
    assert outcomes(**{"seen/K=1": 0.78}) == ["holds", "fails", "holds", "holds", "holds", "holds"]
    assert outcomes(**{f"seen/{POOLED}": 0.81})[2] == "fails"
    assert outcomes(**{"seen/K=5": 0.82})[3] == "fails"
    assert outcomes(**{"seen/K=5": 0.88})[3] == "fails", "in either direction"
    assert outcomes(**{"unseen/from scratch/20": 0.78})[4] == "fails"
    assert outcomes(**{"control/seen/K=3": 0.86})[5] == "fails"
    assert outcomes(**{"seen/K=3": float("nan")})[1] == "invalid"


def test_it_runs_in_small_and_repeats():
    pytest.importorskip("sklearn")
    first, second = pal.run(SMALL, 1), pal.run(SMALL, 1)
    assert first.values == second.values
    assert first.missing == {}
    assert len(first.curves["accuracy for a new user by comparisons: K=3"]) == 2
    assert verdict_of(pal.check([first])) in ("holds", "fails", "invalid")
    assert pal.run(SMALL, 2).values != first.values
