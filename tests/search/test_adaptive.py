"""Adaptive best-of-n and pruning, against slow obvious versions over the very same samples."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plaudit.generators.language import tiny_decoder
from plaudit.rewards.base import BaseReward
from plaudit.search.adaptive import AdaptiveBestOfN, Annealing, PrunedBestOfN, batches_of, replay, until_token
from plaudit.search.best_of_n import BestOfN
from plaudit.types import Batch, Budget, Sampling, Scores, Status, UserError
from tests.search.toy import Numbers, Worth, questions, round_trip, same

HOW = Sampling(max_tokens=2, temperature=1.0)


def ran(search, reward=None, prompts=None, generator=None, seed=0, budget=None, state=None):
    return search.run(
        generator or Numbers(), reward or Worth(), prompts or questions(30), budget=budget or Budget(), seed=seed, state=state
    )


def test_temperatures():
    falling = Annealing(1.0, 0.2, 0.7)
    assert falling(1) == 1.0
    assert falling(3) == pytest.approx(0.2 + 0.8 * 0.49)
    assert falling(200) == pytest.approx(0.2)
    assert Annealing(0.2, 1.0, 0.7)(1) == pytest.approx(0.2)
    assert Annealing(0.2, 1.0, 0.7)(2) == pytest.approx(1 - 0.8 * 0.7)
    for wrong in ((-0.1, 1, 0.5), (1, 1, 1.5)):
        with pytest.raises(UserError):
            Annealing(*wrong)


def test_rounds():
    assert batches_of((), 4) == [1, 1, 1, 1]
    assert batches_of((1, 1, 2, 4, 8), 16) == [1, 1, 2, 4, 8]
    assert batches_of((1, 1, 2, 4, 8), 6) == [1, 1, 2, 2]
    assert batches_of((2,), 4) == [2, 1, 1]


def slowly(every, tau, sizes):
    """From all samples that a search without stopping made: which of them a search with `tau` sees, prompt by prompt."""
    seen = []
    for values in every:
        count = 0
        for size in sizes:
            count += size
            known = [value for value in values[:count] if value is not None]
            if tau <= 0 or (known and max(known) >= tau):
                break
        seen.append(values[:count])
    return seen


def values_of(result):
    found = {}
    for one in result.history:
        found.setdefault(one["prompt"], []).append(one.get("value"))
    return [found[prompt] for prompt in sorted(found)]


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([-1.0, 0.0, 30.0, 60.0, 85.0, 98.0, 200.0]), st.sampled_from([(), (1, 1, 2, 4), (3, 5)]), st.booleans())
def test_stopping_is_as_the_slow_version_says(tau, batches, broken):
    reward = Worth(broken=3 if broken else None)
    every = values_of(ran(AdaptiveBestOfN(tau=1e9, n_max=8, batches=batches, how=HOW), reward))
    assert all(len(values) == 8 for values in every)
    result = ran(AdaptiveBestOfN(tau=tau, n_max=8, batches=batches, how=HOW), reward)
    expected = slowly(every, tau, batches_of(batches, 8))
    assert values_of(result) == expected
    replayed = [replay(values, tau, batches) for values in every]
    assert [seen for seen, _ in replayed] == [len(values) for values in expected]
    assert [None if place is None else values[place] for (_, place), values in zip(replayed, every, strict=True)] == [
        None if value != value else value for value in result.scores.values.tolist()
    ]
    best = [max((value for value in values if value is not None), default=None) for values in expected]
    assert [None if value != value else value for value in result.scores.values.tolist()] == best
    assert result.spent["samples"] == result.spent["reward_calls"] == sum(map(len, expected))


def test_no_tau_is_exactly_one_sample_and_a_missing_number_goes_on():
    assert ran(AdaptiveBestOfN(tau=0.0, how=HOW)).spent["samples"] == 30

    class Nothing(Worth):
        def score(self, batch, ctx=None):
            return Scores(torch.full((len(batch),), math.nan))

    result = ran(AdaptiveBestOfN(tau=0.5, n_max=3, how=HOW), Nothing())
    assert result.spent["samples"] == 90
    assert result.scores.counts() == {Status.NOT_A_NUMBER: 30}


def test_temperatures_reach_the_generator():
    asked = []

    class Listening(Numbers):
        def rollout(self, prompts, n, *, how=None, start=None, seed):
            asked.append((n, how.temperature))
            return super().rollout(prompts, n, how=how, seed=seed)

    search = AdaptiveBestOfN(tau=1e9, n_max=4, batches=(1, 1, 2), temperature=Annealing(1.0, 0.0, 0.5), how=HOW)
    result = ran(search, generator=Listening())
    assert asked == [(1, 1.0), (1, 0.5), (2, 0.25)]
    assert [one["temperature"] for one in result.history if one["prompt"] == 3] == [1.0, 0.5, 0.25, 0.25]
    with pytest.raises(UserError, match="no temperature"):
        ran(AdaptiveBestOfN(how="other settings"))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 150), st.sampled_from(["samples", "reward_calls"]))
def test_going_on_gives_what_would_have_come(limit, name):
    search = AdaptiveBestOfN(tau=90.0, n_max=6, how=HOW)
    whole = ran(search)
    first = ran(search, budget=Budget({name: limit}))
    if first.stopped is None:
        assert same(first, whole)
        return
    assert first.spent.get(name, 0) <= limit
    second = ran(search, state=round_trip(first.state))
    assert same(second, whole)
    assert first.spent.get("samples", 0) + second.spent.get("samples", 0) == whole.spent["samples"]


class Score(BaseReward):
    """How many of the letters a response has, of those that it has; written: the responses that it saw."""

    name, settings = "letters", {}

    def __init__(self, letters="ab"):
        self.letters, self.seen = letters, []

    def score(self, batch, ctx=None):
        self.seen += list(zip(batch.responses, batch.finish, strict=True))
        return Scores(torch.tensor([sum(map(text.count, self.letters)) / (len(text) + 1) for text in batch.responses]))


def pruned(search, reward=None, budget=None, state=None, seed=4):
    model = tiny_decoder("abcdefg", width=16, seed=3)
    prompts = Batch(["a", "bc", "d"])
    return search.run(model, reward or Score(), prompts, budget=budget or Budget(), seed=seed, state=state), model, prompts


PRUNE = PrunedBestOfN(n=6, at=3, keep=0.5, how=Sampling(max_tokens=9, temperature=1.0))


def test_the_best_beginnings_are_finished():
    result, _, _ = pruned(PRUNE)
    for prompt in range(3):
        rows = [one for one in result.history if one["prompt"] == prompt]
        assert len(rows) == 6
        gone = [one["prefix_value"] for one in rows if one["pruned"]]
        kept = [one["prefix_value"] for one in rows if not one["pruned"]]
        assert len(kept) == 3
        assert min(kept) >= max(gone)
        assert all(one["tokens"] <= 3 for one in rows if one["pruned"])
        best = max((one["value"], -number) for number, one in enumerate(rows) if not one["pruned"])
        assert result.batch.responses[prompt] == rows[-best[1]]["response"]


def test_tokens_are_those_that_were_written():
    """Beginnings of the dropped ones and the whole of the others, and one call for what did not change."""
    reward = Score()
    result, _, _ = pruned(PRUNE, reward)
    assert result.spent["completion_tokens"] == result.spent["sampled_tokens"] == sum(one["tokens"] for one in result.history)
    assert result.spent["samples"] == 18
    assert result.spent["reward_calls"] == len(reward.seen)
    finished_late = sum(not one["pruned"] and one["tokens"] > 3 for one in result.history)
    assert 18 + finished_late <= len(reward.seen) <= 18 + 9
    random, _, _ = pruned(PrunedBestOfN(n=6, at=3, keep=0.5, by="random", how=PRUNE.how), other := Score())
    assert len(other.seen) == 9
    assert sum(one["pruned"] for one in random.history) == 9


def test_keeping_all_is_best_of_n_over_whole_responses():
    result, _, _ = pruned(PrunedBestOfN(n=4, at=2, keep=1.0, how=PRUNE.how))
    assert not any(one["pruned"] for one in result.history)
    whole = [one["value"] for one in result.history if one["prompt"] == 1]
    assert float(result.scores.values[1]) == max(whole)
    lengths = [one["tokens"] for one in result.history]
    assert max(lengths) == 9


def test_a_response_that_ended_is_not_continued():
    model = tiny_decoder("abcdefg", width=16, seed=3)
    how = Sampling(max_tokens=9, temperature=1.0, stop=("c",))
    states = until_token(model, model.start(Batch(["a"]), 64, seed=0), how, 3, seed=1)
    begun = model.read(states)
    rest = model.read(model.step(states, how, seed=2, until="turn"))
    over = 0
    for first, end, after in zip(begun.responses, begun.finish, rest.responses, strict=True):
        assert after.startswith(first)
        if "c" in first or end == "complete":
            over += 1
            assert after == first
    assert 0 < over < 64


def test_a_budget_ends_pruning_between_portions():
    most = 6 * 3 + 3 * 6
    first, _, _ = pruned(PRUNE, budget=Budget({"completion_tokens": 2 * most}))
    assert first.stopped is not None
    assert first.spent["completion_tokens"] <= 2 * most
    assert first.scores.ok.tolist() == [True, True, False]
    second, _, _ = pruned(PRUNE, state=round_trip(first.state))
    assert second.stopped is None
    assert second.scores.ok.all()
    assert list(second.batch.responses)[:2] == list(first.batch.responses)[:2]


def test_what_cannot_be_stepped_is_refused():
    with pytest.raises(UserError, match="step by step"):
        ran(PRUNE)
    for wrong in ({"n": 0}, {"at": 0}, {"keep": 0.0}, {"keep": 1.2}, {"by": "chance"}):
        with pytest.raises(UserError):
            PrunedBestOfN(**wrong)


def test_scoring_does_not_disturb_generation():
    """The same samples whether or not anything is judged in between: a search with a reward and one without numbers."""
    plain = ran(BestOfN(n=3, how=HOW)).history
    blind = ran(BestOfN(n=3, how=HOW), Worth(broken=1)).history
    assert [one["response"] for one in plain] == [one["response"] for one in blind]
