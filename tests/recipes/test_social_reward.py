"""Card 07 in small: its pieces run, the same seed gives the same figures, and its checks can fail."""

from plaudit.recipes import social_reward
from plaudit.recipes.base import Figures, verdict_of
from plaudit.recipes.social_reward import BASE, DEBIASED, RAW, WHOLE, Config

SMALL = Config(
    images=400, align_images=64, align_steps=2, epochs=1, test_pairs=40, level="2", raft_prompts=16, samples=2, raft_epochs=1,
    raft_parts=2, held_out=16,
)  # fmt: skip


def figures(seed, **changed):
    accuracy = {BASE: 0.7, RAW: 0.76, DEBIASED: 0.8, WHOLE: 0.8}
    values = {f"{name}/accuracy": value for name, value in accuracy.items()}
    values |= {f"{name}/{part}": 1.0 for name in (RAW, DEBIASED) for part in ("triplets", "labels right", "active before")}
    values |= {"before/u": 0.5, "after/u": 0.8, "before/u deviation": 0.5, "rise of u": 0.6, "alignment": 0.1}
    return Figures(seed, values | changed)


def outcomes(**changed):
    return [one.outcome for one in social_reward.check([figures(seed, **changed) for seed in range(3)]) if one.decides]


def test_checks_can_hold_and_fail():
    assert outcomes() == ["holds"] * 5
    assert outcomes(**{f"{BASE}/accuracy": 0.5})[0] == "invalid"
    assert outcomes(**{f"{BASE}/accuracy": 0.73})[1] == "fails"
    assert outcomes(**{f"{RAW}/accuracy": 0.78})[2] == "fails"
    assert outcomes(**{"rise of u": 0.29})[3] == "fails"
    assert outcomes(alignment=-0.06)[4] == "fails"
    assert outcomes(alignment=None)[4] == "invalid"


def test_it_runs_in_small_and_repeats(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAUDIT_CACHE", str(tmp_path))
    first, second = social_reward.run(SMALL, 1), social_reward.run(SMALL, 1)
    assert first.values == second.values
    assert first.values[f"{RAW}/triplets"] > first.values[f"{DEBIASED}/triplets"] > 0
    assert first.values["after/u"] != first.values["before/u"]
    assert first.budget["reward_calls"] > 0
    assert verdict_of(social_reward.check([first])) in ("holds", "fails", "invalid")


def test_settings():
    assert social_reward.RECIPE.slug == "07-social-reward"
    assert Config().to_json()["samples"] == 8
