"""Judged sums: the written judgements are right as often as their sums, and the judge un-shuffles what it wrote."""

import random

import pytest
import torch

from plaudit import Batch, Status
from plaudit.rewards.generative.critiques import CritiqueReward
from plaudit.rewards.generative.voting import Votes
from plaudit.types import Budget, Context, Sampling
from plaudit.worlds.judged_sums import (
    CHARACTERS,
    PLACES,
    JudgedSums,
    SumJudge,
    critique,
    judgement,
    place_of,
    question_text,
    read_scores,
    render,
    shown_candidates,
    terms_of,
)

TERMS = [3, 1, 2, 2, 1, 3, 1, 2]
SHOWN = ["1", "5", "7", "0"]


def test_the_example_of_the_page_and_each_principle_by_hand():
    assert render(question_text(TERMS), SHOWN) == "a3b1c2d2e1f3g1h2|BPrα"
    assert shown_candidates("a3b1c2d2e1f3g1h2|BPrα") == SHOWN
    assert terms_of("a3b1c2d2e1f3g1h2") == TERMS
    assert judgement("a3b1c2d2e1f3g1h2", SHOWN, ">", random.Random(0), 0.0) == ">a3b14-c26-d28-e19-f32-g13-h25x:2922"
    assert critique(TERMS, "<", SHOWN) == ("h2g13-f36-e17yd29-c21wb12-a35x", 5)
    assert critique(TERMS, "&", SHOWN) == ("a3b14-c2d28-e1f32-g1h25x", 5)
    assert critique(TERMS, "?", SHOWN) == ("", None)
    # an error is carried on
    assert critique(TERMS, "&", SHOWN, [3, 0, 0, 0]) == ("a3b17yc2d21we1f35xg1h28-", 8)
    assert place_of(7, SHOWN) == "y"
    for wrong in (lambda: critique(TERMS, "!", SHOWN), lambda: critique([1], ">", SHOWN), lambda: critique(TERMS, "><", SHOWN)):
        with pytest.raises(ValueError, match="terms"):
            wrong()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (">x:2922", [2, 9, 2, 2]),
        (">:1:9999", [9, 9, 9, 9]),
        ("2922", None),
        (">x:292", None),
        (">x:2920", None),
        (">x:29²2", None),
        ("", None),
    ],
)
def test_scores_are_read_after_the_last_colon_or_not_at_all(text, wanted):
    assert read_scores(text) == wanted


def test_questions_have_one_right_candidate_and_splits_do_not_meet():
    world = JudgedSums()
    batch = world.candidates("test", 60, 0)
    for rows in batch.group_rows():
        question, answers = str(batch.prompts[rows[0]]), [batch.responses[row] for row in rows]
        assert len(set(answers)) == 4
        assert [batch.references[row] for row in rows] == [int(answer == str(sum(terms_of(question)) % 10)) for answer in answers]
    assert not set(batch.prompts) & set(world.candidates("train", 300, 0).prompts)
    asked = world.questions("test", 60, 0)
    assert asked.references[0].count("9") == 1
    assert batch.prompts == world.candidates("test", 60, 0).prompts


def test_the_writer_errs_as_often_as_it_should_and_guesses_are_chance():
    world = JudgedSums(wrong=0.06)
    traces = world.traces(1500, 2, 0)
    right = CritiqueReward(read_scores, wrong=0.0, invalid=0.0).score(traces).values
    share = {mark: float(right[[text[0] == mark for text in traces.responses]].mean()) for mark in "><&?"}
    # a total of s sums is right when no sum errs, or when errors cancel out (about one in nine of those with two or more)
    assert share[">"] == pytest.approx(0.94**7, abs=0.06)
    assert share["&"] == pytest.approx(0.94**4, abs=0.06)
    assert share["?"] == pytest.approx(0.25, abs=0.05)
    clean = JudgedSums(wrong=0.0).traces(200, 1, 0)
    assert CritiqueReward(read_scores).score(clean).values[[text[0] != "?" for text in clean.responses]].min() == 1.0
    assert all(set(text) <= set(CHARACTERS) for text in (*traces.responses, *traces.prompts))


class Written:
    """In the place of a decoder: answers by a function of what it is asked, and of the seed."""

    def __init__(self, answer):
        self.answer = answer

    def rollout(self, prompts, n, *, how, seed):
        from plaudit.types import Trajectories

        texts = [self.answer(prompt) for prompt in prompts.prompts]
        batch = Batch(list(prompts.prompts), responses=texts, lengths=[len(text) for text in texts])
        return Trajectories(batch, torch.zeros(len(texts), 1), torch.ones(len(texts), 1, dtype=torch.bool))


def by_content(asked):
    """A judge whose score of a candidate is the candidate itself (and 1 for 0)."""
    return "?w:" + "".join(max("1", digit) for digit in shown_candidates(asked))


def test_whatever_the_order_shown_a_candidate_keeps_its_score():
    batch = JudgedSums().candidates("test", 20, 0)
    wanted = [float(max("1", digit)) for digit in batch.responses]
    judge = SumJudge(Written(by_content), Sampling(max_tokens=9, temperature=1.0), "key")
    orders = set()
    for seed in range(6):
        scores = judge.score_group(batch, Context(seed=seed))
        assert scores.values.tolist() == wanted
        orders.add(scores.verdicts[0][0].order)
        shown = next(verdict for row in range(4) for verdict in scores.verdicts[row] if verdict.text is not None)
        (asked,) = judge.asked(batch, range(4), [shown])
        assert by_content(asked) == shown.text
    assert len(orders) > 2


def test_answers_without_scores_are_unparsable_for_the_whole_group_and_votes_leave_them_out():
    batch = JudgedSums().candidates("test", 2, 0)
    broken = SumJudge(Written(lambda asked: "?w:29"), Sampling(temperature=1.0), "key")
    budget = Budget()
    assert broken.score_group(batch, Context(budget=budget)).counts() == {Status.UNPARSABLE: 8}
    assert budget.spent == {"reward_calls": 2, "completion_tokens": 10}
    voted = Votes(SumJudge(Written(by_content), Sampling(temperature=1.0), "key"), 3, "sum").score_group(batch)
    assert voted.values.tolist() == [3 * float(max("1", digit)) for digit in batch.responses]


def test_an_untrained_judge_writes_in_its_alphabet():
    world = JudgedSums()
    judge = SumJudge(world.untrained(0), world.sampling, "untrained")
    scores = judge.score_group(world.candidates("test", 3, 0), Context(seed=1))
    assert len(scores) == 3 * len(PLACES)
    assert judge.fingerprint() != SumJudge(judge.generator, world.sampling, "other").fingerprint()
