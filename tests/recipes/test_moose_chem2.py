"""Recipe 32 at a tiny size: all arms, equal budgets, and checks that can fail."""

from dataclasses import replace

from plaudit.recipes.moose_chem2 import CONSISTENT, EQUAL, PLAIN, RECIPE, REVERSED, VOTES, Config, check, run

TINY = Config(landscapes=5, noise=(0.0, 1.0), levels=3, slots=2, options=3, beam=2, lines=2)


def test_run_and_check():
    figures = run(TINY, 0)
    assert figures.values == run(TINY, 0).values
    assert figures.values != run(TINY, 1).values
    for noise in (0, 1):
        calls = figures[f"noise {noise}/{PLAIN}/reward_calls"]
        for arm in EQUAL:
            assert figures[f"noise {noise}/{arm}/reward_calls"] == calls
        lead = figures.difference(f"noise {noise}/{PLAIN}", f"noise {noise}/{CONSISTENT}")
        assert abs(figures[f"noise {noise}/{CONSISTENT}/lead"] - lead) < 1e-9
    assert figures[f"noise 1/{VOTES}/proposals"] <= figures[f"noise 1/{PLAIN}/proposals"]
    checks = check([figures])
    assert {one.name for one in checks if one.decides} == {
        "noise 0: over greedy + self-consistency",
        "noise 1: over greedy + self-consistency",
        "hierarchy",
        "noise 1: three votes",
    }
    assert RECIPE.slug == "32-moose-chem2"


def test_a_check_fails_where_the_order_does_not_pay():
    figures = run(TINY, 0)
    name = f"noise 0/{REVERSED}/lead low"
    for value, outcome in ((-0.1, "fails"), (0.1, "holds"), (None, "invalid")):
        changed = replace(figures, values={**figures.values, name: value})
        assert next(one for one in check([changed]) if one.name == "hierarchy").outcome == outcome
