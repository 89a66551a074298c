"""The contrastive loss of card 40: its sampler, its floor, what it leaves out, and the goal store."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.rewards.learned.data import FitData
from plaudit.rewards.learned.decoder import TokenDecoder
from plaudit.rewards.learned.goal_contrastive import FLOOR, GoalContrastive, GoalState, places_from_end
from plaudit.rewards.learned.goal_reward import GoalReward
from plaudit.types import Batch, Preferences, Status, UserError


def full(pairs, length):
    return torch.ones(pairs, length, dtype=torch.bool)


def small_reward(**settings):
    return GoalReward(TokenDecoder("ab=;", layers=1, width=16, heads=2, context=24), **settings)


def small_data(chosen=("ab", "aabb", "ba"), rejected=("bb", "bbb", "a"), prob=None):
    rows = [text for pair in zip(chosen, rejected, strict=True) for text in pair]
    count = len(chosen)
    first = torch.arange(0, 2 * count, 2)
    batch = Batch([f"{'a' * (row // 2)}=" for row in range(2 * count)], rows)
    return FitData(batch, Preferences(first, first + 1, torch.ones(count) if prob is None else torch.tensor(prob)))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.integers(1, 40), st.floats(0, 0.9))
def test_the_sampler_is_the_published_one_and_stays_inside(uniform, length, skip):
    found = places_from_end(torch.tensor([uniform], dtype=torch.float64), torch.tensor([length]), skip)[0].tolist()
    for u, place in zip(uniform, found, strict=True):
        offset = math.floor((1 + (skip - 1) * u) * length + 1)
        assert place == max(0, length - offset)
        assert 0 <= place < length
        assert place <= length - 1 - math.floor(skip * length) + 1e-9, "the share of the end is never drawn"


def test_sources_of_a_draw_are_never_after_its_goals_but_those_of_other_draws_are():
    uniform = torch.rand(2, 4000, 16, generator=torch.Generator().manual_seed(0)).sort(dim=0).values
    lengths = torch.full((4000,), 10_000)
    source, goal = places_from_end(uniform[0], lengths, 0.0), places_from_end(uniform[1], lengths, 0.0)
    assert bool((source <= goal).all())
    other = (source[:, :, None] > goal[:, None, :]).float().mean((0, 1, 2)).item()
    assert other == pytest.approx(15 / 16 / 6, abs=0.003)


def test_floor_and_ceiling():
    state = torch.zeros(3, 5, 4)
    state[..., 0] = 1.0
    best = GoalContrastive(beta=1.0)(state, -state, full(3, 5), full(3, 5), seed=0)
    assert best.total.item() / 3 == pytest.approx(FLOOR, abs=1e-5)
    assert abs(FLOOR + 2 * math.log(1 / (1 + math.exp(-1)))) < 1e-12
    worst = GoalContrastive(beta=0.5)(state, state, full(3, 5), full(3, 5), seed=0)
    high = 1 / (1 + math.exp(-1))
    assert worst.total.item() / 3 == pytest.approx(0.5 * (-math.log(high) - math.log(1 - high)), abs=1e-5)


@given(st.integers(0, 10_000), st.booleans())
def test_the_loss_never_falls_below_its_floor(seed, average):
    draw = torch.Generator().manual_seed(seed)
    chosen, rejected = torch.randn(2, 4, 6, 3, generator=draw)
    found = GoalContrastive(beta=1.0, k_pos=5, k_neg=7, average_goal=average)(chosen, rejected, full(4, 6), full(4, 6), seed=seed)
    assert found.total.item() >= 4 * FLOOR - 1e-4


def test_it_is_the_slow_obvious_sum():
    loss = GoalContrastive(beta=0.7, k_pos=3, k_neg=2)
    draw = torch.Generator().manual_seed(3)
    chosen, rejected = torch.randn(2, 2, 6, 4, generator=draw, dtype=torch.float64)
    lengths, others = [4, 6], [3, 2]
    ours = torch.stack([torch.arange(6) < n for n in lengths])
    theirs = torch.stack([torch.arange(6) >= 6 - n for n in others])  # padded on the left: must not matter
    found = loss(chosen, rejected, ours, theirs, seed=11)
    again = torch.Generator().manual_seed(11)
    sorted_draws = torch.rand((2, 2, 3), generator=again).sort(dim=0).values
    loose = torch.rand((2, 2, 2), generator=again)

    def place(u, n):
        return n - min(n, math.floor((1 - u) * n + 1))

    def sigmoid_cosine(a, b):
        return 1 / (1 + math.exp(-torch.nn.functional.cosine_similarity(a, b, dim=0).item()))

    positive, negative = [], []
    for row in range(2):
        n, m = lengths[row], others[row]
        for u in sorted_draws[0, row].tolist():
            for v in sorted_draws[1, row].tolist():
                positive.append(sigmoid_cosine(chosen[row, place(u, n)], chosen[row, place(v, n)]))
        for u in loose[0, row].tolist():
            for v in loose[1, row].tolist():
                negative.append(sigmoid_cosine(chosen[row, place(u, n)], rejected[row, 6 - m + place(v, m)]))
    expected = 0.7 * 2 * (-math.log(sum(positive) / 9 / 2) - math.log(1 - sum(negative) / 4 / 2))
    assert found.total.item() == pytest.approx(expected, rel=1e-6)


def test_gradient():
    draw = torch.Generator().manual_seed(0)
    states = torch.randn(2, 2, 4, 3, generator=draw, dtype=torch.float64, requires_grad=True)

    def total(both):
        return GoalContrastive(k_pos=3, k_neg=3)(both[0], both[1], full(2, 4), full(2, 4), seed=5).total

    assert torch.autograd.gradcheck(total, (states,))


def test_equal_and_short_pairs_are_left_out_and_counted():
    draw = torch.Generator().manual_seed(1)
    chosen, rejected = torch.randn(2, 4, 5, 3, generator=draw)
    mask, other = full(4, 5), full(4, 5)
    mask[1, 1:] = False
    other[2] = False
    equal = torch.tensor([False, False, False, True])
    found = GoalContrastive()(chosen, rejected, mask, other, seed=2, equal=equal)
    assert (found.kept, found.short, found.equal) == (1, 2, 1)
    alone = GoalContrastive()(chosen[:1], rejected[:1], mask[:1], other[:1], seed=2)
    assert found.total.item() == pytest.approx(alone.total.item())
    nothing = GoalContrastive()(chosen[3:], rejected[3:], mask[3:], other[3:], seed=2, equal=equal[3:])
    assert nothing.total.item() == 0.0
    assert nothing.kept == 0
    assert math.isnan(nothing.positive.item())


def test_the_shared_prefix_is_left_out_of_the_negative_term_where_asked():
    draw = torch.Generator().manual_seed(4)
    chosen, rejected = torch.randn(2, 1, 6, 3, generator=draw)
    rejected[:, :4] = chosen[:, :4]
    rejected[:, 4:], chosen[:, 4:] = -chosen[:, :1], chosen[:, :1]
    shared, apart = torch.tensor([4]), GoalContrastive(skip_shared=True, k_neg=64)
    found = apart(chosen, rejected, full(1, 6), full(1, 6), seed=0, shared=shared)
    assert found.negative.item() == pytest.approx(1 / (1 + math.e), abs=1e-6), "only states that are opposite are drawn"
    assert GoalContrastive(k_neg=64)(chosen, rejected, full(1, 6), full(1, 6), seed=0, shared=shared).negative.item() > 0.3
    whole = apart(chosen, rejected, full(1, 6), full(1, 6), seed=0, shared=torch.tensor([6]))
    assert whole.negative.item() == pytest.approx(1 / (1 + math.e), abs=1e-6), "one is the other's beginning: the last states"
    reward = small_reward(contrast={"skip_shared": True, "k_neg": 8})
    with torch.no_grad():
        assert reward.loss(small_data(chosen=("aab", "ab"), rejected=("aaa", "abb"))).stats["pairs_equal"] == 0


def test_zero_states_and_settings():
    zero = torch.zeros(2, 3, 4, requires_grad=True)
    found = GoalContrastive()(zero, zero, full(2, 3), full(2, 3), seed=0)
    found.total.backward()
    assert found.total.item() / 2 == pytest.approx(0.5 * 2 * math.log(2))
    assert bool(torch.isfinite(zero.grad).all())
    assert GoalContrastive(**GoalContrastive(k_pos=4).settings()) == GoalContrastive(k_pos=4)
    with pytest.raises(UserError, match="k_pos"):
        GoalContrastive(k_pos=0)
    with pytest.raises(UserError, match="shares"):
        GoalContrastive(skip_goal=1.0)


def test_goal_state():
    goal = GoalState()
    with pytest.raises(ValueError, match="at least one"):
        _ = goal.vector
    ends = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    goal.update(ends[:3], ["1+1=", "2+2=", "2+3="], "weights")
    goal.update(ends[3:], key="weights")
    assert torch.allclose(goal.vector, ends.mean(0), atol=1e-6)
    assert goal.leaked(["1+1=", "9+9="]) == 1
    with pytest.raises(ValueError, match="backbone has changed"):
        goal.update(ends, key="others")
    with pytest.raises(ValueError, match="not finite"):
        goal.update(torch.full((1, 4), math.nan), key="weights")
    mask = torch.tensor([[True, True, False]])
    found = goal.q(torch.stack([goal.vector, -goal.vector, goal.vector])[None], mask)[0]
    assert found[:2].tolist() == pytest.approx([1.0, -1.0], abs=1e-5)
    assert math.isnan(found[2])


def test_the_reward_adds_the_contrast_to_bradley_terry_and_leaves_ties_out_of_it():
    data = small_data(prob=[1.0, 0.0, 0.5])
    plain, both = small_reward(seed=1), small_reward(contrast=GoalContrastive(), seed=1)
    with torch.no_grad():
        base, whole = plain.loss(data), both.loss(data)
    assert whole.total.item() == pytest.approx(base.total.item() + whole.parts["contrast"].item(), rel=1e-5)
    assert whole.parts["contrast"].item() > 0.5 * 2 * FLOOR
    swapped = small_data(prob=[0.0, 1.0, 0.5])
    swapped.preferences.first, swapped.preferences.second = swapped.preferences.second, swapped.preferences.first
    with torch.no_grad():
        assert both.loss(swapped).total.item() == pytest.approx(whole.total.item(), rel=1e-5), (
            "the same labels, written the other way"
        )
        assert both.loss(data).total.item() == whole.total.item(), "without gradient the places are the same each time"
    same = small_data(chosen=("ab", "ab"), rejected=("ab", "ba"))
    with torch.no_grad():
        assert both.loss(same).stats["pairs_equal"] == 1.0


def test_q_of_a_batch():
    reward = small_reward(contrast={"k_pos": 4})
    batch = Batch(["a=", "b="], ["ab", "abba"])
    goal = reward.goal(Batch(["ab="], ["ab"]))
    found = reward.q(batch, goal)
    assert found.shape == (2, 4)
    assert found.isnan().tolist() == [[False, False, True, True], [False] * 4]
    longer = reward.q(Batch(["b="], ["abbab"]), goal)
    assert torch.allclose(longer[0, :4], found[1], atol=1e-5), "a causal state does not see what comes later"
    with torch.no_grad():
        reward.head.weight += 1.0
    with pytest.raises(ValueError, match="other weights"):
        reward.q(batch, goal)


def test_it_is_saved_scored_and_refuses_what_is_too_long(tmp_path):
    reward = small_reward(contrast=GoalContrastive(k_pos=4), seed=3)
    batch = Batch(["a=", "b=", "a="], ["ab", "a" * 40, ""])
    scores = reward.score(batch)
    assert scores.status.tolist() == [Status.OK, Status.TOO_LONG, Status.OK]
    again = GoalReward(**reward.settings)
    again.load_state_dict(reward.state_dict())
    assert torch.equal(again.score(batch).values[:1], scores.values[:1])
    first, second = torch.tensor([0]), torch.tensor([2])
    there, back = reward.compare(batch, first, second), reward.compare(batch, second, first)
    assert there.prob.item() == pytest.approx(1 - back.prob.item(), abs=1e-6)
