"""`plaudit reproduce`, `seeds` and `gallery`."""

import json
from pathlib import Path

import pytest

from plaudit.recipes.catalogue import cards, recipes

UNWRITTEN = next(card for card in cards() if card.number not in recipes())
TOY = Path(__file__).resolve().parents[1] / "recipes" / "toy.py"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAUDIT_CACHE", str(tmp_path / "cache"))


def test_reproduce_shows_and_writes(plaudit, tmp_path):
    code, shown, said = plaudit("reproduce", TOY)
    assert code == 0
    assert "toy: holds (3 seeds" in shown
    assert "method minus baseline" in shown
    assert "Toy-7B" in shown
    assert "81.5 %" in shown
    assert "seed 2:" in said
    assert (tmp_path / "results" / "toy.json").is_file()
    assert (tmp_path / "results" / "toy.svg").is_file()
    code, _, said = plaudit("reproduce", TOY)
    assert code == 0
    assert said.count("kept from an earlier run") == 3


def test_a_check_that_fails_is_a_result(plaudit, monkeypatch, tmp_path):
    monkeypatch.setenv("TOY_WORLD", "bad")
    code, shown, _ = plaudit("reproduce", TOY, "--seeds", "2")
    assert code == 0
    assert "toy: fails (2 seeds" in shown
    assert json.loads((tmp_path / "results" / "toy.json").read_text())["verdict"] == "fails"


def test_json(plaudit, tmp_path):
    code, shown, _ = plaudit("reproduce", TOY, "--json", "--preset", "paper")
    assert code == 0
    assert json.loads(shown) == json.loads((tmp_path / "results" / "toy.paper.json").read_text())
    assert json.loads(shown)["config"]["cases"] == 5000


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "name one recipe"),
        (("58", "--all"), "name one recipe"),
        (("65",), "unknown recipe '65'"),
        ((UNWRITTEN.name,), f"card {UNWRITTEN.number:02d} has no recipe yet"),
        (("nowhere.py",), "file not found"),
        (("broken.py",), "cannot be imported: SyntaxError"),
        (("empty.py",), "has no RECIPE"),
        ((str(TOY), "--seeds", "0"), "at least 1"),
    ],
)
def test_errors_are_one_sentence(arguments, says, plaudit, tmp_path):
    (tmp_path / "broken.py").write_text("def (")
    (tmp_path / "empty.py").write_text("")
    code, _, said = plaudit("reproduce", *arguments)
    assert code == 2
    assert says in said
    assert "Traceback" not in said
    assert not (tmp_path / "results").exists()


def test_seeds_lists_all_cards_with_their_state(plaudit, tmp_path):
    code, shown, _ = plaudit("seeds", "--json")
    listed = json.loads(shown)
    assert code == 0
    assert [one["number"] for one in listed] == list(range(1, 65))
    states = {one["number"]: one["state"] for one in listed}
    assert {number for number, state in states.items() if state == "recipe"} == set(recipes())
    code, shown, _ = plaudit("seeds")
    assert "moose-chem2" in shown
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "58-mrmbench.json").write_text("{")
    code, _, said = plaudit("seeds")
    assert code == 1
    assert "58-mrmbench.json" in said


def test_seed_names_and_titles_are_there():
    assert len({card.name for card in cards()}) == 64
    assert all(card.title and "\n" not in card.title for card in cards())


def test_gallery(plaudit, tmp_path):
    plaudit("reproduce", TOY)
    (tmp_path / "docs").mkdir()
    code, _, said = plaudit("gallery")
    page = (tmp_path / "docs" / "gallery.md").read_text()
    assert code == 0
    assert "docs/gallery.md: 1 result" in said
    assert "**Holds** (laptop, 3 seeds" in page
    assert "](../results/toy.svg)" in page
    assert "| Toy-7B | accuracy | 81.5 % | " in page
    assert "moose-chem2" in page


def test_list(plaudit):
    code, shown, _ = plaudit("reproduce", "--list", "--json")
    assert code == 0
    assert [one["card"] for one in json.loads(shown)] == sorted(recipes())


def test_recheck_needs_results_and_chooses_itself(plaudit, tmp_path):
    code, _, said = plaudit("reproduce", "--recheck", "1")
    assert code == 2
    assert "no result of at most 180 seconds" in said
    code, _, said = plaudit("reproduce", "58", "--recheck", "1")
    assert code == 2
    assert "chooses the recipes itself" in said
