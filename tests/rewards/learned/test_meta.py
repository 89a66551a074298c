"""A meta reward tells planted bad judgements from good ones, and its loss is binary cross-entropy."""

import random

import pytest
import torch

from plaudit import Batch, UserError
from plaudit.rewards.learned.data import FitData
from plaudit.rewards.learned.decoder import TokenDecoder
from plaudit.rewards.learned.heads import OrdinalReward
from plaudit.rewards.learned.meta import fit_meta_reward


def judgements(count, seed):
    """Texts of a and b; right where there is no x."""
    draw = random.Random(seed)
    right = [draw.random() < 0.6 for _ in range(count)]
    texts = ["".join(draw.choice("ab") for _ in range(6)) for _ in range(count)]
    written = [text if good else text[:3] + "x" + text[4:] for text, good in zip(texts, right, strict=True)]
    return Batch(["ab"] * count, responses=written), right


def test_it_finds_the_planted_flaw_the_same_for_the_same_seed():
    batch, right = judgements(300, 0)
    made = [
        fit_meta_reward(TokenDecoder("abx", layers=1, width=16, heads=2, context=16), batch, right, epochs=6, learning_rate=1e-2)
        for _ in range(2)
    ]
    held, truth = judgements(100, 1)
    scores = made[0].score(held).values
    truth = torch.tensor(truth)
    assert scores[truth].min() > scores[~truth].max()
    assert torch.equal(scores, made[1].score(held).values)


def test_two_levels_are_logistic_regression():
    batch, right = judgements(8, 2)
    head = OrdinalReward(TokenDecoder("abx", layers=1, width=16, heads=2, context=16), levels=(0.0, 1.0), hidden=(4,), seed=1)
    torch.nn.init.normal_(list(head.head.parameters())[-1], generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([float(one) for one in right])
    with torch.no_grad():
        loss = head.loss(FitData(batch, ratings=labels)).total
        logits = head.logit(batch) - head.thresholds()[0]
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(logits.double(), labels.double(), reduction="sum")
    assert float(loss) == pytest.approx(float(wanted), rel=1e-5)


def test_judgements_that_are_all_alike_are_refused():
    batch, _ = judgements(4, 0)
    with pytest.raises(UserError, match="all alike"):
        fit_meta_reward(TokenDecoder("abx", layers=1, width=16, heads=2, context=16), batch, [True] * 4)
