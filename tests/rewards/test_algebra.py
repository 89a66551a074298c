from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plaudit.rewards.algebra import Constant, Ensemble, Product, WeightedSum, scale_report
from plaudit.rewards.tournament import round_robin
from plaudit.types import SpecError, Status
from tests.rewards.small import Biased, Extra, Listwise, Value, batch_of

finite = st.floats(-100, 100, width=32)
nan = float("nan")


def two(a, b, groups=None):
    """A batch with the columns a and b."""
    return batch_of(*a, groups=groups, extras={"a": list(a), "b": list(b)})


@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=6), finite, finite)
@settings(max_examples=50, deadline=None)
def test_operators_give_one_weighted_sum(rows, weight_a, weight_b):
    a, b = [row[0] for row in rows], [row[1] for row in rows]
    reward = weight_a * Extra("a") + weight_b * Extra("b")
    scores = reward.score(two(a, b))
    expected = [weight_a * x + weight_b * y for x, y in rows]
    torch.testing.assert_close(scores.values, torch.tensor(expected), rtol=1e-5, atol=1e-3)
    assert list(scores.parts) == ["a", "b"]
    assert scores.parts["b"].tolist() == b
    assert type(reward) is WeightedSum
    assert reward.native == "score"


def test_sums_are_flattened_with_unique_names():
    a, b = Value("a"), Value("b")
    reward = 0.5 * (0.7 * a + 0.3 * b) + 2 * a - b
    assert reward.weights == {"a": 0.35, "b": 0.15, "a#2": 2.0, "b#2": -1.0}
    assert (a + 1.5).weights == {"a": 1.0, "constant 1.5": 1.0}
    assert list((a * b * a).parts) == ["a", "b", "a#2"]


def test_a_named_sum_and_another_policy_stay_parts_of_their_own():
    quality = WeightedSum({"length": (1.0, Value("x"))}, name="quality")
    scores = (0.5 * quality + Value("a")).score(batch_of(2.0))
    assert {name: part.item() for name, part in scores.parts.items()} == {"quality": 2.0, "a": 2.0, "quality/length": 2.0}
    strict = WeightedSum({"a": (1.0, Value("a")), "b": (1.0, Value("b"))})
    lenient = WeightedSum({"c": (1.0, Value("c")), "d": (1.0, Value("d"))}, on_missing=0.0)
    assert len((strict + lenient).parts) == 2
    kept = 2 * lenient + Value("e")
    assert (kept.on_missing, len(kept.parts)) == (0.0, 3)


@pytest.mark.parametrize("weight", [nan, math.inf, True, "1"])
def test_senseless_weights_are_refused(weight):
    with pytest.raises(ValueError, match="finite number"):
        WeightedSum({"a": (weight, Value("a"))})


def test_by_default_a_row_takes_the_status_of_the_part_that_abstains():
    scores = (Extra("a") + Extra("b", status=Status.UNPARSABLE)).score(two([1.0, 1.0, None], [1.0, None, 1.0]))
    assert scores.status.tolist() == [Status.OK, Status.UNPARSABLE, Status.ABSTAINED]
    assert scores.parts["a"].tolist()[:2] == [1.0, 1.0]
    assert "b (unparsable)" in scores.verdicts[1][0].detail
    assert scores.verdicts[0] == []


def test_drop_for_group_leaves_the_part_out_for_every_row_of_the_group():
    reward = WeightedSum({"a": (2.0, Extra("a")), "b": (1.0, Extra("b"))}, on_missing="drop_for_group")
    batch = two([1.0, 2.0, 3.0, 4.0], [10.0, None, 10.0, 20.0], groups=[0, 0, 1, 1])
    scores = reward.score_group(batch)
    assert reward.native == "score_group"
    assert scores.values.tolist() == [2.0, 4.0, 16.0, 28.0]  # group 0 on a alone, its weight unchanged
    assert scores.parts["b"].isnan().tolist() == [True, True, False, False]
    assert "another row" in scores.verdicts[0][0].detail
    assert (scores.verdicts[0][0].value, scores.verdicts[1][0].status) == (10.0, Status.ABSTAINED)
    with pytest.raises(ValueError, match="needs groups"):
        reward.score(two([1.0], [None]))


def test_a_group_that_has_lost_every_part_has_no_number():
    reward = WeightedSum({"a": (1.0, Extra("a"))}, on_missing="drop_for_group")
    scores = reward.score_group(two([1.0, None, 5.0], [0.0] * 3, groups=[0, 0, 1]))
    assert scores.status.tolist() == [Status.ABSTAINED, Status.ABSTAINED, Status.OK]


def test_a_stated_value_stands_in_and_is_recorded():
    reward = WeightedSum({"a": (1.0, Extra("a")), "b": (2.0, Extra("b"))}, on_missing=-1.0)
    scores = reward.score(two([1.0, 1.0], [None, 3.0]))
    assert scores.values.tolist() == [-1.0, 7.0]
    assert scores.parts["b"].tolist() == [-1.0, 3.0]
    assert "-1 stands in" in scores.verdicts[0][0].detail


@pytest.mark.parametrize("on_missing", ["row", "drop_for_group", 0.0])
def test_an_engine_that_went_away_is_under_every_policy_judged_again_later(on_missing):
    parts = {"a": (1.0, Extra("a")), "b": (1.0, Extra("b", status=Status.UNREACHABLE))}
    scores = WeightedSum(parts, on_missing=on_missing).score_group(two([1.0, 1.0], [None, 2.0], groups=[0, 0]))
    assert scores.status.tolist()[0] == Status.UNREACHABLE
    assert scores.status[1] == Status.OK


@pytest.mark.parametrize("policy", ["rows", nan, None, True])
def test_an_unknown_policy_is_refused(policy):
    with pytest.raises(ValueError, match="expected row, drop_for_group"):
        WeightedSum({"a": (1.0, Value())}, on_missing=policy)


def test_a_part_of_weight_zero_is_shown_and_decides_nothing():
    scores = (Extra("a") + 0.0 * Extra("b")).score(two([1.0, 2.0], [5.0, None]))
    assert scores.values.tolist() == [1.0, 2.0]
    assert scores.parts["b"][0] == 5.0
    assert scores.parts["b"][1].isnan()


def test_spreads_are_combined_as_independent():
    batch = two([2.0], [3.0])
    a, b = Extra("a", spread=0.3), Extra("b", spread=0.4)
    assert (2 * a + 1 * b).score(batch).spread.item() == pytest.approx(math.sqrt(0.36 + 0.16))
    assert (a + Constant(1)).score(batch).spread.item() == pytest.approx(0.3)
    variance = (4 + 0.09) * (9 + 0.16) - 36
    assert (a * b).score(batch).spread.item() == pytest.approx(math.sqrt(variance), rel=1e-6)
    assert (Extra("a") + Extra("b")).score(batch).spread is None


def test_products_multiply_and_follow_the_policy():
    batch = two([2.0, 0.0, None, 2.0], [3.0, 3.0, 3.0, None], groups=[0, 0, 1, 1])
    scores = (Extra("a") * Extra("b")).score(batch)
    assert scores.values[:2].tolist() == [6.0, 0.0]
    assert scores.status[2:].tolist() == [Status.ABSTAINED] * 2
    assert Product([Extra("a"), Extra("b")], on_missing=1.0).score(batch).values.tolist() == [6, 0, 3, 2]
    gone = Product([Extra("a"), Extra("b")], on_missing="drop_for_group").score(batch)
    assert gone.counts() == {Status.OK: 2, Status.ABSTAINED: 2}


def test_a_gradient_passes_rows_without_a_number():
    from plaudit.types import Scores

    class Learned(Value):
        def __init__(self, name, values):
            super().__init__(name)
            self.values = values

        def score(self, batch, ctx=None):
            return Scores(self.values)

    a, b = (torch.tensor(values, requires_grad=True) for values in ([2.0, nan], [3.0, 5.0]))
    for reward in (
        2 * Learned("a", a) + Learned("b", b),
        Learned("a", a) * Learned("b", b),
        Ensemble([Learned("a", a), Learned("b", b)]),
    ):
        a.grad = b.grad = None
        scores = reward.score(batch_of(0.0, 0.0))
        scores.values[scores.ok].sum().backward()
        assert a.grad.isfinite().all()
        assert a.grad[0] != 0
        assert a.grad[1] == 0


@pytest.mark.parametrize(("reduce", "expected"), [("mean", 3.0), ("median", 2.0), ("min", 1.0), ("lcb", 3.0 - math.sqrt(14 / 3))])
def test_ensembles_reduce_and_say_how_far_the_members_are_apart(reduce, expected):
    scores = Ensemble([Value("x"), Value("y", 2.0), Value("z", 6.0)], reduce).score(batch_of(1.0))
    assert scores.values.item() == pytest.approx(expected, rel=1e-6)
    assert scores.spread.item() == pytest.approx(math.sqrt(14 / 3))
    assert {name: part.item() for name, part in scores.parts.items()} == {"x": 1.0, "y": 2.0, "z": 6.0}


def test_the_median_of_two_is_their_middle_and_a_bound_needs_two_members():
    assert Ensemble([Value("x"), Value("y", 3.0)], "median").score(batch_of(1.0)).values.item() == 2.0
    alone = Ensemble([Extra("a"), Extra("b")], "lcb", on_missing="drop_for_group")
    scores = alone.score_group(two([1.0, 2.0], [None, 2.0], groups=[0, 0]))
    assert scores.counts() == {Status.ABSTAINED: 2}
    assert Ensemble([Extra("a"), Extra("b")]).score(two([1.0], [None])).counts() == {Status.ABSTAINED: 1}


def test_an_ensemble_of_pairwise_rewards_averages_probabilities():
    reward = Ensemble([Biased(1.0, "x"), Biased(-1.0, "y")])
    judged = reward.compare(batch_of(1.0, 0.0, None), torch.tensor([0, 0]), torch.tensor([1, 2]))
    assert reward.native == "compare"
    expected = (torch.sigmoid(torch.tensor(2.0)) + torch.sigmoid(torch.tensor(0.0))) / 2
    assert judged.prob[0].item() == pytest.approx(expected.item())
    assert judged.status.tolist() == [Status.OK, Status.UNPARSABLE]
    assert [verdict.name for verdict in judged.verdicts[0]] == ["x", "y"]
    assert Ensemble([Biased(), Value()]).native == "score_group"


@pytest.mark.parametrize(("weight", "expected"), [(1.0, 0.75), (-1.0, 0.25), (0.0, 0.5), (2.0, 0.9)])
def test_a_single_pairwise_part_stays_pairwise(weight, expected):
    reward = weight * Biased(math.log(3), "x")
    judged = reward.compare(batch_of(0.0, 0.0), torch.tensor([0]), torch.tensor([1]))
    assert reward.native == "compare"
    assert judged.prob.item() == pytest.approx(expected, rel=1e-6)


def test_pairwise_and_listwise_parts_are_scored_within_groups():
    batch = batch_of(0.0, 1.0, 4.0, groups=[0, 0, 0])
    reward = 1.0 * Biased(name="x") + 0.5 * Listwise(1.0) + 1.0 * Value()
    assert reward.native == "score_group"
    pairs = Biased().compare(batch, torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2]))
    expected = round_robin(pairs, batch.groups).values + 0.5 * torch.tensor([0.0, 0.0, 2.0]) + torch.tensor([0.0, 1.0, 4.0])
    torch.testing.assert_close(reward.score_group(batch).values, expected)
    assert {"x", "x/compared", "listwise", "value"} == set(reward.score_group(batch).parts)
    with pytest.raises(ValueError, match="give groups"):
        (Biased() + Value()).score(batch_of(1.0, 2.0))
    assert (Biased() * Value()).compare(batch, torch.tensor([2]), torch.tensor([0])).prob > 0.5


def test_fingerprints_follow_weights_policies_and_parts_but_not_the_name():
    a, b = Value("a"), Value("b")
    same = 0.7 * a + 0.3 * b
    renamed = 0.7 * a + 0.3 * b
    renamed.name = "blend"
    assert same.fingerprint() == renamed.fingerprint()
    others = [0.6 * a + 0.3 * b, 0.7 * a + 0.3 * Value("b", 2.0), a * b, Ensemble([a, b]), Ensemble([a, b], "min")]
    others += [WeightedSum({"a": (0.7, a), "b": (0.3, b)}, **how) for how in ({"on_missing": 0.0}, {"normalise": "rank"})]
    assert len({reward.fingerprint() for reward in [same, *others]}) == len(others) + 1


def test_check_is_forwarded_and_finds_parts_that_point_the_other_way():
    class Broken(Value):
        def check(self):
            raise SpecError("no engine")

    with pytest.raises(SpecError, match="no engine"):
        (Value("a") + 0.5 * (Broken() * Value("b"))).check()
    lower = Value("perplexity", lower=True)
    with pytest.raises(SpecError, match="lower is better for perplexity"):
        (Value("a") + 0.1 * lower).check()
    with pytest.raises(SpecError, match="multiply it by -1"):
        Ensemble([Value("a"), lower]).check()
    (Value("a") - 0.1 * lower).check()
    Ensemble([Value("a"), -1 * lower]).check()


def test_batch_size_is_the_smallest_of_the_parts():
    small = Value("b")
    small.batch_size = 8
    assert (Value("a") + small).batch_size == 8


def test_compositions_need_parts_that_are_rewards():
    with pytest.raises(ValueError, match="at least one part"):
        WeightedSum({})
    with pytest.raises(TypeError, match="expected a reward"):
        Product({"a": 3})
    with pytest.raises(TypeError, match="by a number or a reward"):
        Value() * "2"


def test_the_scale_report_adds_up_and_shows_who_decides():
    reward = 1.0 * Extra("a") + 1.0 * Extra("b")
    batch = two([0.0, 10.0, 20.0, 30.0, None], [1.0, 0.0, 1.0, 0.0, 1.0])
    first, second = reward.scale_report(reward.score(batch))
    assert (first.rows, first.name) == (4, "a")
    assert first.spread == pytest.approx(math.sqrt(125))
    assert first.share + second.share == pytest.approx(1)
    assert first.share > 0.95
    within = reward.scale_report(reward.score(batch), torch.tensor([0, 0, 1, 1, 1]))
    assert within[0].spread == pytest.approx(5.0)
    level = scale_report(reward.score(two([1.0, 1.0], [2.0, 2.0])), reward.weights)
    assert [line.share for line in level] == [None, None]
