"""Ideal points: closed forms, gradients, symmetries, planted tastes that are found, and people who are not known."""

import itertools
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.fitting import FitConfig
from plaudit.rewards.learned.data import FitData
from plaudit.rewards.learned.fit import RewardFitConfig, fit
from plaudit.rewards.learned.ideal_point import MixtureIdealPoint, margin_losses, smooth_hinge
from plaudit.rewards.learned.localizing import Localizing
from plaudit.rewards.learned.losses import pair_accuracy
from plaudit.rewards.learned.vectors import VectorBackbone
from plaudit.types import Batch, Preferences, Status, UserError

MAPS = ["f(Pw)", "f(P)w", "Pw", "prompt"]


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def reward(ideal="f(Pw)", **settings):
    prompts = VectorBackbone(3, column="asked") if ideal == "prompt" else None
    return MixtureIdealPoint(
        VectorBackbone(4), **{"k": 3, "width": 5, "hidden": 8, **settings}, ideal=ideal, prompt_backbone=prompts
    )


def data(users, pairs=6, seed=0, prob=None):
    count = 2 * pairs * len(users)
    asked = normal(count // 2, 3, seed=seed + 1).repeat_interleave(2, 0)
    names = [user for user in users for _ in range(2 * pairs)]
    batch = Batch(["which?"] * count, normal(count, 4, seed=seed), users=names, extras={"asked": asked})
    first = torch.arange(0, count, 2)
    label = (
        torch.bernoulli(torch.full((count // 2,), 0.5), generator=torch.Generator().manual_seed(seed)) if prob is None else prob
    )
    return FitData(batch, Preferences(first, first + 1, label))


def test_smooth_hinge_is_the_written_formula():
    margins = torch.linspace(-9, 3, 241, dtype=torch.float64)
    slow = [0.0 if m >= 1 else (1 - m) ** 2 / 10 if m >= -4 else 1 - m - 2.5 for m in margins.tolist()]
    assert torch.allclose(smooth_hinge(margins), torch.tensor(slow, dtype=torch.float64))
    edge = smooth_hinge(torch.tensor([-4 - 1e-9, -4 + 1e-9], dtype=torch.float64))
    assert abs(float(edge[0] - edge[1])) < 1e-8, "the quadratic and the linear part meet"


@pytest.mark.parametrize("kind", ["logistic", "hinge", "smooth hinge"])
def test_losses_do_not_know_which_came_first(kind):
    gaps, prob = normal(20).double() * 3, torch.linspace(0, 1, 20)
    assert torch.allclose(margin_losses(gaps, prob, kind), margin_losses(-gaps, 1 - prob, kind))
    tie = margin_losses(torch.tensor([2.0]), torch.tensor([0.5]), kind)
    assert float(tie) == pytest.approx(0.0 if "hinge" in kind else 1.126928, abs=1e-5)
    gaps.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: margin_losses(x, prob, kind), gaps)


@pytest.mark.parametrize("ideal", MAPS)
def test_scores_against_the_slow_obvious_version(ideal):
    one = reward(ideal, users=["a", "b"])
    for name in one.modules():
        one.modules()[name].double()
    told = data(["a", "b"], pairs=2)
    one.prompts = None if one.prompts is None else _double(one.prompts)
    one.backbone = _double(one.backbone)
    found = one.logit(told.batch)
    for row in range(len(told.batch)):
        weights = one.people["logits"][one.users.index(told.batch.users[row])].softmax(0)
        item = one.item(told.batch.responses[row].double())
        if ideal == "prompt":
            asked = told.batch.extras["asked"][row].double()
            point = sum(weights[k] * one.own[k](asked) for k in range(3))
            wanted = one.scale["log"].exp() * item @ point / (item.norm() * point.norm())
        else:
            points = one.own["points"]
            if ideal == "f(Pw)":
                point = one.item(sum(weights[k] * points[k] for k in range(3)))
            else:
                point = sum(weights[k] * (one.item(points[k]) if ideal == "f(P)w" else points[k]) for k in range(3))
            wanted = -(item - point).norm()
        assert float(found[row].detach()) == pytest.approx(float(wanted.detach()), abs=1e-9)


def _double(backbone):
    class Double:
        width, settings, trainable = backbone.width, backbone.settings, False
        modules, status, fingerprint = backbone.modules, backbone.status, backbone.fingerprint

        def encode(self, batch):
            return backbone.encode(batch).double()

    return Double()


@pytest.mark.parametrize(("ideal", "loss"), [*itertools.product(MAPS, ["logistic"]), ("f(Pw)", "hinge"), ("Pw", "smooth hinge")])
def test_gradients(ideal, loss):
    one = reward(ideal, loss=loss, users=["a", "b"], bound=0.1)
    told = data(["a", "b"], pairs=3)
    one.backbone, one.prompts = _double(one.backbone), None if one.prompts is None else _double(one.prompts)
    for module in one.modules().values():
        module.double()
    weights = one.people["logits"]
    one.loss(told).total.backward()
    for place in [(0, 0), (1, 2)]:
        ends = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                weights[place] += step
                ends.append(float(one.loss(told).total))
                weights[place] -= step
        assert float(weights.grad[place]) == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-5)
    assert (one.scale["log"].grad is None) == (loss != "logistic")


def test_prototypes_have_no_order():
    one, other = reward(users=["a"]), reward(users=["a"])
    order = [2, 0, 1]
    with torch.no_grad():
        other.own["points"].copy_(one.own["points"][order])
        other.people["logits"].copy_(one.people["logits"][:, order])
    batch = data(["a"]).batch
    assert torch.allclose(one.logit(batch), other.logit(batch), atol=1e-6)


def test_swapping_pair_and_label_changes_nothing():
    one, told = reward(users=["a", "b"]), data(["a", "b"])
    edges = told.preferences
    swapped = FitData(told.batch, Preferences(edges.second, edges.first, 1 - edges.prob))
    assert torch.allclose(one.loss(told).total, one.loss(swapped).total)
    there = one.compare(told.batch, edges.first, edges.second).prob
    assert torch.allclose(there, 1 - one.compare(told.batch, edges.second, edges.first).prob, atol=1e-6)


def test_zero_length_and_equal_vectors_are_finite():
    one = reward("prompt", users=["a"])
    batch = data(["a"], pairs=1).batch
    with torch.no_grad():
        for parameter in one.item.parameters():
            parameter.zero_()
    values = one.logit(batch)
    values.sum().backward()
    assert values.tolist() == [0.0, 0.0]
    assert all(bool(torch.isfinite(parameter.grad).all()) for parameter in one.people.parameters())
    plain = reward(users=["a"], ideal="Pw", width=4, k=1)
    near = plain.rated(torch.zeros(2, 4), torch.zeros(2, 4))
    assert bool(torch.isfinite(near).all())


def test_users_weigh_alike_however_much_they_say():
    one = reward(per_user=True)
    many, few = data(["a"], pairs=8), data(["b"], pairs=2, seed=3)
    edges = [many.preferences, few.preferences]
    batch = Batch(["?"] * 20, torch.cat([many.batch.responses, few.batch.responses]), users=["a"] * 16 + ["b"] * 4)
    told = FitData(batch, Preferences(torch.arange(0, 20, 2), torch.arange(1, 20, 2), torch.cat([edge.prob for edge in edges])))
    assert one.prepare(told, range(8)).preferences.weight[:8].tolist() == [1.0] * 8
    assert one.users == ("a",), "whoever is only in held-out pairs stays unknown"
    weight = one.prepare(told, range(10)).preferences.weight
    assert weight.mean() == pytest.approx(1.0)
    assert float(weight[:8].sum()) == pytest.approx(float(weight[8:].sum()))


def test_two_people_in_one_pair_are_refused():
    batch = Batch(["?"] * 2, normal(2, 4), users=["a", "b"])
    told = FitData(batch, Preferences(torch.tensor([0]), torch.tensor([1]), torch.tensor([1.0])))
    with pytest.raises(UserError, match="'a' and 'b'"):
        reward().prepare(told, [0])
    with pytest.raises(UserError, match="needs a user"):
        reward().prepare(FitData(Batch(["?"] * 2, normal(2, 4)), told.preferences), [0])


def planted(users, pairs, seed, goals, batch_seed=0):
    """Items in the plane, of which each user likes those close to a goal of their own."""
    count = 2 * pairs * len(users)
    items = normal(count, 2, seed=seed)
    names = [user for user in users for _ in range(2 * pairs)]
    far = (items - torch.stack([goals[user] for user in names])).norm(dim=1).reshape(-1, 2)
    first = torch.arange(0, count, 2)
    return FitData(Batch(["?"] * count, items, users=names), Preferences(first, first + 1, (far[:, 0] < far[:, 1]).float()))


def accuracy(one, told):
    values = one.score(told.batch).values
    return pair_accuracy(values[told.preferences.first] - values[told.preferences.second], told.preferences.prob)


@pytest.fixture(scope="module")
def two_camps():
    """A fitted reward of two camps, at (1.5, 0) and (-1.5, 0), with the goals of all users."""
    goals = {f"user {n}": torch.tensor([1.5 if n % 2 else -1.5, 0.0]) for n in range(20)}
    known = list(goals)[:16]
    one = MixtureIdealPoint(VectorBackbone(2), k=2, width=4, hidden=32, ideal="f(Pw)")
    optimiser = FitConfig(3e-3, learning_rates={"users": 5e-2, "prototypes": 2e-2, "scale": 2e-2}, max_grad_norm=None)
    fit(one, planted(known, 30, 1, goals), RewardFitConfig(40, 64, optimiser, 0.0, calibrate=False))
    return one, goals, known


def test_planted_camps_are_found(two_camps):
    one, goals, known = two_camps
    sides = one.weights_of(known)[:, 0] > 0.5
    truth = torch.tensor([float(goals[user][0]) > 0 for user in known])
    share = float((sides == truth).float().mean())
    assert max(share, 1 - share) == 1.0, "up to the order of the prototypes"
    assert accuracy(one, planted(known, 50, 2, goals)) > 0.9


def test_a_new_user_is_fitted_and_nobody_else_moves(two_camps):
    one, goals, _ = two_camps
    assert isinstance(one, Localizing)
    before = one.state_dict()["weights"]
    fresh = planted(["user 17"], 50, 4, goals)
    one.localize("user 17", planted(["user 17"], 10, 3, goals))
    assert accuracy(one, fresh) > 0.85
    after = one.state_dict()["weights"]
    kept = {name: torch.equal(before[name], after[name]) for name in before if name != "users/logits"}
    assert all(kept.values())
    assert torch.equal(before["users/logits"], after["users/logits"][: len(before["users/logits"])])
    assert all(parameter.requires_grad for parameter in one.item.parameters())
    size = len(one.users)
    one.localize("user 17", planted(["user 17"], 1, 5, goals))
    assert len(one.users) == size


def test_few_or_no_comparisons_leave_a_user_near_the_mean(two_camps):
    one, goals, _ = two_camps
    mean = one.mean_weights()
    nothing = planted(["user 18"], 1, 6, goals).select([])
    one.localize("user 18", nothing)
    assert torch.allclose(one.weights_of(["user 18"])[0], mean, atol=1e-5)
    single = planted(["user 18"], 1, 6, goals)
    one.localize("pulled", single, pull=4.0)
    one.localize("free", single)
    pulled, free = (float((one.weights_of([user])[0] - mean).abs().sum()) for user in ("pulled", "free"))
    assert 0 < pulled < free


def test_unknown_users_have_the_mean_or_a_status():
    batch = data(["a", "stranger"], pairs=1).batch
    one = reward(users=["a", "b"])
    with pytest.warns(UserWarning, match="2 rows are of unknown users"):
        values = one.score(batch).values
    same = one.as_fixed(one.mean_weights().tolist()).score(batch).values
    assert torch.allclose(values[2:], same[2:], atol=1e-6)
    strict = reward(users=["a", "b"], unknown="status").score(batch)
    assert strict.status.tolist() == [Status.OK, Status.OK, Status.NOT_APPLICABLE, Status.NOT_APPLICABLE]
    assert bool(strict.values[2:].isnan().all())


def test_as_fixed_needs_no_users_and_keeps_none(tmp_path):
    one = reward(users=["a", "b"])
    fixed = one.as_fixed([0.2, 0.3, 0.5])
    told = data(["a"], pairs=2).batch
    batch = Batch(told.prompts, told.responses)
    with warnings.catch_warnings(action="error"):
        values = fixed.score(batch).values
    wanted = one.logit_at(batch, torch.tensor([0.2, 0.3, 0.5]).expand(len(batch), -1))
    assert torch.allclose(values, wanted, atol=1e-6)
    fixed.save(tmp_path / "fixed")
    again = MixtureIdealPoint.load(tmp_path / "fixed")
    assert again.users == ()
    assert torch.equal(again.score(batch).values, values)
    for wrong in ([0.5, 0.5], [0.5, 0.6, -0.1], [0.5, 0.5, 0.5]):
        with pytest.raises(UserError, match="add up to 1"):
            one.as_fixed(wrong)


def test_partition_takes_the_largest_weight_at_evaluation():
    one = reward(users=["a"], partition=True)
    batch = data(["a"], pairs=2).batch
    hard = one.as_fixed(torch.nn.functional.one_hot(one.people["logits"][0].argmax(), 3).tolist()).score(batch).values
    assert torch.allclose(one.score(batch).values, hard, atol=1e-6)
    one.item.train()
    assert not torch.allclose(one.logit(batch).detach(), hard)


@pytest.mark.parametrize("ideal", MAPS)
def test_checkpoints_keep_users(ideal, tmp_path):
    one, batch = reward(ideal, users=["a"]), data(["a", "b"]).batch
    one.add_users(["b"])
    one.save(tmp_path / "kept")
    again = MixtureIdealPoint.load(tmp_path / "kept")
    assert again.users == ("a", "b")
    assert torch.equal(again.score(batch).values, one.score(batch).values)
    assert again.fingerprint() == one.fingerprint()
    with torch.no_grad():
        again.people["logits"][0, 0] += 1
    assert again.fingerprint() != one.fingerprint()


def test_a_user_who_is_added_twice_stays():
    one = reward(users=["a"])
    before = one.people["logits"].detach().clone()
    one.add_users(["a", "b"])
    assert torch.equal(one.people["logits"][:1].detach(), before)
    assert torch.equal(reward(users=["b"]).people["logits"][0], one.people["logits"][1]), "a start depends on the name alone"


@given(
    st.sampled_from([{"k": 0}, {"loss": "absolute"}, {"ideal": "prompt"}, {"residual": True}, {"ideal": "Q"}, {"fixed": [1.0]}])
)
def test_settings_that_make_no_sense(settings):
    with pytest.raises(UserError):
        MixtureIdealPoint(VectorBackbone(4), **{"k": 3, "width": 5, **settings})
