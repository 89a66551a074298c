"""Card 14 in small: cut trajectories, arms that share their first weights, and checks that can fail."""

import pytest
import torch

from plaudit.recipes import fl_gfn
from plaudit.recipes.base import Figures
from plaudit.recipes.fl_gfn import CUT, LARGE, WHOLE, Config, arms, cut_short
from plaudit.types import Budget
from plaudit.worlds.sets import SetWorld

SMALL = Config(small=(5, 2), large=(6, 3), updates=4, large_updates=4, batch=8, hidden=8, top=5)


def figures(seed, **changed):
    values = {f"{name}/{share}": 0.2 for name in (*CUT, *WHOLE) for share in ("25%", "50%", "100%")}
    values |= {"fl-db, permuted/100%": 0.4, "fl-db, free ends/100%": 0.3, "ratio": 0.4}
    values |= {"fl-db, large/area": 0.6, "db, large/area": 0.5}
    return Figures(seed, values | changed)


def outcomes(**changed):
    return [check.outcome for check in fl_gfn.check([figures(seed, **changed) for seed in range(5)])]


def test_checks_can_hold_and_fail():
    assert outcomes() == ["holds"] * 4
    assert outcomes(ratio=0.7)[0] == "fails"
    assert outcomes(**{"db, large/area": 0.7})[1] == "fails"
    assert outcomes(**{"fl-db, permuted/100%": 0.25})[2] == "fails"
    assert outcomes(**{"fl-db, free ends/100%": 0.1})[3] == "fails"
    assert outcomes(ratio=None)[0] == "invalid"


def test_it_runs_in_small_and_repeats():
    first, second = fl_gfn.run(SMALL, 3), fl_gfn.run(SMALL, 3)
    assert first.values == second.values
    assert first.missing == {}
    curve = first.curves["total variation: fl-db"]
    assert [x for x, _ in curve] == [0, 1, 2, 3, 4]
    assert all(0 <= y <= 1 for _, y in curve)
    assert all(0 < first.values[f"{name}/area"] <= 1 for name in LARGE)


def test_arms_of_a_world_start_alike():
    found = arms(SMALL, 0)
    weights = [torch.cat([p.flatten() for p in found[name].generator.network.parameters()]) for name in (*CUT, *WHOLE)]
    assert all(torch.equal(weights[0], other) for other in weights[1:])


def test_most_trajectories_are_cut_before_their_end():
    world = SetWorld(8, 4)
    drawn = world.generator(energy=world.energy).rollout(world.prompts("train", 200, 0), 1, seed=0)
    cut = cut_short(Config(), drawn, seed=5)
    share = sum(word == "truncated" for word in cut.done) / len(cut)
    assert share == pytest.approx(0.9, abs=0.07)
    lengths = cut.mask.sum(1)
    gone = torch.tensor([word == "truncated" for word in cut.done])
    assert bool((lengths[gone] >= 1).all())
    assert bool((lengths[gone] <= 3).all())
    assert bool((lengths[~gone] == 4).all())


def test_the_paper_preset_trains_on_the_largest_sets():
    from dataclasses import replace

    config = fl_gfn.RECIPE.configured("paper")
    assert (config.large, config.large_updates, config.hidden) == ((100, 80), 10_000, 256)
    few = replace(config, large_updates=2, batch=4)
    for name in LARGE:
        curve = fl_gfn.train_large(few, arms(few, 0)[name], 0, Budget())
        assert 0 < curve[-1][1] < 1
