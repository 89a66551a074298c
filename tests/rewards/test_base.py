from __future__ import annotations

import pytest
import torch

from plaudit.rewards.algebra import Otherwise, Product, Shaped, WeightedSum
from plaudit.rewards.base import BaseReward
from plaudit.types.keys import content_key
from tests.rewards.small import Biased, Listwise, Value, batch_of


def test_a_reward_must_implement_something():
    with pytest.raises(TypeError, match="must implement one of"):

        class Nothing(BaseReward):
            pass


def test_native_is_what_the_class_implements():
    assert (Value().native, Biased().native, Listwise().native) == ("score", "compare", "score_group")


@pytest.mark.parametrize("make", [Value, Biased, Listwise])
def test_every_reward_answers_all_three_questions(make):
    batch = batch_of(1.0, 3.0, 2.0, 0.0, groups=[0, 0, 1, 1])
    reward = make()
    for scores in (reward.score(batch), reward.score_group(batch)):
        assert scores.values[1] > scores.values[0]
        assert scores.values[2] > scores.values[3]
    pairs = reward.compare(batch, torch.tensor([1, 3]), torch.tensor([0, 2]))
    assert pairs.prob[0] > 0.5 > pairs.prob[1]


def test_a_native_that_is_not_implemented_is_an_error_not_a_loop():
    class Lying(Value):
        native = "compare"

    with pytest.raises(TypeError, match="says that it compares natively"):
        Lying().compare(batch_of(1.0, 2.0), torch.tensor([0]), torch.tensor([1]))


def test_fingerprint_follows_class_name_and_settings_not_order():
    assert Value(scale=2.0).fingerprint() == Value(scale=2.0).fingerprint()
    keys = {reward.fingerprint() for reward in (Value(), Value(scale=2.0), Value(name="other"), Listwise(), Biased())}
    assert len(keys) == 5
    assert content_key({"a": 1, "b": 2}) == content_key({"b": 2, "a": 1})


def test_operators_make_the_compositions():
    a, b = Value("a"), Value("b")
    assert isinstance(0.7 * a + 0.3 * b, WeightedSum)
    assert (a - b).weights == {"a": 1.0, "b": -1.0}
    assert isinstance(a * b, Product)
    assert isinstance(a.otherwise(b), Otherwise)
    assert isinstance(a.shaped(lambda scores, batch: scores), Shaped)
