from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from plaudit.data.row import Row
from plaudit.judging.metrics import Summary
from plaudit.judging.results import PairResult, RowResult
from plaudit.trust import agreement
from plaudit.types import Status
from tests.trust.results import biased_pairs, compared, row, scored

values = st.lists(st.integers(-3, 3), min_size=3, max_size=6)


def test_agreement_counts_a_tie_half_and_two_ties_as_agreement():
    of = row(0, (1.0, 0.5, 0.0))
    # pairs: (0,1) same, (0,2) same, (1,2) opposite
    assert agreement.ranking_agreement([scored(of, [3, 2, 1])], [scored(of, [3, 1, 2])]).estimate.mean == pytest.approx(2 / 3)
    # (0,1) tied against decided, the others the same
    assert agreement.ranking_agreement([scored(of, [3, 3, 1])], [scored(of, [3, 2, 1])]).estimate.mean == pytest.approx(2.5 / 3)
    assert agreement.ranking_agreement([scored(of, [1, 1, 1])], [scored(of, [7, 7, 7])]).estimate.mean == 1.0


def test_agreement_leaves_missing_values_out_and_counts_them_by_reason():
    of = row(0, (1.0, 0.5, 0.0))
    left = [scored(of, [3, None, 1], Status.TIMED_OUT)]
    measured = agreement.ranking_agreement(left, [scored(of, [3, 2, 1])])
    assert measured.n == 1
    assert measured.estimate.mean == 1.0
    assert measured.left_out == {"timed_out": 2}


def test_a_pairwise_and_a_pointwise_reward_can_be_compared():
    of = row(0)
    assert agreement.ranking_agreement([compared(of, 0.9, 0.8)], [scored(of, [1, 0])]).estimate.mean == 1.0
    turned = RowResult(of, pairs=[PairResult(1, 0, 0.9, Status.OK)])
    assert agreement.ranking_agreement([turned], [scored(of, [1, 0])]).estimate.mean == 0.0


def test_different_rows_are_refused():
    with pytest.raises(ValueError, match="different rows"):
        agreement.ranking_agreement([scored(row(0), [1, 0])], [scored(row(1), [1, 0])])
    with pytest.raises(ValueError, match="2 and 1"):
        agreement.ranking_agreement([scored(row(0), [1, 0])] * 2, [scored(row(0), [1, 0])])


@given(values, st.randoms(use_true_random=False))
def test_tau_b_equals_scipy(first, draw):
    second = [draw.randint(-3, 3) for _ in first]
    of = row(0, [float(value) for value in range(len(first))])
    measured = agreement.kendall_tau_b([scored(of, first)], [scored(of, second)])
    expected = kendalltau(first, second).statistic
    if math.isnan(expected):
        assert measured.estimate is None
        assert measured.left_out == {"all tied": 1}
    else:
        assert measured.estimate.mean == pytest.approx(expected)


@given(st.lists(values, min_size=2, max_size=5))
def test_a_reward_agrees_with_itself_and_is_opposed_by_its_negative(columns):
    rows = [row(number, [float(value) for value in range(len(column))]) for number, column in enumerate(columns)]
    same = [scored(of, column) for of, column in zip(rows, columns, strict=True)]
    opposite = [scored(of, [-value for value in column]) for of, column in zip(rows, columns, strict=True)]
    assert agreement.ranking_agreement(same, same).estimate.mean == 1.0
    ties = sum(column[i] == column[j] for column in columns for i in range(len(column)) for j in range(i))
    pairs = sum(len(column) * (len(column) - 1) // 2 for column in columns)
    assert agreement.ranking_agreement(same, opposite).estimate.mean == pytest.approx(ties / pairs)


def test_accuracy_by_hand():
    results = [scored(row(0), [2, 1]), scored(row(1), [1, 2]), scored(row(2), [1, 1]), scored(row(3), [None, 1])]
    results.append(scored(row(4, (0.5, 0.5)), [1, 2]))
    measured = agreement.accuracy(results)
    assert measured.estimate.mean == pytest.approx(0.5)
    assert measured.n == 3
    assert measured.left_out == {"labelled tie": 1, "unparsable": 1}


def test_accuracy_without_labels_is_not_measured():
    assert agreement.accuracy([scored(row(0, None), [2, 1])]).estimate is None
    assert agreement.accuracy([]).estimate is None


def test_correctness_of_single_responses():
    results = [scored(row(number, (gold,)), [value]) for number, (gold, value) in enumerate([(1, 0.9), (0, 0.8), (1, None)])]
    measured = agreement.correctness(results)
    assert measured.estimate.mean == 0.5
    assert measured.left_out == {"unparsable": 1}
    assert agreement.accuracy(results).estimate is None


def test_accuracy_by_the_kind_of_the_worse_response():
    kinds = {"kinds": ["right", "wrong", "injection"]}
    results = [scored(row(number, (1.0, 0.0, 0.0), extras=kinds), [2, 1, 3]) for number in range(4)]
    parts = agreement.accuracy_by(results, lambda of, better, worse: (of.extras["kinds"][worse],))
    assert {name: part.estimate.mean for name, part in parts.items()} == {"injection": 0.0, "wrong": 1.0}
    assert {part.n for part in parts.values()} == {4}


def test_a_planted_order_bias_is_found_with_its_size():
    measured = agreement.order_bias(biased_pairs(300, 0.12))
    assert measured.estimate.mean == pytest.approx(0.12, abs=0.01)
    assert measured.estimate.low > 0
    assert agreement.order_bias(biased_pairs(300, -0.07)).estimate.mean == pytest.approx(-0.07, abs=0.01)
    fair = agreement.order_bias(biased_pairs(300, 0.0)).estimate
    assert fair.mean == pytest.approx(0.0, abs=0.01)
    assert fair.low < 0 < fair.high


def test_flip_rate_by_hand():
    results = [compared(row(0), 0.9, 0.2), compared(row(1), 0.9, 0.8), compared(row(2), 0.5, 0.8), compared(row(3), 0.9, None)]
    measured = agreement.flip_rate(results)
    assert measured.estimate.mean == pytest.approx(2 / 3)
    assert measured.left_out == {"unparsable": 1}


def test_a_reward_without_orders_has_no_order_bias():
    assert agreement.order_bias([scored(row(0), [1, 0])]).estimate is None
    assert agreement.flip_rate([scored(row(0), [1, 0])]).estimate is None


def test_figures_equal_those_of_the_summary_of_a_run():
    results = biased_pairs(60, 0.1) + [scored(row(100 + number), [number % 3, 1]) for number in range(30)]
    summary = Summary()
    for result in results:
        summary.add(result)
    assert agreement.accuracy(results).estimate == summary.labelled.accuracy.estimate()
    assert agreement.order_bias(results).estimate == summary.order_bias.estimate(share=False)
    assert agreement.flip_rate(results).estimate.mean == pytest.approx(1 - summary.order_agrees.estimate().mean)


def test_length_preference():
    longer = [scored(row(number, (1.0, 0.0, 0.0)), [0, 1, 2]) for number in range(3)]
    assert agreement.length_preference(longer).estimate.mean == 1.0
    shorter = [scored(row(number, (1.0, 0.0)), [1, 0]) for number in range(3)]
    assert agreement.length_preference(shorter).estimate.mean == 0.0
    even = agreement.length_preference([scored(row(0, responses=["ab", "cd"]), [1, 0])])
    assert even.estimate is None
    assert even.left_out == {"equal length": 1}


def test_picks_and_their_chance():
    rows = [row(0, (1.0, 0.0)), row(1, (0.0, 1.0, 1.0)), row(2, (0.5, 0.5)), row(3, None), row(4, (1.0, 0.0))]
    measured = agreement.pick_accuracy(rows, [0, 0, 0, 0, None])
    assert measured.estimate.mean == pytest.approx(0.5)
    assert measured.left_out == {"no pick": 1}
    assert agreement.chance_pick(rows) == pytest.approx((1 / 2 + 2 / 3 + 1 / 2) / 3)
    assert agreement.chance_pick([row(0, None)]) is None
    with pytest.raises(ValueError, match="1 picks for 5 rows"):
        agreement.pick_accuracy(rows, [0])


def test_baselines_read_only_length_and_place():
    rows = [row(0, (0.0, 1.0)), row(1, (0.0, 1.0))]
    found = {name: agreement.accuracy(results).estimate.mean for name, results in agreement.baseline_results(rows).items()}
    assert found == {"longest": 1.0, "shortest": 0.0, "first": 0.0}


def test_response_text_of_chats_and_objects():
    assert agreement.response_text([{"role": "assistant", "content": "hello"}]) == "hello"
    assert agreement.response_text(3) == "3"


def test_intervals_are_clustered_by_row():
    one_row_each = [scored(row(number), [1, 0] if number % 4 else [0, 1]) for number in range(40)]
    ten_rows = []
    for number in range(10):
        of = Row(f"r{number}", f"question {number}", tuple("abcd"), gold=(1.0, 0.0, 0.0, 0.0))
        ten_rows.append(scored(of, [9, 1, 2, 3] if number % 4 else [0, 1, 2, 3]))
    narrow, wide = agreement.accuracy(one_row_each).estimate, agreement.accuracy(ten_rows).estimate
    assert wide.high - wide.low > narrow.high - narrow.low
