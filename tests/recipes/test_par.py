"""Card 55 at the smallest size: every arm is trained, and what is measured can be checked."""

import math

import pytest

from plaudit.recipes import par
from plaudit.worlds.base import Level
from plaudit.worlds.strings import StringWorld

TINY = par.Config(seeds=(0,), pairs=32, updates=5, batch=4, references=2, held_out=6, measured=2)


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAUDIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(StringWorld, "levels", {"start": Level(demonstrations=128, epochs=1)})
        yield [par.run(TINY, 0), par.run(TINY, 0)]


def test_every_arm_is_measured_from_the_same_start_to_the_last_update(figures):
    one = figures[0]
    for panel in ("gold reward", "raw learned reward", "exclamation marks"):
        curves = [one.curves[f"{panel}: {name}"] for name in par.ARMS]
        assert [[x for x, _ in curve] for curve in curves] == [[0, 2, 4, 5]] * len(par.ARMS)
        assert len({curve[0] for curve in curves}) == 1
    for name in par.ARMS:
        gold = [y for _, y in one.curves[f"gold reward: {name}"]]
        assert one[f"{name}/end"] == gold[-1]
        assert one[f"{name}/drop"] == max(gold) - gold[-1]
        assert one[f"{name}/rise"] == max(gold) - gold[0]
    assert len({tuple(one.curves[f"raw learned reward: {name}"]) for name in par.ARMS}) > 1, "the shapers make a difference"
    assert one.budget["reward_calls"] >= len(par.ARMS) * TINY.updates * TINY.batch


def test_the_same_seed_gives_the_same_numbers(figures):
    assert figures[0].values == figures[1].values
    assert figures[0].curves == figures[1].curves


def test_the_checks_read_what_was_measured(figures):
    checks = par.check(figures)
    assert [check.name for check in checks] == ["premise", "(a) end", "(b) drop", "(c) one reference"]
    assert all(check.estimate.estimate is not None and math.isfinite(check.estimate.estimate.mean) for check in checks)
