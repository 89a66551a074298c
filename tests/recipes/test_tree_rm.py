"""Card 37 in small: its arms cost the same, the same seed gives the same figures, and its checks can fail."""

import pytest

from plaudit.curation.trees import divergences
from plaudit.recipes import tree_rm
from plaudit.recipes.base import Figures, verdict_of
from plaudit.recipes.bounds import bootstrap_low, check_bound
from plaudit.recipes.tree_rm import CHAIN, LEAVES, LEVEL, MODELS, PREFIXES, WHOLE, Config
from plaudit.worlds.motifs import MotifWorld

SMALL = Config(depth=3, symbols=4, pairs=(12, 20), betas=(4.0,), steps=15, tests=100, best_of=(20, 4), graphs=3, counted=10)


def figures(seed, **changed):
    values = {"violations": 0.0}
    for model in MODELS:
        for name in (*WHOLE, PREFIXES):
            values |= {f"{model}/{name}/{measure}": 0.8 for measure in ("shared prefix", "independent")}
            values |= {f"{model}/{name}/best of n": 1.2, f"{model}/{name}/beam": 1.0, f"{model}/{name}/wins": 0.5}
    values |= {f"uncertainty/{name}": 1.0 for name in WHOLE}
    values[f"linear/{LEAVES}/shared prefix"] = 0.82 + 0.001 * seed
    return Figures(seed, values | changed)


def outcomes(**changed):
    return [check.outcome for check in tree_rm.check([figures(seed, **changed) for seed in range(4)]) if check.decides]


def test_checks_can_hold_and_fail():
    assert outcomes() == ["holds"] * 5
    assert outcomes(**{f"linear/{LEAVES}/shared prefix": 0.814}) == ["fails", *["holds"] * 4]
    assert outcomes(**{f"linear/{LEAVES}/shared prefix": 0.8})[:2] == ["fails", "fails"]
    assert outcomes(**{f"linear/{LEAVES}/best of n": 1.17}) == ["holds", "holds", "fails", "holds", "holds"]
    assert outcomes(**{f"linear/{LEAVES}/independent": 0.77}) == ["holds"] * 3 + ["fails", "holds"]
    assert outcomes(violations=1.0)[4] == "fails"
    assert outcomes(**{f"linear/{CHAIN}/shared prefix": None})[:2] == ["invalid", "invalid"]
    reported = {check.name: check for check in tree_rm.check([figures(seed) for seed in range(4)]) if not check.decides}
    assert reported["(B) head to head"].outcome == "fails", "a win rate of one half is not above one half"
    won = tree_rm.check([figures(seed, **{f"linear/{LEAVES}/wins": 0.6}) for seed in range(4)])
    assert next(check for check in won if check.name == "(B) head to head").outcome == "holds"


def test_it_runs_in_small_and_repeats():
    first, second = tree_rm.run(SMALL, 1), tree_rm.run(SMALL, 1)
    assert first.values == second.values
    assert first.curves == second.curves
    assert first.missing == {}
    assert first.values["violations"] == 0
    assert first.budget["labels"] == (12 + 20) * (4 + 3)
    assert verdict_of(tree_rm.check([first, tree_rm.run(SMALL, 2)])) in ("holds", "fails")


def test_all_arms_pay_for_as_many_labels_and_differ_in_where_pairs_part():
    world = MotifWorld(depth=4, symbols=8, seed=0)
    config = Config(pairs=(60,))
    sources = {name: arm.source for name, arm in tree_rm.arms(config, world, 0).items()}
    assert {name: len(rows) for name, rows in sources.items()} == dict.fromkeys((CHAIN, LEAVES, LEVEL, PREFIXES), 60)
    assert divergences(sources[LEAVES])[1] > 20 > divergences(sources[LEVEL])[1]
    assert all(len({row.prompt for row in rows}) == 60 for rows in sources.values()), "a tree gives one pair"
    assert 10 < sum(not row.extras["complete"] for row in sources[PREFIXES]) < 50


def test_bootstrap_bounds():
    assert bootstrap_low([1.0, 1.0, 1.0]) == 1.0
    assert bootstrap_low([1.0, None]) is None
    assert bootstrap_low([]) is None
    low = bootstrap_low([0.0, 1.0] * 50)
    assert low == pytest.approx(0.5 - 1.645 * 0.05, abs=0.012)
    assert check_bound("n", "c", [0.2, 0.3, 0.25], 0.1).outcome == "holds"
    assert check_bound("n", "c", [0.2, 0.3, -0.25], 0.1).outcome == "fails"
    assert check_bound("n", "c", [0.2, None], 0.1).outcome == "invalid"


def test_settings():
    assert len(Config().seeds) >= 12
    assert tree_rm.RECIPE.slug == "37-tree-rm"
