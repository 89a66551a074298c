"""Questions: label vectors, information gain against its definition, and informative questions that are preferred."""

import pytest
import torch

from plaudit.rewards.learned.active import answered, gain, information_gain, label_vectors, rank_questions
from plaudit.rewards.learned.variational import VariationalReward
from plaudit.rewards.learned.vectors import VectorBackbone
from plaudit.types import Batch


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_label_vectors():
    every = label_vectors(3, 50, 0)
    assert sorted(map(tuple, every.int().tolist())) == sorted({(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)})
    some = label_vectors(10, 50, 0)
    assert len({tuple(row) for row in some.tolist()}) == 50
    assert torch.equal(some, label_vectors(10, 50, 0))
    assert not torch.equal(some, label_vectors(10, 50, 1))
    assert label_vectors(200, 7, 0).shape == (7, 200), "2^200 is not enumerated"


def test_gain_is_a_difference_of_entropies():
    means, variances = normal(8, 5, 4).double(), normal(8, 5, 4, seed=1).double().exp()
    mixture = variances.mean(0) + (means - means.mean(0)).square().mean(0)
    whole = torch.distributions.Normal(torch.zeros(()).double(), mixture.sqrt()).entropy().sum(-1)
    each = torch.distributions.Normal(torch.zeros(()).double(), variances.sqrt()).entropy().sum(-1).mean(0)
    assert torch.allclose(gain(means, variances), whole - each)
    assert bool((gain(means, variances) > 0).all())
    assert torch.allclose(gain(means, variances), gain(means * 3.0, variances * 9.0)), "of no unit"


def test_gain_is_zero_where_answers_change_nothing():
    means, variances = normal(1, 5, 4).expand(8, -1, -1), normal(1, 5, 4, seed=1).exp().expand(8, -1, -1)
    assert torch.allclose(gain(means, variances), torch.zeros(5), atol=1e-6)


def test_the_published_form_forgets_the_means():
    variances = torch.ones(2, 1, 1)
    apart = torch.tensor([[[-5.0]], [[5.0]]])
    assert gain(apart, variances, "released").item() == 0.0
    assert gain(apart, variances, "within").item() == 0.0
    assert gain(apart, variances).item() == pytest.approx(0.5 * torch.tensor(26.0).log().item())


def planted():
    """A reward whose latent's mean is ten times winner - loser: only the first number of the items is read."""
    one = VariationalReward(VectorBackbone(2), latent=1, hidden=1, encoder="mlp")
    one.pair = torch.nn.Linear(4, 1, bias=False)
    one.set["moments"] = torch.nn.Linear(1, 2)
    with torch.no_grad():
        one.pair.weight.copy_(torch.tensor([[1.0, 0.0, -1.0, 0.0]]))
        one.set["moments"].weight.copy_(torch.tensor([[10.0], [0.0]]))
        one.set["moments"].bias.zero_()
    return one


def test_questions_that_tell_users_apart_come_first():
    items = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [0.1, 0.0], [0.0, 0.0]])
    sets = torch.tensor([[[2, 3]], [[0, 1]], [[4, 5]]])
    batch = Batch(["?"] * 6, items)
    one = planted()
    worth = information_gain(one, batch, sets)
    assert worth[0] == pytest.approx(0.0, abs=1e-6)
    assert worth[1] > worth[2] > worth[0]
    assert rank_questions(one, batch, sets) == [1, 2, 0]
    found = answered(one, batch, sets, label_vectors(1, 2, 0))
    assert torch.allclose(found.mean[:, 1, 0].abs(), torch.tensor([20.0, 20.0]))
    assert found.mean[0, 1] == -found.mean[1, 1]


def test_other_strategies():
    one = VariationalReward(VectorBackbone(2), latent=3, hidden=8)
    batch, sets = Batch(["?"] * 24, normal(24, 2)), torch.arange(24).reshape(4, 3, 2)
    assert sorted(rank_questions(one, batch, sets, "random", seed=1)) == [0, 1, 2, 3]
    assert rank_questions(one, batch, sets, "random", seed=1) == rank_questions(one, batch, sets, "random", seed=1)
    found = answered(one, batch, sets, label_vectors(3, 50, 0))
    lowest = found.log_variance.sum(-1).min(0).values
    assert rank_questions(one, batch, sets, "best case") == lowest.argsort(stable=True).tolist()
