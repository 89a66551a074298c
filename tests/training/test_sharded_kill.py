import os
import signal
import subprocess

import pytest
import torch

from plaudit.training import read_metrics
from tests.training.launched import ENVIRONMENT, ROOT, command, in_two_processes

STEPS = 6


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.slow
def test_a_run_goes_on_with_the_same_numbers_after_one_of_its_processes_was_killed(tmp_path):
    module = "tests.training.language_runs"
    asked = command("cpu-fsdp2", module, "by layer/grpo", tmp_path, STEPS)
    quiet = {"cwd": ROOT, "env": ENVIRONMENT, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(asked, stdout=subprocess.PIPE, **quiet) as launcher:
        pids = {}
        for line in launcher.stdout:
            number, pid, step = map(int, line.split())
            pids[number] = pid
            if number == 1 and step == 2:
                os.kill(pid, signal.SIGKILL)
                break
        launcher.stdout.read()
    assert launcher.returncode != 0
    assert set(pids) == {0, 1}
    assert all(gone(pid) for pid in pids.values())  # nobody waits for the dead one
    assert 0 < len(read_metrics(tmp_path / "by layer" / "grpo")) < STEPS

    in_two_processes("cpu-fsdp2", module, "grpo,by layer/grpo", tmp_path, STEPS)  # one that was not killed, then the rest
    whole, resumed = tmp_path / "grpo", tmp_path / "by layer" / "grpo"
    assert read_metrics(resumed) == read_metrics(whole)
    one, two = (torch.load(folder / "process0.pt") for folder in (whole, resumed))
    assert all(torch.equal(one[name], two[name]) for name in one)
