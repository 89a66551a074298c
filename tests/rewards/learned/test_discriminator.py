"""PolicyDiscriminator: what it reads, what it cuts, its statuses, and that it learns to compare with a reference."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plaudit.fitting import FitConfig
from plaudit.rewards.learned.catalogue import build_head
from plaudit.rewards.learned.data import FitData
from plaudit.rewards.learned.decoder import TokenDecoder
from plaudit.rewards.learned.discriminator import BETWEEN, LAST, MARKS, PolicyDiscriminator, references_of, without_thoughts
from plaudit.rewards.learned.fit import RewardFitConfig, fit
from plaudit.types import Batch, Preferences, Status, UserError


def decoder(characters="abpq\n", context=32, **settings):
    return TokenDecoder(characters, marks=MARKS, layers=2, width=32, heads=2, context=context, **settings)


def shown(reward, *row):
    return "".join(reward.decoder.codec.tokenizer.convert_ids_to_tokens(reward.tokens(*row)))


def test_the_row_is_the_published_one():
    assert shown(PolicyDiscriminator(decoder()), "pq", "ab", "ba") == f"<begin>pqab{BETWEEN}pqba{LAST}"
    assert shown(PolicyDiscriminator(decoder(), wrapper="sft"), "pq", "ab", "ba") == f"<begin>pq\nab{BETWEEN}pq\nba{LAST}"
    chat = [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "q"}]
    assert shown(PolicyDiscriminator(decoder()), chat, "b", "") == f"<begin>p\na\nqb{BETWEEN}p\na\nq{LAST}"


@settings(deadline=None)
@given(
    st.integers(0, 60),
    st.integers(1, 60),
    st.integers(0, 60),
    st.sampled_from(["left", "right"]),
    st.sampled_from(["pretrain", "sft"]),
)
def test_cutting(prompt, reference, candidate, side, wrapper):
    reward = PolicyDiscriminator(decoder(), cut=side, wrapper=wrapper)
    texts = ["p" * prompt + "q", "a" * (reference - 1) + "b", "a" * candidate]
    row = reward.tokens(*texts)
    assert len(row) <= 32
    text = shown(reward, *texts).removeprefix("<begin>").removesuffix(LAST)
    first, second = text.split(BETWEEN)
    theirs, ours = first.lstrip("pq\n"), second.lstrip("pq\n")
    assert len(theirs) == min(reference, reward.max_response)
    assert len(ours) == min(candidate, reward.max_response)
    assert theirs.endswith("b") == (side == "left" or reference <= reward.max_response), "both are cut on the same side"
    asked = first[: len(first) - len(theirs)]
    assert asked == second[: len(second) - len(ours)], "the prompt appears twice, and alike"
    assert asked.rstrip("\n") == "" or asked.rstrip("\n").endswith("q"), "a prompt keeps its last tokens"


def test_a_text_cannot_pass_itself_off_as_a_mark():
    reward = PolicyDiscriminator(decoder(context=64))
    row = reward.tokens("p", "a", f"b{LAST}{BETWEEN}")
    assert row.count(reward.decoder.mark(LAST)) == 1
    assert row.count(reward.decoder.mark(BETWEEN)) == 1


def test_thoughts_are_not_read():
    assert without_thoughts("<think>a</think>\nb") == "b"
    assert without_thoughts("<think>a b") == "<think>a b", "not closed: the raw text"
    assert without_thoughts("<think>a</think>") == "<think>a</think>", "nothing follows: the raw text"
    assert without_thoughts("b <think>a</think> c") == "b <think>a</think> c"


def test_references():
    reward = PolicyDiscriminator(decoder())
    batch = Batch(["p"] * 5, ["a"] * 4 + [""], references=["b", "", None, ["b", "a"], "b"])
    assert reward.score(batch).status.tolist() == [
        Status.OK, Status.MISSING_REFERENCE, Status.MISSING_REFERENCE, Status.OK, Status.OK,
    ]  # fmt: skip
    assert reward.score(Batch(["p"], ["a"])).status.tolist() == [Status.MISSING_REFERENCE]
    with pytest.raises(UserError, match="reference"):
        reward.logit(Batch(["p"], ["a"]))
    assert references_of(["", None, "x"]) == ["x"]
    alone = [reward.score(Batch(["p"], ["a"], references=[text])).values.item() for text in ("b", "a")]
    assert reward.score(batch).values[3].item() == pytest.approx(sum(alone) / 2, abs=1e-6)
    most = PolicyDiscriminator(decoder(), several="max")
    most.load_state_dict(reward.state_dict())
    assert most.score(batch).values[3].item() == pytest.approx(max(alone), abs=1e-6)


def test_settings_rebuild_it_and_bad_ones_are_refused(tmp_path):
    reward = PolicyDiscriminator(decoder(), wrapper="sft", max_response=5, seed=3)
    batch = Batch(["p", "q"], ["ab", "b"], references=["a", "b"])
    reward.save(tmp_path / "kept")
    again = PolicyDiscriminator.load(tmp_path / "kept")
    assert torch.equal(again.score(batch).values, reward.score(batch).values)
    assert again.fingerprint() == reward.fingerprint()
    assert build_head("policy-discriminator", reward.settings).settings == reward.settings
    for bad in ({"wrapper": "chat"}, {"cut": "middle"}, {"several": "sum"}, {"max_length": 3}):
        with pytest.raises(UserError):
            PolicyDiscriminator(decoder(), **bad)
    with pytest.raises(UserError, match="marks"):
        PolicyDiscriminator(TokenDecoder("ab", layers=1, width=8, heads=1))


def test_swapping_a_pair_gives_the_other_probability_and_the_loss_is_bradley_terry():
    reward = PolicyDiscriminator(decoder(seed=1), seed=2)
    batch = Batch(["p", "p"], ["ab", "bbb"], references=["aa", "aa"])
    first, second = torch.tensor([0]), torch.tensor([1])
    there, back = reward.compare(batch, first, second).prob.item(), reward.compare(batch, second, first).prob.item()
    assert there == pytest.approx(1 - back, abs=1e-6)
    data = FitData(batch, Preferences(first, second, torch.ones(1)))
    gap = float(reward.score(batch).values.diff().neg())
    assert reward.loss(data).total.item() == pytest.approx(math.log1p(math.exp(-gap)), rel=1e-5)


def test_weights_of_a_language_model_are_taken_over():
    one, other = decoder(seed=1), decoder(seed=2)
    rows = [[one.begin, *one.tokens("pab")]]
    assert not torch.allclose(one.states(rows), other.states(rows))
    other.take_weights(one.causal_model.trunk)
    assert torch.allclose(one.states(rows), other.states(rows))
    fewer = TokenDecoder("abpq\n", layers=2, width=32, heads=2, context=32, seed=3)
    other.take_weights(fewer.causal_model.trunk)
    assert torch.allclose(fewer.states(rows), other.states(rows)), "marks come after the characters"
    with pytest.raises(UserError, match="another size"):
        other.take_weights(TokenDecoder("abpq\n", layers=2, width=16, heads=2).causal_model.trunk)


def test_it_learns_to_prefer_the_letter_of_the_reference():
    """Two policies: one writes a, the other b. Which is right is known from the reference alone."""
    draw = torch.Generator().manual_seed(0)
    letters = ["ab"[at] for at in torch.randint(2, (160,), generator=draw).tolist()]
    other = {"a": "b", "b": "a"}
    responses = [text * 3 for letter in letters for text in (letter, other[letter])]
    batch = Batch(["p"] * 320, responses, references=[letter * 2 for letter in letters for _ in range(2)])
    first = torch.arange(0, 320, 2)
    data = FitData(batch, Preferences(first, first + 1, torch.ones(160)))
    reward = PolicyDiscriminator(decoder(context=16))
    plan = RewardFitConfig(epochs=12, batch_units=16, validation=0.0, calibrate=False, patience=None)
    fit(reward, data, replace(plan, optimiser=FitConfig(learning_rate=3e-3)))
    asked = Batch(["p"] * 4, ["aaa", "bbb", "aaa", "bbb"], references=["aa", "aa", "bb", "bb"])
    values = reward.score(asked).values
    assert values[0] > values[1]
    assert values[3] > values[2]
