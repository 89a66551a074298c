"""Losses against their formulas written out, their gradients against finite differences, and what may not change them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from plaudit.rewards.learned.calibrate import at_limit, fit_temperature
from plaudit.rewards.learned.losses import (
    bradley_terry_loss,
    disagreement_weight,
    ordered_thresholds,
    ordinal_losses,
    pair_accuracy,
    pair_losses,
    plackett_luce_losses,
    rating_losses,
    rectified_losses,
)
from plaudit.types import Preferences


def normal(*shape, seed=0, grad=True):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_(grad)


def edges(prob, weight=None):
    first = torch.arange(0, 2 * len(prob), 2)
    return Preferences(first, first + 1, torch.tensor(prob), None if weight is None else torch.tensor(weight))


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


@settings(deadline=None)
@given(st.floats(-30, 30), st.floats(0, 1), st.floats(0, 3), st.floats(0, 0.4))
def test_a_pair_costs_what_the_formula_says(gap, prob, margin, smoothing):
    target = prob * (1 - smoothing) + (1 - prob) * smoothing
    wanted = -target * math.log(sigmoid(gap - margin)) - (1 - target) * math.log(sigmoid(-gap - margin))
    found = pair_losses(
        torch.tensor([gap], dtype=torch.float64), torch.tensor([prob], dtype=torch.float64), margin=margin, smoothing=smoothing
    )
    assert found.item() == pytest.approx(wanted, rel=1e-9, abs=1e-9)


def test_bradley_terry_with_weights_and_centring():
    rewards = torch.tensor([2.0, 1.0, 0.0, 3.0], dtype=torch.float64)
    loss = bradley_terry_loss(rewards, edges([1.0, 0.5], [1.0, 3.0]), centring=0.01)
    wanted = -math.log(sigmoid(1)) + 0.01 * 9 + 3 * (-0.5 * math.log(sigmoid(-3)) - 0.5 * math.log(sigmoid(3)) + 0.01 * 9)
    assert loss.total.item() == pytest.approx(wanted)
    assert loss.stats == {"accuracy": 1.0, "gap": 2.0}


def test_swapping_the_sides_of_all_pairs_changes_nothing():
    rewards, told = normal(10, grad=False), edges([1.0, 0.0, 0.5, 0.3, 0.9])
    swapped = Preferences(told.second, told.first, 1 - told.prob)
    for how in ({}, {"margin": 0.7}, {"smoothing": 0.1}, {"centring": 0.2}):
        mine, other = (bradley_terry_loss(rewards, pairs, **how).total for pairs in (told, swapped))
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-6)


def test_gradients_are_those_of_finite_differences():
    told = edges([1.0, 0.0, 0.5, 0.25], [1.0, 2.0, 0.5, 1.0])
    assert gradcheck(lambda r: bradley_terry_loss(r, told, margin=0.3, smoothing=0.1, centring=0.05).total, normal(8))
    levels = torch.tensor([0, 1, 2, 3, 3, 0])
    assert gradcheck(
        lambda x, low, steps: ordinal_losses(x, ordered_thresholds(low, steps), levels),
        (normal(6), normal(1, seed=1), normal(2, seed=2)),
    )
    ratings = normal(5, 3, seed=3, grad=False)
    ratings[0, 1] = ratings[4] = torch.nan
    assert gradcheck(lambda x: rating_losses(x, ratings, torch.tensor([1.0, 2.0, 0.5])), normal(5, 3))
    groups, ranks = torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([3.0, 1.0, 1.0, 2.0, 5.0, 1.0])
    assert gradcheck(lambda x: plackett_luce_losses(x, ranks, groups), normal(6))
    assert gradcheck(lambda x, d: rectified_losses(x.square(), d, scale=0.7), (normal(6), normal(6, seed=4)))


@pytest.mark.parametrize("count", [2, 3, 6])
def test_the_levels_of_an_ordinal_model_are_a_distribution(count):
    """Against P(y = k) = P(y > k - 1) - P(y > k), which is what it cannot be computed by where the numbers are large."""
    cuts = ordered_thresholds(normal(1, seed=1), normal(count - 2, seed=2)).detach()
    assert bool((cuts.diff() > 0).all())
    latent = normal(7, grad=False) * 2
    above = torch.cat([torch.ones(7, 1), torch.sigmoid(latent[:, None] - cuts), torch.zeros(7, 1)], dim=1).double()
    for level in range(count):
        found = ordinal_losses(latent, cuts, torch.full((7,), level))
        torch.testing.assert_close((-found).exp(), above[:, level] - above[:, level + 1])
    far = ordinal_losses(torch.tensor([80.0], dtype=torch.float64), torch.tensor([-1.0, 0.0, 2.0]).double(), torch.tensor([1]))
    assert far.item() == pytest.approx(80 - math.log(1 - math.exp(-1)), rel=1e-6)


def test_ratings_that_are_not_there_are_not_zeros():
    predicted = torch.tensor([[1.0, 5.0], [2.0, 2.0], [9.0, 9.0]], requires_grad=True)
    ratings = torch.tensor([[3.0, torch.nan], [2.0, 4.0], [torch.nan, torch.nan]])
    losses = rating_losses(predicted, ratings, 2.0)
    assert losses.tolist() == [1.0, 0.5, 0.0]
    losses.sum().backward()
    assert predicted.grad[0, 1] == 0
    assert bool(torch.isfinite(predicted.grad).all())


def test_plackett_luce_is_the_probability_of_the_order():
    """Slow obvious version: choose first, then from the rest, then from the rest."""
    scores, ratings = normal(4, grad=False), torch.tensor([2.0, 9.0, 4.0, 1.0])
    order, probability = ratings.argsort(descending=True).tolist(), 1.0
    for place in range(4):
        rest = scores[order[place:]].exp()
        probability *= float(rest[0] / rest.sum())
    groups = torch.zeros(4, dtype=torch.int64)
    assert plackett_luce_losses(scores, ratings, groups).sum().item() == pytest.approx(-math.log(probability))
    pair = plackett_luce_losses(scores[:2], torch.tensor([0.0, 1.0]), groups[:2]).sum()
    torch.testing.assert_close(pair, pair_losses(scores[1:2] - scores[:1], torch.ones(1))[0])


def test_groups_and_equal_ratings_of_a_ranking():
    scores, groups = normal(5, grad=False), torch.tensor([0, 1, 0, 1, 2])
    ratings = torch.tensor([1.0, 1.0, 2.0, 5.0, 3.0])
    whole = plackett_luce_losses(scores, ratings, groups)
    for group in range(3):
        own = groups == group
        torch.testing.assert_close(plackett_luce_losses(scores[own], ratings[own], groups[own]), whole[own])
    assert whole[4] == 0
    tied = normal(3).detach().requires_grad_()
    plackett_luce_losses(tied, torch.ones(3), torch.zeros(3)).sum().backward()
    lowest, highest = tied.argmin(), tied.argmax()
    assert tied.grad[lowest] < 0 < tied.grad[highest], "a step down pulls equally rated rows together"


def test_accuracy_counts_decided_pairs_and_half_of_equal_scores():
    assert pair_accuracy(torch.tensor([1.0, -1.0, 0.0, 5.0]), torch.tensor([1.0, 0.9, 0.0, 0.5])) == pytest.approx(0.5)
    assert math.isnan(pair_accuracy(torch.tensor([1.0]), torch.tensor([0.5])))


def test_disagreement_lowers_the_weight_and_costs():
    weights = disagreement_weight(torch.tensor([0.0, -2.0, 1e6]))
    assert weights[0] == 1
    assert weights[1] == pytest.approx(math.exp(-2))
    assert weights[2] == pytest.approx(math.exp(-20))
    alone = rectified_losses(torch.tensor([3.0]), torch.tensor([0.0]))
    assert alone.item() == 3.0
    apart = torch.tensor([0.5], requires_grad=True)
    rectified_losses(torch.tensor([0.2]), apart).sum().backward()
    assert apart.grad > 0, "with a small loss, disagreeing does not pay"


def test_the_temperature_of_planted_log_odds_is_found():
    gaps = normal(20_000, grad=False) * 3
    drawn = torch.rand(20_000, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    labels = (drawn < torch.sigmoid(gaps / 2.5)).double()
    assert fit_temperature(gaps, labels) == pytest.approx(2.5, rel=0.05)
    assert fit_temperature(gaps * 10, labels) == pytest.approx(25, rel=0.05)
    assert fit_temperature(gaps, torch.sigmoid(gaps / 2.5)) == pytest.approx(2.5, rel=1e-3)


def test_temperatures_that_cannot_be_told():
    ones = torch.ones(4)
    assert fit_temperature(torch.zeros(4), ones) is None
    assert fit_temperature(ones, ones * 0.5) is None
    assert fit_temperature(torch.zeros(0), torch.zeros(0)) is None
    right = fit_temperature(ones, ones)
    assert 0.1 < right < 1, "all pairs right: finite, by Platt's softened labels"
    assert right == pytest.approx(1 / math.log(5), rel=1e-3)
    wrong = fit_temperature(ones, torch.zeros(4))
    assert at_limit(wrong, ones)
    assert not at_limit(right, ones)


def test_tiny_gaps_are_not_blown_up():
    generator = torch.Generator().manual_seed(0)
    gaps = 1e-3 * torch.randn(200, generator=generator, dtype=torch.float64)
    labels = (torch.rand(200, generator=generator) < 0.5).double()
    found = fit_temperature(gaps, labels)
    assert pair_losses(gaps / found, labels).mean() <= pair_losses(gaps, labels).mean() + 1e-6
