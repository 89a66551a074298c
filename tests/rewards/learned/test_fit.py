"""Fitting: what is held out, what is left out, what every odd set of labels leads to, and the same numbers after kill -9."""

import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plaudit.fitting import FitConfig
from plaudit.rewards.learned.base import LearnedReward
from plaudit.rewards.learned.fit import Part, RewardFitConfig, fit, mean_loss
from plaudit.rewards.learned.heads import BradleyTerryReward
from plaudit.rewards.learned.usable import clusters, split_units
from plaudit.rewards.learned.vectors import VectorBackbone, VectorReward
from plaudit.types import Batch, Context, UserError
from tests.rewards.learned.killed_fit import CONFIG, parts
from tests.rewards.learned.planted import QUICK, linear, pairs, rated, told, vectors


class Counting(VectorBackbone):
    """A frozen backbone that says how many rows went through it."""

    def __init__(self):
        super().__init__(4)
        self.seen = []

    def encode(self, batch):
        self.seen.append(len(batch))
        return super().encode(batch)


# what is held out


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), min_size=1, max_size=30), st.floats(0.05, 0.6), st.integers(0, 5)
)
def test_no_prompt_is_on_both_sides(edges, share, seed):
    names = [f"p{row % 6}" for row in range(12)]
    data = told(Batch(names, vectors(12)), edges, [1.0] * len(edges))
    units = torch.arange(len(edges))
    kept, out = split_units(clusters(data, units, "prompt"), share, seed)
    assert sorted([*kept.tolist(), *out.tolist()]) == units.tolist()
    sides = [{names[row] for unit in side.tolist() for row in edges[unit]} for side in (kept, out)]
    assert not (sides[0] & sides[1])
    assert len(kept) > 0


def test_the_share_is_held_out_and_depends_on_the_seed_alone():
    data = pairs(200)
    found = [split_units(clusters(data, torch.arange(200), "prompt"), 0.1, seed)[1] for seed in (0, 0, 1)]
    assert len(found[0]) == 20
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_splits_by_user_and_by_nothing():
    data = pairs(40)
    data.batch.users = [row // 8 for row in range(80)]
    of_user = clusters(data, torch.arange(40), "user")
    assert len(of_user.unique()) == 10
    kept, out = split_units(of_user, 0.2, 0)
    assert not set((kept // 4).tolist()) & set((out // 4).tolist())
    data.batch.prompts = ["the same"] * 80
    assert len(clusters(data, torch.arange(40), "prompt").unique()) == 1
    assert len(clusters(data, torch.arange(40), "none").unique()) == 40
    with pytest.raises(UserError, match="no users"):
        clusters(pairs(3), torch.arange(3), "user")


def test_groups_of_a_ranking_are_whole_though_their_prompts_differ():
    data = rated(60)
    data.batch.groups = torch.arange(60) // 3
    for by in ("prompt", "none"):
        cluster = clusters(data, torch.arange(60), by, whole_groups=True)
        assert torch.equal(torch.unique(cluster, return_inverse=True)[1], data.batch.groups)


def test_held_out_units_are_told_and_were_not_fitted_on():
    data, seen = pairs(100), []

    class Watching(BradleyTerryReward):
        def loss(self, data):
            if torch.is_grad_enabled():
                seen.extend(data.batch.prompts)
            return super().loss(data)

    report = fit(Watching(VectorBackbone(4)), data, QUICK)
    held = {data.batch.prompts[int(data.preferences.first[unit])] for unit in report.held_units}
    assert len(held) == report.held_out == 10
    assert not held & set(seen)
    assert len(set(seen)) == 90 == report.fitted


# how it goes


def test_the_best_epoch_is_kept_and_patience_ends_the_fit():
    """Few labels and many hidden units: later epochs learn the noise."""
    data, config = pairs(60), replace(QUICK, epochs=60, patience=4, validation=0.3)
    reward = BradleyTerryReward(VectorBackbone(4), hidden=(64,))
    report = fit(reward, data, config)
    assert report.stopped == "no better validation in 4 epochs"
    assert report.validation[report.best_epoch] == min(report.validation) < report.validation[-1]
    assert len(report.losses) == report.best_epoch + 5
    reward.temperature = 1.0
    assert mean_loss(reward, Part(data, report.held_units), 0) == pytest.approx(min(report.validation), rel=1e-5)


def test_held_out_data_of_its_own():
    report = fit(linear(), pairs(100), QUICK, validation=pairs(40, seed=3))
    assert (report.fitted, report.held_out, report.held_units) == (100, 40, None)
    assert report.accuracy > 0.7


def test_same_seed_same_numbers_and_the_global_generator_is_left_alone():
    def one(seed):
        reward = BradleyTerryReward(VectorBackbone((4, 8, 4)), hidden=(8,), dropout=0.3)
        return fit(reward, pairs(80), replace(QUICK, seed=seed)).to_json(), reward.fingerprint()

    before = torch.random.get_rng_state()
    first, same, other = one(0), one(0), one(1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first == same != other


def test_a_frozen_backbone_encodes_every_row_once_a_trainable_one_every_time():
    reward = BradleyTerryReward(Counting())
    data = pairs(50)
    fit(reward, data, QUICK)
    assert reward.backbone.seen == [100]
    trained = BradleyTerryReward(VectorBackbone((4, 6, 3)))
    before = trained.backbone.trunk[0].weight.detach().clone()
    fit(trained, data, QUICK)
    assert not torch.equal(trained.backbone.trunk[0].weight, before)


def test_the_temperature_makes_scores_calibrated():
    data = pairs(2000)
    reward = linear()
    report = fit(reward, data, replace(QUICK, validation=0.5, epochs=10))
    assert report.temperature == reward.temperature != 1
    held = report.held
    assert held.log_loss(report.temperature) <= held.log_loss()
    for factor in (0.8, 1.25):
        assert held.log_loss(report.temperature * factor) > held.log_loss(report.temperature)
    same = linear()
    assert fit(same, data, replace(QUICK, calibrate=False)).temperature == same.temperature == 1


def test_the_default_fit_is_the_method_of_a_reward():
    data = pairs(200)
    figures = linear().fit(data.batch, data.preferences, Context(seed=3))
    assert figures["units"] == 180
    assert figures["accuracy"] > 0.6


def test_settings_that_make_no_sense():
    for bad in ({"epochs": 0}, {"batch_units": 0}, {"validation": 1.0}, {"split_by": "mood"}):
        with pytest.raises(ValueError, match=r"at least 1|a share|split_by is"):
            RewardFitConfig(**bad)


# users


class Personal(LearnedReward):
    """One number a user for each of four directions, without sharing; its updates are made of whole users."""

    kind = "personal"
    units = "users"

    def __init__(self):
        self.settings = {}
        self.table = torch.nn.ParameterDict({"weights": torch.nn.Parameter(torch.zeros(3, 4))})
        self.seen = []

    def modules(self):
        return {"table": self.table}

    def logit(self, batch):
        return (self.table["weights"][list(batch.users)] * batch.responses).sum(1)

    def loss(self, data):
        if torch.is_grad_enabled():
            self.seen.append([len(data), sorted(set(data.batch.users))])
        return super().loss(data)


def test_users_come_whole():
    data = pairs(60)
    data.batch.users = [row // 2 % 3 for row in range(120)]
    reward = Personal()
    report = fit(reward, data, RewardFitConfig(epochs=2, batch_units=2, validation=0.0))
    assert [size for size, _ in reward.seen] == [40, 20] * 2
    assert sorted(user for _, users in reward.seen[:2] for user in users) == [0, 1, 2]
    assert report.losses[0] == pytest.approx(0.693, abs=0.01)
    with pytest.raises(UserError, match="the data has none"):
        fit(Personal(), pairs(5))
    report = fit(Personal(), data, replace(QUICK, validation=0.3))
    assert torch.equal(report.held.prob, data.preferences.prob[report.held_units]), "in the same order"


# killed and resumed


def test_a_fit_that_was_killed_goes_on_with_the_same_numbers(tmp_path):
    whole, data = parts()
    wanted = fit(whole, data, CONFIG, folder=tmp_path / "whole")
    moment, folder = random.Random(1), tmp_path / "killed"
    for last_seen in (6, 14):
        command = [sys.executable, "-m", "tests.rewards.learned.killed_fit", str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            while int(process.stdout.readline()) < last_seen:
                pass
            time.sleep(moment.uniform(0.0, 0.02))
            process.send_signal(signal.SIGKILL)
        assert not folder.exists(), "nothing half-written"
    assert json.loads((tmp_path / ".killed.fit" / "epochs" / "state.json").read_text())["epoch"] >= 2
    updates = []
    last, data = parts()
    found = fit(last, data, CONFIG, folder=folder, progress=updates.append)
    assert updates[0].epoch >= 2
    assert found.to_json() == wanted.to_json()
    assert last.fingerprint() == whole.fingerprint()
    assert not (tmp_path / ".killed.fit").exists()
    for name in ("reward.json", "model.safetensors", "fit.json", "README.md"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_half_fit_of_something_else_is_refused(tmp_path):
    class Enough(Exception):
        pass

    def stop(told):
        if told.epoch == 1:
            raise Enough

    reward, data = parts()
    with pytest.raises(Enough):
        fit(reward, data, CONFIG, folder=tmp_path / "one", progress=stop)
    for other in (replace(CONFIG, seed=6), replace(CONFIG, optimiser=FitConfig(learning_rate=0.03))):
        with pytest.raises(UserError, match="other data or settings"):
            fit(parts()[0], data, other, folder=tmp_path / "one")
    data.batch.responses[0, 0] += 1
    with pytest.raises(UserError, match="other data or settings"):
        fit(parts()[0], data, CONFIG, folder=tmp_path / "one")


def test_vector_rewards_are_fitted_the_same_way():
    reward = VectorReward((4, 16, 3))
    report = fit(reward, pairs(300), QUICK)
    assert report.accuracy > 0.7
