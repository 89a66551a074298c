"""Votes by hand, the curve of planted judges, error types, and pairs that weak judges fail."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plaudit.trust.benchmarks.hard_filter import hard_filter
from plaudit.trust.benchmarks.votes import majority, votes_of
from plaudit.trust.benchmarks.voting import error_table, moved_from_half, voted_at, voting_curve, voting_point

from .rows import orders, row

RIGHT, WRONG, UNREAD = (1.0, 1.0), (0.0, 0.0), (None, None)


def judged(number, *calls, section="general", **extras):
    of = row(number, (1, 0), section=section, extras=extras)
    return majority([orders(of, *call) for call in calls])


def planted(chance, rows=300, calls=10, seed=0, section="general"):
    """A judge that is right with the same chance in every call."""
    draw = random.Random(seed)
    return [judged(n, *(RIGHT if draw.random() < chance else WRONG for _ in range(calls)), section=section) for n in range(rows)]


def mean(measured):
    return None if measured.estimate is None else measured.estimate.mean


def test_calls_are_drawn_without_replacement_and_nested():
    result = judged(1, *[(k / 10, k / 10) for k in range(10)])
    drawn = {k: votes_of(voted_at(result, k, 3)) for k in (2, 3, 9)}
    firsts = {k: [vote.pairs[0].prob for vote in votes] for k, votes in drawn.items()}
    assert [len(set(found)) for found in firsts.values()] == [2, 3, 9]
    assert firsts[9][:3] == firsts[3]
    assert firsts[3][:2] == firsts[2]
    assert voted_at(result, 11) is None
    with pytest.raises(ValueError, match="no vote"):
        voted_at(result, 0)


def test_figures_by_hand():
    results = [
        judged(1, RIGHT, RIGHT, WRONG), judged(2, WRONG, WRONG, RIGHT), judged(3, UNREAD, UNREAD, RIGHT),
        judged(4, RIGHT, RIGHT, RIGHT, section="reasoning"), judged(5, RIGHT, section="reasoning"),
    ]  # fmt: skip
    point = voting_point(results, 3)
    assert point.said == {"agree": 2, "reject": 1, "short": 1, "unparsed": 1}
    assert mean(point.accuracy["general"]) == pytest.approx(1 / 2)
    assert (mean(point.accuracy["reasoning"]), point.macro) == (1.0, pytest.approx(3 / 4))
    assert mean(point.overall) == pytest.approx(2 / 3)
    assert (mean(point.strict), mean(point.coverage)) == (pytest.approx(2 / 5), pytest.approx(3 / 5))
    assert point.to_json()["said"]["short"] == 1


def test_a_group_without_verdicts_has_no_accuracy_and_no_macro():
    point = voting_point([judged(1, RIGHT), judged(2, UNREAD, section="reasoning")], 1)
    assert point.accuracy["reasoning"].estimate is None
    assert point.macro is None
    assert mean(point.coverage) == 0.5
    with pytest.raises(ValueError, match="no row"):
        voting_point([], 1)


def test_even_votes_can_be_split():
    assert voting_point([judged(1, RIGHT, WRONG)], 2).said == {"other": 1}


@pytest.mark.parametrize("chance", [0.3, 0.7])
def test_voting_amplifies_as_the_binomial_says(chance):
    from scipy.stats import binom

    curve = voting_curve(planted(chance, rows=1500), (1, 3, 5, 9))
    for point in curve:
        expected = 1 - binom.cdf(point.k // 2, point.k, chance)
        assert mean(point.strict) == pytest.approx(expected, abs=0.045)
    assert moved_from_half(mean(curve[0].strict), mean(curve[-1].strict)) is True


SHARES = st.integers(0, 64).map(lambda count: count / 64)  # of which 1 - share is exact


@given(SHARES, SHARES)
@settings(max_examples=50, deadline=None)
def test_moving_away_from_half_is_symmetric(before, after):
    found = moved_from_half(before, after)
    assert found is None or abs(before - 0.5) > 0.04
    if before not in (0.0, 1.0):
        mirrored = moved_from_half(1 - before, 1 - after)
        assert found is None or mirrored is None or mirrored == found
    assert moved_from_half(None, after) is None


def test_errors_by_type():
    results = [judged(1, RIGHT, tag="existence"), judged(2, WRONG, tag="existence"), judged(3, WRONG, tag="counting")]
    found = error_table([*results, judged(4, UNREAD, tag="counting"), judged(5, RIGHT)])
    assert {name: mean(share) for name, share in found.items()} == {"counting": 1.0, "existence": 0.5, "untagged": 0.0}
    assert found["counting"].left_out == {"unparsed": 1}


def test_the_hard_filter_by_hand():
    said = [(WRONG, WRONG, RIGHT), (WRONG, RIGHT, RIGHT), (WRONG, WRONG, WRONG), (UNREAD, UNREAD, WRONG)]
    judges = [[judged(number, calls[judge]) for number, calls in enumerate(said)] for judge in range(3)]
    hard = hard_filter(judges)
    assert hard.kept == [0, 2]
    assert [one.id for one in hard.rows] == ["r0", "r2"]
    assert hard.by_fails == {1: 2, 2: 1, 3: 1}
    assert hard.left_out == {"not hard": 2}
    assert hard_filter(judges, fail_votes=1).kept == [0, 1, 2, 3]
    checked = hard_filter(judges, verify=lambda one: one.id != "r0")
    assert (checked.kept, checked.left_out) == ([2], {"not hard": 2, "not verified": 1})


def test_chance_judges_leave_what_is_not_hard_for_others():
    """Regression to the mean: what coins fail is hard for no one; what fails for a reason stays hard."""
    coins = [planted(0.5, seed=seed, calls=1) for seed in range(3)]
    other = planted(0.7, seed=9)
    kept = hard_filter(coins).kept
    assert 0.4 * 300 < len(kept) < 0.6 * 300
    assert mean(voting_point([other[place] for place in kept], 1).strict) == pytest.approx(0.7, abs=0.09)


def test_what_the_filter_refuses():
    judges = [planted(0.5, rows=3), planted(0.5, rows=3, seed=1)]
    for wrong in (0, 3):
        with pytest.raises(ValueError, match="fail_votes"):
            hard_filter(judges, fail_votes=wrong)
    with pytest.raises(ValueError, match="at least one judge"):
        hard_filter([])
    with pytest.raises(ValueError, match="different rows"):
        hard_filter([judges[0], judges[1][:2]])
