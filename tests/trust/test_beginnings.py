"""A judge that reads the first character knows at once; one that counts characters knows at the end."""

import math

import torch

from plaudit.rewards.base import BaseReward
from plaudit.rewards.generative.self_evaluation import SelfEvaluationData
from plaudit.trust.beginnings import known_by_share
from plaudit.types import Batch, Scores

TEXTS = ["aaaa", "abbb", "baaa", "bbbb"] * 10


class Reads(BaseReward):
    """The share of `a` in what is shown, or whether it starts with one."""

    name, settings = "reads", {}

    def __init__(self, first: bool) -> None:
        self.first = first

    def score(self, batch, ctx=None):
        found = [text.startswith("a") if self.first else text.count("a") / len(text) for text in batch.responses]
        return Scores(torch.tensor([math.nan if text == "b" and not self.first else float(x)
                                    for x, text in zip(found, batch.responses, strict=True)]))  # fmt: skip


def data(labels):
    return SelfEvaluationData(Batch([f"p{n}" for n in range(40)], TEXTS), labels, [1.0] * 40, {})


def test_what_is_known_when():
    by_start = [float(text[0] == "a") for text in TEXTS]
    assert [one.auroc for one in known_by_share(Reads(True), data(by_start))] == [1.0] * 4
    by_count = [float(text.count("a") > 2) for text in TEXTS]
    early, _, _, late = known_by_share(Reads(False), data(by_count))
    assert late.auroc == 1.0
    assert early.auroc < 1.0
    assert late.calibration.ece > 0
    assert known_by_share(Reads(True), data(by_start), shares=(1.0,))[0].calibration.ece == 0.0


def test_what_cannot_be_judged_is_counted():
    (early,) = known_by_share(Reads(False), data([1.0] * 40), shares=(0.25,))
    assert math.isnan(early.auroc)
    assert early.calibration.brier.left_out == {"not_a_number": 20}
