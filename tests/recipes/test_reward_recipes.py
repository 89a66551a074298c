"""Cards 40 and 45 in small: they run and repeat, and each check can fail."""

from __future__ import annotations

import pytest

from plaudit.recipes import goal_rm, polar
from plaudit.recipes.base import Figures, verdict_of
from plaudit.types import UserError
from plaudit.worlds import habit_texts
from plaudit.worlds.base import Level
from plaudit.worlds.chains import ChainWorld

SMALL_40 = goal_rm.Config(pairs=24, epochs=1, tests=12, voted=2, samples=3)
SMALL_45 = polar.Config(
    pools=(2, 3), triples=16, epochs=1, preferences=(4, 8), middle=8, later_epochs=1, targets=2, held=2, tests=10, updates=2,
    prompts=2, samples=3,
)  # fmt: skip


@pytest.fixture
def small_models(tmp_path, monkeypatch):
    """Start models that have seen next to nothing, in a cache of their own."""
    monkeypatch.setenv("PLAUDIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(ChainWorld, "levels", {name: Level(demonstrations=16, epochs=1) for name in ("start", "strong")})
    whole = habit_texts.base_model
    monkeypatch.setattr(habit_texts, "base_model", lambda family: whole(family, authors=2, each=4, epochs=1))


def goal_values():
    values = {"writer/accuracy": 0.55, "plain vote": 0.8}
    for name, gain in ((goal_rm.PLAIN, 0.0), (goal_rm.OURS, 0.06), (goal_rm.APART, 0.1), (goal_rm.SHUFFLED, -0.3)):
        for split in goal_rm.SPLITS:
            values |= {
                f"{name}/{split}/auroc": 0.8 + gain,
                f"{name}/{split}/partial q": 0.65 + gain,
                f"{name}/{split}/leaked": 0.0,
            }
        values |= {f"{name}/q of rejected ends": 0.4, f"{name}/vote": 0.8, f"{name}/saved": 0.3, f"{name}/all stopped": 0.0}
    return values


def polar_values():
    values = {f"{size} policies/unseen": 0.7 + size / 400 for size in polar.Config.pools} | {"copy/unseen": 0.6}
    values |= {"stage 1 alone/aligned": 0.7, "length correlation": 0.1, "start/kl": 1.5}
    for name, level in ((polar.OURS, 0.8), (polar.SCRATCH, 0.6), (polar.CLASSIC, 0.5)):
        values |= {f"{name}/{n}": level for n in polar.Config.preferences}
    for name, lowered in ((polar.OURS, 0.6), (polar.SCRATCH, 0.2)):
        values |= {f"{name}/kl": 1.5 - lowered, f"{name}/lowered": lowered}
    return values


def outcomes(recipe, values, **changed):
    checks = recipe.check([Figures(seed, values | changed) for seed in range(3)])
    return [check.outcome for check in checks if check.decides]


def test_checks_of_card_40_can_fail():
    values = goal_values()
    assert outcomes(goal_rm, values) == ["holds"] * 8
    longer, near = f"{goal_rm.OURS}/longer/auroc", f"{goal_rm.OURS}/in distribution/auroc"
    assert outcomes(goal_rm, values, **{longer: 0.8, near: 0.8})[0] == "fails"
    assert outcomes(goal_rm, values, **{longer: 0.78})[:2] == ["holds", "fails"]
    assert outcomes(goal_rm, values, **{f"{goal_rm.OURS}/in distribution/partial q": 0.64})[2:4] == ["fails", "fails"]
    assert outcomes(goal_rm, values, **{f"{goal_rm.OURS}/saved": 0.1})[4] == "fails"
    assert outcomes(goal_rm, values, **{f"{goal_rm.OURS}/vote": 0.78})[5] == "fails"
    assert outcomes(goal_rm, values, **{f"{goal_rm.OURS}/q of rejected ends": 0.6})[6] == "fails"
    assert outcomes(goal_rm, values, **{f"{goal_rm.SHUFFLED}/in distribution/auroc": 0.4})[7] == "fails"
    assert outcomes(goal_rm, values, **{f"{goal_rm.OURS}/saved": float("nan")})[4] == "invalid"


def test_checks_of_card_45_can_fail():
    values = polar_values()
    assert outcomes(polar, values) == ["holds"] * 6
    assert outcomes(polar, values, **{"40 policies/unseen": 0.74}) == ["fails", *["holds"] * 5]
    assert outcomes(polar, values, **{"15 policies/unseen": 0.9})[1] == "fails"
    assert outcomes(polar, values, **{"copy/unseen": 0.78})[2] == "fails"
    assert outcomes(polar, values, **{f"{polar.SCRATCH}/100": 0.75})[3] == "fails"
    assert outcomes(polar, values, **{f"{polar.CLASSIC}/100": 0.75})[4] == "fails"
    assert outcomes(polar, values, **{f"{polar.SCRATCH}/lowered": 0.5})[5] == "fails"
    assert outcomes(polar, values, **{f"{polar.OURS}/lowered": -0.1, f"{polar.SCRATCH}/lowered": -0.5})[5] == "fails"


@pytest.mark.usefixtures("small_models")
def test_card_40_runs_in_small_and_repeats():
    first, second = goal_rm.run(SMALL_40, 1), goal_rm.run(SMALL_40, 1)
    assert first.values == second.values
    assert first.values["contrastive/in distribution/leaked"] == 0.0
    assert first.budget["training_tokens"] > 0
    assert verdict_of(goal_rm.check([first])) in ("holds", "fails", "invalid")


@pytest.mark.usefixtures("small_models")
def test_card_45_runs_in_small_and_repeats(monkeypatch):
    first, second = polar.run(SMALL_45, 1), polar.run(SMALL_45, 1)
    assert first.values == second.values
    assert first.missing == {}
    assert first.curves["KL(target || policy), by update: two stages"][0][0] == 0
    monkeypatch.setattr(polar.Config, "pools", SMALL_45.pools)
    monkeypatch.setattr(polar.Config, "preferences", SMALL_45.preferences)
    monkeypatch.setattr(polar.Config, "middle", SMALL_45.middle)
    assert verdict_of(polar.check([first])) in ("holds", "fails")


def test_settings():
    assert (goal_rm.RECIPE.slug, polar.RECIPE.slug) == ("40-gcrl-rm", "45-polar")
    for recipe in (goal_rm.RECIPE, polar.RECIPE):
        with pytest.raises(UserError, match="no paper preset"):
            recipe.configured("paper")
