"""Adjudication: unanimous pairs never reach the adjudicator, disputed ones do, with every vote told."""

import pytest
import torch

from plaudit.rewards.adjudicated import Adjudicated
from plaudit.rewards.base import BaseReward
from plaudit.types import Preferences, Status
from tests.rewards.small import Biased, batch_of


class Decides(BaseReward):
    """Says the same of every pair and remembers the prompts."""

    name = "decides"

    def __init__(self, prob, status=Status.OK):
        self.prob, self.code, self.settings, self.prompts = prob, status, {"prob": prob}, []

    def compare(self, batch, first, second, ctx=None):
        self.prompts += [batch.prompts[row] for row in first.tolist()]
        size = len(first)
        return Preferences(first, second, torch.full((size,), self.prob), status=torch.full((size,), int(self.code)))


FIRST, SECOND = torch.tensor([0, 1, 0]), torch.tensor([1, 2, 2])


def test_only_disputed_pairs_are_adjudicated():
    judge = Decides(0.9)
    reward = Adjudicated({"plain": Biased(), "fond of the first": Biased(bias=1.5)}, judge)
    found = reward.compare(batch_of(3.0, 1.0, 2.0), FIRST, SECOND)
    # gaps 2, -1, 1: only the second pair is disputed (-1 and 0.5)
    assert len(judge.prompts) == 1
    assert "- plain: two." in judge.prompts[0]
    assert "- fond of the first: one." in judge.prompts[0]
    assert found.prob[1] == pytest.approx(0.9)
    both = [torch.sigmoid(torch.tensor(gap)) for gap in (2.0, 3.5)]
    assert found.prob[0] == pytest.approx(float(sum(both)) / 2)
    assert [one.name for one in found.verdicts[0]] == ["plain", "fond of the first"]


def test_swapping_a_pair_swaps_an_agreed_verdict():
    reward = Adjudicated({"a": Biased(), "b": Biased(temperature=2.0)}, Decides(0.5))
    batch = batch_of(3.0, 1.0, 2.0)
    there, back = reward.compare(batch, FIRST, SECOND), reward.compare(batch, SECOND, FIRST)
    assert torch.allclose(there.prob, 1 - back.prob)


def test_missing_votes_and_a_silent_adjudicator_have_a_status():
    reward = Adjudicated({"a": Biased(), "b": Biased()}, Decides(float("nan"), Status.UNPARSABLE))
    found = reward.compare(batch_of(3.0, None, 2.0), FIRST, SECOND)
    assert found.status.tolist() == [Status.UNPARSABLE, Status.UNPARSABLE, Status.OK]
    assert found.prob[:2].isnan().all()
    decided = Adjudicated({"a": Biased(), "b": Biased()}, Decides(0.2)).compare(batch_of(3.0, None, 2.0), FIRST, SECOND)
    assert decided.ok.all()
    with pytest.raises(ValueError, match="two members"):
        Adjudicated({"a": Biased()}, Decides(0.5))
