from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plaudit.rewards.adapters import pairs_within
from plaudit.rewards.ordering import Shuffled, Symmetrised
from plaudit.rewards.rivals import RivalsBank
from plaudit.types import Context, Status
from tests.rewards.small import Biased, Listwise, batch_of

numbers = st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=5)


@given(numbers, st.floats(-3, 3))
@settings(max_examples=40, deadline=None)
def test_symmetrised_pairs_add_up_to_one(values, bias):
    batch = batch_of(*values, groups=[0] * len(values))
    first, second = pairs_within(batch)
    reward = Symmetrised(Biased(bias))
    straight, turned = reward.compare(batch, first, second), reward.compare(batch, second, first)
    torch.testing.assert_close(straight.prob.double(), 1 - turned.prob.double(), atol=6e-8, rtol=0)


def test_each_orders_own_verdict_is_kept_mapped_back():
    judged = Symmetrised(Biased(2.0)).compare(batch_of(1.0, 0.0), torch.tensor([0]), torch.tensor([1]))
    shown_first, shown_second = judged.verdicts[0]
    assert (shown_first.order, shown_second.order) == ((0, 1), (1, 0))
    assert shown_first.value == pytest.approx(torch.sigmoid(torch.tensor(3.0)).item())
    assert shown_second.value == pytest.approx(1 - torch.sigmoid(torch.tensor(1.0)).item())
    assert judged.prob.item() == pytest.approx((shown_first.value + shown_second.value) / 2)
    assert shown_second.text == "0.0 against 1.0"


def test_half_of_the_evidence_is_not_used_in_silence():
    class OneWay(Biased):
        def compare(self, batch, first, second, ctx=None):
            judged = super().compare(batch, first, second, ctx)
            judged.status[first > second] = Status.TIMED_OUT
            judged.prob[first > second] = float("nan")
            return judged

    judged = Symmetrised(OneWay()).compare(batch_of(1.0, 0.0), torch.tensor([0, 1]), torch.tensor([1, 0]))
    assert judged.status.tolist() == [Status.TIMED_OUT] * 2
    assert [verdict.status for verdict in judged.verdicts[0]] == [Status.OK, Status.TIMED_OUT]


@given(st.lists(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=4), min_size=1, max_size=3), st.floats(-3, 3, width=32))
@settings(max_examples=30, deadline=None)
def test_over_all_orders_a_bias_for_places_is_the_same_for_every_row(lists, bonus):
    batch = batch_of(*[n for each in lists for n in each], groups=[g for g, each in enumerate(lists) for _ in each])
    scores = Shuffled(Listwise(bonus), "all").score(batch)
    for rows in batch.group_rows():
        expected = torch.tensor([batch.responses[row] - bonus * (len(rows) - 1) / 2 for row in rows])
        torch.testing.assert_close(scores.values[rows], expected, atol=1e-4, rtol=0)


def test_a_shuffle_is_undone_and_seeded():
    values = [float(n) for n in range(10)]
    batch = batch_of(*values, groups=[0, 1] * 5)
    unbiased = Shuffled(Listwise(0.0), 3).score(batch)
    assert unbiased.values.tolist() == values
    assert unbiased.spread.max() == 0
    biased = Shuffled(Listwise(1.0))
    assert biased.score(batch, Context(seed=4)).values.tolist() == biased.score(batch, Context(seed=4)).values.tolist()
    draws = {tuple(biased.score(batch, Context(seed=seed)).values.tolist()) for seed in range(5)}
    assert len(draws) > 1


def test_a_groups_shuffle_does_not_depend_on_the_other_groups():
    alone = batch_of(1.0, 2.0, 3.0, groups=[7, 7, 7])
    among = batch_of(9.0, 1.0, 8.0, 2.0, 3.0, groups=[0, 3, 0, 3, 3])
    reward = Shuffled(Listwise(1.0))
    assert reward.score(alone).values.tolist() == reward.score(among).values[[1, 3, 4]].tolist()


def test_a_row_that_one_shuffle_left_without_a_number_has_none():
    scores = Shuffled(Listwise(1.0), 2).score(batch_of(1.0, None, groups=[0, 0]))
    assert scores.status.tolist() == [Status.OK, Status.NOT_A_NUMBER]


def test_too_many_orders_and_senseless_counts_are_refused():
    with pytest.raises(ValueError, match="too many orders"):
        Shuffled(Listwise(), "all").score(batch_of(*[1.0] * 6, groups=[0] * 6))
    with pytest.raises(ValueError, match="at least 1"):
        Shuffled(Listwise(), 0)


def test_a_rivals_bank_gives_an_absolute_score():
    reward = Biased()
    bank = RivalsBank(reward, {"p": [0.0, 2.0]})
    batch = batch_of(1.0, 5.0)
    batch.prompts = ["p", "other"]
    scores = bank.score(batch)
    assert bank.native == "score"
    assert scores.values[0].item() == pytest.approx(0.5)
    assert scores.status.tolist() == [Status.OK, Status.NOT_APPLICABLE]
    assert scores.parts["compared"].tolist() == [2, 0]


def test_rivals_are_encoded_once_and_a_failed_rival_is_not_left_out():
    reward = Biased()
    scores = RivalsBank(reward, [0.0, None]).score(batch_of(1.0, 2.0))
    assert scores.counts() == {Status.UNPARSABLE: 2}
    assert {second for _, second in reward.asked} == {2, 3}


def test_rivals_may_be_tensors():
    class Pixels(Biased):
        def compare(self, batch, first, second, ctx=None):
            batch.responses = batch.responses.mean(dim=1).tolist()
            return super().compare(batch, first, second, ctx)

    from plaudit.types import Batch

    batch = Batch(["p"], torch.ones(1, 4))
    bank = RivalsBank(Pixels(), [torch.zeros(4), torch.full((4,), 2.0)])
    assert bank.score(batch).values.item() == pytest.approx(0.5)
    assert bank.fingerprint() != RivalsBank(Pixels(), [torch.zeros(4)]).fingerprint()
