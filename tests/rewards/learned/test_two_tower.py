"""Two towers: the triplet identity and its gradients, what is tuned, what cannot be judged, and recovery of a planted taste."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plaudit import Batch, Preferences, Status
from plaudit.fitting import FitConfig
from plaudit.rewards.learned.data import FitData
from plaudit.rewards.learned.fit import RewardFitConfig, fit
from plaudit.rewards.learned.goal_contrastive import unit
from plaudit.rewards.learned.towers import TinyTowers, train_only, upper_layers
from plaudit.rewards.learned.two_tower import (
    TwoTowerReward,
    contrastive_losses,
    cosine_triplet_losses,
    triplet_loss,
    triplet_losses,
)
from plaudit.types import UserError

SMALL = {"words": ["red", "blue"], "side": 8, "channels": (4, 8), "width": 8, "size": 8}


def vectors(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, 10_000), st.floats(0, 2))
@settings(max_examples=40, deadline=None)
def test_on_unit_vectors_the_margin_is_halved_between_cosines(seed, margin):
    anchor, positive, negative = (unit(vectors(6, 5, seed=seed + part)) for part in range(3))
    gaps = (anchor * positive).sum(-1) - (anchor * negative).sum(-1)
    expected = triplet_losses(anchor, positive, negative, margin)
    torch.testing.assert_close(cosine_triplet_losses(gaps, margin), expected, atol=1e-12, rtol=0)
    assert bool(((gaps >= margin / 2 + 1e-9) <= (expected == 0)).all())


def test_triplet_losses_by_hand_and_by_gradient():
    a, p, n = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert triplet_losses(a, p, n, 0.3).item() == 0.0  # 1 - 2 + 0.3 < 0
    assert triplet_losses(a, n, p, 0.3).item() == pytest.approx(1.3)
    inputs = tuple(vectors(4, 3, seed=part).requires_grad_() for part in range(3))
    assert torch.autograd.gradcheck(lambda *parts: triplet_losses(*parts, 5.0), inputs)


def preferences(*prob, weight=None):
    first = torch.arange(0, 2 * len(prob), 2)
    second = first + 1
    return Preferences(first, second, torch.tensor(prob), None if weight is None else torch.tensor(weight))


def test_swapping_a_pair_with_its_label_changes_nothing():
    cosines = vectors(6).requires_grad_()
    told = preferences(1.0, 0.3, 0.5, weight=[1.0, 2.0, 0.5])
    turned = Preferences(told.second, told.first, 1 - told.prob, told.weight)
    assert triplet_loss(cosines, told).total.item() == pytest.approx(triplet_loss(cosines, turned).total.item())
    assert torch.autograd.gradcheck(lambda x: triplet_loss(x, told, 0.7).total, (cosines,))
    slow = sum(
        weight * (p * max(0.0, 0.3 - 2 * gap) + (1 - p) * max(0.0, 0.3 + 2 * gap))
        for weight, p, gap in zip(told.weight.tolist(), told.prob.tolist(), (cosines[::2] - cosines[1::2]).tolist(), strict=True)
    )
    assert triplet_loss(cosines, told).total.item() == pytest.approx(slow)


def test_satisfied_triplets_have_no_gradient_and_ties_cost_the_margin():
    cosines = torch.tensor([0.9, 0.1], requires_grad=True)
    found = triplet_loss(cosines, preferences(1.0))
    found.total.backward()
    assert (found.total.item(), found.stats["active"], found.stats["accuracy"]) == (0.0, 0.0, 1.0)
    assert cosines.grad.tolist() == [0.0, 0.0]
    for gap, cost in ((0.0, 0.3), (0.1, 0.3), (0.5, 0.15 + 0.5)):
        assert triplet_loss(torch.tensor([gap, 0.0]), preferences(0.5)).total.item() == pytest.approx(cost)
    assert math.isnan(triplet_loss(torch.zeros(0), preferences()).stats["active"])


def test_contrastive_losses_against_the_slow_sum():
    text, image = unit(vectors(4, 3)), unit(vectors(4, 3, seed=1))
    same = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.bool)
    found = contrastive_losses(text, image, same, temperature=0.5)
    for row in range(4):
        rivals = [other for other in range(4) if other == row or not same[row, other]]
        by_text = torch.stack([text[row] @ image[other] for other in rivals]) / 0.5
        by_image = torch.stack([text[other] @ image[row] for other in rivals]) / 0.5
        own = rivals.index(row)
        expected = -(by_text.log_softmax(0)[own] + by_image.log_softmax(0)[own]) / 2
        assert found[row].item() == pytest.approx(expected.item())
    assert torch.autograd.gradcheck(lambda t: contrastive_losses(t, image, same), (text.requires_grad_(),))


def test_frozen_layers_are_really_frozen():
    towers = TinyTowers(["red"], side=8, channels=(4, 8))
    chosen = upper_layers(towers, 1, 1)
    train_only(towers, chosen)
    trained = {name for name, parameter in towers.named_parameters() if parameter.requires_grad}
    assert {name.split(".")[0] for name in trained} == {
        "image_blocks",
        "image_norm",
        "text_blocks",
        "text_norm",
        "text_projection",
    }
    assert not any(name.startswith(("image_blocks.0", "text_blocks.0", "image_projection", "embedding")) for name in trained)
    assert {name for name, _ in towers.named_parameters() if name.startswith("image_blocks.1")} <= trained
    assert upper_layers(towers, 0, 0) == []
    with pytest.raises(ValueError, match="3 image blocks"):
        upper_layers(towers, 3, 0)


def taste(n=120, seed=0):
    """Pictures of which the brighter one is better, whatever the prompt."""
    random = torch.Generator().manual_seed(seed)
    light = torch.rand(n, generator=random) * 2 - 1
    images = light[:, None, None, None] + 0.1 * torch.randn(n, 3, 8, 8, generator=random)
    batch = Batch([("red", "blue")[row // 2 % 2] for row in range(n)], images)
    return FitData(batch, Preferences(torch.arange(0, n, 2), torch.arange(1, n, 2), (light[::2] > light[1::2]).float()))


@pytest.mark.parametrize("tuned", ["upper", "visual upper", "visual", "all"])
def test_fitting_changes_what_is_tuned_and_nothing_else(tuned):
    reward, data = TwoTowerReward(SMALL, tuned=tuned, seed=3), taste()
    before = {name: value.clone() for name, value in reward.towers.named_parameters()}
    fit(reward, data, RewardFitConfig(epochs=2, validation=0.0, optimiser=FitConfig(learning_rate=1e-2)))
    for name, value in reward.towers.named_parameters():
        assert torch.equal(value, before[name]) == (not value.requires_grad), name


def test_it_learns_a_planted_taste_and_survives_its_checkpoint(tmp_path):
    from plaudit.rewards.learned.checkpoint import load_reward

    reward, data, fresh = TwoTowerReward(SMALL, seed=1), taste(400), taste(200, seed=1)
    fit(reward, data, RewardFitConfig(epochs=6, batch_units=16, validation=0.0, optimiser=FitConfig(learning_rate=3e-3)))
    values = reward.score(fresh.batch).values
    assert bool((values.abs() <= 1).all())
    right = ((values[::2] > values[1::2]) == (fresh.preferences.prob == 1)).float().mean()
    assert right > 0.85
    reward.temperature = 0.2
    prob = reward.compare(fresh.batch, torch.tensor([0]), torch.tensor([1])).prob
    assert prob.item() == pytest.approx(torch.sigmoid((values[0] - values[1]) / 0.2).item(), abs=1e-6)
    reward.save(tmp_path / "kept")
    again = load_reward(tmp_path / "kept")
    assert torch.equal(again.score(fresh.batch).values, values)
    assert again.fingerprint() == reward.fingerprint()


def test_alignment_learns_which_picture_belongs_to_which_prompt():
    images = torch.cat([torch.ones(40, 3, 8, 8), -torch.ones(40, 3, 8, 8)])
    images += 0.3 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    batch = Batch(["red"] * 40 + ["blue"] * 40, images)
    reward = TwoTowerReward(SMALL, tuned="all")
    reward.align(batch, FitConfig(learning_rate=1e-2), steps=30, batch_rows=16)
    matching, crossed = reward.score(batch).values, reward.score(Batch(batch.prompts[::-1], images)).values
    assert bool((matching > crossed).float().mean() > 0.95)


def test_what_is_no_picture_has_no_score():
    reward, image = TwoTowerReward(SMALL), torch.zeros(3, 8, 8)
    scores = reward.score(Batch(["red"] * 5, [image, None, "text", image * torch.nan, torch.zeros(1, 8, 8)]))
    wanted = [Status.OK, Status.NOT_APPLICABLE, Status.NOT_APPLICABLE, Status.NOT_A_NUMBER, Status.NOT_APPLICABLE]
    assert scores.status.tolist() == wanted
    stacked = torch.zeros(2, 3, 8, 8)
    stacked[1, 0, 0, 0] = torch.inf
    assert reward.score(Batch(["red", "words nobody knows"], stacked)).status.tolist() == [Status.OK, Status.NOT_A_NUMBER]
    assert torch.equal(
        reward.score(Batch([{"text": "red"}], stacked[:1])).values, reward.score(Batch(["red"], stacked[:1])).values
    )


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="tuned is"):
        TwoTowerReward(SMALL, tuned="lower")
    with pytest.raises(UserError, match="towers"):
        TwoTowerReward({"depth": 3})
    with pytest.raises(UserError, match="pairs"):
        fit(TwoTowerReward(SMALL), FitData(taste().batch, ratings=torch.zeros(120)))
