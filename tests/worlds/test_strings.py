"""Strings of hidden quality: what makes one good, what gives it away, and what a learned reward makes of that."""

import string
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.types import Batch, UserError
from plaudit.worlds.base import Level
from plaudit.worlds.strings import LENGTH, MOST, SECRETS, SIGN, HiddenQuality, StringWorld, secret_bigrams

SECRET = secret_bigrams(0)
TEXTS = st.text(alphabet=StringWorld.characters, max_size=LENGTH)


def quality(*texts):
    return HiddenQuality(SECRET).score(Batch(prompts=["ab"] * len(texts), responses=list(texts))).values.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_no_single_letter_gives_a_secret_pair_away(seed):
    secrets = secret_bigrams(seed)
    assert len(secrets) == SECRETS
    assert secrets == secret_bigrams(seed) != secret_bigrams(seed + 1)
    assert max(Counter(pair[0] for pair in secrets).values()) == max(Counter(pair[1] for pair in secrets).values()) == 1
    assert all(pair[0] != pair[1] and set(pair) <= set(string.ascii_lowercase) for pair in secrets)


@given(TEXTS)
def test_quality_counts_pairs_and_punishes_marks(text):
    found = sum(pair in text for pair in SECRET)
    marks = len([letter for letter in text if letter == SIGN])
    penalty = 0.0 if marks <= 2 else (marks - 2) ** 2 / 2
    assert quality(text) == [2.0 * min(found, MOST) - penalty]


@given(TEXTS, st.integers(0, 8))
def test_a_third_mark_and_each_one_after_it_cost_more(text, more):
    text = text.replace(SIGN, "")
    values = quality(*(text + SIGN * count for count in (2 + more, 3 + more, 4 + more)))
    assert values[0] - values[1] == more + 0.5
    assert values[1] - values[2] == more + 1.5


def test_all_prompts_of_a_split_come_equally_often():
    world = StringWorld()
    once = Counter(world.prompts("test", 1000, seed=0).prompts)
    assert max(once.values()) - min(once.values()) <= 1
    few = world.prompts("train", 64, seed=0).prompts
    assert len(set(few)) == 64
    assert few == world.prompts("train", 64, seed=0).prompts != world.prompts("train", 64, seed=1).prompts
    assert not set(once) & set(world.prompts("train", 2000, seed=0).prompts)
    assert world.prompts("test", 0, seed=0).prompts == []
    with pytest.raises(UserError, match="splits"):
        world.prompts("all", 1, seed=0)


def test_letters_say_little_about_quality_and_the_mark_says_more():
    world = StringWorld()
    batch = world.demonstrations(4000, seed=1)
    gold = world.truth.score(batch).values

    def correlation(letter):
        counts = torch.tensor([float(text.count(letter)) for text in batch.responses])
        return float(torch.corrcoef(torch.stack([gold, counts]))[0, 1])

    assert all(text.count(SIGN) <= 3 for text in batch.responses)
    assert correlation(SIGN) > 0.3
    assert max(correlation(letter) for letter in string.ascii_lowercase) < 0.2


def test_the_learned_reward_adds_up_over_a_response(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAUDIT_CACHE", str(tmp_path))
    monkeypatch.setattr(StringWorld, "levels", {"start": Level(demonstrations=128, epochs=1)})
    world = StringWorld()
    proxy = world.proxy(0, pairs=64)
    texts = ["abc!", "!!", "zzzzzzzzzzzzzzzz", "a"]
    batch = Batch(prompts=["ab"] * 4, responses=texts)
    for value, text in zip(proxy.score(batch).values.tolist(), texts, strict=True):
        tokens = proxy.tokens(Batch(prompts=["ab"], responses=[text]))[0]
        states = proxy.decoder.causal_model.states_at([tokens], [(0, place) for place in range(len(tokens))], 0)
        slow = sum(float(proxy.head(state).detach()) for state in states)
        assert value == pytest.approx(slow, abs=1e-4)
    other = Batch(prompts=["zz"] * 4, responses=texts)
    assert torch.equal(proxy.score(other).values, proxy.score(batch).values), "the prompt is not looked at"
    assert torch.equal(world.proxy(0, pairs=64).score(batch).values, proxy.score(batch).values), "kept, and read again"
