"""Recipe 33 with a tiny random model: every figure is there, the reversed bank mirrors, and checks can fail."""

import string
from dataclasses import replace

import pytest

from plaudit.generators.language import tiny_decoder
from plaudit.recipes.flr import RECIPE, SETS, Config, check, run, untuned

LETTERS = string.ascii_letters + string.digits + " .,:?!'\n<>|_-"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_decoder(LETTERS, layers=2, width=32, heads=2, context=600, seed=1).save(folder)
    return Config(
        cases=4, tuned_cases=2, each=1, records=8, batch=4, epochs=1, layers=(1,), learning_rate=1e-2, model=str(folder)
    )


@pytest.fixture(scope="module")
def figures(config):
    return [run(config, 0), run(config, 1)]


def test_every_figure_is_measured(figures, config):
    assert not figures[0].missing
    for letter in SETS:
        assert figures[0][f"untuned/{letter}"] + figures[0][f"reversed bank/{letter}"] == pytest.approx(1.0)
        assert 0 < figures[0][f"untuned/{letter}/p"] <= 1
    assert figures[0]["untuned/a"] == figures[1]["untuned/a"]  # the untuned scorer does not know seeds
    assert figures[0].budget["reward_calls"] == 4 * (4 + 2 + 2)
    assert figures[1].budget["reward_calls"] == 4 * 2
    untuned.cache_clear()
    again = run(config, 0)
    assert again.values == figures[0].values


def test_the_checks_hold_and_fail(figures):
    assert RECIPE.slug == "33-flr"
    deciding = [one.name for one in check(figures) if one.decides]
    assert len(deciding) == 8

    def outcomes(**changed):
        values = {**figures[0].values, **changed}
        return {one.name: one.outcome for one in check([replace(figures[0], values=values)])}

    good = {"untuned/a": 0.8, "untuned/a/p": 0.001, "tuned/c": 0.9, "untuned, first cases/c": 0.5}
    found = outcomes(**good)
    assert found["(a) relevant or to another question"] == found["(a) by chance"] == found["tuning, (c)"] == "holds"
    bad = outcomes(**{"untuned/a": 0.6, "untuned/a/p": 0.2, "tuned/c": 0.55, "untuned, first cases/c": 0.5, "tuned/a": None})
    assert bad["(a) relevant or to another question"] == bad["(a) by chance"] == bad["tuning, (c)"] == "fails"
    assert bad["tuning, (a)"] == "invalid"
