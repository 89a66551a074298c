"""A Ray cluster to work on: one of this machine's own for the time of a run, or one that is there, by its address."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from plaudit.types import UserError

LOCAL = "local"
"""The address that stands for a cluster on this machine, started and stopped with the run."""
OBJECT_STORE = 256 << 20
"""Bytes of shared memory of a local cluster: some parts on their way from readers to workers; what is over goes to disk."""
ANSWER = 10.0
"""Seconds within which a cluster's address must answer."""
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""What Ray reads from the environment when it is imported or started; what the user has set stays."""


@contextmanager
def cluster(address: str, workers: int) -> Iterator[None]:
    """Connect to a cluster with a processor for each worker, and leave (or stop) it at the end.

    address: `local`, `auto`, or HOST:PORT. A program that is connected already stays so, whatever the address.
    Raises UserError, in one sentence, if Ray is not installed, the cluster is not there or has too few processors.
    """
    ray = _ray()
    if address.startswith("ray://"):
        raise UserError(f"{address}: run the command on a machine of the cluster (--ray auto), or by `ray job submit`")
    if ray.is_initialized():
        yield
        return
    try:
        if address == LOCAL:
            _start(ray, workers)
        else:
            _connect(ray, address)
        there = int(ray.cluster_resources().get("CPU", 0))
        if there < workers:
            raise UserError(f"the Ray cluster at {address} has {there} processors, too few for {workers} workers of one each")
        yield
    finally:
        ray.shutdown()


def default_workers(address: str) -> int:
    """One for each processor of this machine; for any other cluster, UserError: its size is for the user to say."""
    if address != LOCAL:
        raise UserError("--ray on a cluster needs --workers N: how many processes, of one processor each, judge at once")
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _ray() -> Any:
    if find_spec("ray") is None:
        raise UserError("judging on Ray needs the 'ray' package; install it with pip install 'plaudit[ray]'")
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    try:
        import ray.data
    except ImportError as error:
        raise UserError(f"judging on Ray needs Ray Data ({error}); install it with pip install 'plaudit[ray]'") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray


@contextmanager
def _native_silence() -> Iterator[None]:
    """Nothing of this process reaches standard error meanwhile: Ray's native part announces its log level there."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _start(ray: Any, workers: int) -> None:
    with _native_silence():
        ray.init(
            address=LOCAL,
            num_cpus=workers,
            object_store_memory=OBJECT_STORE,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )


def _connect(ray: Any, address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        if host and port.isdigit():  # Ray itself tries for many minutes
            socket.create_connection((host, int(port)), timeout=ANSWER).close()
        with _native_silence():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, OverflowError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"there is no Ray cluster at {address} ({reason}); expected local, auto, or HOST:PORT") from error
