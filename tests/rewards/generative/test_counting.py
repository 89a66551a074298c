"""Counting votes, against the slow obvious way."""

import math
import random
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.rewards.generative.counting import group_shares, modal_value, moments_of_votes, top_votes


def slow_mode(values):
    counts = Counter(values)
    top = max(counts.values())
    modes = [value for value, count in counts.items() if count == top]
    return sum(modes) / len(modes)


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=9))
def test_mean_deviation_and_mode_are_those_of_the_used_votes(votes):
    values = torch.tensor([float(value) if used else math.nan for value, used in votes])[:, None]
    used = torch.tensor([used for _, used in votes])[:, None]
    mean, deviation, count = moments_of_votes(values, used)
    known = [float(value) for value, used in votes if used]
    assert count.item() == len(known)
    if not known:
        assert mean.isnan().all()
        assert modal_value(values, used).isnan().all()
        return
    centre = sum(known) / len(known)
    assert mean.item() == pytest.approx(centre)
    assert deviation.item() == pytest.approx(math.sqrt(sum((value - centre) ** 2 for value in known) / len(known)), abs=1e-9)
    assert modal_value(values, used).item() == pytest.approx(slow_mode(known))


def test_a_vote_in_a_group_goes_to_its_best_row_and_is_split_between_equals():
    nan = math.nan
    values = torch.tensor(
        [[[9.0, 2.0, 9.0], [1.0, 2.0, nan]], [[1.0, 5.0, 2.0], [3.0, 2.0, nan]], [[7.0, 7.0, 7.0], [4.0, 1.0, nan]]]
    )
    used = torch.tensor([[True, True], [True, True], [False, True]])
    shares = group_shares(values, used)
    assert shares[0].tolist() == [0.25, 0.5, 0.25]
    assert shares[1, :2].tolist() == pytest.approx([2 / 3, 1 / 3])
    assert shares[1, 2].isnan()


def test_the_kept_votes_are_the_best_and_never_an_unusable_one():
    draw = random.Random(0)
    for _ in range(200):
        count, keep = draw.randint(1, 8), draw.randint(1, 8)
        meta = torch.tensor([draw.choice([0.0, 1.0, 2.0]) for _ in range(count)])[:, None]
        used = torch.tensor([draw.random() < 0.7 for _ in range(count)])[:, None]
        kept = top_votes(meta, used, keep)[:, 0].tolist()
        wanted = sorted((vote for vote in range(count) if used[vote]), key=lambda vote: (-meta[vote].item(), vote))[:keep]
        assert [vote for vote in range(count) if kept[vote]] == sorted(wanted)
