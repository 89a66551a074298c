"""Running code beside the real packages: each has an environment of its own (`make integrations`)."""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ROOT / ".peers" / "integrations"


def python_of(environment: str) -> Path:
    """The interpreter of an environment, or skip the test."""
    folder = ENVIRONMENTS / environment
    if not (folder / ".ready").is_file():
        pytest.skip(f"the environment '{environment}' is not there: run `make integrations`")
    return folder / "bin" / "python"


def run(environment: str, *arguments: str, folder: Path, timeout: float = 240.0) -> subprocess.CompletedProcess[str]:
    """Run Python in an environment, in a folder. Fails with what it wrote if it ends with an error."""
    variables = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    }
    done = subprocess.run(
        [str(python_of(environment)), *arguments], cwd=folder, env=variables, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, f"{arguments} ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return done


def answer(environment: str, module: str, *arguments: str, folder: Path, timeout: float = 240.0) -> dict:
    """What a module of tests/integrations/inside prints as its last line, a JSON object."""
    done = run(environment, "-m", f"tests.integrations.inside.{module}", *arguments, folder=folder, timeout=timeout)
    return json.loads(done.stdout.splitlines()[-1])
