"""The vote curve against slow enumeration, against theory, and in the report and the command line."""

import math
import random
from itertools import combinations

import pytest
import torch

from plaudit.data import read_records
from plaudit.judging.results import PairResult, ResponseResult, RowResult
from plaudit.judging.voting import Voted
from plaudit.trust.report import write_report
from plaudit.trust.vote_curve import (
    contest_credit,
    counted,
    curve_of,
    default_counts,
    pick_credit,
    pick_share,
    subsets,
    vote_agreement,
    vote_curve,
)
from plaudit.trust.vote_section import votes_json, votes_section
from plaudit.types import Status


def row(number, gold=(1.0, 0.0)):
    (made,) = read_records([{"prompt": f"q{number}", "responses": [f"r{n}" for n in range(len(gold))], "label": list(gold)}])
    return made


def of_pairs(probs, number=0):
    """A row whose pair (0 is the better one) got these probabilities, None where unreadable."""
    votes = [
        RowResult(row(number), pairs=[PairResult(0, 1, prob, Status.OK if prob is not None else Status.UNPARSABLE)])
        for prob in probs
    ]
    return Voted(votes[0].row, [], votes[0].pairs, votes)


def of_values(table, gold, number=0):
    """A row whose responses got these values, a line a vote."""
    votes = [
        RowResult(
            row(number, gold), [ResponseResult(value, Status.OK if value is not None else Status.UNPARSABLE) for value in line]
        )
        for line in table
    ]
    return Voted(votes[0].row, votes[0].responses, [], votes)


def test_subsets_are_all_of_them_or_as_many_as_asked_each_of_the_right_size():
    few = subsets(5, 2, seed=0)
    assert {tuple(column.nonzero()[:, 0].tolist()) for column in few.T} == set(combinations(range(5), 2))
    many = subsets(20, 7, seed=0, most=100)
    assert many.shape == (20, 100)
    assert (many.sum(dim=0) == 7).all()
    assert torch.equal(many, subsets(20, 7, seed=0, most=100))
    assert not torch.equal(many, subsets(20, 7, seed=1, most=100))
    with pytest.raises(ValueError, match="cannot be taken"):
        subsets(3, 4, seed=0)
    assert (default_counts(16), default_counts(10), default_counts(1)) == ([1, 2, 4, 8, 16], [1, 2, 4, 8, 10], [1])


def slow_pick(table, best, k):
    """Mean credit over all subsets, in plain Python; None where a subset has no usable vote is left out."""
    credits = []
    for chosen in combinations(range(len(table)), k):
        lines = [table[vote] for vote in chosen if not any(math.isnan(value) for value in table[vote])]
        if lines:
            sums = [sum(column) for column in zip(*lines, strict=True)]
            top = [place for place, value in enumerate(sums) if abs(value - max(sums)) < 1e-9]
            credits.append(sum(best[place] for place in top) / len(top))
    return sum(credits) / len(credits) if credits else None


def test_the_curve_is_the_mean_over_all_subsets():
    draw = random.Random(0)
    for _ in range(30):
        table = [[float(draw.randint(1, 4)) for _ in range(3)] for _ in range(6)]
        for line in table:
            if draw.random() < 0.2:
                line[draw.randrange(3)] = math.nan
        best = [True, False, False]
        for k in (1, 3, 6):
            credit = pick_credit(torch.tensor(table), torch.tensor(best))(subsets(6, k, 0))
            wanted = slow_pick(table, best, k)
            known = credit[~credit.isnan()]
            assert (None if not len(known) else pytest.approx(float(known.mean()))) == wanted


def test_one_vote_in_the_curve_is_the_mean_accuracy_of_single_votes_and_the_last_point_counts_all():
    results = [of_pairs([0.9, 0.2, 0.6, None, 0.7], 1), of_pairs([0.1, 0.2, 0.9, 0.3, 0.4], 2)]
    curve = vote_curve(results)
    assert [point.k for point in curve] == [1, 2, 4, 5]
    assert curve[0].accuracy.estimate.mean == pytest.approx((3 / 4 + 1 / 5) / 2)
    assert curve[0].undecided == pytest.approx(1 / 10)  # one subset of five of the first row has no vote
    assert curve[-1].accuracy.estimate.mean == pytest.approx(0.5)  # the mean of row 1 is right, that of row 2 is wrong
    cases = [(0, contest_credit(torch.tensor([[0.9, 0.1], [math.nan, math.nan]])))]
    assert curve_of(cases, 2, [1])[0].accuracy.estimate.mean == 1.0
    assert curve_of(cases, 2, [1], strict=True)[0].accuracy.estimate.mean == 0.5
    heads = vote_curve(results, combine="majority", ks=[5])
    assert heads[0].accuracy.estimate.mean == pytest.approx(0.5)


def test_a_better_than_even_judge_follows_the_binomial_and_a_worse_one_falls():
    draw = random.Random(1)
    for chance in (0.7, 0.3):
        results = [of_pairs([float(draw.random() < chance) for _ in range(9)], number) for number in range(300)]
        curve = {point.k: point.accuracy.estimate for point in vote_curve(results, ks=[1, 3, 5])}
        for k, found in curve.items():
            theory = sum(math.comb(k, right) * chance**right * (1 - chance) ** (k - right) for right in range(k // 2 + 1, k + 1))
            assert found.low < theory < found.high
            assert found.mean == pytest.approx(theory, abs=0.05)


def test_values_ties_majorities_and_single_labels():
    table = [[3.0, 1.0], [1.0, 1.0], [None, 2.0], [5.0, 9.0]]
    one = vote_curve([of_values(table, (1.0, 0.0))], ks=[1])[0]
    assert one.accuracy.estimate.mean == pytest.approx((1 + 0.5 + 0) / 3)
    assert one.undecided == pytest.approx(1 / 4)
    single = of_values([[0.9], [0.2], [0.7]], (1.0,))
    assert vote_curve([single], ks=[1, 3])[0].accuracy.estimate.mean == pytest.approx(2 / 3)
    assert vote_curve([single], ks=[1, 3])[1].accuracy.estimate.mean == 1.0
    votes = torch.tensor([[9.0, 1.0], [2.0, 3.0], [2.0, 3.0]])
    used = torch.ones(3, 1, 2, dtype=torch.bool)
    assert counted(votes, used, "mean")[0].tolist() == pytest.approx([13 / 3, 7 / 3])
    assert counted(votes, used, "majority")[0].tolist() == [2, 3]
    assert counted(votes, used, "majority", "score_group")[0].tolist() == pytest.approx([1 / 3, 2 / 3])


def test_the_share_of_picks_splits_ties_and_counts_groups_without_values_as_wrong():
    values = torch.tensor([[1.0, 2.0], [3.0, 3.0], [math.nan, math.nan]])
    assert pick_share(values, torch.tensor([[False, True]] * 3)) == pytest.approx((1 + 0.5 + 0) / 3)


def test_swapping_the_two_responses_swaps_the_credit():
    votes = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    chosen = subsets(3, 2, 0)
    assert torch.allclose(contest_credit(votes)(chosen), 1 - contest_credit(votes.flip(1))(chosen))


def test_without_labels_votes_or_numbers_there_is_no_curve_and_no_zero():
    assert vote_curve([]) == []
    assert vote_curve([RowResult(row(0), [ResponseResult(1.0, Status.OK)] * 2)]) == []
    silent = vote_curve([of_pairs([None, None, None])])
    assert all(point.accuracy.estimate is None and point.undecided == 1.0 for point in silent)
    assert silent[0].accuracy.left_out == {"no usable vote": 1}
    assert curve_of([], 3)[0].accuracy.estimate is None


def test_agreement_is_the_share_of_pairs_of_votes_that_say_the_same():
    assert vote_agreement([of_pairs([0.9, 0.8, 0.3])]).estimate.mean == pytest.approx(1 / 3)
    assert vote_agreement([of_pairs([0.9, 0.5])]).estimate.mean == pytest.approx(0.5)
    assert vote_agreement([of_values([[1.0], [1.0], [2.0]], (1.0,))]).estimate.mean == pytest.approx(1 / 3)
    alone = vote_agreement([of_pairs([0.9, None])])
    assert (alone.estimate, alone.left_out) == (None, {"fewer than two usable votes": 1})


def test_the_report_and_the_json_show_it(tmp_path):
    draw = random.Random(2)
    results = [of_pairs([float(draw.random() < 0.8) for _ in range(4)] + [None], number) for number in range(40)]
    plot = votes_section({"judge": results})
    assert plot.figure is not None
    assert len(plot.cells) == 4
    assert "40 of 200 single votes have no number" in " ".join(plot.says)
    found = votes_json(results, "mean", "compare")
    assert (found["votes"], found["cast"], found["without_number"]) == (5, 200, 40)
    assert [point["k"] for point in found["curve"]] == [1, 2, 4, 5]
    page = write_report(tmp_path / "r.html", "t", [one.row for one in results], {"judge": results}).read_text(encoding="utf-8")
    assert "two votes on the same thing agree in" in page
    assert votes_section({"plain": [one.votes[0] for one in results]}) is None
