"""A pool of worker processes in which every item has a hard time limit.

Why not a ready-made pool: those of the standard library cannot stop one item, and stopping from inside (signal.alarm, which
math-verify uses) works in a main thread only and not while a C loop runs. Here the caller's clock kills the worker and a new
one takes its place, so it works from any thread, and a checker that hangs costs its own item and nothing else.

Workers are plain `python -c` children that speak JSON lines over their pipes: they never import the caller's script, and they
end when the pipe closes, also after `kill -9` of the caller.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any

from plaudit.types import Status, UserError

_START_SECONDS = 120.0
_PROGRAM = "from plaudit.rewards.rules.pool_worker import main; main()"


@dataclass(frozen=True)
class Answer:
    """What became of one item: `value` is what the function returned, None unless `status` is OK."""

    status: Status
    value: Any = None
    detail: str = ""


class WorkerDied(Exception):
    """A worker's pipe closed before it answered."""


class ProcessPool:
    """Calls `module:function(*item)` in worker processes, each call under a hard time limit.

    function: a name, since it is imported in the worker. Items and results are JSON-able.
    timeout: seconds per item; the worker's start does not count. workers: processes, None: the machine's cores, at most 4.
    self_test: (item, expected result) pairs that every worker must get right before it is used.
    memory: bytes of address space a worker may use (where the system can limit it); beyond it an item fails.
    Workers start when first needed. The pool may be used from many threads at once, and is not carried over a fork or a pickle.
    """

    def __init__(
        self,
        function: str,
        *,
        timeout: float,
        workers: int | None = None,
        self_test: Sequence[tuple[Sequence[Any], Any]] = (),
        memory: int = 2 << 30,
    ) -> None:
        if timeout <= 0:
            raise UserError(f"the time limit of a worker must be positive, not {timeout:g} s")
        if workers is not None and workers < 1:
            raise UserError(f"a pool needs at least one worker, not {workers}")
        self.function, self.timeout, self.memory = function, timeout, memory
        self.workers = workers or max(1, min(4, os.cpu_count() or 1))
        self.self_test = [[list(item), expected] for item, expected in self_test]
        self._lock = threading.Lock()
        self._owner = 0
        self._slots: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        self._finalizer: weakref.finalize[..., Any] | None = None

    def map(self, items: Sequence[Sequence[Any]]) -> list[Answer]:
        """One answer per item, in order. Raises UserError if a worker cannot start or fails its self-test."""
        slots = self._ready_slots()
        if len(items) <= 1 or self.workers == 1:
            return [self._one(slots, item) for item in items]
        with ThreadPoolExecutor(min(self.workers, len(items)), thread_name_prefix="plaudit-pool") as threads:
            return list(threads.map(lambda item: self._one(slots, item), items))

    def check(self) -> None:
        """Start one worker, if none runs, with its self-test. Raises UserError if it fails."""
        with _taken(self._ready_slots(), self._start):
            pass

    def pids(self) -> list[int]:
        """Process ids of the workers that run and are idle."""
        return [worker.pid for worker in list(self._slots.queue) if worker is not None and worker.alive]

    def close(self) -> None:
        """Stop the workers; the next `map` starts new ones."""
        with self._lock:
            if self._finalizer is not None:
                self._finalizer()
            self._owner = 0

    def __getstate__(self) -> dict[str, Any]:
        test = [(item, expected) for item, expected in self.self_test]
        return {
            "function": self.function, "timeout": self.timeout, "workers": self.workers, "self_test": test, "memory": self.memory,
        }  # fmt: skip

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # a copy is a new pool with the same settings

    def _ready_slots(self) -> queue.LifoQueue[_Worker | None]:
        with self._lock:
            if self._owner != os.getpid():  # first use, after close, or in a forked child, whose pipes belong to the parent
                slots: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
                for _ in range(self.workers):
                    slots.put(None)
                if self._finalizer is not None:
                    self._finalizer.detach()
                self._slots, self._owner = slots, os.getpid()
                self._finalizer = weakref.finalize(self, _stop_all, slots, os.getpid())
            return self._slots

    def _one(self, slots: queue.LifoQueue[_Worker | None], item: Sequence[Any]) -> Answer:
        with _taken(slots, self._start) as worker:
            try:
                reply = worker.ask([list(item)], self.timeout)
            except TimeoutError:
                return Answer(Status.TIMED_OUT, detail=f"no answer within {self.timeout:g} s")
            except WorkerDied as error:
                return Answer(Status.FAILED, detail=f"the worker process ended: {error}")
        if "error" in reply:
            return Answer(Status.FAILED, detail=str(reply["error"])[:500])
        return Answer(Status.OK, reply["value"])

    def _start(self) -> _Worker:
        worker = _Worker()
        first = {"function": self.function, "self_test": self.self_test, "timeout": self.timeout, "memory": self.memory}
        try:
            reply = worker.ask(first, _START_SECONDS)
        except (TimeoutError, WorkerDied) as error:
            worker.kill()
            raise UserError(f"a worker process for {self.function} did not start: {error or 'no answer in time'}") from error
        if "error" in reply:
            worker.kill()
            raise UserError(f"the checker {self.function} does not work here: {reply['error']}")
        return worker


@contextlib.contextmanager
def _taken(slots: queue.LifoQueue[_Worker | None], start: Callable[[], _Worker]) -> Iterator[_Worker]:
    """Take a slot, give its worker (a new one if there is none that lives), put it back."""
    worker = slots.get()
    try:
        if worker is None or not worker.alive:
            worker = start()
        yield worker
    except BaseException:
        # interrupted while an answer was under way: its late answer must not be read as the next one's
        if worker is not None:
            worker.kill()
        raise
    finally:
        slots.put(worker if worker is not None and worker.alive else None)


def _stop_all(slots: queue.LifoQueue[_Worker | None], owner: int) -> None:
    """Stop the idle workers of a pool, in the process that started them."""
    if owner == os.getpid():
        for worker in list(slots.queue):
            if worker is not None:
                worker.kill()


class _Worker:
    """One child process: a question a line in, an answer a line out."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "OMP_NUM_THREADS": "1"}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the worker
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            text=True,
            encoding="utf-8",
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to: IO[str] = self._process.stdin
        self._from: IO[str] = self._process.stdout

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, question: Any, seconds: float) -> dict[str, Any]:
        """The answer to one question. Raises TimeoutError (the worker is then dead) or WorkerDied."""
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._process.kill()  # the pipe closes, which ends the read below

        clock = threading.Timer(seconds, give_up)
        clock.daemon = True
        clock.start()
        try:
            self._to.write(json.dumps(question) + "\n")
            self._to.flush()
            line = self._from.readline()
        except OSError:
            line = ""
        finally:
            clock.cancel()
            clock.join()
        if line.endswith("\n"):
            if late.is_set():  # the answer came in the very moment of the kill: it counts, and the worker is gone
                self.kill()
            answer: dict[str, Any] = json.loads(line)
            return answer
        reason = "" if late.is_set() else self._last_words()
        self.kill()
        if late.is_set():
            raise TimeoutError
        raise WorkerDied(reason)

    def kill(self) -> None:
        """End the process and free its pipes."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._to, self._from, self._errors):
            with contextlib.suppress(OSError, ValueError):
                pipe.close()

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        try:
            self._errors.seek(0)
            lines = self._errors.read()[-2000:].decode("utf-8", "replace").strip().splitlines()
        except (OSError, ValueError):
            lines = []
        return lines[-1] if lines else f"exit status {self._process.poll()}"
