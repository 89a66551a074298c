from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from plaudit.rewards.algebra import Normalised, WeightedSum
from plaudit.rewards.normalise import Normalisation
from plaudit.types import Scores, Status
from tests.rewards.small import Biased, Extra, Value, batch_of

numbers = st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=8)


def zscores(values, **settings):
    return Normalised(Value(), "group_zscore", **settings).score_group(batch_of(*values, groups=[0] * len(values)))


@given(numbers, st.floats(-100, 100), st.floats(0.1, 100))
@settings(max_examples=60, deadline=None)
def test_group_zscores_ignore_shift_and_scale(values, shift, scale):
    plain = torch.tensor(values, dtype=torch.float64)
    assume(plain.std(correction=0) > 0.1)
    expected = (plain - plain.mean()) / plain.std(correction=0)
    torch.testing.assert_close(zscores(values).values.double(), expected, atol=1e-4, rtol=1e-4)
    moved = zscores([scale * value + shift for value in values])
    torch.testing.assert_close(moved.values.double(), expected, atol=2e-3, rtol=2e-3)


@given(numbers, st.randoms(use_true_random=False), st.sampled_from(["group_zscore", "rank", "batch_zscore"]))
@settings(max_examples=40, deadline=None)
def test_the_order_of_rows_changes_nothing(values, random, how):
    order = list(range(len(values)))
    random.shuffle(order)
    reward = Normalised(Value(), how)
    plain = reward.score_group(batch_of(*values, groups=[0] * len(values)))
    moved = reward.score_group(batch_of(*[values[place] for place in order], groups=[3] * len(values)))
    assert moved.status.tolist() == plain.status[order].tolist()
    torch.testing.assert_close(moved.values, plain.values[order], atol=1e-5, rtol=1e-5, equal_nan=True)


@given(numbers, st.integers(0, 8), st.sampled_from(["group_zscore", "rank", "batch_zscore"]))
@settings(max_examples=40, deadline=None)
def test_a_row_that_abstains_changes_nothing_for_the_others(values, place, how):
    place = min(place, len(values))
    reward = Normalised(Value(), how)
    plain = reward.score_group(batch_of(*values, groups=[0] * len(values)))
    more = reward.score_group(batch_of(*values[:place], None, *values[place:], groups=[0] * (len(values) + 1)))
    rest = [row for row in range(len(values) + 1) if row != place]
    assert more.status[place] == Status.ABSTAINED
    assert more.status[rest].tolist() == plain.status.tolist()
    torch.testing.assert_close(more.values[rest], plain.values, equal_nan=True, atol=0, rtol=0)


@pytest.mark.parametrize("level", [0.0, 0.1, 1000.1, -3e6])
def test_equal_rows_have_a_status_not_a_huge_number(level):
    for values in ([level] * 7, [level] * 3):
        assert zscores(values).counts() == {Status.EQUAL_GROUP: len(values)}
        assert zscores(values, equal="zero").values.tolist() == [0.0] * len(values)


def test_rounding_of_single_precision_is_not_a_difference():
    # one unit in the last place at 1000 is 6e-5: a naive leave-one-out deviation divides by it
    values = [1000.1, 1000.1, torch.nextafter(torch.tensor(1000.1), torch.tensor(2000.0)).item()]
    assert zscores(values).counts() == {Status.EQUAL_GROUP: 3}
    assert zscores([0.0, 1e-3]).values.tolist() == [-1.0, 1.0]
    assert zscores([0.0, 1e-3], floor=0.01).counts() == {Status.EQUAL_GROUP: 2}


def test_fewer_than_two_usable_rows_are_an_empty_group():
    assert zscores([1.0]).counts() == {Status.EMPTY_GROUP: 1}
    assert zscores([1.0, None]).status.tolist() == [Status.EMPTY_GROUP, Status.ABSTAINED]
    assert zscores([1.0], equal="zero").counts() == {Status.EMPTY_GROUP: 1}


def test_groups_are_apart_and_a_batch_is_one():
    batch = batch_of(0.0, 10.0, 2.0, 30.0, groups=[4, 8, 4, 8])
    assert Normalised(Value()).score_group(batch).values.tolist() == [-1.0, -1.0, 1.0, 1.0]
    whole = Normalised(Value(), "batch_zscore")
    assert whole.score_group(batch).values.mean().abs() < 1e-6
    assert whole.needs_whole_batch
    assert (whole + Value("a")).needs_whole_batch
    assert not Normalised(Value()).needs_whole_batch


def test_ranks_are_wins_minus_losses():
    scores = Normalised(Value(), "rank").score_group(batch_of(5.0, 1.0, 5.0, None, 900.0, groups=[0] * 5))
    torch.testing.assert_close(scores.values[[0, 1, 2, 4]], torch.tensor([0.0, -1.0, 0.0, 1.0]))


def test_fixed_numbers_keep_a_pointwise_reward_pointwise():
    reward = Normalised(Value(spread=4.0), "fixed", mean=1.0, std=2.0)
    scores = reward.score(batch_of(5.0, None))
    assert reward.native == "score"
    assert (scores.values[0].item(), scores.spread[0].item(), scores.parts["value"][0].item()) == (2.0, 2.0, 5.0)
    assert scores.status[1] == Status.ABSTAINED


def test_pairs_of_a_normalised_reward_are_its_own():
    batch = batch_of(0.0, 3.0)
    pair = torch.tensor([1]), torch.tensor([0])
    assert Normalised(Value()).compare(batch, *pair).prob.item() == pytest.approx(0.9525741)
    assert Normalised(Biased()).compare(batch, *pair).prob.item() == pytest.approx(0.9525741)
    assert Normalised(Value(), "fixed", std=3.0).compare(batch, *pair).prob.item() == pytest.approx(0.7310586)


def test_a_normalised_sum_weighs_parts_of_different_scales_alike():
    batch = batch_of(1, 2, 3, groups=[0, 0, 0], extras={"a": [0.0, 0.01, 0.02], "b": [2000.0, 1000.0, 0.0]})
    reward = WeightedSum({"a": (1.0, Extra("a")), "b": (1.0, Extra("b"))}, normalise="group_zscore")
    scores = reward.score_group(batch)
    torch.testing.assert_close(scores.values, torch.zeros(3), atol=1e-5, rtol=0)
    assert scores.parts["b/raw"].tolist() == [2000.0, 1000.0, 0.0]
    assert [line.spread for line in reward.scale_report(scores)] == pytest.approx([1.0, 1.0], rel=1e-4)
    assert reward.native == "score_group"


def test_an_equal_part_in_a_sum_is_no_silent_zero():
    batch = batch_of(1, 2, groups=[0, 0], extras={"a": [1.0, 2.0], "b": [5.0, 5.0]})
    parts = {"a": (1.0, Extra("a")), "b": (1.0, Extra("b"))}
    assert WeightedSum(parts, normalise="group_zscore").score_group(batch).counts() == {Status.EQUAL_GROUP: 2}
    dropped = WeightedSum(parts, normalise="group_zscore", on_missing="drop_for_group").score_group(batch)
    assert dropped.values.tolist() == [-1.0, 1.0]
    asked_for = WeightedSum(parts, normalise=Normalisation("group_zscore", equal="zero")).score_group(batch)
    assert asked_for.values.tolist() == [-1.0, 1.0]


def test_gradients_stay_finite():
    values = torch.tensor([1.0, 2.0, 4.0, 7.0, 7.0, float("nan")], requires_grad=True)
    batch = batch_of(*[0.0] * 6, groups=[0, 0, 0, 1, 1, 1])
    scores = Normalisation("group_zscore", equal="zero").apply(Scores(values), batch)
    scores.values[0].backward()
    assert values.grad.isfinite().all()
    assert values.grad[0] != 0


@pytest.mark.parametrize("settings", [{"how": "zscore"}, {"how": "rank", "equal": "skip"}, {"how": "fixed", "std": 0.0}])
def test_senseless_settings_are_refused(settings):
    with pytest.raises(ValueError, match=r"expected|positive"):
        Normalisation(**settings)
