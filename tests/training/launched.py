"""Starting a test's module in two processes, as users do: `accelerate launch` with the settings that come with plaudit."""

import os
import subprocess
import sys
from pathlib import Path

from plaudit.scale.launching import config_path

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def command(way, module, *arguments):
    settings = str(config_path(str(way)))
    return [sys.executable, "-m", "accelerate.commands.launch", "--config_file", settings, "-m", module, *map(str, arguments)]


def in_two_processes(way, module, *arguments):
    done = subprocess.run(
        command(way, module, *arguments), cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
