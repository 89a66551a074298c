"""Counting, limits, stopping and going on: what every search leans on."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from plaudit.search.base import Stopped, affordable, affords, best_row, judge, sample
from plaudit.search.best_of_n import BestOfN
from plaudit.types import Batch, Budget, Sampling, Status, UserError
from tests.search.toy import Duel, Numbers, Worth, questions, round_trip, same

HOW = Sampling(max_tokens=2, temperature=1.0)


def test_a_budget_is_asked_before_it_is_spent():
    budget = Budget({"samples": 10})
    assert affords(budget, samples=10, reward_calls=1e9)
    assert not affords(budget, samples=11)
    assert affordable(budget, samples=3) == 3
    assert affordable(budget, reward_calls=3) == math.inf
    budget.spent["samples"] = 9
    assert affordable(budget, samples=3) == 0


def test_samples_are_counted_exactly():
    generator, budget = Numbers(), Budget()
    batch = sample(generator, questions(3), 4, how=HOW, seed=1, budget=budget)
    assert batch.groups.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert budget.spent["samples"] == generator.drawn == 12
    assert budget.spent["completion_tokens"] == budget.spent["sampled_tokens"] == generator.characters


@pytest.mark.parametrize("limits", [{"samples": 11}, {"completion_tokens": 23}])
def test_what_cannot_be_paid_is_not_drawn(limits):
    generator, budget = Numbers(), Budget(limits)
    with pytest.raises(Stopped, match="the budget of"):
        sample(generator, questions(3), 4, how=HOW, seed=1, budget=budget)
    assert generator.drawn == 0
    assert not +budget.spent


def test_calls_of_rewards_are_counted_once():
    batch = sample(Numbers(), questions(2), 3, how=HOW, seed=1, budget=Budget())
    for reward, calls in ((Worth(), 6), (Duel(), 2 * 3)):
        budget = Budget()
        scores = judge(reward, batch, seed=0, budget=budget)
        assert scores.ok.all()
        assert budget.spent["reward_calls"] == calls
        with pytest.raises(Stopped, match="reward_calls"):
            judge(reward, batch, seed=0, budget=Budget({"reward_calls": calls - 1}))


class Dear(Worth):
    """Costs 1 a row, which nobody can foresee."""

    def score(self, batch, ctx=None):
        ctx.budget.spend(cost=float(len(batch)), reward_calls=len(batch))
        return super().score(batch, ctx)


def test_a_limit_passed_by_a_call_keeps_what_it_said():
    batch = sample(Numbers(), questions(2), 3, how=HOW, seed=1, budget=Budget())
    budget = Budget({"cost": 4.0})
    with pytest.raises(Stopped, match="cost is passed") as raised:
        judge(Dear(), batch, seed=0, budget=budget)
    assert raised.value.scores.ok.all()
    assert budget.spent["cost"] == 6.0


class HalfGone(Worth):
    """Reaches only the first rows of a call."""

    def score(self, batch, ctx=None):
        found = super().score(batch, ctx)
        status = torch.where(torch.arange(len(batch)) < 4, Status.OK, Status.UNREACHABLE)
        return type(found)(found.values, status)


def test_rows_that_were_reached_are_kept():
    with pytest.raises(Stopped, match="2 of 6 candidates") as raised:
        judge(HalfGone(), sample(Numbers(), questions(2), 3, how=HOW, seed=1, budget=Budget()), seed=0, budget=Budget())
    assert raised.value.scores.ok.tolist() == [True] * 4 + [False] * 2


def test_best_row():
    ok, bad = Status.OK, Status.UNPARSABLE
    assert best_row([1.0, 3.0, 2.0], [ok, ok, ok]) == 1
    assert best_row([1.0, 3.0, 2.0], [ok, bad, ok]) == 2
    assert best_row([math.nan, None, 5.0], [ok, ok, bad]) is None
    assert best_row([], []) is None
    assert best_row([2.0, 2.0, 2.0], [ok] * 3) == 0
    assert best_row([2.0, 2.0, 2.0], [ok] * 3, ["a", "b", "b"]) == 1
    assert best_row([2.0, 2.0, 1.0], [ok] * 3, ["a", "b", "a"]) == 0
    assert best_row([2.0, 2.0], [ok] * 2, [None, "b"]) == 1
    assert best_row(torch.tensor([0.5, 0.75]), torch.tensor([0, 0])) == 1


@given(st.lists(st.tuples(st.one_of(st.none(), st.floats()), st.sampled_from(list(Status))), max_size=8))
def test_best_row_never_takes_a_row_without_a_number(rows):
    values, statuses = [row[0] for row in rows], [row[1] for row in rows]
    chosen = best_row(values, statuses)
    usable = [place for place, (value, status) in enumerate(rows) if status == 0 and value is not None and value == value]
    assert chosen == (max(usable, key=lambda place: (values[place], -place)) if usable else None)


@settings(max_examples=40, deadline=None)
@example("completion_tokens", 19, 2)
@given(st.sampled_from(["samples", "completion_tokens", "reward_calls"]), st.integers(0, 60), st.integers(1, 7))
def test_limits_are_never_passed_and_the_rest_can_be_done_later(name, limit, count):
    """However early a budget ends a search, and wherever: the counts stay within, and going on gives every prompt its samples."""
    search, prompts = BestOfN(n=5, how=HOW), questions(count)
    whole = search.run(Numbers(), Worth(), prompts, budget=Budget(), seed=3)
    generator, reward, budget = Numbers(), Worth(), Budget({name: limit})
    first = search.run(generator, reward, prompts, budget=budget, seed=3)
    assert budget.spent[name] <= limit
    assert first.spent.get("samples", 0) == generator.drawn
    assert first.spent.get("reward_calls", 0) == reward.calls
    if first.stopped is None:
        # what the tokens of a sample could be, not what they were, decides how many are drawn at once: near the limit that is
        # fewer, with seeds of their own
        assert generator.drawn == 5 * count if name == "completion_tokens" else same(first, whole)
        assert first.state is None
        return
    second = search.run(generator, reward, prompts, budget=Budget(), seed=3, state=round_trip(first.state))
    assert second.stopped is None
    assert generator.drawn == reward.calls == 5 * count
    assert len(second.history) == 5 * count
    if name == "reward_calls":
        assert same(second, whole)


def test_a_search_ends_with_what_it_has():
    """20 of 40 samples: the prompts that were reached have their best, and the others say that nobody looked at them."""
    result = BestOfN(n=5, how=HOW).run(Numbers(), Worth(), questions(8), budget=Budget({"samples": 22}), seed=0)
    assert "the budget of 22 samples is spent" in result.stopped
    assert result.scores.status.tolist() == [0] * 5 + [int(Status.UNREACHABLE)] * 3
    assert list(result.batch.responses)[5:] == [None] * 3
    assert result.batch.references == [str(number) for number in range(8)]
    for prompt in range(4):
        shown = [one["value"] for one in result.history if one["prompt"] == prompt]
        assert len(shown) == 5
        assert result.scores.values[prompt] == max(shown)


def test_a_judge_that_goes_away():
    prompts, search = questions(9), BestOfN(n=5, how=HOW)
    whole = search.run(Numbers(), Worth(), prompts, budget=Budget(), seed=0)
    generator = Numbers()
    first = search.run(generator, Worth(dies_at=20), prompts, budget=Budget(), seed=0)
    assert first.stopped == "the reward cannot be reached: the judge is gone"
    assert first.scores.counts()[Status.OK] == 4  # 16 rows at once: three prompts and one sample
    assert first.spent == {"samples": 45.0, "reward_calls": 16.0, "completion_tokens": generator.characters,
                           "sampled_tokens": generator.characters}  # fmt: skip
    second = search.run(generator, Worth(), prompts, budget=Budget(), seed=0, state=round_trip(first.state))
    assert same(second, whole)
    assert second.spent == {"reward_calls": 29.0}
    assert generator.drawn == 45


def test_a_state_of_something_else_is_refused():
    prompts = questions(4)
    first = BestOfN(n=5, how=HOW).run(Numbers(), Worth(), prompts, budget=Budget({"samples": 7}), seed=0)
    others = (
        (BestOfN(n=6, how=HOW), prompts, 0, first.state),
        (BestOfN(n=5, how=HOW), questions(5), 0, first.state),
        (BestOfN(n=5, how=HOW), prompts, 1, first.state),
        (BestOfN(n=5, how=HOW), prompts, 0, ["nonsense"]),
        (BestOfN(n=5, how=HOW), prompts, 0, {}),
    )
    for search, batch, seed, state in others:
        with pytest.raises(UserError, match="this state belongs to"):
            search.run(Numbers(), Worth(), batch, budget=Budget(), seed=seed, state=state)


class Pictures(Numbers):
    """Responses that are tensors."""

    def rollout(self, prompts, n, *, how=None, start=None, seed):
        t = super().rollout(prompts, n, how=how, seed=seed)
        t.batch.responses = torch.tensor([[float(text)] * 2 for text in t.batch.responses])
        t.batch.lengths = t.batch.finish = None
        return t


class Brightness(Worth):
    def score(self, batch, ctx=None):
        assert batch.responses.shape[1:] == (2,)
        return Worth.score(self, Batch(batch.prompts, [int(one) for one in batch.responses.mean(-1)]), ctx)


def test_samples_that_are_tensors():
    search = BestOfN(n=4, how="any")
    first = search.run(Pictures(), Brightness(), questions(5), budget=Budget({"samples": 10}), seed=0)
    second = search.run(Pictures(), Brightness(), questions(5), budget=Budget(), seed=0, state=round_trip(first.state))
    assert second.batch.responses.shape == (5, 2)
    assert torch.equal(second.batch.responses[:, 0], second.scores.values)
    assert second.spent == {"samples": 10.0, "sampled_steps": 20.0, "reward_calls": 10.0}
