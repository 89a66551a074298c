"""Labels in closed form, a planted truth that self-evaluation finds, and generation that does not notice it."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.engines.lora import LoRA
from plaudit.engines.switched import SwitchedAdapter
from plaudit.fitting import FitConfig
from plaudit.generators.language import tiny_decoder
from plaudit.generators.language.engine import LiveEngine
from plaudit.rewards.base import BaseReward
from plaudit.rewards.generative import Contract
from plaudit.rewards.generative.contract import Label, OptionsReadout, TextReadout
from plaudit.rewards.generative.self_evaluation import (
    SelfEvaluation,
    cut_at,
    labelled_samples,
    own_samples,
    win_only,
    win_or_tie,
    with_beginnings,
)
from plaudit.types import Batch, Budget, Context, Sampling, Scores, SpecError, Status
from plaudit.worlds.self_judged import TEMPLATE, SelfJudgedSorting

HOW = Sampling(max_tokens=5, temperature=1.0)
CONTRACT = SelfJudgedSorting.contract()
DOUBLES = torch.tensor


def test_ties_are_won_by_both():
    first, second = DOUBLES([1.0, 0.0, 0.5, 0.5, 0.5]), DOUBLES([0.0, 1.0, 0.5, 0.505, 0.52])
    ours, theirs = win_or_tie(first, second, 0.01)
    assert ours.tolist() == [True, False, True, True, False]
    assert theirs.tolist() == [False, True, True, True, True]
    ours, theirs = win_only(first, second, 0.01)
    assert ours.tolist() == [True, False, False, False, False]
    assert theirs.tolist() == [False, True, False, False, True]
    assert win_or_tie(DOUBLES([1.0]), DOUBLES([1.0]), 0.0)[0].item() is True
    with pytest.raises(ValueError, match="no label"):
        win_or_tie(DOUBLES([math.nan]), DOUBLES([1.0]), 0.01)


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=9), st.floats(0, 2))
def test_swapping_a_pair_swaps_its_labels(pairs, eps):
    first = torch.tensor([pair[0] for pair in pairs], dtype=torch.float64)
    second = torch.tensor([pair[1] for pair in pairs], dtype=torch.float64)
    for labels in (win_or_tie, win_only):
        ours, theirs = labels(first, second, eps)
        assert torch.equal(labels(second, first, eps)[0], theirs)
        assert torch.equal(ours | theirs, torch.ones_like(ours) > 0) if labels is win_or_tie else not bool((ours & theirs).any())


def test_labels_of_groups():
    batch = Batch(["p"] * 6, list("abcdef"), groups=torch.tensor([0, 0, 0, 1, 1, 2]))
    values = Scores(torch.tensor([1.0, 0.0, 0.0, 1.0, math.nan, 1.0]))
    data = labelled_samples(batch, values)
    assert list(data.batch.responses) == ["a", "b", "c"]
    assert data.labels == [1.0, 0.5, 0.5]  # a beats both; b and c lose to a, and tie each other
    assert data.left_out == {"no score": 1, "no rival": 2}
    assert labelled_samples(batch, values, labels="win_only").labels == [1.0, 0.0, 0.0]
    two = labelled_samples(batch.select([0, 1]), values.select([0, 1]))
    assert two.labels == [1.0, 0.0]


def test_beginnings():
    assert cut_at("abcdef", 0.5) == "abc"
    assert cut_at("abcdef", 0.0) == "a"
    assert cut_at("abcdef", 1.0) == "abcde"
    generator = tiny_decoder("abcdef", width=16)
    assert cut_at("abcdef", 0.5, LiveEngine(generator)) == "abc"
    data = labelled_samples(
        Batch(["p"] * 4, ["abcd", "a", "", "xyz"], groups=torch.zeros(4)), Scores(torch.tensor([1.0, 0, 1, 0]))
    )
    both = with_beginnings(data, 3, 0)
    assert len(both) == 4 + 2 * 3
    assert both.batch.finish[4:] == ["truncated"] * 6
    for text, label, share in zip(both.batch.responses[4:], both.labels[4:], both.shares[4:], strict=True):
        whole, expected = ("abcd", data.labels[0]) if text[0] == "a" else ("xyz", data.labels[3])
        assert whole.startswith(text)
        assert 0 < len(text) < len(whole)
        assert label == expected
        assert 0 <= share <= 1
    assert with_beginnings(data, 0, 0) is data
    long = labelled_samples(Batch(["p"] * 2, ["x" * 200] * 2, groups=torch.zeros(2)), Scores(torch.zeros(2)))
    lengths = [len(text) for text in with_beginnings(long, 400, 1).batch.responses[2:]]
    assert 90 < sum(lengths) / len(lengths) < 110
    assert min(lengths) < 5 < 195 < max(lengths)


class HasA(BaseReward):
    """1 for responses with an `a`."""

    name, settings = "has-a", {}

    def score(self, batch, ctx=None):
        return Scores(torch.tensor([float("a" in text) for text in batch.responses]))


def made(adapter=True, seed=0):
    generator = tiny_decoder("abcd?yn", width=32, seed=seed, chat=False)
    generator.codec.tokenizer.chat_template = TEMPLATE
    engine = LiveEngine(generator)
    return generator, SelfEvaluation(engine, LoRA(8, 16.0) if adapter else None, contract=CONTRACT, seed=seed)


def prompts_of(count):
    return Batch([format(number, "04b").replace("0", "b").replace("1", "c") for number in range(count)])


def test_the_probability_is_read_from_two_tokens():
    generator, judge = made(adapter=False)
    batch = Batch(["bc", "b"], ["a", "dd"])
    values = judge.score(batch).values
    ids = [generator.codec.tokenizer.convert_tokens_to_ids(token) for token in ("n", "y")]
    for row, text in enumerate(["bca?", "bdd?"]):
        logits = generator.causal_model.model(torch.tensor([generator.codec.tokenizer(text)["input_ids"]])).logits[0, -1]
        assert float(values[row]) == pytest.approx(torch.sigmoid(logits[ids[0]] - logits[ids[1]]).item(), abs=1e-5)


def test_it_learns_what_a_response_is_worth_and_writing_does_not_change():
    generator, judge = made()
    start = generator.rollout(prompts_of(16), 2, how=HOW, seed=3)
    budget = Budget()
    data = own_samples(generator, HasA(), prompts_of(16), n=16, how=HOW, ctx=Context(seed=1, budget=budget))
    assert budget.spent["samples"] == budget.spent["reward_calls"] == 256
    judge.learn(data, FitConfig(learning_rate=5e-3), batch_rows=32, epochs=8, seed=0)
    fresh = generator.rollout(prompts_of(16), 8, how=HOW, seed=9).batch
    values, good = judge.score(fresh).values, HasA().score(fresh).values > 0.5
    usable = ~values.isnan()
    lost = float(good.float().mean())  # a response without an `a` loses against one with it, and only then
    assert values[usable & good].mean() > 0.85
    assert float(values[usable & ~good].mean()) == pytest.approx(1 - lost, abs=0.15)
    after = generator.rollout(prompts_of(16), 2, how=HOW, seed=3)
    assert list(after.batch.responses) == list(start.batch.responses)
    assert torch.equal(after.log_probs, start.log_probs)
    assert all(weight.grad is None for weight in generator.causal_model.model.parameters())


def test_scoring_in_between_changes_no_sample():
    generator, judge = made()
    for weight in judge.adapter.weights.parameters():
        torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(1))
    states = generator.start(prompts_of(4), 3, seed=0)
    found = []
    for scored in (False, True):
        now, random = states, torch.get_rng_state()
        for step in range(4):
            if scored:
                judge.score(generator.read(now))
            now = generator.step(now, HOW, seed=step, until="token")
        assert torch.equal(torch.get_rng_state(), random)
        found.append(list(generator.read(now).responses))
    assert found[0] == found[1]


def test_an_answer_without_text_is_not_there():
    _, judge = made()
    scores = judge.score(Batch(["b", "b", "b"], ["", "", "a"], finish=["complete", "truncated", "complete"]))
    assert scores.status.tolist() == [Status.ABSTAINED, Status.OK, Status.OK]


def test_the_fingerprint_knows_the_adapter():
    _, judge = made()
    _, same = made()
    assert judge.fingerprint() == same.fingerprint()
    next(iter(same.adapter.weights.parameters())).data += 1
    assert judge.fingerprint() != same.fingerprint()
    assert made(adapter=False)[1].fingerprint() != judge.fingerprint()


def test_what_cannot_be_asked_is_refused():
    engine = LiveEngine(tiny_decoder("abyn?", width=16))
    three = OptionsReadout((Label("y", 0.0, ("y",)), Label("n", 1.0, ("n",)), Label("b", 0.5, ("b",))))
    for readout in (three, TextReadout((Label("y", 0.0), Label("n", 1.0)))):
        with pytest.raises(SpecError, match="two labels"):
            SelfEvaluation(engine, contract=Contract("c", "?", readout, layout="turn"))
    judge = SelfEvaluation(engine, contract=CONTRACT)
    with pytest.raises(SpecError, match="learns nothing"):
        judge.learn(labelled_samples(Batch(["p"] * 2, ["a", "b"], groups=torch.zeros(2)), Scores(torch.zeros(2))), FitConfig())
    shared = SwitchedAdapter(engine.causal_model, LoRA(2, 4.0))
    assert SelfEvaluation(engine, shared, contract=CONTRACT).adapter is shared
