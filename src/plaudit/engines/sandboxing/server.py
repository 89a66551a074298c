"""The template process of a sandbox: it has imported what judged code may need, and forks one runner an execution.

sandbox -> launcher (leaves the namespaces) -> template (process 1 of its own) -> runner (keeps the clock, reads the output) ->
child (process 1 of its own, without rights; runs the code). When the sandbox's process ends, however it ends, the control socket
closes, the template exits, and the kernel kills all that is below it. When a child ends or is killed, so is all that it started.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import math
import os
import resource
import select
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass
from typing import Any

from . import child, isolation, seccomp
from .messages import receive, send

TICK = 0.05
REPORT_BYTES = 8192


@dataclass(frozen=True)
class Place:
    """What the template could arrange. namespaces: own processes, network and mounts. files: only the small root is seen.
    filtered: denied system calls. user: whether executions run as an unprivileged user of their own. root: whether the caller
    is."""

    namespaces: bool
    files: bool
    filtered: bool
    user: bool
    root: bool


def main(control: int, setup: dict[str, Any]) -> None:
    """Arrange the place, say what was arranged, and fork runners until the sandbox's process is gone."""
    sandbox = socket.socket(fileno=control)  # its end is ours: a death signal would come with the end of a mere thread
    sys.path[:] = [path for path in sys.path if path] + list(setup["packages"])
    user, root = isolation.identity()
    namespaces = setup["isolation"] == "best" and isolation.leave_namespaces()
    if namespaces:
        _become_first_process(sandbox)
    files = namespaces and _small_root(setup["sources"], setup["links"])
    place = Place(namespaces, files, seccomp.available() and setup["isolation"] != "none", user, root)
    try:
        for name in setup["preload"]:
            importlib.import_module(name)
    except ImportError as error:
        send(sandbox, {"error": f"{type(error).__name__}: {error}"})
        return
    os.environ.clear()
    os.environ.update(HOME="/tmp", LANG="C.UTF-8", TZ="UTC", PYTHONHASHSEED="0")
    gc.collect()
    gc.freeze()  # what is there is never collected, so its pages stay shared with every child
    send(sandbox, {"place": place.__dict__})
    _serve(sandbox, place, [path for path in setup["sources"] if path.startswith("/tmp/")])


def _become_first_process(sandbox: socket.socket) -> None:
    """Go on as process 1 of the new namespace; the launcher only waits for it."""
    first = os.fork()
    if first:
        sandbox.close()
        _, status = os.waitpid(first, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    isolation.die_with_parent()


def _small_root(sources: list[str], links: list[list[str]]) -> bool:
    try:
        isolation.small_root(sources, [(path, target) for path, target in links])
    except OSError:
        traceback.print_exc()
        return False
    return True


def _serve(sandbox: socket.socket, place: Place, kept: list[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the dead
    number = 0
    while True:
        message, descriptors, _, _ = socket.recv_fds(sandbox, 1, 1)
        if not message:
            os._exit(0)
        number += 1
        if os.fork() == 0:
            try:
                isolation.die_with_parent()
                sandbox.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                Runner(socket.socket(fileno=descriptors[0]), place, number, kept).run()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


class Runner:
    """One execution, or one session of them: starts the child, keeps the clock, reads its output, and answers the sandbox."""

    def __init__(self, asked: socket.socket, place: Place, number: int, kept: list[str]) -> None:
        self.asked, self.place, self.kept = asked, place, kept
        self.user = isolation.FIRST_USER + (os.getpid() + number) % isolation.USERS if place.user else None

    def run(self) -> None:
        """Answer until there is nothing more to answer."""
        first = receive(self.asked)
        if first is None:
            return
        self.limits = first["limits"]
        if self.place.namespaces:
            isolation.unshare(isolation.NEW_PID | isolation.NEW_IPC | (isolation.NEW_MOUNT if self.place.files else 0))
        if self.place.files:
            isolation.empty_temporary_folder(self.limits["file_bytes"], self.kept)
        else:
            isolation.adopt_orphans()
        if not first["session"]:
            self._start(None, first)
            send(self.asked, self._answer(until_exit=True))
            return
        commands, self.commands = os.pipe()
        self._start(commands, first)
        os.close(commands)
        while (given := receive(self.asked)) is not None:
            send(self.asked, self._next(given))
        self._kill()

    def _next(self, given: dict[str, Any]) -> dict[str, Any]:
        """One more execution in the session's namespace."""
        try:
            line = json.dumps({"code": given["code"], "stdin": given["stdin"]}) + "\n"
            _write_all(self.commands, line.encode(), time.monotonic() + self.limits["wall_seconds"])
        except OSError:
            return {"status": "error", "stdout": "", "stderr": "", "detail": "the session's process is gone", "over": True}
        return self._answer(until_exit=False)

    def _start(self, commands: int | None, given: dict[str, Any]) -> None:
        """Fork the child, with pipes for what it prints and reports."""
        pipes = [os.pipe() for _ in range(3)]
        stdin = _in_memory(given["stdin"])
        self.pid = os.fork()
        if self.pid == 0:
            try:
                kept = [stdin, pipes[0][1], pipes[1][1], pipes[2][1], *([] if commands is None else [commands])]
                self._give_up_everything(_renumbered(kept))
                if commands is None:
                    child.run_once(given["code"], 3)
                else:
                    child.run_session(4, 3)
            except BaseException as error:
                os.write(3, (json.dumps({"refused": f"{type(error).__name__}: {error}"[:500]}) + "\n").encode())
            finally:
                os._exit(1)
        for _, write in pipes:
            os.close(write)
        os.close(stdin)
        self.out, self.err, self.report = (read for read, _ in pipes)
        for read, _ in pipes:
            os.set_blocking(read, False)

    def _give_up_everything(self, kept: int) -> None:
        os.closerange(kept, 4096)
        os.setsid()
        self.asked.detach()
        limits = self.limits
        seconds = math.ceil(limits["cpu_seconds"]) + 1
        sizes = {
            resource.RLIMIT_CPU: seconds
            if kept == 4
            else 100 * seconds,  # a session's runs share one count: the runner's clock binds
            resource.RLIMIT_AS: limits["memory_bytes"],
            resource.RLIMIT_NPROC: limits["processes"],
            resource.RLIMIT_FSIZE: limits["file_bytes"],
            resource.RLIMIT_NOFILE: 64,
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_MEMLOCK: 0,
            resource.RLIMIT_MSGQUEUE: 0,
        }
        for which, size in sizes.items():
            resource.setrlimit(which, (size, size))
        os.umask(0o077)
        os.chdir("/tmp" if self.place.files else "/")
        isolation.become_nobody(self.user)
        if self.place.filtered:
            seccomp.install()
        else:
            seccomp.no_new_privileges()
        for number in range(1, signal.NSIG):
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)

    def _answer(self, *, until_exit: bool) -> dict[str, Any]:
        """Wait for the end of one execution, within its limits, and say how it ended."""
        streams: dict[int, bytearray] = {self.out: bytearray(), self.err: bytearray(), self.report: bytearray()}
        stopped = self._watch(streams, until_exit)
        over = until_exit or stopped != "" or not streams[self.report].endswith(b"\n")
        status = self._kill() if over else None
        if over:
            for read in streams:
                self._read(read, streams)
        texts = {
            name: streams[read][: self.limits["output_bytes"]].decode("utf-8", "replace")
            for name, read in (("stdout", self.out), ("stderr", self.err))
        }
        said = _report(bytes(streams[self.report]))
        verdict = self._verdict(stopped, said, status)
        if over and not until_exit and verdict["status"] == "ok":
            verdict = {"status": "error", "detail": "it ended the session's process"}
        return {**texts, **verdict, "over": over}

    def _watch(self, streams: dict[int, bytearray], until_exit: bool) -> str:
        """Read until the end; "" or the name of the limit that ended it."""
        limits, poll = self.limits, select.poll()
        ended = os.pidfd_open(self.pid)
        clock = isolation_clock(self.pid)
        begun, deadline = cpu_seconds(clock), time.monotonic() + limits["wall_seconds"]
        for descriptor in (*streams, ended):
            poll.register(descriptor, select.POLLIN)
        try:
            while True:
                for descriptor, _ in poll.poll(TICK * 1000):
                    if descriptor == ended:
                        return ""
                    if not self._read(descriptor, streams):
                        poll.unregister(descriptor)
                if len(streams[self.out]) + len(streams[self.err]) > limits["output_bytes"]:
                    return "output"
                if not until_exit and streams[self.report].endswith(b"\n"):
                    for read in (self.out, self.err):
                        self._read(read, streams)
                    return ""
                if cpu_seconds(clock) - begun > limits["cpu_seconds"]:
                    return "cpu"
                if time.monotonic() > deadline:
                    return "wall"
        finally:
            os.close(ended)

    def _read(self, descriptor: int, streams: dict[int, bytearray]) -> bool:
        """Take what is there, up to a little more than may be; False at the end of the stream."""
        room = (REPORT_BYTES if descriptor == self.report else self.limits["output_bytes"]) + 1
        with contextlib.suppress(BlockingIOError):
            while len(streams[descriptor]) < room:
                read = os.read(descriptor, min(65536, room - len(streams[descriptor])))
                if not read:
                    return False
                streams[descriptor] += read
            return descriptor != self.report  # who floods the report is not listened to any more
        return True

    def _kill(self) -> int | None:
        """End the child and all that it started; its wait status, None where it was buried already."""
        self.cpu = 0.0
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
        try:
            _, status, usage = os.wait4(self.pid, 0)
            self.cpu = usage.ru_utime + usage.ru_stime
        except ChildProcessError:
            return None
        if not self.place.namespaces:  # there the kernel has killed all others before it let us have the status
            with contextlib.suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)
            _kill_descendants()
        return status

    def _verdict(self, stopped: str, said: dict[str, Any], status: int | None) -> dict[str, str]:
        limits, code = self.limits, 0 if status is None else os.waitstatus_to_exitcode(status)
        if stopped == "output":
            return {"status": "refused", "detail": f"it wrote more than {limits['output_bytes']} bytes"}
        if stopped == "wall":
            return {"status": "timeout", "detail": f"it ran longer than {limits['wall_seconds']:g} s"}
        if stopped == "cpu" or (code == -signal.SIGKILL and "error" not in said and self.cpu >= limits["cpu_seconds"]):
            return {"status": "timeout", "detail": f"it used more than {limits['cpu_seconds']:g} s of processor time"}
        if said.get("refused"):
            return {"status": "refused", "detail": f"the process could not be closed off: {said['refused']}"}
        if said.get("error"):
            return {"status": "error", "detail": str(said["error"])[:500]}
        if "error" in said or code == 0:
            return {"status": "ok", "detail": ""}
        ended = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return {"status": "error", "detail": f"the process ended with {ended}"}


def isolation_clock(pid: int) -> int | None:
    """The clock of a process's processor time, all its threads together; None where the system has none."""
    import ctypes

    clock = ctypes.c_int()
    found = ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock))
    return None if found != 0 else clock.value


def cpu_seconds(clock: int | None) -> float:
    """Processor time on that clock; 0 once the process is gone."""
    if clock is None:
        return 0.0
    try:
        return time.clock_gettime(clock)
    except OSError:
        return 0.0


def _report(raw: bytes) -> dict[str, Any]:
    """What the child says of itself, if it can be read: it may be anything."""
    try:
        said = json.loads(raw.split(b"\n", 1)[0])
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _renumbered(kept: list[int]) -> int:
    """Put the descriptors at 0, 1, 2, ... in this order; how many there are."""
    high = [os.dup2(descriptor, 200 + place) for place, descriptor in enumerate(kept)]
    for place, descriptor in enumerate(high):
        os.dup2(descriptor, place)
    return len(kept)


def _in_memory(text: str) -> int:
    """A file in memory with this text, read from its beginning."""
    descriptor = os.memfd_create("stdin")
    data = text.encode("utf-8", "surrogatepass")
    while data:
        data = data[os.write(descriptor, data) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _write_all(descriptor: int, data: bytes, deadline: float) -> None:
    """Write to a pipe that nobody may be reading. Raises OSError once the deadline is over."""
    os.set_blocking(descriptor, False)
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.001)


def _kill_descendants() -> None:
    """Without a namespace: kill what was adopted, until nothing is left; who forks faster runs into the process limit."""
    for _ in range(1000):
        try:
            with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
                left = [int(pid) for pid in file.read().split()]
        except OSError:
            return
        if not left:
            return
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
