"""When a critique is right: by hand, ties and odd scores, order of showing, and the reward."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit import Batch, Status
from plaudit.rewards.generative.critiques import CritiqueReward, critique_correct


@pytest.mark.parametrize(
    ("scores", "labels", "strict", "wanted"),
    [
        ([9, 2, 2], [9, 2, 2], True, True),
        ([9, 9, 2], [9, 2, 2], True, False),
        ([9, 9, 2], [9, 2, 2], False, True),
        ([8, 9, 2], [9, 2, 2], False, False),
        ([3, 9, 2], [9, 9, 2], True, True),  # either of two best may top
        ([3, 1, 2], [9, 9, 2], True, True),
        ([2, 1, 2], [9, 9, 2], True, False),
        ([7], [7], True, True),
        ([6], [7], True, False),
        (None, [9, 2], True, False),
        ([9], [9, 2], True, False),
        ([math.nan, 2], [9, 2], True, False),
        ([math.inf, 2], [9, 2], True, False),
    ],
)
def test_by_hand(scores, labels, strict, wanted):
    assert critique_correct(scores, labels, strict=strict) is wanted


def test_labels_that_say_nothing_are_refused():
    for labels in ([], [5, 5], [math.nan, 2]):
        with pytest.raises(ValueError, match="label"):
            critique_correct([1.0] * len(labels), labels)


@given(st.lists(st.tuples(st.integers(1, 10), st.integers(0, 3)), min_size=2, max_size=6), st.randoms())
def test_the_order_of_showing_changes_nothing(items, draw):
    if len({label for _, label in items}) == 1:
        return
    shuffled = list(items)
    draw.shuffle(shuffled)
    one, other = (critique_correct([s for s, _ in shown], [r for _, r in shown]) for shown in (items, shuffled))
    assert one == other


def read(text, count):
    parts = text.split(",")
    return [float(part) for part in parts] if len(parts) == count and all(part.isdigit() for part in parts) else None


def test_the_reward_of_right_wrong_and_unreadable_critiques():
    batch = Batch(["q"] * 4, responses=["9,2", "2,9", "nine", "9,2"], references=[[9, 2], [9, 2], [9, 2], None])
    scores = CritiqueReward(read).score(batch)
    assert scores.values[:3].tolist() == [1.0, -1.0, -1.0]
    assert scores.verdicts[2][0].detail == "no scores could be read"
    assert scores.counts()[Status.MISSING_REFERENCE] == 1
    assert CritiqueReward(read, invalid=0.0).score(batch).values[2] == 0.0
    assert CritiqueReward(read).fingerprint() != CritiqueReward(read, strict=False).fingerprint()


def test_random_scores_of_four_are_right_as_often_as_counting_says():
    draw = random.Random(0)
    hits = sum(critique_correct([draw.random() for _ in range(4)], [9, 2, 2, 2]) for _ in range(4000))
    assert hits / 4000 == pytest.approx(0.25, abs=0.03)
