import math
from dataclasses import replace

import pytest

from plaudit.recipes import genprm
from plaudit.recipes.base import Figures, verdict_of
from plaudit.types import Budget
from plaudit.worlds.base import Decoder

TINY = genprm.Config(
    seeds=(0,), steps=60, epochs=1, batch=16, judged=4, votes=2, decoder=Decoder(layers=1, width=16, heads=2, context=96)
)


def test_judges_are_measured_on_held_out_solutions():
    budget = Budget()
    found = genprm.judge_figures(TINY, 0, budget)
    for name in ("direct", "generative", "Maj@N", "not run"):
        assert 0 <= found[f"{name}/F1"] <= 1
        assert 0 <= found[f"{name}/readable"] <= 1
    assert budget.spent["reward_calls"] == 4 * 4
    assert budget.spent["executions"] > 0


def test_labels_by_an_untrained_policy_are_missing_not_zero(monkeypatch, tmp_path):
    monkeypatch.setenv("PLAUDIT_CACHE", str(tmp_path))
    level = replace(genprm.FaultyChains.levels["start"], demonstrations=16, epochs=1)
    monkeypatch.setattr(genprm.FaultyChains, "levels", {"start": level})
    found = genprm.labels_figures(replace(TINY, solutions=6, samples=2), 0, Budget())
    assert 0 <= found["policy/solved"] <= 1
    figures = Figures(0, found)
    for name in genprm.LABELS:
        value = figures[f"labels/{name}"]
        assert value is None or 0 <= value <= 1


def planted(rpe, hard, direct, generative, votes, not_run, recoverable=0.5):
    values = {f"labels/{name}": 0.7 for name in genprm.LABELS}
    values |= {"labels/RPE 0.8": rpe, "labels/hard": hard, "labels/recoverable errors": recoverable, "policy/solved": 0.6}
    values |= {"direct/F1": direct, "generative/F1": generative, "Maj@N/F1": votes, "not run/F1": not_run}
    return values


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        (planted(0.9, 0.6, 0.3, 0.8, 0.8, 0.4), "holds"),
        (planted(0.61, 0.6, 0.3, 0.8, 0.8, 0.4), "fails"),
        (planted(0.9, 0.6, 0.78, 0.8, 0.8, 0.4), "fails"),
        (planted(0.9, 0.6, 0.3, 0.8, 0.79, 0.4), "fails"),
        (planted(0.9, 0.6, 0.3, 0.8, 0.8, 0.81), "fails"),
        (planted(0.9, 0.6, 0.3, 0.8, 0.8, 0.4, recoverable=0.01), "invalid"),
        (planted(0.9, 0.6, 0.3, math.nan, 0.8, 0.4), "invalid"),
    ],
)
def test_each_check_can_fail(values, verdict):
    checks = genprm.check([Figures(seed, dict(values)) for seed in range(3)])
    assert verdict_of(checks) == verdict


def test_steps_up_to_the_first_error():
    assert genprm._until_error([True, False, True]) == 2
    assert genprm._until_error([True, True]) == 2
