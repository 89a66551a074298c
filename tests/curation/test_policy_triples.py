"""Triples from a pool of policies, filtered votes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.curation.filtered_vote import filtered_vote, first_below, majority, tune_theta, vote_figures
from plaudit.curation.policy_triples import Overlap, overlap, policy_triples, triples_data
from plaudit.types import Batch, Status, UserError
from plaudit.worlds.habits import HabitFamily


def test_triples_come_from_the_policies_that_they_name():
    pool = HabitFamily().pool(4, "test")
    found = policy_triples(pool, HabitFamily().prompts(30, 0), 60, seed=1)
    again = policy_triples(pool, HabitFamily().prompts(30, 0), 60, seed=1)
    assert found.triples == again.triples != policy_triples(pool, HabitFamily().prompts(30, 0), 60, seed=2).triples
    assert len(found) == 60
    right = total = 0
    for triple in found.triples:
        assert triple.policy != triple.rival
        assert triple.reference not in (triple.chosen, triple.rejected)
        own, other = (
            pool[place].encode(Batch([triple.prompt] * 2, [triple.chosen, triple.rejected])).log_probs.sum(1)
            for place in (triple.policy, triple.rival)
        )
        right += int((own - other)[0] > (own - other)[1])
        total += 1
    assert right / total > 0.9, "the likelihood under the two policies tells chosen from rejected"


def test_as_data_for_fitting():
    triples = policy_triples(HabitFamily().pool(2, "test"), HabitFamily().prompts(5, 0), 7, seed=0).triples
    data = triples_data(triples)
    assert len(data) == 7
    assert data.batch.responses[4:6] == [triples[2].chosen, triples[2].rejected]
    assert data.batch.references[4:6] == [triples[2].reference] * 2
    assert data.preferences.first.tolist() == list(range(0, 14, 2))
    assert data.preferences.prob.tolist() == [1.0] * 7


class Parrot:
    """A policy that always says the same; not what anybody wants in a pool."""

    def __init__(self, text):
        self.text = text

    def rollout(self, prompts, n, *, how=None, start=None, seed):
        class Drawn:
            batch = Batch(prompts.prompts, [self.text] * len(prompts))

        return Drawn()


def test_a_degenerate_pool_gives_nothing_and_says_why():
    found = policy_triples([Parrot("aaa"), Parrot("bbb")], Batch(["p"]), 5, seed=0)
    assert len(found) == 0
    assert found.left_out["copy"] == 8 * 5, "chosen is the reference, in every round"


def test_hard_triples_have_rejected_answers_that_overlap_more():
    pool, prompts = HabitFamily().pool(8, "test"), HabitFamily().prompts(50, 0)
    easy, hard = (policy_triples(pool, prompts, 150, seed=3, hard=share).triples for share in (0.0, 1.0))

    def alike(triples):
        return sum(overlap(one.reference, one.rejected) for one in triples) / len(triples)

    assert alike(hard) > alike(easy) + 0.1


def test_what_cannot_be_asked():
    pool, prompts = HabitFamily().pool(2, "test"), HabitFamily().prompts(2, 0)
    with pytest.raises(UserError, match="two policies"):
        policy_triples(pool[:1], prompts, 3, seed=0)
    with pytest.raises(UserError, match="one prompt"):
        policy_triples(pool, Batch([]), 3, seed=0)
    with pytest.raises(UserError, match="share"):
        policy_triples(pool, prompts, 3, seed=0, hard=1.5)


def test_overlap():
    assert overlap("aab", "abb") == pytest.approx(2 / 3)
    assert overlap("abc", "") == 0.0
    scores = Overlap().score(Batch(["p"] * 3, ["ab", "xy", "ab"], references=["ba", "ab", None]))
    assert scores.values[:2].tolist() == [1.0, 0.0]
    assert scores.status.tolist() == [Status.OK, Status.OK, Status.MISSING_REFERENCE]


def rows(*values):
    longest = max(map(len, values))
    return torch.tensor([[*row, *[math.nan] * (longest - len(row))] for row in values])


def test_votes_by_hand():
    values = rows([0.9] * 8, [0.9] * 5 + [0.1, 0.9, 0.9], [0.9] * 6, [0.9] * 7 + [0.0])
    found = filtered_vote(["1", "2", "1", "2"], values, 0.5)
    assert (found.winner, found.tokens, found.saved, found.stopped) == ("1", 30, 2, 2)
    assert filtered_vote(["2", "2", "1", "2"], values, -math.inf).winner == "2"
    everyone = filtered_vote(["2", "2", "1", "2"], values, 2.0)
    assert (everyone.winner, everyone.saved, everyone.fallback, everyone.stopped) == ("2", 0, True, 4)
    skipped = filtered_vote(["1", "2", "1", "2"], values, 0.5, skip_share=0.8)
    assert skipped.stopped == 1, "0.8 x 8 = 6 tokens are skipped; the 6th is one of them"


def test_unparsable_answers_have_no_vote_but_tokens():
    found = filtered_vote([None, None, "3"], rows([0.9] * 6, [0.9] * 6, [0.9] * 6), 0.5)
    assert (found.winner, found.tokens, found.unparsable) == ("3", 18, 2)
    assert filtered_vote([None], rows([0.9]), 0.5).winner is None
    assert majority(["b", "a", "a", "b"]) == "b", "the first of those that are equally frequent"
    assert majority([]) is None
    with pytest.raises(ValueError, match="samples"):
        filtered_vote([], torch.empty(0, 0), 0.5)


@given(st.lists(st.floats(-1, 1), max_size=20), st.floats(-1, 1), st.integers(0, 8))
def test_first_below_is_the_slow_search(values, theta, skip):
    row = torch.tensor([*values, math.nan], dtype=torch.float64)
    slow = [place for place, value in enumerate(values) if place >= skip and value < theta]
    assert first_below(row, theta, skip) == (slow[0] if slow else None)


def test_theta_finds_the_planted_threshold():
    """Wrong samples fall to 0.2 at their sixth token, right ones stay at 0.8: any threshold between saves and loses nothing."""
    right, wrong = [0.8] * 20, [0.8] * 6 + [0.2] * 14
    questions = [(["4"] * 5 + ["5"] * 4, rows(*[right] * 5, *[wrong] * 4)) for _ in range(10)]
    theta = tune_theta(questions, ["4"] * 10)
    assert 0.2 < theta < 0.81
    found = vote_figures(questions, ["4"] * 10, theta)
    assert found.accuracy == 1.0
    assert found.saved == pytest.approx(4 * 13 / (9 * 20))
    bad = [(["4"] * 5 + ["5"] * 4, rows(*[wrong] * 5, *[right] * 4)) for _ in range(10)]
    assert tune_theta(bad, ["4"] * 10) == -math.inf, "where stopping costs the vote, nobody is stopped"
    assert tune_theta([(["4"], rows([0.1] * 3))], ["4"]) == -math.inf, "all samples are shorter than what is skipped"
    with pytest.raises(ValueError, match="as many"):
        vote_figures([], [], 0.0)
