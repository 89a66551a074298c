"""What every odd set of labels leads to: a defined outcome, counted and told (the table of docs/fit.md)."""

from dataclasses import replace

import pytest
import torch

from plaudit.rewards.learned.data import FitData
from plaudit.rewards.learned.fit import NothingToFit, fit
from plaudit.rewards.learned.heads import BradleyTerryReward, RankingReward, RegressionReward
from plaudit.rewards.learned.usable import usable_units
from plaudit.rewards.learned.vectors import VectorBackbone
from plaudit.types import Batch, Preferences, Status, UserError
from tests.rewards.learned.planted import QUICK, linear, pairs, rated, texts, told, vectors


def test_one_pair():
    reward = linear()
    report = fit(reward, pairs(1), QUICK)
    assert (report.fitted, report.held_out, report.accuracy, report.temperature) == (1, 0, None, 1.0)
    assert "no validation part" in report.notes[0]
    assert report.losses[-1] < report.losses[0]


def test_all_ties():
    data = pairs(50)
    data.preferences.prob[:] = 0.5
    reward = linear()
    with torch.no_grad():
        reward.head[-1].weight.fill_(1.0)
    spread = reward.score(data.batch).values.std()
    report = fit(reward, data, replace(QUICK, epochs=20))
    assert report.accuracy is None
    assert report.temperature == 1
    assert any("all labels are ties" in note for note in report.notes)
    assert any("no held-out pair is decided" in note for note in report.notes)
    assert reward.score(data.batch).values.std() < 0.5 * spread, "scores are pulled together"


def test_one_class_only_is_an_ordinary_set_of_pairs():
    """The first always wins: turning half of the pairs around gives the same reward."""
    data = pairs(100, noise=False)
    sides = torch.stack([data.preferences.first, data.preferences.second])
    winner = torch.where(data.preferences.prob > 0.5, sides[0], sides[1])
    loser = sides.sum(0) - winner
    one_class = FitData(data.batch, Preferences(winner, loser, torch.ones(100)))
    mixed, sorted_out = linear(), linear()
    assert fit(mixed, data, QUICK).accuracy == fit(sorted_out, one_class, QUICK).accuracy
    torch.testing.assert_close(mixed.head[-1].weight, sorted_out.head[-1].weight, rtol=1e-3, atol=1e-3)


def test_ratings_that_are_all_equal():
    data = FitData(rated(50).batch, ratings=torch.full((50,), 4.0))
    reward = RegressionReward(VectorBackbone(4))
    report = fit(reward, data, QUICK)
    assert any("all ratings are equal" in note for note in report.notes)
    torch.testing.assert_close(reward.score(data.batch).values, torch.full((50,), 4.0))


def test_a_user_with_one_comparison_takes_part():
    data = pairs(50)
    data.batch.users = ["once"] * 2 + ["often"] * 98
    report = fit(linear(), data, replace(QUICK, split_by="user", validation=0.1))
    assert (report.fitted, report.held_out) == (49, 1)


def test_contradictory_pairs_are_kept_counted_and_meet_at_their_mean():
    batch = texts(["good", "bad", "good", "bad", "other", "bad"])
    batch = Batch(batch.prompts, batch.responses, extras={"x": vectors(3)[[0, 1, 0, 1, 2, 1]]})
    data = told(batch, [(0, 1), (3, 2), (0, 1), (0, 1), (4, 5)], [1.0, 1.0, 1.0, 1.0, 1.0])
    reward = BradleyTerryReward(VectorBackbone(4, column="x"))
    report = fit(reward, data, replace(QUICK, epochs=300, split_by="none", validation=0.0))
    assert report.contradictory == 4, "the pair with 'other' has no opposite"
    prob = reward.compare(batch, torch.tensor([0]), torch.tensor([1])).prob
    assert prob.item() == pytest.approx(0.75, abs=0.02)


def test_pairs_of_equal_samples_are_left_out_and_counted():
    batch = texts(["same", "same", "a", "b", "same"], ["q", "q", "q", "q", "another"])
    data = told(batch, [(0, 1), (2, 3), (2, 2), (0, 4)], [1.0, 1.0, 0.0, 1.0])
    found = usable_units(BradleyTerryReward(VectorBackbone(4, column="x")), data)
    assert found.left_out == {"equal samples": 2}
    assert found.units.tolist() == [1, 3], "the same answer to another prompt is another sample"
    rows = Batch(["q"] * 4, vectors(2)[[0, 0, 1, 0]])
    assert usable_units(linear(), told(rows, [(0, 1), (1, 2)], [1.0, 1.0])).left_out == {"equal samples": 1}


def test_rows_without_features_and_pairs_without_labels_are_left_out_and_counted():
    data = pairs(6)
    data.batch.responses[0] = torch.nan
    data.batch.responses[5, 3] = torch.inf
    weight = torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0, 1.0])
    prob = data.preferences.prob.clone()
    prob[4] = torch.nan
    data = FitData(data.batch, Preferences(data.preferences.first, data.preferences.second, prob, weight))
    reward = linear()
    report = fit(reward, data, QUICK)
    assert report.left_out == {"no label": 1, "not_a_number": 2, "weight 0": 1}
    assert report.fitted + report.held_out == 2
    assert bool(torch.isfinite(reward.head[-1].weight).all())
    assert reward.score(data.batch).counts() == {Status.OK: 10, Status.NOT_A_NUMBER: 2}
    ratings = rated(5)
    ratings.batch.responses[2] = torch.nan
    assert usable_units(linear(), ratings).left_out == {"not_a_number": 1}


def test_rows_that_a_backbone_fails_on_are_left_out_and_counted():
    """It could not know before: their status was OK."""

    class Failing(VectorBackbone):
        def status(self, batch):
            return torch.zeros(len(batch), dtype=torch.int8)

    data = pairs(40)
    data.batch.responses[[0, 7, 60]] = torch.nan
    reward = BradleyTerryReward(Failing(4))
    report = fit(reward, data, replace(QUICK, validation=0.3))
    assert report.left_out == {"not_a_number": 3}
    assert report.fitted + report.held_out == 37
    assert report.skipped == 0
    assert reward.score(data.batch).counts() == {Status.OK: 77, Status.NOT_A_NUMBER: 3}
    data.batch.responses[:, 0] = torch.nan
    with pytest.raises(NothingToFit, match="could encode none"):
        fit(BradleyTerryReward(Failing(4)), data, QUICK)


def test_nothing_is_left():
    data = pairs(3)
    data.batch.responses[:] = torch.nan
    with pytest.raises(NothingToFit, match="3 labels, of which 3 not_a_number were left out"):
        fit(linear(), data, QUICK)
    with pytest.raises(NothingToFit, match="there are no labels"):
        fit(linear(), FitData(Batch(["a"], vectors(1)), ratings=torch.tensor([torch.nan])), QUICK)
    for weight in (-1.0, float("nan")):
        bad = FitData(data.batch, replace(data.preferences, weight=torch.full((3,), weight)))
        with pytest.raises(ValueError, match="finite and not negative"):
            fit(linear(), bad, QUICK)


def test_labels_of_the_wrong_sort():
    with pytest.raises(UserError, match="fitted on pairs; the data has only ratings"):
        fit(linear(), rated(20), QUICK)
    with pytest.raises(UserError, match="fitted on ratings; the data has only pairs"):
        fit(RegressionReward(VectorBackbone(4)), pairs(20), QUICK)
    several = FitData(rated(20).batch, ratings=torch.ones(20, 2))
    with pytest.raises(UserError, match="one rating a row"):
        fit(RegressionReward(VectorBackbone(4)), several, QUICK)
    with pytest.raises(UserError, match="no groups|has none"):
        fit(RankingReward(VectorBackbone(4)), rated(20), QUICK)


def test_heads_of_rows_read_ratings_where_there_are_pairs_too():
    data, edges = rated(100), pairs(50)
    both = FitData(data.batch, edges.preferences, data.ratings)
    alone, beside = RegressionReward(VectorBackbone(4)), RegressionReward(VectorBackbone(4))
    assert fit(alone, data, QUICK).losses == fit(beside, both, QUICK).losses


def test_a_loss_that_is_not_a_number_takes_no_step():
    class Broken(BradleyTerryReward):
        def loss(self, data):
            loss = super().loss(data)
            loss.total = loss.total * torch.nan
            return loss

    reward = Broken(VectorBackbone(4))
    report = fit(reward, pairs(500), QUICK)
    assert report.skipped == 5
    assert "skipped" in report.stopped
    assert bool((reward.head[-1].weight == 0).all())
    assert report.to_json()["losses"] == [None]
