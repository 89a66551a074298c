"""Results that are run again: which ones, and what counts as agreement."""

import datetime
import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from plaudit.recipes.catalogue import find_recipe, recipes
from plaudit.recipes.recheck import Band, chosen, run_again
from plaudit.recipes.results import read_results, record_of
from plaudit.recipes.runner import reproduce

RESULTS = read_results(Path(__file__).resolve().parents[2] / "results")
TOY = str(Path(__file__).with_name("toy.py"))
DAY = datetime.date(2026, 1, 1)


def test_every_recipe_with_a_result_has_its_day():
    days = [DAY + datetime.timedelta(days=day) for day in range(60)]
    seen = {recipe.slug for day in days for recipe in chosen(RESULTS, day, 1, float("inf"))}
    assert seen == {recipe.slug for recipe in recipes().values() if RESULTS.of(recipe.slug)}
    assert chosen(RESULTS, DAY, 2, float("inf")) == chosen(RESULTS, DAY, 2, float("inf"))


def test_slow_ones_are_left_out():
    assert chosen(RESULTS, DAY, 9, 0.0) == []
    quick = chosen(RESULTS, DAY, 99, 60.0)
    assert all(one["seconds"] <= 60 for recipe in quick for one in RESULTS.of(recipe.slug)["by_seed"])


def test_the_same_code_agrees_and_other_figures_do_not(tmp_path):
    recipe = find_recipe(TOY)
    record = record_of(reproduce(recipe, folder=tmp_path))
    again = run_again(recipe, record, tmp_path)
    assert again.agrees
    assert again.outside == {}
    assert again.figures == len(record["by_seed"][0]["values"])
    moved = json.loads(json.dumps(record))
    for one in moved["by_seed"]:
        one["values"] = {name: value + 100.0 for name, value in one["values"].items()}
    other = run_again(recipe, moved, tmp_path)
    assert not other.agrees
    assert len(other.outside) == other.figures
    assert other.to_json()["outside"]


def test_a_figure_that_is_gone_is_outside(tmp_path):
    recipe = find_recipe(TOY)
    record = json.loads(json.dumps(record_of(reproduce(recipe, folder=tmp_path))))
    for one in record["by_seed"]:
        one["values"]["no longer measured"] = 1.0
    assert run_again(recipe, record, tmp_path).outside["no longer measured"][0] is None


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6))
def test_a_band_holds_what_it_was_made_of(values):
    band = Band.of(values)
    assert all(band.holds(value) for value in values)
    assert not band.holds(None)
    assert not band.holds(max(values) + 2 * (max(values) - min(values)) + 1e-3 * max(1.0, *map(abs, values)))
