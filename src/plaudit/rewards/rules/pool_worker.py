"""What runs in a worker process of `plaudit.rewards.rules.pool`."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import IO, Any

# A worker that is stuck in C code when its parent is killed cannot see the pipe close: the kernel ends it this much later.
_GRACE_SECONDS = 5.0


def main() -> None:
    """Answer questions from stdin until it closes. The first one says which function to call and how to test it."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever the function prints must not be taken for an answer
    logging.disable(logging.CRITICAL)
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's business; the closing pipe ends us
    questions = _read_ahead()
    setup = json.loads(questions.get())
    try:
        function = _load(setup["function"])
        _limit_memory(setup["memory"])
        _prove(function, setup["self_test"])
    except Exception as error:
        _say(answers, {"error": f"{type(error).__name__}: {error}"})
        return
    _say(answers, {"value": "ready"})
    while True:
        (item,) = json.loads(questions.get())
        _alarm(setup["timeout"] + _GRACE_SECONDS)
        try:
            reply = {"value": function(*item)}
        except (Exception, RecursionError, MemoryError) as error:
            reply = {"error": f"{type(error).__name__}: {error}"[:500]}
        _alarm(0)
        _say(answers, reply)


def _read_ahead() -> SimpleQueue[str]:
    """Lines of stdin, read by a thread that ends the process as soon as the parent is gone."""
    lines: SimpleQueue[str] = SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return lines


def _load(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return function


def _prove(function: Callable[..., Any], cases: list[tuple[list[Any], Any]]) -> None:
    for item, expected in cases:
        said = function(*item)
        if said != expected:
            raise RuntimeError(f"self-test failed: for {item!r} it says {said!r}, but {expected!r} is known to be right")


def _limit_memory(size: int) -> None:
    """An answer like 10^(10^10) must not take the machine's memory: the item fails instead."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (size, size))
    except (ImportError, ValueError, OSError):  # not everywhere can it be limited; the time limit still holds
        return


def _alarm(seconds: float) -> None:
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # no Python handler: the kernel itself ends the process
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _say(answers: IO[str], reply: dict[str, Any]) -> None:
    try:
        answers.write(json.dumps(reply) + "\n")
        answers.flush()
    except OSError:
        os._exit(0)
