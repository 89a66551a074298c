"""Card 34 in small: its pieces run, the same seed gives the same figures, and its checks can fail."""

from plaudit.recipes import vpl
from plaudit.recipes.base import Figures, verdict_of
from plaudit.recipes.vpl import POOLED, Config

SMALL = Config(
    users=30,
    new=6,
    test_pairs=5,
    epochs=2,
    batch=16,
    hidden=8,
    latent=3,
    candidates=10,
    choices=2,
    anchors=5,
    updates=2,
    prompts=4,
    pets=False,
)


def figures(seed, **changed):
    values = {"VPL/accuracy": 0.9, "VPL/success": 0.8, "VPL/shuffled": 0.5, "VPL/KL": 3.0}
    values |= {f"{name}/accuracy": 0.57 for name in POOLED} | {f"{name}/success": 0.0 for name in POOLED}
    values |= {"VPL/active questions": 0.9, "VPL/random questions": 0.8, "VPL/scale, largest over smallest": 7.0}
    values |= {"one kind/VPL/accuracy": 0.93, f"one kind/{POOLED[0]}/accuracy": 0.99, "policy/raw": 0.4, "policy/SPO": 0.6}
    values |= {"pets/VPL/accuracy": 0.97} | {f"pets/{name}/accuracy": 0.5 for name in POOLED}
    return Figures(seed, values | changed)


def outcomes(**changed):
    return [check.outcome for check in vpl.check([figures(seed, **changed) for seed in range(3)])]


def test_checks_can_hold_and_fail():
    assert outcomes() == ["holds"] * 9
    assert outcomes(**{"VPL/shuffled": 0.85})[0] == "invalid", "a collapsed latent makes all else meaningless"
    assert outcomes(**{f"{POOLED[0]}/accuracy": 0.75}) == ["holds", "fails", *["holds"] * 7]
    assert outcomes(**{"VPL/success": 0.6})[2] == "fails"
    assert outcomes(**{f"{POOLED[0]}/success": 0.3})[3] == "fails"
    assert outcomes(**{"VPL/active questions": 0.82})[4] == "fails"
    assert outcomes(**{"one kind/VPL/accuracy": 0.88})[5] == "fails"
    assert outcomes(**{"policy/SPO": 0.44})[6] == "fails"
    assert outcomes(**{"policy/SPO": float("nan")})[6] == "invalid"
    assert outcomes(**{"pets/VPL/accuracy": 0.94, f"pets/{POOLED[0]}/accuracy": 0.61})[7:] == ["fails", "fails"]


def test_it_runs_in_small_and_repeats():
    first, second = vpl.run(SMALL, 1), vpl.run(SMALL, 1)
    assert first.values == second.values
    assert set(first.missing) == {"pets/VPL/accuracy", *(f"pets/{name}/accuracy" for name in POOLED)}
    assert first.budget["reward_calls"] > 0
    assert verdict_of(vpl.check([first])) in ("holds", "fails", "invalid")
    assert vpl.run(SMALL, 2).values != first.values
