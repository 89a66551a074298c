"""Learned rewards on disk: every kind comes back bit by bit, by --reward too, and damage is found."""

import json

import pytest
import torch

from plaudit.rewards.catalogue import Resolver
from plaudit.rewards.learned.checkpoint import is_reward_folder, load_reward
from plaudit.rewards.learned.fit import RewardFitConfig, fit
from plaudit.rewards.learned.heads import BradleyTerryReward
from plaudit.rewards.learned.vectors import VectorBackbone, VectorReward
from plaudit.types import UserError
from tests.rewards.learned.planted import pairs
from tests.rewards.learned.test_heads import heads


def saved(folder, reward=None):
    reward = reward or BradleyTerryReward(VectorBackbone((4, 6, 3)), hidden=(5,))
    for module in reward.fitted_modules().values():
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    reward.temperature = 1.7
    reward.name = "mine"
    reward.save(folder)
    return reward


@pytest.mark.parametrize("kind", [*heads(), "vector"])
def test_every_kind_comes_back_bit_by_bit(tmp_path, kind):
    reward = saved(tmp_path / "reward", heads()[kind] if kind != "vector" else VectorReward((4, 6, 3), steps=7))
    assert is_reward_folder(tmp_path / "reward")
    again = load_reward(tmp_path / "reward")
    batch = pairs(20).batch
    assert type(again) is type(reward)
    assert (again.name, again.temperature, again.settings) == ("mine", 1.7, reward.settings)
    assert torch.equal(again.score(batch).values, reward.score(batch).values)
    assert bool((again.score(batch).values != 0).any())
    assert again.fingerprint() == reward.fingerprint()
    with pytest.raises(UserError, match="of the kind"):
        (BradleyTerryReward if kind != "bt" else VectorReward).load(tmp_path / "reward")


def test_a_folder_is_a_reward_on_the_command_line(tmp_path):
    reward = saved(tmp_path / "reward")
    found = Resolver(lambda: pytest.fail("no engine is needed")).resolve(str(tmp_path / "reward"))
    assert found.fingerprint() == reward.fingerprint()


def test_saving_again_replaces_all_of_it(tmp_path):
    fit(BradleyTerryReward(VectorBackbone(4)), pairs(50), RewardFitConfig(epochs=1), folder=tmp_path / "reward")
    card = (tmp_path / "reward" / "README.md").read_text()
    assert "Fitted on 45 labels, 5 held out" in card
    assert "Accuracy" in card
    report = json.loads((tmp_path / "reward" / "fit.json").read_text())
    assert report["held_out_pairs"]["pairs"] == 5
    saved(tmp_path / "reward")
    assert sorted(path.name for path in (tmp_path / "reward").iterdir()) == ["model.safetensors", "reward.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["reward"]


def test_other_weights_or_settings_are_other_fingerprints():
    one, other = BradleyTerryReward(VectorBackbone(4)), BradleyTerryReward(VectorBackbone(4))
    assert one.fingerprint() == other.fingerprint()
    other.temperature = 2.0
    assert one.fingerprint() != other.fingerprint()
    other.load_state_dict(one.state_dict())
    assert one.fingerprint() == other.fingerprint()
    with torch.no_grad():
        other.head[-1].weight[0, 0] += 1e-6
    assert one.fingerprint() != other.fingerprint()
    assert one.fingerprint() != BradleyTerryReward(VectorBackbone(4, column="x")).fingerprint()


def test_damage_is_told_in_a_sentence(tmp_path):
    folder = tmp_path / "reward"
    saved(folder)
    about = json.loads((folder / "reward.json").read_text())

    def refused(change, match):
        (folder / "reward.json").write_text(change if isinstance(change, str) else json.dumps({**about, **change}))
        with pytest.raises(UserError, match=match):
            load_reward(folder)

    refused("{", "is damaged")
    refused("[]", "no description of a learned reward")
    refused({"format": 99}, "format 99; this version reads 1")
    refused({"kind": "elbow"}, "unknown kind 'elbow'")
    refused({"settings": {**about["settings"], "colour": 1}}, "does not take")
    refused({"settings": {**about["settings"], "hidden": [7]}}, "has shape")
    refused({"temperature": 2.0}, "does not hold what was saved")
    (folder / "reward.json").write_text(json.dumps(about))
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(UserError, match="does not hold what was saved"):
        load_reward(folder)
    (folder / "model.safetensors").write_bytes(weights[:40])
    with pytest.raises(UserError, match="cannot be read"):
        load_reward(folder)
    with pytest.raises(UserError, match="holds no learned reward"):
        load_reward(tmp_path)
