"""Card 04 at the smallest size: every judge is taught and measured, and the checks read what was measured."""

import math
from dataclasses import replace

import pytest

from plaudit.recipes import search_gen_v
from plaudit.rewards.base import BaseReward
from plaudit.types import Batch, Scores, Status, Verdict
from plaudit.worlds.base import Decoder, Level
from plaudit.worlds.nugget_records import RecordWorld

TINY = search_gen_v.Config(seeds=(0,), updates=2, prompts=4, samples=2, test=12, short=12)


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAUDIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(RecordWorld, "levels", {"start": Level(demonstrations=64, epochs=4, batch_rows=16)})
        patch.setattr(RecordWorld, "decoder", Decoder(layers=1, width=32, heads=2, context=192))
        yield [search_gen_v.run(TINY, 0), search_gen_v.run(TINY, 0)]


def test_every_judge_and_every_composition_is_measured(figures):
    one = figures[0]
    for name in search_gen_v.ARMS:
        for figure in ("F1", "F1 of a call", "facts without a label", "accuracy, new templates"):
            assert 0 <= one[f"{name}/{figure}"] <= 1
    assert one["swapped below right"] == 1.0
    assert 0 < one["short/exact match"] < 1
    assert one.budget["reward_calls"] >= TINY.updates * TINY.prompts * TINY.samples


def test_the_same_seed_gives_the_same_numbers(figures):
    assert figures[0].values == figures[1].values


def test_the_checks_read_what_was_measured(figures):
    checks = search_gen_v.check(figures)
    assert [check.name for check in checks] == ["A gain", "A in most seeds", "B composition", "C reward", "as much data"]
    assert all(check.estimate.estimate is not None and math.isfinite(check.estimate.estimate.mean) for check in checks)
    better = replace(figures[0], values={**figures[0].values, "SFT/F1": 0.5, "SFT + RL/F1": 0.6, "short/exact match": 0.6,
                                         "short/judge": 0.7, "short/exact match or judge": 0.8})  # fmt: skip
    assert [check.outcome for check in search_gen_v.check([better])[:4]] == ["holds"] * 4
    worse = replace(better, values={**better.values, "SFT + RL/F1": 0.505, "short/judge": 0.79, "swapped below right": 0.99})
    assert [check.outcome for check in search_gen_v.check([worse])[:4]] == ["fails", "holds", "fails", "fails"]
    gone = replace(better, values={**better.values, "short/judge": None})
    assert search_gen_v.check([gone])[2].outcome == "invalid"


class Said(BaseReward):
    """Labels and scores as given."""

    name = "said"

    def __init__(self, labels, values=()):
        self.labels, self.numbers, self.settings = labels, values, {}

    def score(self, batch, ctx=None):
        import torch

        values = torch.tensor(list(self.numbers) or [math.nan] * len(batch))
        status = torch.where(values.isnan(), int(Status.UNPARSABLE), 0)
        return Scores(values, status, verdicts=[[Verdict(label) for label in row] for row in self.labels])


def test_figures_by_hand():
    from plaudit.types import Budget

    s, p, n = search_gen_v.LABELS
    calls = Batch(["r"] * 2, ["x"] * 2, extras={"gold": [[s, n], [p]], "templates": [[0, None], [5]]})
    found = search_gen_v.label_figures(Said([[s, None], [n]]), calls, Budget())
    assert found["F1"] == pytest.approx(1 / 3)
    assert found["F1 of a call"] == pytest.approx(((1 + 1 + 0) / 3 + (1 + 0 + 0) / 3) / 2)
    assert (found["facts without a label"], found["accuracy, seen templates"], found["accuracy, new templates"]) == (1 / 3, 1, 0)
    answers = Batch(["w"] * 4, ["x"] * 4, extras={"right": [True, True, True, False]})
    reward = Said([[]] * 4, [1.0, 0.0, math.nan, 1.0])
    assert search_gen_v.accepted_f1(reward, answers, Budget()) == pytest.approx(2 * 1 / (2 + 3))
