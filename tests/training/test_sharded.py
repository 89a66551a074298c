"""Two processes with FSDP2, and without, against one: the same numbers, and the weights really in pieces."""

import json

import pytest
import torch

from plaudit.fitting import load_state
from plaudit.training import read_metrics
from tests.training import language_runs
from tests.training.launched import in_two_processes

RUNS = [("by layer", kind) for kind in ("sft", "dpo", "grpo", "lora", "ema", "odd")]
RUNS += [("at once", "lora"), ("at once", "odd"), ("at once", "scalar"), ("apart", "ema"), ("apart", "odd")]
KINDS = sorted({kind for _, kind in RUNS})
OF_MINI_BATCHES = ("update/clip_share", "update/ratio_mean", "update/log_ratio_max", "update/kl", "update/ratio_error")
"""Means over mini-batches, whose rows are others where there are two processes."""


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    for kind in KINDS:
        language_runs.main(kind, folder)
    return folder


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The folder of the runs in two processes, all of them in one launch, one after the other."""
    folder = tmp_path_factory.mktemp("shared")
    in_two_processes("cpu-fsdp2", "tests.training.language_runs", ",".join(f"{way}/{kind}" for way, kind in RUNS), folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("way", "kind"), RUNS)
def test_two_processes_give_the_numbers_of_one(alone, shared, way, kind):
    folder = shared / way
    one, two = read_metrics(alone / kind), read_metrics(folder / kind)
    assert len(one) == len(two) == language_runs.STEPS
    for first, second in zip(one, two, strict=True):
        assert set(first) == set(second)
        for name in set(first) - {*OF_MINI_BATCHES, "notes"}:
            assert second[name] == pytest.approx(first[name], abs=1e-5, rel=1e-4), name
    wanted = torch.load(alone / kind / "process0.pt")
    assert any(not torch.equal(weight, wanted[name]) for name, weight in start_of(alone / kind).items())
    for number in (0, 1):
        found = torch.load(folder / kind / f"process{number}.pt")
        for name, weight in wanted.items():
            torch.testing.assert_close(found[name], weight, atol=1e-5, rtol=0)


def start_of(folder):
    return {name.split("/", 1)[1]: weight for name, weight in load_state(folder / "start").items()}


@pytest.mark.slow
@pytest.mark.parametrize(("way", "kind"), RUNS)
def test_weights_and_moments_lie_in_pieces_and_are_whole_in_the_end(alone, shared, way, kind):
    folder = shared / way
    one = json.loads((alone / kind / "process0.json").read_text())
    for number in (0, 1):
        two = json.loads((folder / kind / f"process{number}.json").read_text())
        assert two["processes"] == 2
        assert two["kinds"] == one["kinds"] == ["Tensor"]
        share = 1.0 if way == "apart" else 0.5
        wanted = ["whole"] if way == "apart" else ["(Shard(dim=0),)", "whole"] if kind == "scalar" else ["(Shard(dim=0),)"]
        assert two["placements"] == wanted
        assert two["weights"] == pytest.approx(share * one["weights"], rel=0.05)
        assert two["moments"] == pytest.approx(share * one["moments"], rel=0.05)


@pytest.mark.slow
def test_checkpoints_are_whole(alone, shared):
    """What two processes wrote is what one would have written, so that any number of them can go on from it."""
    name = f"{language_runs.STEPS:06d}"
    one, two = (load_state(place / "grpo" / "checkpoints" / name)["fitter"] for place in (alone, shared / "by layer"))
    for part in ("weights", "average"):
        assert set(one[part]) == set(two[part])
        for weight in one[part]:
            torch.testing.assert_close(two[part][weight], one[part][weight], atol=1e-5, rtol=0)
    for weight, moment in one["moments"].items():
        for key, value in moment.items():
            torch.testing.assert_close(two["moments"][weight][key], value, atol=1e-5, rtol=1e-4)
