from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plaudit.rewards.adapters import pairs_within, preferences_from_gold
from plaudit.rewards.tournament import round_robin
from plaudit.types import Preferences, Status
from tests.rewards.small import Biased, Listwise, Value, batch_of

finite = st.floats(-20, 20, width=32)


@given(st.lists(finite, min_size=2, max_size=6), st.floats(0.1, 10))
@settings(max_examples=40, deadline=None)
def test_pairs_of_a_pointwise_reward_follow_the_bradley_terry_link(numbers, temperature):
    reward = Value()
    reward.link_temperature = temperature
    batch = batch_of(*numbers)
    first, second = pairs_within(batch_of(*numbers, groups=[0] * len(numbers)))
    pairs = reward.compare(batch, first, second)
    expected = [
        1 / (1 + 2.718281828459045 ** (-(numbers[i] - numbers[j]) / temperature)) for i, j in zip(first, second, strict=True)
    ]
    torch.testing.assert_close(pairs.prob, torch.tensor(expected), atol=1e-6, rtol=0)
    torch.testing.assert_close(pairs.prob, 1 - reward.compare(batch, second, first).prob, atol=1e-6, rtol=0)


def test_each_row_is_scored_once_and_rows_in_no_pair_never():
    reward = Value()
    reward.compare(batch_of(1.0, 2.0, 3.0, 4.0), torch.tensor([0, 0, 2]), torch.tensor([2, 2, 0]))
    assert reward.seen == [2]


def test_lower_is_better_turns_the_pair_round():
    pairs = Value(lower=True).compare(batch_of(1.0, 2.0), torch.tensor([0]), torch.tensor([1]))
    assert pairs.prob.item() == pytest.approx(0.7310586)


def test_a_pair_takes_the_first_rows_status_or_else_the_seconds():
    batch = batch_of(None, 1.0)
    reward = Value(missing=Status.TOO_LONG)
    pairs = reward.compare(batch, torch.tensor([0, 1, 1]), torch.tensor([1, 0, 1]))
    assert pairs.status.tolist() == [Status.TOO_LONG, Status.TOO_LONG, Status.OK]
    assert pairs.prob.isnan().tolist() == [True, True, False]


def test_pairs_of_a_listwise_reward_are_judged_as_groups_of_two():
    pairs = Listwise().compare(batch_of(0.0, 5.0, 1.0), torch.tensor([0, 2]), torch.tensor([2, 1]))
    torch.testing.assert_close(pairs.prob, torch.sigmoid(torch.tensor([-1.0, -4.0])))


@pytest.mark.parametrize("make", [Value, Biased, Listwise])
def test_no_pairs_no_answers(make):
    none = torch.zeros(0, dtype=torch.int64)
    assert len(make().compare(batch_of(1.0), none, none)) == 0


def test_a_temperature_of_zero_is_refused():
    reward = Value()
    reward.link_temperature = 0.0
    with pytest.raises(ValueError, match="must be positive"):
        reward.compare(batch_of(1.0, 2.0), torch.tensor([0]), torch.tensor([1]))


@pytest.mark.parametrize("make", [Biased, Listwise])
def test_a_reward_that_needs_groups_says_so(make):
    with pytest.raises(ValueError, match="give groups or a rivals bank"):
        make().score(batch_of(1.0, 2.0))


def test_round_robin_is_the_mean_win_probability_and_asks_each_pair_once():
    reward = Biased()
    batch = batch_of(0.0, 7.0, 1.0, 2.0, groups=[5, 9, 5, 5])
    scores = reward.score(batch)
    sigmoid = torch.sigmoid
    expected = (sigmoid(torch.tensor(-1.0)) + sigmoid(torch.tensor(-2.0))) / 2
    assert scores.values[0].item() == pytest.approx(expected.item())
    assert scores.status.tolist() == [0, Status.EMPTY_GROUP, 0, 0]
    assert scores.parts["compared"].tolist() == [2, 0, 2, 2]
    assert sorted(reward.asked) == [(0, 2), (0, 3), (2, 3)]


def test_round_robin_leaves_failed_pairs_out_and_never_counts_them_as_lost():
    scores = Biased().score(batch_of(0.0, 1.0, None, groups=[0, 0, 0]))
    assert scores.values[0].item() == pytest.approx(0.2689414)
    assert scores.parts["compared"].tolist() == [1, 1, 0]
    assert scores.status.tolist() == [0, 0, Status.UNPARSABLE]


def test_round_robin_weighs_pairs_and_tells_verdicts_from_each_side():
    pairs = Preferences(torch.tensor([0, 0]), torch.tensor([1, 1]), torch.tensor([1.0, 0.0]), weight=torch.tensor([3.0, 1.0]))
    assert round_robin(pairs, torch.tensor([0, 0])).values.tolist() == [0.75, 0.25]
    scores = Biased().score(batch_of(0.0, 1.0, groups=[0, 0]))
    assert [verdict.name for verdict in scores.verdicts[0] + scores.verdicts[1]] == ["against 1", "against 0"]
    assert scores.verdicts[1][0].text == "0.0 against 1.0"


def test_round_robin_refuses_pairs_across_groups():
    with pytest.raises(ValueError, match="joins rows of two groups"):
        round_robin(Preferences(torch.tensor([0]), torch.tensor([1]), torch.tensor([0.5])), torch.tensor([0, 1]))


def test_gold_values_make_labelled_pairs():
    batch = batch_of(0.0, 0.0, 0.0, 0.0, 0.0, groups=[0, 0, 0, 1, 1])
    labels = preferences_from_gold(batch, [1.0, 0.0, 0.0, 0.5, 0.5])
    pairs = list(zip(labels.first.tolist(), labels.second.tolist(), labels.prob.tolist(), strict=True))
    assert pairs == [(0, 1, 1.0), (0, 2, 1.0), (3, 4, 0.5)]
    assert labels.tie.tolist() == [0, 0, 1]
    assert len(preferences_from_gold(batch, [None, 1.0, 0.0, None, 2.0])) == 1
    with pytest.raises(ValueError, match="NaN"):
        preferences_from_gold(batch, torch.tensor([1.0, float("nan"), 0, 0, 0]))
