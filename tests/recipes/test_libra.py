"""Card 28: checks that can fail, and a tiny run of everything."""

from plaudit.recipes import libra
from plaudit.recipes.base import Figures, verdict_of
from plaudit.recipes.libra import ARMS, LONG, PLAIN, RL, SCALAR, THINK, VERIFIER, Config, check, run

GOOD = {f"{name}/accuracy": value for name, value in zip(ARMS, (60.0, 85.0, 95.0, 95.5, 70.0), strict=True)}
GOOD |= {f"{name}/gain": value for name, value in zip((*ARMS, VERIFIER), (1.0, 8.0, 9.0, 9.5, 4.0, 10.0), strict=True)}
GOOD |= {f"{THINK}/length": 12.0, f"{RL}/length": 8.0, f"{LONG}/length": 12.0, f"{RL}/seen": 95.0, f"{RL}/unseen": 94.0}
GOOD |= {"spearman": 0.9}


def outcomes(**changed):
    return [one.outcome for one in check([Figures(seed, GOOD | changed) for seed in range(3)])]


def test_the_checks_can_fail():
    assert outcomes() == ["holds"] * 8
    assert outcomes(**{f"{THINK}/accuracy": 64.0})[1] == "fails"
    assert outcomes(**{f"{RL}/length": 11.0})[2] == "fails"
    assert outcomes(**{f"{RL}/accuracy": 94.0})[3] == "fails"
    assert outcomes(**{f"{RL}/gain": 4.9})[4] == "fails"
    assert outcomes(**{f"{PLAIN}/gain": 9.0})[5] == "fails"
    assert outcomes(spearman=0.5)[6] == "fails"
    assert outcomes(**{f"{RL}/unseen": 85.0})[7] == "fails"
    assert outcomes(spearman=None)[6] == "invalid"


def test_without_a_gain_of_the_verifier_nothing_is_said():
    figures = [Figures(seed, GOOD | {f"{VERIFIER}/gain": -1.0}) for seed in range(3)]
    assert verdict_of(check(figures)) == "invalid"


def test_a_tiny_run():
    config = Config(
        seeds=(0,), levels=(0.0, 0.0, 0.0), solver_steps=6, bench=(12, 6), training=(16, 6), steps=3, rows=8, updates=1,
        prompts=2, group=2, unlabelled=6, dpo_steps=1, votes=2, held_out=6,
    )  # fmt: skip
    figures = run(config, 0)
    for name in ARMS:
        assert 0.0 <= figures[f"{name}/accuracy"] <= 100.0
        assert figures[f"{name}/gain"] is not None
    assert figures[f"{SCALAR}/accuracy"] >= 50.0, "its threshold is the best one on a balanced bench"
    assert figures["bench/items"] > 0
    assert figures["training/items"] > 0
    assert len(check([figures])) == 8
    assert libra.RECIPE.card == 28
