"""Panels of different judges: planted ones are weighed, pairs are symmetric, what has no number does not vote."""

import math

import numpy as np
import pytest
import torch

from plaudit import BaseReward, Batch, Preferences, Scores, SpecError, Status
from plaudit.fitting.seeds import derive_seed
from plaudit.rewards.algebra import Ensemble
from plaudit.trust.panel import Panel

ROWS = 600
BATCH = Batch([f"q{row}" for row in range(ROWS)], responses=[str(row % 2) for row in range(ROWS)])


class Noisy(BaseReward):
    """Says the truth (the response) with the given probability, the opposite otherwise; every tenth answer is missing."""

    uses_seed = False

    def __init__(self, name, accuracy, missing=10):
        self.name, self.accuracy, self.missing, self.settings = name, accuracy, missing, {"accuracy": accuracy}

    def score(self, batch, ctx=None):
        right = [derive_seed(0, self.name, prompt) / 2**31 < self.accuracy for prompt in batch.prompts]
        values = [float(text) if ok else 1 - float(text) for text, ok in zip(batch.responses, right, strict=True)]
        lost = [self.missing and derive_seed(1, self.name, prompt) % self.missing == 0 for prompt in batch.prompts]
        values = torch.tensor([math.nan if gone else value for gone, value in zip(lost, values, strict=True)])
        return Scores(values, torch.where(values.isnan(), int(Status.UNPARSABLE), 0).to(torch.int8))


class NoisyPairs(BaseReward):
    """Compares by the longer response, wrong now and then, the same whichever is shown first."""

    uses_seed = False

    def __init__(self, name, accuracy):
        self.name, self.accuracy, self.settings = name, accuracy, {}

    def compare(self, batch, first, second, ctx=None):
        probs = []
        for i, j in zip(first.tolist(), second.tolist(), strict=True):
            right = derive_seed(0, self.name, *sorted((i, j))) / 2**31 < self.accuracy
            probs.append(0.9 if (len(batch.responses[i]) > len(batch.responses[j])) == right else 0.1)
        return Preferences(first, second, torch.tensor(probs))


def accuracy(reward):
    scores = reward.score(BATCH)
    truth = torch.tensor([float(text) for text in BATCH.responses])
    return float(((scores.values > 0.5) == (truth > 0.5))[scores.ok].double().mean())


def test_a_fitted_panel_knows_who_is_good_and_beats_the_plain_mean():
    panel = Panel([Noisy("good", 0.9), Noisy("fair", 0.75), Noisy("poor", 0.6), Noisy("liar", 0.2)])
    model = panel.fit(BATCH)
    assert model.accuracy == pytest.approx([0.9, 0.75, 0.6, 0.2], abs=0.07)
    assert panel.score(BATCH).ok.all()  # the good one gave no answer to a tenth
    assert accuracy(panel) > 0.88
    assert accuracy(panel) > accuracy(Ensemble(list(panel.members.values()), on_missing=0.5)) + 0.03
    scores = panel.score(BATCH)
    assert [verdict.name for verdict in scores.verdicts[0]] == ["good", "fair", "poor", "liar"]
    assert scores.spread.max() <= 0.5


def test_rows_that_nobody_judged_have_a_status_and_no_number():
    panel = Panel([Noisy("a", 0.9, missing=0), Noisy("b", 0.8, missing=0)])
    panel.fit(BATCH)
    for member in panel.members.values():
        member.missing = 1
    scores = panel.score(BATCH.select([0, 1]))
    assert scores.counts() == {Status.UNPARSABLE: 2}
    assert scores.values.isnan().all()


def test_swapped_pairs_are_mirrored():
    batch = Batch(["q"] * 40, responses=["x" * (1 + row % 7) for row in range(40)])
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randint(40, (100,), generator=generator), torch.randint(40, (100,), generator=generator)
    keep = torch.tensor([len(batch.responses[i]) != len(batch.responses[j]) for i, j in zip(first, second, strict=True)])
    first, second = first[keep], second[keep]
    panel = Panel([NoisyPairs("a", 0.9), NoisyPairs("b", 0.7), NoisyPairs("c", 0.7)])
    panel.fit(batch, first, second)
    one, other = panel.compare(batch, first, second), panel.compare(batch, second, first)
    assert torch.allclose(one.prob, 1 - other.prob, atol=1e-6)
    assert np.allclose(one.tie, other.tie)
    longer = torch.tensor([float(len(batch.responses[i]) > len(batch.responses[j])) for i, j in zip(first, second, strict=True)])
    assert ((one.prob > 0.5) == (longer > 0.5)).double().mean() > 0.8


def test_what_cannot_be_a_panel_is_refused():
    with pytest.raises(SpecError, match="not fitted"):
        Panel([Noisy("a", 0.9)]).score(BATCH)
    with pytest.raises(SpecError, match="all score or all compare"):
        Panel([Noisy("a", 0.9), NoisyPairs("b", 0.9)])
    with pytest.raises(SpecError, match="classes"):
        Panel([Noisy("a", 0.9)], classes=(1.0, 0.0))
    panel = Panel([Noisy("a", 0.9), Noisy("b", 0.8)])
    before = panel.fingerprint()
    panel.fit(BATCH)
    assert panel.fingerprint() != before
