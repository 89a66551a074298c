"""Card 31 in small: its pieces run, the same seed gives the same figures, and its checks can fail."""

from plaudit.recipes import vl_rewardbench
from plaudit.recipes.base import Figures, verdict_of
from plaudit.recipes.vl_rewardbench import Config

JUDGES = {"courses": ((8, (2, 6)), (12, (4,))), "mid": 1, "weak": (8, 2), "weak_judges": 3, "weak_calls": 1, "more": 4}
SMALL = Config(raw=45, lessons=100, questions=12, candidates=4, **JUDGES)


def figures(seed, **changed):
    values = {"correlation": 0.9, "amplified": 0.8, "mid/unfiltered": 0.8, "mid/filtered": 0.6, "hard pairs": 200.0}
    return Figures(seed, values | {"weakest/before": 0.4, "weakest/after": 0.6} | changed)


def outcomes(**changed):
    return [check.outcome for check in vl_rewardbench.check([figures(seed, **changed) for seed in range(3)])]


def test_checks_can_hold_and_fail():
    assert outcomes() == ["holds"] * 4
    assert outcomes(**{"mid/filtered": 0.73})[0] == "fails"
    assert outcomes(correlation=0.79) == ["holds", "fails", "holds", "holds"]
    assert outcomes(amplified=0.74)[2] == "fails"
    assert outcomes(**{"weakest/after": 0.47})[3] == "fails"
    assert outcomes(correlation=None)[1] == "invalid"


def test_it_runs_in_small_and_repeats():
    first, second = vl_rewardbench.run(SMALL, 1), vl_rewardbench.run(SMALL, 1)
    assert first.values == second.values
    assert first.curves == second.curves
    assert 0 < first.values["hard pairs"] < SMALL.raw
    assert sum(name.endswith("/strict") for name in first.values) == 3
    assert len(first.curves) == 3
    assert first.budget["reward_calls"] > SMALL.raw * 3
    assert verdict_of(vl_rewardbench.check([first])) in ("holds", "fails", "invalid")


def test_settings():
    assert vl_rewardbench.RECIPE.slug == "31-vl-rewardbench"
    assert sum(len(stops) for _, stops in Config().courses) == 8
