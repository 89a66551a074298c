"""Best-of-n and votes against slow obvious versions, and against an engine's own counters."""

import math
from collections import Counter

import pytest
import torch

from plaudit.fitting.seeds import derive_seed
from plaudit.generators.language import tiny_decoder
from plaudit.generators.language.engine import LiveEngine
from plaudit.rewards.base import BaseReward
from plaudit.rewards.generative import Contract, Judge
from plaudit.rewards.generative.contract import Label, TextReadout
from plaudit.search.best_of_n import BestOfN, SelfConsistency, Vote, allotted, final_answer
from plaudit.types import Batch, Budget, Sampling, Scores, Status, UserError
from tests.search.toy import Duel, Numbers, Worth, questions

HOW = Sampling(max_tokens=2, temperature=1.0)


def by_prompt(result, name):
    found = {}
    for one in result.history:
        found.setdefault(one["prompt"], []).append(one.get(name))
    return [found[prompt] for prompt in sorted(found)]


def test_the_best_sample_is_taken():
    result = BestOfN(n=6, how=HOW).run(Numbers(), Worth(), questions(7), budget=Budget(), seed=2)
    assert result.scores.values.tolist() == [max(values) for values in by_prompt(result, "value")]
    assert [float(text) for text in result.batch.responses] == result.scores.values.tolist()
    assert result.stopped is None
    assert result.state is None
    assert result.spent["samples"] == result.spent["reward_calls"] == 42
    again = BestOfN(n=6, how=HOW).run(Numbers(), Worth(), questions(7), budget=Budget(), seed=2)
    assert again.history == result.history
    other = BestOfN(n=6, how=HOW).run(Numbers(), Worth(), questions(7), budget=Budget(), seed=3)
    assert other.history != result.history


def test_samples_do_not_depend_on_the_other_prompts():
    few = BestOfN(n=6, how=HOW).run(Numbers(), Worth(), questions(2), budget=Budget(), seed=2)
    many = BestOfN(n=6, how=HOW).run(Numbers(), Worth(), questions(60), budget=Budget(), seed=2)
    assert few.history == many.history[:12]


def test_a_row_without_a_number_is_never_chosen():
    result = BestOfN(n=3, how=HOW).run(Numbers(), Worth(broken=2), questions(40), budget=Budget(), seed=0)
    odd = [[int(text) for text in texts if int(text) % 2] for texts in by_prompt(result, "response")]
    assert any(not found for found in odd)
    for value, status, found in zip(result.scores.values.tolist(), result.scores.status.tolist(), odd, strict=True):
        assert value == max(found) if found else math.isnan(value)
        assert status == (Status.OK if found else Status.NOT_A_NUMBER)


def test_a_reward_that_compares():
    reward = Duel()
    result = BestOfN(n=4, how=HOW).run(Numbers(), reward, questions(5), budget=Budget(), seed=2)
    assert [int(text) for text in result.batch.responses] == [max(map(int, t)) for t in by_prompt(result, "response")]
    assert result.spent["reward_calls"] == reward.pairs == 5 * 6


def test_lower_is_better_is_turned_around():
    reward = Worth()
    reward.higher_is_better = False
    result = BestOfN(n=4, how=HOW).run(Numbers(), reward, questions(5), budget=Budget(), seed=2)
    assert [int(text) for text in result.batch.responses] == [min(map(int, t)) for t in by_prompt(result, "response")]


def test_a_fraction_is_a_mean():
    assert sorted(allotted(2.5, 10, 0)) == [2] * 5 + [3] * 5
    assert allotted(2.5, 10, 0) != allotted(2.5, 10, 1)
    assert allotted(3, 4, 0) == [3] * 4
    assert sum(allotted(1.23, 300, 7)) == 369
    result = BestOfN(n=1.4, how=HOW).run(Numbers(), Worth(), questions(20), budget=Budget(), seed=0)
    assert Counter(map(len, by_prompt(result, "value"))) == {1: 12, 2: 8}
    for n in (0, 0.5, math.nan):
        with pytest.raises(UserError):
            BestOfN(n=n)


class Given(Numbers):
    """The responses that it was told, whatever the seed."""

    def __init__(self, *texts):
        super().__init__()
        self.texts = texts

    def rollout(self, prompts, n, *, how=None, start=None, seed):
        t = super().rollout(prompts, n, how=how, seed=seed)
        t.batch.responses = list(self.texts) * len(prompts)
        return t


class Told(BaseReward):
    """The value of each response by its text; None is no number."""

    name, settings = "told", {}

    def __init__(self, **values):
        self.values = values

    def score(self, batch, ctx=None):
        found = [self.values[text] for text in batch.responses]
        return Scores(torch.tensor([math.nan if value is None else value for value in found]))


TEXTS = {"a": "the answer is 7", "b": "the answer is 8", "c": "7", "d": "nothing that I could say about it", "e": "8.0 apples"}


def voted(search, values):
    generator = Given(*(TEXTS[name] for name in values))
    reward = Told(**{TEXTS[name]: value for name, value in values.items()})
    return search.run(generator, reward, Batch(["q"]), budget=Budget(), seed=0)


def test_votes_are_weighed():
    chosen = voted(Vote(n=3, answer="final"), {"a": 0.4, "b": 0.7, "c": 0.35})
    assert list(chosen.batch.responses) == ["the answer is 7"]  # 0.75 against 0.7, and the better of the two sevens
    assert voted(Vote(n=3), {"a": 0.3, "b": 0.7, "c": 0.35}).batch.responses == ["the answer is 8"]
    without = voted(Vote(n=4), {"a": None, "b": 0.1, "c": None, "d": 0.9})
    assert without.batch.responses == ["the answer is 8"]  # neither a row without a score nor one without an answer has a vote
    nobody = voted(Vote(n=2), {"d": 0.9, "a": None})
    assert nobody.scores.values.isnan().all()
    with pytest.raises(UserError, match="not negative"):
        voted(Vote(n=2), {"a": -0.1, "b": 0.3})
    exponential = voted(Vote(n=3, weight="exp"), {"a": -1.0, "b": -0.5, "c": -1.1})
    assert math.exp(-1) + math.exp(-1.1) > math.exp(-0.5)
    assert exponential.batch.responses == ["the answer is 7"]
    assert voted(Vote(n=3, weight="exp", temperature=0.1), {"a": -1.0, "b": -0.5, "c": -1.1}).batch.responses == [
        "the answer is 8"
    ]
    for wrong in ({"weight": "log"}, {"temperature": 0.0}, {"answer": "best"}):
        with pytest.raises(UserError):
            Vote(**wrong)


def test_self_consistency_asks_no_reward():
    result = voted(SelfConsistency(n=5), dict.fromkeys(TEXTS, None))
    assert result.batch.responses == ["the answer is 7"]
    assert result.scores.values.tolist() == pytest.approx([2 / 5])
    assert "reward_calls" not in result.spent
    statuses = [one["status"] for one in result.history]
    assert statuses == ["ok", "ok", "ok", "unparsable", "ok"]
    own = voted(SelfConsistency(n=5, answer=lambda text: "8" if "8" in text else None), dict.fromkeys(TEXTS, None))
    assert own.batch.responses == ["the answer is 8"]


def test_final_answers():
    assert final_answer(r"so \boxed{12}") == "12"
    assert final_answer([{"role": "assistant", "content": "A: 5"}]) == "5"
    assert final_answer("nothing that I could say about it") is None
    assert final_answer(None) is None


def test_counts_agree_with_the_engines_own():
    """A tiny decoder writes, and another one judges in text: tokens of both, and calls, as the engine itself counts them."""
    policy, critic = tiny_decoder("0123456789 ab", seed=1), tiny_decoder("0123456789 abVerdict:yson<>/p?\n", seed=2, context=256)
    engine = LiveEngine(critic)
    contract = Contract("c", "{{ response }}?", TextReadout((Label("yes", 1.0), Label("no", 0.0)), max_tokens=5), layout="text")
    judge, how = Judge(engine, contract), Sampling(max_tokens=6, temperature=1.0)
    prompts = Batch(["1", "2 a", "b"])
    result = BestOfN(n=4, how=how).run(policy, judge, prompts, budget=Budget(), seed=5)
    drawn = policy.rollout(prompts, 4, how=how, seed=derive_seed(5, "draw", 4, 0))
    assert [one["response"] for one in result.history] == list(drawn.batch.responses)
    own = Budget()
    judge.score(drawn.batch, type("C", (), {"budget": own, "seed": derive_seed(5, "judge")})())
    written = sum(drawn.batch.lengths)
    assert result.spent["sampled_tokens"] == written
    assert result.spent["completion_tokens"] == written + own.spent["completion_tokens"]
    assert result.spent["reward_calls"] == own.spent["reward_calls"] == 12
    for name in ("network_calls", "prompt_tokens"):
        assert result.spent[name] == own.spent[name]
