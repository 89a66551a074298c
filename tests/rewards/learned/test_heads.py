"""Every head: what was planted is found, gradients are right, parts add up, and labels that do not fit are refused."""

import math

import pytest
import torch

from plaudit.fitting import FitConfig
from plaudit.rewards.learned.catalogue import HEADS, build_head
from plaudit.rewards.learned.data import FitData
from plaudit.rewards.learned.ensemble import DRAWS, EnsembleReward, TwoPassReward
from plaudit.rewards.learned.fit import RewardFitConfig, fit
from plaudit.rewards.learned.heads import (
    AspectsReward,
    BradleyTerryReward,
    OrdinalReward,
    RankingReward,
    RegressionReward,
)
from plaudit.rewards.learned.vectors import VectorBackbone
from plaudit.types import Batch, Context, Preferences, UserError
from tests.rewards.learned.planted import TRUTH, direction, pairs, rated, vectors

QUICK = RewardFitConfig(epochs=12, batch_units=50, optimiser=FitConfig(learning_rate=0.05, schedule="cosine"), patience=None)


def heads():
    return {
        "bt": BradleyTerryReward(VectorBackbone(4), hidden=(5,), margin=0.2, smoothing=0.1, centring=0.1),
        "ranking": RankingReward(VectorBackbone(4), hidden=(5,)),
        "ordinal": OrdinalReward(VectorBackbone(4), levels=[1, 2, 4, 5]),
        "regression": RegressionReward(VectorBackbone(4), hidden=(5,)),
        "aspects": AspectsReward(VectorBackbone(4), aspects=["a", "b"], gate_hidden=(3,), separate=False),
        "ensemble": EnsembleReward(VectorBackbone(4), members=3, hidden=(5,)),
    }


def labelled(kind):
    """Labels of the sort that a head reads, over six rows."""
    batch = Batch([str(row // 2) for row in range(6)], vectors(6), groups=torch.tensor([0, 0, 0, 1, 1, 1]))
    told = Preferences(
        torch.tensor([0, 2, 4]), torch.tensor([1, 3, 5]), torch.tensor([1.0, 0.5, 0.2]), torch.tensor([1.0, 2.0, 1.0])
    )
    levels = torch.tensor([1.0, 2.0, 5.0, 4.0, torch.nan, 1.0])
    return {
        "bt": FitData(batch, told),
        "ensemble": FitData(batch, told),
        "aspects": FitData(batch, told, torch.stack([levels, -levels], 1)),
    }.get(kind, FitData(batch, ratings=levels))


@pytest.mark.parametrize("kind", list(heads()))
def test_every_parameter_has_the_gradient_of_finite_differences(kind):
    reward, data = heads()[kind], labelled(kind)
    units = list(range(len(data)))
    data = reward.prepare(data, units).select(units)
    generator = torch.Generator().manual_seed(1)
    for module in reward.modules().values():
        module.double()
    data.batch.responses = data.batch.responses.double()
    reward.backbone.vectors = lambda batch: batch.responses
    parameters = [parameter for module in reward.modules().values() for parameter in module.parameters()]
    for parameter in parameters:
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    total = reward.loss(data).total
    found = torch.autograd.grad(total, parameters)
    for parameter, gradient in zip(parameters, found, strict=True):
        along = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        ends = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                parameter += step * along
                ends.append(reward.loss(data).total.item())
                parameter -= step * along
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(float((gradient * along).sum()), rel=1e-5, abs=1e-7)
    assert any(bool(gradient.abs().max() > 1e-3) for gradient in found)


@pytest.mark.parametrize("kind", ["bt", "ranking", "regression", "ordinal", "aspects"])
def test_a_loss_is_the_sum_of_its_units(kind):
    """So mini-batches add up. Rankings count per row of a whole group; ensembles too, once they are prepared."""
    reward, data = heads()[kind], labelled(kind)
    for module in reward.modules().values():
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(1))
    if kind == "aspects":
        data = FitData(data.batch, ratings=data.ratings)
    sizes = [3, 2] if kind == "ranking" else [1] * len(data)
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    parts = [data.select(list(range(start, start + size))) for start, size in zip(starts, sizes, strict=True)]
    whole = reward.loss(data.select(list(range(len(data))))).total
    torch.testing.assert_close(sum(reward.loss(part).total for part in parts), whole)
    assert whole > 0


def test_bradley_terry_finds_the_planted_direction_and_scale():
    reward = BradleyTerryReward(VectorBackbone(4))
    fit(reward, pairs(3000), QUICK)
    weights = (reward.head[-1].weight[0] / reward.scaler.deviation / reward.temperature).detach()
    torch.testing.assert_close(weights, TRUTH, atol=0.25, rtol=0)


def test_standardised_inputs_find_it_whatever_the_scales():
    """Hidden states have a few very large numbers; without standardising, the same steps do not get there."""
    data = pairs(1500, noise=False)
    scales = torch.tensor([1e3, 1.0, 1e-3, 1.0])
    stretched = FitData(Batch(data.batch.prompts, data.batch.responses * scales + 1e3), data.preferences)
    plain, scaled = (
        fit(BradleyTerryReward(VectorBackbone(4), standardise=on), stretched, QUICK).accuracy for on in (False, True)
    )
    assert scaled > 0.95
    assert plain < scaled


def test_a_hidden_layer_learns_what_a_linear_head_cannot():
    data = pairs(1500, noise=False)
    curved = data.batch.responses[:, 0].square()
    first, second = data.preferences.first, data.preferences.second
    data = FitData(data.batch, Preferences(first, second, (curved[first] > curved[second]).float()))
    linear, deep = (fit(BradleyTerryReward(VectorBackbone(4), hidden=hidden), data, QUICK).accuracy for hidden in ((), (16,)))
    assert linear < 0.65
    assert deep > 0.85


def test_a_margin_makes_gaps_larger_and_centring_keeps_scores_around_zero():
    data = pairs(600)
    data.batch.responses[:, 3] = 1 + 0.01 * data.batch.responses[:, 3]  # a way to shift all scores

    def gap(**settings):
        reward = BradleyTerryReward(VectorBackbone(4), standardise=False, **settings)
        fit(reward, data, QUICK)
        values = reward.score(data.batch).values * reward.temperature
        return float((values[data.preferences.first] - values[data.preferences.second]).abs().mean()), float(values.mean().abs())

    plain, wide, smooth = gap(), gap(margin=1.0), gap(smoothing=0.2)
    assert smooth[0] < plain[0] < wide[0]
    pushed = BradleyTerryReward(VectorBackbone(4), standardise=False, centring=0.05)
    with torch.no_grad():
        pushed.head[-1].weight[0, 3] = 2.0
    fit(pushed, data, QUICK)
    assert abs(float((pushed.score(data.batch).values * pushed.temperature).mean())) < 0.5
    with pytest.raises(ValueError, match="smoothing lies"):
        BradleyTerryReward(VectorBackbone(4), smoothing=0.5)


def test_a_margin_by_ratings_asks_more_where_they_differ_more():
    batch = Batch(["a", "a", "b", "b"], vectors(4))
    told = Preferences(torch.tensor([0, 2]), torch.tensor([1, 3]), torch.ones(2))
    reward = BradleyTerryReward(VectorBackbone(4), margin=1.0)
    loss = reward.loss(FitData(batch, told, torch.tensor([5.0, 2.0, 1.0, 1.0]))).total.item()
    assert loss == pytest.approx(math.log(1 + math.exp(3)) + math.log(2))


def test_rankings_find_the_planted_direction():
    found = vectors(600)
    groups = torch.arange(600) // 4
    noisy = (
        found @ TRUTH - torch.empty(600).exponential_(generator=torch.Generator().manual_seed(3)).log()
    )  # Gumbel: Luce's choice
    reward = RankingReward(VectorBackbone(4))
    report = fit(reward, FitData(Batch([str(int(g)) for g in groups], found, groups=groups), ratings=noisy), QUICK)
    assert direction(reward.head[-1].weight[0]) @ direction(TRUTH) > 0.97
    assert report.held_out % 4 == 0, "no group is divided"
    with pytest.raises(UserError, match="the data has none"):
        fit(RankingReward(VectorBackbone(4)), rated(10), QUICK)


def test_regression_scores_in_the_units_of_the_ratings():
    data, test = rated(), rated(100, seed=5, noise=0.0)
    reward = RegressionReward(VectorBackbone(4))
    fit(reward, data, QUICK)
    assert (reward.score(test.batch).values - test.ratings).abs().mean() < 0.3
    assert reward.temperature == 1


def test_ordinal_finds_direction_and_cut_points():
    found = vectors(3000)
    noise = torch.logit(torch.rand(3000, generator=torch.Generator().manual_seed(4)))
    cuts = torch.tensor([-2.0, 0.5, 1.0])
    levels = torch.tensor([1.0, 2.0, 4.0, 5.0])[torch.bucketize(found @ TRUTH + noise, cuts)]
    data = FitData(Batch([str(row) for row in range(3000)], found), ratings=levels)
    reward = OrdinalReward(VectorBackbone(4), levels=[1, 2, 4, 5])
    fit(reward, data, QUICK)
    torch.testing.assert_close((reward.head[-1].weight[0] / reward.scaler.deviation).detach(), TRUTH, atol=0.2, rtol=0)
    shift = (reward.head[-1].weight[0] * reward.scaler.mean / reward.scaler.deviation).sum().detach()
    torch.testing.assert_close(reward.thresholds().detach() + shift, cuts, atol=0.3, rtol=0)
    with pytest.raises(UserError, match="the rating 3 is none of the levels"):
        fit(reward, FitData(data.batch, ratings=torch.full((3000,), 3.0)), QUICK)
    with pytest.raises(ValueError, match="two or more different"):
        OrdinalReward(VectorBackbone(4), levels=[1])


def aspects_world(n=800):
    """Two aspects; the prompt's column says which one counts."""
    found, kind = vectors(2 * n), (torch.arange(2 * n) // 2 % 2).float()
    ratings = torch.stack([found[:, 0] * 2 + 5, found[:, 1] - 3], 1)
    utility = torch.where(kind == 0, found[:, 0], found[:, 1])
    first = torch.arange(0, 2 * n, 2)
    column = torch.stack([1 - kind, kind], 1)
    batch = Batch([str(row // 2) for row in range(2 * n)], found, extras={"prompt": column})
    return FitData(batch, Preferences(first, first + 1, (utility[first] > utility[first + 1]).float()), ratings)


def test_the_gate_learns_which_aspect_counts_and_ratings_come_in_their_units():
    data = aspects_world()
    reward = AspectsReward(VectorBackbone(4), aspects=["good", "brief"], gate_column="prompt", gate_width=2)
    report = fit(reward, data, QUICK)
    assert report.accuracy > 0.9
    scores = reward.score(data.batch)
    assert (scores.parts["good"] - data.ratings[:, 0]).abs().mean() < 0.3
    assert (scores.parts["brief"] - data.ratings[:, 1]).abs().mean() < 0.3
    gates = reward.gate(torch.eye(2)).softmax(1)
    assert gates[0, 0] > 0.8
    assert gates[1, 1] > 0.8
    with pytest.raises(UserError, match=r"expected \[rows, 2\]"):
        fit(reward, FitData(data.batch, data.preferences, data.ratings[:, :1]), QUICK)


def test_pairs_leave_the_ratings_alone_where_the_two_are_separate():
    data = aspects_world(20)
    for separate in (True, False):
        reward = AspectsReward(VectorBackbone(4), aspects=["a", "b"], separate=separate)
        torch.nn.init.normal_(reward.head[-1].weight, generator=torch.Generator().manual_seed(1))
        reward.loss(FitData(data.batch, data.preferences)).total.backward()
        assert (reward.head[-1].weight.grad is None) == separate
        assert reward.gate[-1].weight.grad is not None


def test_an_ensemble_is_less_sure_far_from_what_it_saw():
    data = pairs(150)
    reward = EnsembleReward(VectorBackbone(4), members=6)
    fit(reward, data, QUICK)
    near, far = (Batch(["x"] * 50, vectors(50, seed=9) * scale) for scale in (1.0, 10.0))
    scores = reward.score(far)
    assert scores.spread.mean() > 3 * reward.score(near).spread.mean() > 0
    members = reward.logits(far).detach() / reward.temperature
    torch.testing.assert_close(scores.values, members.mean(1))
    torch.testing.assert_close(scores.spread, members.std(1))
    with pytest.raises(ValueError, match="two members"):
        EnsembleReward(VectorBackbone(4), members=1)


def test_members_draw_prompts_as_a_bootstrap_does_and_held_out_prompts_count_once():
    reward, data = EnsembleReward(VectorBackbone(4), members=4), pairs(2000)
    drawn = reward.prepare(data, list(range(1900))).batch.extras[DRAWS]
    assert torch.equal(drawn[0::2], drawn[1::2]), "both rows of a prompt"
    fitted = drawn[: 2 * 1900 : 2]
    assert fitted.mean().item() == pytest.approx(1, abs=0.05)
    assert fitted.var().item() == pytest.approx(1, abs=0.1)
    assert bool((drawn[2 * 1900 :] == 1).all())
    assert torch.equal(reward.prepare(data, list(range(1900))).batch.extras[DRAWS], drawn)
    torch.testing.assert_close(torch.corrcoef(fitted.T), torch.eye(4), atol=0.1, rtol=0)


def test_two_passes_disagree_where_there_is_dropout_and_only_there():
    batch = Batch(["x"] * 40, vectors(40))
    for dropout in (0.0, 0.3):
        inner = BradleyTerryReward(VectorBackbone(4), hidden=(16,), dropout=dropout)
        torch.nn.init.normal_(inner.head[-1].weight, generator=torch.Generator().manual_seed(1))
        reward = TwoPassReward(inner, scale=0.5)
        scores, again, other = (reward.score(batch, Context(seed=seed)) for seed in (1, 1, 2))
        assert torch.equal(scores.values, again.values)
        assert torch.equal(scores.values, other.values) == (dropout == 0)
        assert bool((scores.parts["disagreement"] == 0).all()) == (dropout == 0)
        torch.testing.assert_close(scores.parts["weight"], (-0.5 * scores.parts["disagreement"]).exp())
        torch.testing.assert_close(scores.spread * 2**0.5, scores.parts["disagreement"])
        assert torch.equal(inner.score(batch).values, inner.score(batch).values), "left in evaluation mode"
    batch.responses[3] = torch.nan
    scores = reward.score(batch)
    assert scores.counts()[0] == 39
    assert bool(scores.parts["weight"][3].isnan()), "no weight is made up for a row without a score"


def test_every_head_is_found_by_its_kind():
    for kind, head in heads().items():
        assert HEADS[kind] is type(head)
        assert build_head(kind, head.settings).settings == head.settings
    with pytest.raises(UserError, match="unknown head 'elbow'"):
        build_head("elbow", {})
    with pytest.raises(UserError, match="head 'bt'"):
        build_head("bt", {"backbone": {"kind": "vector", "widths": 3}, "colour": 1})
