"""The stub server of `benchmarks/stub_server.py` as a process of its own, for tests.

`python -m tests.engines.stub_server --port 8123` serves by hand what the tests meet.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from benchmarks.stub_server import main

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class RunningStub:
    """A stub server that listens. url: what an engine gets as base_url."""

    process: subprocess.Popen[str]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def stats(self) -> dict[str, Any]:
        with urlopen(f"http://127.0.0.1:{self.port}/stats", timeout=10) as answer:
            return dict(json.load(answer))

    def reset(self) -> None:
        urlopen(Request(f"http://127.0.0.1:{self.port}/reset", method="POST"), timeout=10).close()


@contextmanager
def running_stub(*arguments: str) -> Iterator[RunningStub]:
    """Start a stub with the given options on a free port; end it afterwards."""
    command = [sys.executable, "-m", "benchmarks.stub_server", "--port", "0", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield RunningStub(process, json.loads(process.stdout.readline())["port"])
    finally:
        process.kill()
        process.communicate()


if __name__ == "__main__":
    main()
