"""Recipe 17 at a tiny size: every figure and check is there, and the checks can fail."""

from dataclasses import replace

import pytest

from plaudit.recipes.base import verdict_of
from plaudit.recipes.deepseek_grm import RECIPE, Config, check, run

TINY = Config(
    seeds=(0,), items=60, epochs=1, judged=20, scalar_items=10, votes=4, keep=2, updates=1, draw=2, group=2, held_out=12
)  # fmt: skip


@pytest.fixture(scope="module")
def figures():
    return run(TINY, 0)


def test_every_figure_is_measured(figures):
    assert {"vote@1", "vote@2", "vote@4", "guided", "scalar", "scalar gain", "RFT/greedy", "RL/greedy", "RL/guess"} <= set(
        figures.values
    )
    assert all(value is None or 0 <= value <= 1 for name, value in figures.values.items() if name != "scalar gain")
    assert figures.values["scalar gain"] == 0.0
    shares = [figures.values[f"RFT/{name}"] or 0.0 for name in ("left to right", "right to left", "pairs", "guess")]
    assert sum(shares) <= 1 + 1e-9
    assert figures.budget["reward_calls"] >= 4 * 12


def test_the_checks_follow_the_figures(figures):
    good = replace(
        figures,
        values={
            **figures.values,
            "vote@1": 0.6,
            "vote@4": 0.7,
            "guided": 0.75,
            "RFT/greedy": 0.7,
            "RL/greedy": 0.8,
            "RFT/guess": 0.2,
            "RL/guess": 0.1,
        },
    )
    assert verdict_of(check([good, good])) == "holds"
    for name, value, wanted in (
        ("vote@4", 0.62, "fails"), ("guided", 0.69, "fails"), ("scalar gain", 0.01, "fails"), ("RL/greedy", 0.72, "fails"),
        ("RL/guess", 0.3, "fails"), ("vote@1", 0.96, "invalid"), ("guided", None, "invalid"),
    ):  # fmt: skip
        worse = replace(good, values={**good.values, name: value})
        assert verdict_of(check([worse, worse])) == wanted, name
    voting_only = replace(good, values={name: value for name, value in good.values.items() if not name.startswith("RL/")})
    assert [one.name for one in check([voting_only])] == ["room", "(a) votes", "(b) meta reward", "(c) scalar head"]


def test_published_figures_name_ours(figures):
    assert {one.ours for one in RECIPE.published if one.ours} - {"vote@8", "vote@16"} <= set(figures.values)
