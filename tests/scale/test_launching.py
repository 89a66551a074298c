import json
import os
import random
import subprocess
import sys

import pytest
import torch
import yaml
from safetensors.torch import load_file

from plaudit.generators.language.tiny import tiny_decoder
from plaudit.scale.launching import WAYS, config_path
from plaudit.training import read_metrics
from plaudit.types import UserError

PARTS = """
import os

from plaudit.generators.language.tiny import tiny_decoder
from plaudit.types import UserError


def model(fails_in=None):
    if fails_in is not None and os.environ.get("RANK") == str(fails_in):
        raise UserError("there is no such model here")
    return tiny_decoder("abc", layers=2, width=16, heads=2, context=24, deviation=0.3, chat=False)


def letters(response: str) -> float:
    return response.count("a") - 0.3 * len(response)
"""
SETTINGS = {
    "generator": "parts.py:model",
    "objective": {"name": "grpo", "kl": 0.05},
    "source": {"prompts": "prompts.jsonl", "rows_per_draw": 8, "samples_per_prompt": 4, "how": {"max_tokens": 6}},
    "reward": "parts.py:letters",
    "reference_policy": "frozen copy",
    "run": {"steps": 2, "draw_parts": 2, "ratio_tolerance": 1e-4},
    "fit": {"learning_rate": 0.01, "mini_batch_rows": 4},
}
IN_TWO = ("--processes", "2", "--sharding", "cpu-fsdp2")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def plaudit(folder, *arguments):
    asked = [sys.executable, "-m", "plaudit", *arguments]
    return subprocess.run(asked, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    (folder / "parts.py").write_text(PARTS)
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in ("ab", "b")))
    (folder / "run.yaml").write_text(yaml.safe_dump(SETTINGS))
    return folder


def test_every_way_is_a_file_that_accelerate_reads():
    from accelerate.commands.config.config_args import load_config_from_file

    for name in WAYS:
        told = load_config_from_file(str(config_path(name)))
        assert told.num_processes == 2
        assert (str(told.distributed_type) == "DistributedType.FSDP") == ("fsdp2" in name)
        assert told.fsdp_config.get("fsdp_offload_params", False) is (name == "fsdp2-offload")
        assert told.fsdp_config.get("fsdp_version") == (2 if "fsdp2" in name else None)


def test_a_file_of_ones_own_is_taken_and_another_name_is_refused(tmp_path):
    (tmp_path / "mine.yaml").write_text("")
    assert config_path(str(tmp_path / "mine.yaml")) == tmp_path / "mine.yaml"
    with pytest.raises(UserError, match="neither one of ddp, fsdp2"):
        config_path("fsdp3")


@pytest.mark.slow
def test_align_in_two_processes_gives_the_numbers_of_one_and_speaks_once(place):
    one = plaudit(place, "align", "run.yaml", "--out", "one")
    two = plaudit(place, "align", "run.yaml", "--out", "two", *IN_TWO)
    assert (one.returncode, two.returncode) == (0, 0), two.stderr[-2000:]
    assert two.stdout.replace("two:", "one:") == one.stdout
    assert two.stderr == one.stderr
    for first, second in zip(read_metrics(place / "one"), read_metrics(place / "two"), strict=True):
        for name in ("draw/reward_mean", "update/grad_norm", "lesson/kl_reference", "spent/reward_calls"):
            assert second[name] == pytest.approx(first[name], abs=1e-5, rel=1e-4), name


@pytest.mark.slow
def test_an_error_in_one_process_ends_all_with_one_sentence(place):
    failed = plaudit(
        place, "align", "run.yaml", "--out", "bad", *IN_TWO, "--set", "generator={name: parts.py:model, fails_in: 1}"
    )
    assert failed.returncode == 2
    assert failed.stderr == "plaudit: there is no such model here\n"
    assert failed.stdout == ""
    assert not (place / "bad").exists()


@pytest.mark.slow
def test_a_reward_fitted_in_two_processes_is_that_of_one(tmp_path):
    tiny_decoder("abcp \n", layers=2, width=16, heads=2, context=64, deviation=0.1, chat=False).save(tmp_path / "tiny")
    dice = random.Random(0)
    pairs = [
        sorted(("".join(dice.choices("abc", k=dice.randint(3, 8))) for _ in "12"), key=lambda text: text.count("a"))
        for _ in range(21)
    ]
    rows = [{"prompt": f"p {'abc'[row % 3]}", "chosen": best, "rejected": worst} for row, (worst, best) in enumerate(pairs)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = ["fit", "--head", "bt", "--data", "pairs.jsonl", "--backbone", "tiny", "--adaptation", "full", "--epochs", "1"]
    asked += ["--set", "fit.batch_units=5", "--json"]
    one, two = plaudit(tmp_path, *asked, "--out", "one"), plaudit(tmp_path, *asked, "--out", "two", *IN_TWO)
    assert (one.returncode, two.returncode) == (0, 0), two.stderr[-2000:]
    first, second = (load_file(str(tmp_path / name / "model.safetensors")) for name in ("one", "two"))
    assert set(first) == set(second)
    for name, weight in first.items():
        torch.testing.assert_close(second[name], weight, atol=1e-5, rtol=0)
    assert json.loads(two.stdout)["folder"] == "two"
