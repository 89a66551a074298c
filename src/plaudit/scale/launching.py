"""Starting a command in several processes through accelerate's launcher, and how one of them says why all have ended."""

from __future__ import annotations

import importlib.resources
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plaudit.types import UserError

WAYS = {
    "ddp": "all weights in every process, one GPU each",
    "fsdp2": "weights, gradients and moments in pieces, one a process; a layer is whole while it runs",
    "fsdp2-offload": "as fsdp2, the pieces in the memory of the host",
    "cpu": "two processes without a GPU, all weights in each, for trying things out",
    "cpu-fsdp2": "two processes without a GPU, weights in pieces, for trying things out",
}
"""The settings for accelerate that come with plaudit."""
QUIET = "PLAUDIT_LAUNCHED"
"""Set where a launcher of plaudit waits for the processes: it tells what went wrong, so that they need not."""


def config_path(name: str) -> Path:
    """accelerate's settings of that name (`WAYS`), or a file of one's own. Raises UserError if there is neither."""
    if name in WAYS:
        return Path(str(importlib.resources.files("plaudit") / "assets" / "accelerate" / f"{name}.yaml"))
    if Path(name).is_file():
        return Path(name)
    raise UserError(f"'{name}' is neither one of {', '.join(WAYS)} nor a file of accelerate's settings")


def rank() -> int | None:
    """The number of this process among those of `accelerate launch` or torchrun; None where nobody launched it so."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1 and "LOCAL_RANK" in os.environ
    return int(os.environ.get("RANK", os.environ["LOCAL_RANK"])) if several else None


def launch(arguments: Sequence[str], processes: int | None, way: str) -> int:
    """Run `plaudit ARGUMENTS` in several processes of this machine; its exit code.

    processes: None takes the number in the settings. way: a name of `WAYS` or a file of accelerate's. When one process ends with
    an error, the others are ended too, and its sentence is raised as UserError. Raises UserError without accelerate.
    """
    try:
        from accelerate.commands import launch as accelerate  # type: ignore[import-untyped]  # it has no types
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    except ImportError as error:
        raise UserError("several processes need accelerate: install plaudit[train]") from error
    told = ["--config_file", str(config_path(way)), *(() if processes is None else ("--num_processes", str(processes)))]
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what it would say is said in one sentence below
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // (processes or 2))))
    os.environ[QUIET] = "1"
    try:
        accelerate.launch_command(accelerate.launch_command_parser().parse_args([*told, "-m", "plaudit", *arguments]))
    except ChildFailedError as error:
        number, failure = error.get_first_failure()
        if (number, failure.exitcode, _sentence(failure)) == (0, 1, None):  # it ended its work early, and said why
            return 1
        raise UserError(_sentence(failure) or _ended(number, failure)) from error
    except ValueError as error:
        raise UserError(f"accelerate does not take '{way}': {error}") from error
    finally:
        del os.environ[QUIET]
    return 0


def _sentence(failure: Any) -> str | None:
    """What a process left in its file of errors."""
    said = failure.error_file_data.get("message")
    return said if isinstance(said, str) and failure.error_file_data.get("from") == "plaudit" else None


def _ended(number: int, failure: Any) -> str:
    if failure.exitcode < 0:
        name = signal.Signals(-failure.exitcode).name
        return f"process {number} was killed ({name}), and the others ended with it: the last checkpoint stays, resume from it"
    return f"process {number} ended with exit code {failure.exitcode}, and the others with it; what it said is above"


def tell(error: Exception) -> bool:
    """Say an error of one of several processes; False where this is the main one or the only one, and the caller says it.

    Where plaudit's own launcher waits, the error is left for it to find, and it says the first one alone.
    """
    number, file = rank(), os.environ.get("TORCHELASTIC_ERROR_FILE")
    if number is not None and file and QUIET in os.environ:
        left = {"from": "plaudit", "message": str(error), "timestamp": str(int(time.time()))}
        Path(file).write_text(json.dumps(left), encoding="utf-8")
        return True
    if number:
        sys.stderr.write(f"plaudit, process {number}: {error}\n")
    return bool(number)
