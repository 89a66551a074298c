"""A real `plaudit serve` in a process of its own, on a free port."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.engines.processes import descendants, until


@dataclass
class Running:
    """The process, where it listens, and what it wrote (its output and its access log, in one file)."""

    process: subprocess.Popen[bytes]
    url: str
    written: Path

    @property
    def log(self) -> str:
        """Everything that it wrote so far."""
        return self.written.read_text(encoding="utf-8", errors="replace")

    @property
    def accesses(self) -> list[dict[str, Any]]:
        """The access log."""
        return [json.loads(line) for line in self.log.splitlines() if line.startswith('{"time"')]

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        """One POST of JSON."""
        return httpx.post(self.url + path, json=body, timeout=60, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        """One GET."""
        return httpx.get(self.url + path, timeout=60, **options)

    def workers(self) -> list[int]:
        """Process ids of the rewards' processes: forked from the helper that is this service's child."""
        helpers = [pid for pid in children(self.process.pid) if "forkserver" in _command(pid)]
        return [pid for helper in helpers for pid in children(helper)]

    def ready(self) -> bool:
        """Whether /ready says so."""
        return self.get("/ready").status_code == 200

    def stop(self, sign: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit code."""
        self.process.send_signal(sign)
        return self.process.wait(60)


def children(pid: int) -> list[int]:
    """Process ids of what a process started itself."""
    found = []
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


@contextmanager
def running(*arguments: str, wait: bool = True, store: str = "none", **environment: str) -> Iterator[Running]:
    """Start a service; yields when it is ready (or, without `wait`, when it listens). Afterwards nothing of it may be left."""
    command = [sys.executable, "-m", "plaudit", "serve", *arguments, "--port", "0", "--store", store]
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "log"
        with written.open("wb") as file:
            settings = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "COLUMNS": "200", **environment}
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=settings, start_new_session=True)
        service = Running(process, "", written)
        try:
            assert until(lambda: "curl http" in service.log or process.poll() is not None, 240), service.log
            assert process.poll() is None, service.log
            service.url = re.findall(r"on (http://\S+)", service.log)[0]
            assert until(lambda: _answers(service) and (not wait or service.ready()), 240), service.log
            yield service
        finally:
            below = descendants(process.pid)
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            assert until(lambda: not any("forkserver" in _command(pid) for pid in below)), "a worker outlived its service"


def _answers(service: Running) -> bool:
    try:
        return service.get("/health").status_code == 200
    except httpx.TransportError:
        return False
