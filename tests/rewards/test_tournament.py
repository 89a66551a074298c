from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plaudit.rewards.tournament import bradley_terry_fit, knockout
from plaudit.types import Context, Preferences, Status
from tests.rewards.small import Biased, batch_of


def edges(*pairs: tuple[int, int, float], weight: list[float] | None = None) -> Preferences:
    first, second, prob = zip(*pairs, strict=True)
    weights = None if weight is None else torch.tensor(weight)
    return Preferences(torch.tensor(first), torch.tensor(second), torch.tensor(prob), weights)


def slow_fit(preferences: Preferences, size: int, prior: float) -> torch.Tensor:
    strength = torch.zeros(size, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([strength], lr=0.3)
    weight = torch.ones(len(preferences)) if preferences.weight is None else preferences.weight
    for _ in range(2500):
        gap = strength[preferences.first] - strength[preferences.second]
        log_win, log_lose = torch.nn.functional.logsigmoid(gap), torch.nn.functional.logsigmoid(-gap)
        loss = -(weight * (preferences.prob * log_win + (1 - preferences.prob) * log_lose)).sum()
        optimiser.zero_grad()
        (loss + prior / 2 * strength.square().sum()).backward()
        optimiser.step()
    return strength.detach()


@pytest.mark.parametrize(("wins", "losses"), [(3.0, 1.0), (10.0, 90.0), (1.0, 1.0)])
def test_two_rows_without_prior_differ_by_the_logit_of_the_win_rate(wins, losses):
    fit = bradley_terry_fit(edges((0, 1, 1.0), (0, 1, 0.0), weight=[wins, losses]), 2, prior=0)
    assert (fit.values[0] - fit.values[1]).item() == pytest.approx(math.log(wins / losses), abs=1e-6)
    # variance of the difference is 1 / (n p (1 - p)), of each side half of the deviation
    share = wins / (wins + losses)
    assert fit.spread[0].item() == pytest.approx(0.5 / math.sqrt((wins + losses) * share * (1 - share)), rel=1e-5)


def test_the_fit_equals_slow_gradient_descent():
    generator = torch.Generator().manual_seed(3)
    first = torch.randint(0, 5, (25,), generator=generator)
    second = (first + torch.randint(1, 5, (25,), generator=generator)) % 5
    labels = Preferences(first, second, torch.rand(25, generator=generator), torch.rand(25, generator=generator))
    torch.testing.assert_close(bradley_terry_fit(labels, 5, 0.2).values.double(), slow_fit(labels, 5, 0.2), atol=1e-5, rtol=0)


def test_components_are_fitted_apart_and_rows_without_pairs_have_no_strength():
    fit = bradley_terry_fit(edges((0, 1, 0.8), (3, 4, 0.8)), 5, prior=0.0)
    assert fit.status.tolist() == [0, 0, Status.EMPTY_GROUP, 0, 0]
    torch.testing.assert_close(fit.values[[0, 1]], fit.values[[3, 4]])
    assert fit.values[[0, 1]].sum().item() == pytest.approx(0, abs=1e-6)


def test_complete_separation_is_finite_with_a_prior_and_an_error_without():
    won = edges((0, 1, 1.0), (1, 2, 1.0))
    values = bradley_terry_fit(won, 3).values
    assert values.isfinite().all()
    assert values[0] > values[1] > values[2]
    with pytest.raises(ValueError, match="give a prior"):
        bradley_terry_fit(won, 3, prior=0)


def test_pairs_without_a_probability_and_with_themselves_are_not_used():
    nan = float("nan")
    fit = bradley_terry_fit(edges((0, 1, nan), (2, 2, 1.0)), 3)
    assert fit.counts() == {Status.EMPTY_GROUP: 3}


@given(st.integers(0, 10_000), st.integers(2, 6))
@settings(max_examples=25, deadline=None)
def test_renaming_the_rows_renames_the_strengths(seed, size):
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(0, size, (12,), generator=generator)
    second = (first + 1 + torch.randint(0, size - 1, (12,), generator=generator)) % size
    prob = torch.rand(12, generator=generator)
    order = torch.randperm(size, generator=generator)
    plain = bradley_terry_fit(Preferences(first, second, prob), size)
    renamed = bradley_terry_fit(Preferences(order[first], order[second], prob), size)
    torch.testing.assert_close(renamed.values[order], plain.values, atol=1e-5, rtol=0, equal_nan=True)


@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=17, unique=True), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_a_knockout_finds_the_best_in_n_minus_1_comparisons(numbers, seed):
    reward = Biased()
    scores = knockout(reward, batch_of(*map(float, numbers), groups=[0] * len(numbers)), Context(seed=seed))
    assert scores.values.argmax().item() == numbers.index(max(numbers))
    assert scores.values.max().item() == math.ceil(math.log2(len(numbers)))
    assert len(reward.asked) == len(numbers) - 1
    assert scores.parts["compared"].max() <= math.ceil(math.log2(len(numbers)))


def test_the_draw_depends_on_the_seed_and_on_nothing_else():
    numbers = [float(number) for number in range(8)]
    asked = []
    for seed in (0, 0, 1, 2):
        reward = Biased()
        knockout(reward, batch_of(*numbers, groups=[0] * 8), Context(seed=seed))
        asked.append(reward.asked)
    assert asked[0] == asked[1]
    assert asked[0] != asked[2] or asked[0] != asked[3]


def test_a_match_that_cannot_be_judged_ends_both_runs_and_no_other():
    scores = knockout(Biased(), batch_of(1.0, None, 3.0, 2.0, groups=[0, 0, 0, 0]))
    lost = scores.status == Status.UNPARSABLE
    assert lost[1]
    assert lost.sum() == 2
    assert scores.values[~lost].max() == 2


def test_one_row_has_nobody_to_play_and_groups_are_needed():
    assert knockout(Biased(), batch_of(1.0, 2.0, groups=[0, 1])).counts() == {Status.EMPTY_GROUP: 2}
    with pytest.raises(ValueError, match="give groups"):
        knockout(Biased(), batch_of(1.0, 2.0))
