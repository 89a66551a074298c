"""Mined pairs: best against worst by the reward, nothing made of ties, gaps and missing scores, everything counted."""

import math

import pytest
import torch

from plaudit.curation.mining import mine_pairs
from plaudit.rewards.base import BaseReward
from plaudit.types import Batch, Generator, Scores, Status, Trajectories


class Written(Generator):
    """Gives scripted samples: the prompt is the list of its samples, separated by blanks."""

    def modules(self):
        return {}

    def rollout(self, prompts, n, *, how=None, start=None, seed):
        texts = [text for prompt in prompts.prompts for text in prompt.split()[:n]]
        rows = [row for row in range(len(prompts)) for _ in range(n)]
        batch = Batch([prompts.prompts[row] for row in rows], texts, groups=torch.tensor(rows))
        return Trajectories(batch, torch.zeros(len(rows), 1), torch.ones(len(rows), 1, dtype=torch.bool))

    def encode(self, batch, *, seed):
        raise NotImplementedError

    def evaluate(self, t, *, need=("log_prob",), steps=None, part=None):
        raise NotImplementedError


class Length(BaseReward):
    """Longer is better; what has a question mark is not judged."""

    name = "length"

    def __init__(self):
        self.settings = {}

    def score(self, batch, ctx=None):
        values = [math.nan if "?" in text else float(len(text)) for text in batch.responses]
        return Scores(torch.tensor(values), torch.tensor([Status.ABSTAINED if "?" in t else Status.OK for t in batch.responses]))


def mined(*prompts, **settings):
    return mine_pairs(Written(), Length(), Batch(list(prompts)), 4, **settings)


def test_best_against_worst_and_counts():
    rows, report = mined("aa a aaaa aaa", "a b c d", "aaa aa? ? ?", "a aa ? bb", "a aa aa a")
    assert [row.responses for row in rows] == [("aaaa", "a"), ("aa", "a"), ("aa", "a")]
    assert all(row.gold == (1.0, 0.0) for row in rows)
    assert rows[0].extras["scores"] == [4.0, 1.0]
    assert (report.prompts, report.pairs, report.equal, report.unscored, report.close) == (5, 3, 1, 1, 0)
    assert report.left_out == {Status.ABSTAINED.label: 4}
    assert report.mean_gap == pytest.approx((3 + 1 + 1) / 3)


def test_a_small_gap_makes_no_pair():
    rows, report = mined("aa a a a", "aaaa a a a", least_gap=2.0)
    assert [row.responses for row in rows] == [("aaaa", "a")]
    assert report.close == 1


def test_more_prompts_than_fit_at_once_stay_in_order():
    rows, report = mined(*[f"{'x' * (number + 2)} y y y" for number in range(70)])
    assert [len(row.responses[0]) for row in rows] == list(range(2, 72))
    assert report.pairs == 70


def test_nothing_to_mine():
    rows, report = mined()
    assert (rows, report.mean_gap) == ([], None)
    with pytest.raises(ValueError, match="two samples"):
        mine_pairs(Written(), Length(), Batch(["a"]), 1)
