"""Variational rewards: the KL against torch's, gradients, sets without order, planted kinds of users, and no label that leaks."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.fitting import FitConfig
from plaudit.rewards.learned.data import FitData
from plaudit.rewards.learned.fit import RewardFitConfig, fit
from plaudit.rewards.learned.localizing import Localizing
from plaudit.rewards.learned.losses import pair_accuracy
from plaudit.rewards.learned.variational import Posterior, VariationalReward, cyclical
from plaudit.rewards.learned.vectors import VectorBackbone
from plaudit.types import Batch, Preferences, UserError


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def reward(**settings):
    return VariationalReward(VectorBackbone(2), **{"latent": 3, "hidden": 16, **settings})


def data(users, pairs=6, seed=0, like=None):
    """Pairs in the plane; `like` says in which direction of the first axis a user goes."""
    count = 2 * pairs * len(users)
    names = [user for user in users for _ in range(2 * pairs)]
    items = normal(count, 2, seed=seed)
    gap = (items[0::2] - items[1::2])[:, 0]
    sign = torch.tensor([(like or {}).get(user, 1.0) for user in names[::2]])
    first = torch.arange(0, count, 2)
    return FitData(Batch(["?"] * count, items, users=names), Preferences(first, first + 1, (gap * sign > 0).float()))


def swap(told, pairs):
    """The same data with some pairs given the other way round."""
    edges, chosen = told.preferences, torch.zeros(len(told), dtype=torch.bool)
    chosen[list(pairs)] = True
    first, second = torch.where(chosen, edges.second, edges.first), torch.where(chosen, edges.first, edges.second)
    return FitData(told.batch, Preferences(first, second, torch.where(chosen, 1 - edges.prob, edges.prob)))


def test_divergence_is_that_of_normals():
    found = Posterior(normal(4, 5).double(), normal(4, 5, seed=1).double())
    q = torch.distributions.Normal(found.mean, (found.log_variance / 2).exp())
    p = torch.distributions.Normal(torch.zeros(()).double(), torch.ones(()).double())
    assert torch.allclose(found.divergence(), torch.distributions.kl_divergence(q, p).sum(1))
    assert Posterior(torch.zeros(1, 3), torch.zeros(1, 3)).divergence().item() == 0.0


def test_cyclical_weight():
    weights = [cyclical(step, 8) for step in range(17)]
    assert weights[0] == weights[8] == weights[16] == 0.0
    assert weights[2] == pytest.approx(0.5)
    assert weights[4:8] == [1.0] * 4
    assert cyclical(0, 10, lowest=0.1, rising=1.0) == pytest.approx(0.1)
    assert cyclical(5, 10, lowest=0.1, rising=1.0) == pytest.approx(0.55)


@pytest.mark.parametrize("encoder", ["mlp", "attention"])
def test_sets_have_no_order_and_pairs_no_side(encoder):
    one, told = reward(encoder=encoder), data(["a", "b", "c"])
    names, there = one.posterior(told)
    order = torch.randperm(len(told), generator=torch.Generator().manual_seed(3))
    edges = told.preferences
    mixed = FitData(told.batch, Preferences(edges.first[order], edges.second[order], edges.prob[order]))
    for other in (mixed, swap(told, [0, 4, 7])):
        names_too, again = one.posterior(other)
        assert names_too == names
        assert torch.allclose(there.mean, again.mean, atol=1e-6)
        assert torch.allclose(there.log_variance, again.log_variance, atol=1e-6)


@pytest.mark.parametrize("encoder", ["mlp", "attention"])
def test_users_do_not_hear_each_other_and_sets_may_differ_in_size(encoder):
    one = reward(encoder=encoder)
    told = data(["a", "b", "c"])
    whole = one.posterior(told.select([0, 1, 2, 3, 4, 5, 6, 12, 13]))[1]
    for number, units in enumerate(([0, 1, 2, 3, 4, 5], [6], [12, 13])):
        alone = one.posterior(told.select(units))[1]
        assert torch.allclose(alone.mean[0], whole.mean[number], atol=1e-6)
    assert not torch.allclose(whole.mean[0], whole.mean[1])


@pytest.mark.parametrize("encoder", ["mlp", "attention"])
def test_gradients(encoder):
    one = reward(encoder=encoder)
    for module in (one.pair, one.set, one.decoder):
        module.double()
    vectors, owner = normal(6, 2).double(), torch.tensor([0, 0, 2])

    def elbo(x):
        found = one.encode_sets(x[:3], x[3:], owner, 3)
        latents = found.sample(torch.ones(3, 3).double())
        return one.decode(x[:3], latents[owner]).sum() + found.divergence().sum()

    assert torch.autograd.gradcheck(elbo, vectors.requires_grad_(True))


def test_the_loss_is_the_elbo():
    one, told = reward(context=(6, 6), targets="all", beta=0.3, clamp=1.0), data(["a", "b"])
    for module in one.modules().values():
        module.eval()
    _, found = one.posterior(told)
    edges = told.preferences
    rewards = one.decode(told.batch.responses, found.mean.repeat_interleave(12, 0))
    gaps = rewards[edges.first] - rewards[edges.second]
    wanted = -torch.nn.functional.logsigmoid(torch.where(edges.prob > 0.5, gaps, -gaps)).sum() + 0.3 * found.divergence().sum()
    loss = one.loss(told)
    assert float(loss.total.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
    assert float(found.mean.detach().abs().max()) <= 1.0
    assert loss.stats["kl"] == pytest.approx(float(found.divergence().detach().mean()))
    assert float(one.loss(swap(told, [1, 2, 9])).total.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)


def test_a_target_is_not_in_its_own_context():
    one, told = reward(context=(9, 9), targets="others"), data(["a", "b"])
    for module in one.modules().values():
        module.eval()
    inside = one._context(torch.arange(2).repeat_interleave(6), 2, training=False)
    assert inside.reshape(2, 6).sum(1).tolist() == [5, 5], "one pair of each is left to be predicted"
    edges = told.preferences
    flipped = edges.prob.clone()
    flipped[5] = 1 - flipped[5]
    other = FitData(told.batch, Preferences(edges.first, edges.second, flipped))
    assert one.gaps(told)[5].item() == pytest.approx(one.gaps(other)[5].item(), abs=1e-6), "its own label is not read"
    assert one.gaps(told)[4].item() != pytest.approx(one.gaps(other)[4].item(), abs=1e-6), "those of the others are"


def test_contexts_are_drawn_anew_and_by_the_seed():
    one, owner = reward(context=(2, 4), targets="others"), torch.arange(50).repeat_interleave(7)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = [one._context(owner, 50, training=True).reshape(50, 7) for _ in range(2)]
        torch.manual_seed(0)
        again = one._context(owner, 50, training=True).reshape(50, 7)
    assert torch.equal(draws[0], again)
    assert not torch.equal(draws[0], draws[1])
    assert set(draws[0].sum(1).tolist()) == {2, 3, 4}


def test_ties_say_nothing_and_no_pairs_mean_the_prior():
    one, told = reward(), data(["a", "b"])
    edges = told.preferences
    prob = edges.prob.clone()
    prob[6:] = 0.5
    names, found = one.posterior(FitData(told.batch, Preferences(edges.first, edges.second, prob)))
    assert names == ["a", "b"]
    assert found.mean[1].tolist() == [0.0] * 3
    assert found.divergence()[1].item() == 0.0
    one.localize("a", told)
    one.localize("a", told.select([]))
    assert one.latents(["a"]).mean.abs().sum() == 0.0, "who is learned anew from nothing is the average"


@pytest.fixture(scope="module")
def two_kinds():
    """Fitted on users of whom half like more of the first number and half less, one label in twenty being wrong."""
    users = [f"user {n}" for n in range(120)]
    like = {user: 1.0 if n % 2 else -1.0 for n, user in enumerate(users)}
    told = data(users, 7, seed=1, like=like)
    flips = torch.rand(len(told), generator=torch.Generator().manual_seed(5)) < 0.05
    edges = told.preferences
    told = FitData(told.batch, Preferences(edges.first, edges.second, torch.where(flips, 1 - edges.prob, edges.prob)))
    one = VariationalReward(VectorBackbone(2), latent=2, hidden=16, encoder="mlp", context=(1, 6), beta=0.05, period=60)
    found = fit(one, told, RewardFitConfig(30, 24, FitConfig(5e-3, max_grad_norm=None), 0.1, "user", None))
    return one, found


def accuracy(one, told):
    values, edges = one.score(told.batch).values, told.preferences
    return pair_accuracy(values[edges.first] - values[edges.second], edges.prob)


def test_planted_kinds_are_found(two_kinds):
    one, report = two_kinds
    assert isinstance(one, Localizing)
    assert report.accuracy > 0.75, "held-out pairs, judged from their users' other pairs"
    like = {"new 0": 1.0, "new 1": -1.0}
    for user in like:
        one.localize(user, data([user], 6, seed=8, like=like))
    fresh = data(list(like), 60, seed=9, like=like)
    assert accuracy(one, fresh) > 0.85
    other = {user: -sign for user, sign in like.items()}
    assert accuracy(one, data(list(like), 60, seed=9, like=other)) < 0.15
    assert one.latents(list(like)).divergence().min() > 0.3, "the latent is used"


def test_more_answers_leave_less_doubt(two_kinds):
    one, _ = two_kinds
    spreads = []
    for count in (0, 1, 8):
        one.localize("doubted", data(["doubted"], max(1, count), seed=20).select(range(count)))
        spreads.append(float(one.score(data(["doubted"], 40, seed=21).batch).spread.mean()))
    assert spreads[0] > spreads[2]


def test_fitting_repeats_and_checkpoints_keep_people(tmp_path, two_kinds):
    one, _ = two_kinds
    one.localize("kept", data(["kept"], 4, seed=30))
    one.save(tmp_path / "kept")
    again = VariationalReward.load(tmp_path / "kept")
    batch = data(["kept", "stranger"], 5, seed=31).batch
    first, second = one.score(batch), again.score(batch)
    assert torch.equal(first.values, second.values)
    assert torch.equal(first.spread, second.spread)
    assert again.users == one.users
    config = RewardFitConfig(2, 8, validation=0.0)
    twice = []
    for _ in range(2):
        fresh = reward(period=3)
        fit(fresh, data([f"u{n}" for n in range(20)], 4, seed=2), config)
        twice.append(fresh.state_dict()["weights"])
    assert all(torch.equal(twice[0][name], twice[1][name]) for name in twice[0])
    assert float(twice[0]["known/updates"]) == 6


def test_rows_need_users():
    told = data(["a"])
    nobody = FitData(Batch(told.batch.prompts, told.batch.responses), told.preferences)
    with pytest.raises(UserError, match="users"):
        fit(reward(), nobody, RewardFitConfig(1))
    with pytest.raises(UserError, match="needs a user"):
        reward().score(nobody.batch)


@given(st.sampled_from([{"encoder": "flat"}, {"targets": "own"}, {"context": (4, 2)}, {"context": (-1, 2)}, {"beta": -1.0}]))
def test_settings_that_make_no_sense(settings):
    with pytest.raises(UserError):
        reward(**settings)


def test_extreme_vectors_keep_the_variance_finite():
    one = reward()
    found = one.encode_sets(torch.full((1, 2), 1e6), torch.full((1, 2), -1e6), torch.tensor([0]), 1)
    assert float(found.log_variance.detach().abs().max()) <= 10
    assert math.isfinite(float(found.divergence().detach()))
