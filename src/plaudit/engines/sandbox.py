"""`Sandbox`: runs code that nobody has read, in processes that can do little else than compute and print.

An execution has a process of its own (forked from a clean template, so it begins within milliseconds), no network, no files but
Python's library and an empty temporary folder, no other programs, an unprivileged user, and limits of processor time, wall time,
memory, processes and output. When it ends, all that it started is killed. Same code, same output: hash seed and `random` are
fixed. How: Linux namespaces, a filter of system calls, resource limits. What a machine cannot give is said by `guarantees()`, and
a strict sandbox does not run without it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self

from plaudit.engines.sandboxing.messages import receive, send
from plaudit.types import UserError

Ended = Literal["ok", "wrong", "error", "timeout", "refused"]
Isolation = Literal["best", "limits", "none"]

_PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
from sandboxing.server import main
sys.path.pop(0)
main(int(sys.argv[2]), json.loads(sys.argv[3]))
"""
_GRACE = 10.0
_START_SECONDS = 120.0
MOST_CODE = 1 << 20
"""Characters of code and of standard input that one execution may be given."""
# where shared libraries of a Linux system are; Python's own library is added to them
_LIBRARIES = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
_PRELOADED = ("collections", "fractions", "functools", "itertools", "math", "random", "re", "statistics", "string", "threading")


@dataclass(frozen=True)
class Limits:
    """What one execution may use at most.

    memory_bytes: address space of each process, so processes x memory_bytes bound the whole. output_bytes: standard output and
    error together. processes: threads count as well. file_bytes: the temporary folder, and each file.
    """

    cpu_seconds: float = 5.0
    wall_seconds: float = 10.0
    memory_bytes: int = 256 << 20
    output_bytes: int = 64 << 10
    processes: int = 4
    file_bytes: int = 16 << 20

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value > 0:
                raise UserError(f"Limits.{name} must be positive, not {value:g}")


@dataclass(frozen=True)
class Execution:
    """How an execution ended.

    status: "ok"; "wrong": it ran and did not print what was expected; "error": it raised, or its process ended badly; "timeout":
    of wall or processor time; "refused": not run, or stopped for writing more than it may. stdout, stderr: what it printed, up to
    the limit. detail: one line for people: the error, the limit.
    """

    status: Ended
    stdout: str = ""
    stderr: str = ""
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Whether it ran to its end (and printed what was expected, if anything was)."""
        return self.status == "ok"


@dataclass(frozen=True)
class Guarantee:
    """Whether a promise of the sandbox is kept on this machine, and by what."""

    given: bool
    how: str


class SandboxUnavailable(UserError):
    """This machine cannot run a sandbox, or not a strict one; the message says what is missing."""


class Sandbox:
    """Runs Python code under limits.

    strict: raise SandboxUnavailable rather than run without one of the `guarantees()`. packages: whether installed packages can
    be imported. preload: modules that the template imports once, so that executions need not. isolation: "best", or, to see what
    less protects, "limits" (no namespaces) and "none" (resource limits and an unprivileged user only).
    The template starts with the first execution and ends with this object or this process. Threads may share a sandbox:
    executions run side by side. Raises UserError for limits that are not positive.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        strict: bool = True,
        packages: bool = False,
        preload: Sequence[str] = (),
        isolation: Isolation = "best",
    ) -> None:
        if isolation not in ("best", "limits", "none"):
            raise UserError(f"isolation must be best, limits or none, not '{isolation}'")
        self.limits, self.strict, self.packages = limits or Limits(), strict, packages
        self.preload, self.isolation = tuple(preload), isolation
        self._lock = threading.Lock()
        self._template: _Template | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides what an execution gives, JSON-able."""
        return {"limits": asdict(self.limits), "packages": self.packages, "preload": list(self.preload), "python": sys.version}

    def run(self, code: str, *, stdin: str = "", expected: str | None = None) -> Execution:
        """One execution of its own. expected: what it must print, white space at the ends aside, or it is "wrong".

        Raises SandboxUnavailable where nothing can be run, never for what the code does.
        """
        if refusal := _refusal(code, stdin):
            return refusal
        with self._runner(session=False, code=code, stdin=stdin) as asked:
            done = _answer(asked, self.limits)
        if done.ok and expected is not None and done.stdout.strip() != expected.strip():
            return Execution("wrong", done.stdout, done.stderr, "it printed something else")
        return done

    def session(self) -> Session:
        """Executions that share one namespace: one solution's, one after another."""
        return Session(self)

    def guarantees(self) -> dict[str, Guarantee]:
        """What is promised, whether it holds here, and by what. Starts the template. Raises SandboxUnavailable if it cannot."""
        return self._started().guarantees

    def check(self) -> None:
        """Start, and prove it on a right, a wrong and an endless program. Raises SandboxUnavailable if it does not work here."""
        quick = Sandbox(Limits(wall_seconds=1.0, cpu_seconds=1.0), strict=self.strict, isolation=self.isolation)
        with quick:
            found = [quick.run(code).status for code in ("print(1)", "1 / 0", "while True: pass")]
        if found != ["ok", "error", "timeout"]:
            raise SandboxUnavailable(f"the sandbox does not work here: three known programs ended with {', '.join(found)}")

    def close(self) -> None:
        """End the template and all that runs; the next execution starts a new one."""
        with self._lock:
            if self._template is not None:
                self._template.close()
                self._template = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("limits", "strict", "packages", "preload", "isolation")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # a copy is a new sandbox with the same settings

    def _started(self) -> _Template:
        """The template; a new one where there is none, where it died, or in a forked child."""
        with self._lock:
            if self._template is None or not self._template.alive:
                self._template = _Template(self.packages, self.preload, self.isolation)
            template = self._template
        missing = [name for name, guarantee in template.guarantees.items() if not guarantee.given]
        if self.strict and missing:
            raise SandboxUnavailable(
                f"this machine cannot close off executed code: {', '.join(missing)} not given; Sandbox(strict=False) runs without"
            )
        return template

    def _runner(self, **first: Any) -> socket.socket:
        """The socket of a runner that has its first message."""
        for attempt in (1, 2):
            ours, theirs = socket.socketpair()
            try:
                with theirs:
                    self._started().hand_over(theirs)
                ours.settimeout(self.limits.wall_seconds + _GRACE)
                send(ours, {"limits": asdict(self.limits), **first})
            except OSError as error:
                ours.close()
                if attempt == 2:
                    raise SandboxUnavailable(f"the sandbox's template process is gone: {error}") from error
                continue
            except BaseException:
                ours.close()
                raise
            return ours
        raise AssertionError("unreachable")


class Session:
    """Executions in one namespace: names that one defines are there in the next. Use it as a context, or `close` it.

    An execution that passes a limit, or ends its process, takes the namespace with it: the next one begins with an empty one, and
    says so in its detail. Not for several threads at once.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self._asked: socket.socket | None = None
        self._lost = False

    def run(self, code: str, *, stdin: str = "") -> Execution:
        """One execution, after the ones before it."""
        if refusal := _refusal(code, stdin):
            return refusal
        if self._asked is None:
            self._asked = self.sandbox._runner(session=True, code="", stdin="")
        lost, self._lost = self._lost, False
        try:
            send(self._asked, {"code": code, "stdin": stdin})
            done = _answer(self._asked, self.sandbox.limits, session=self)
        except OSError:
            self._end()
            done = Execution("error", detail="the session's process is gone")
        if not lost:
            return done
        detail = "; ".join(filter(None, (done.detail, "the names of earlier executions are gone")))
        return Execution(done.status, done.stdout, done.stderr, detail)

    def close(self) -> None:
        """End the process and forget the namespace."""
        if self._asked is not None:
            self._asked.close()
        self._asked, self._lost = None, False

    def _end(self) -> None:
        self.close()
        self._lost = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()


def _refusal(code: str, stdin: str) -> Execution | None:
    for name, text in (("code", code), ("standard input", stdin)):
        if len(text) > MOST_CODE:
            return Execution("refused", detail=f"the {name} has {len(text)} characters, at most {MOST_CODE} are run")
    return None


def _answer(asked: socket.socket, limits: Limits, session: Session | None = None) -> Execution:
    """What the runner says; the runner's own silence is an outcome too."""
    try:
        said = receive(asked)
    except TimeoutError:
        if session is not None:
            session._end()
        return Execution("timeout", detail=f"no answer within {limits.wall_seconds + _GRACE:g} s: the machine is overloaded")
    except OSError:
        said = None
    if said is None:
        if session is not None:
            session._end()
        return Execution("refused", detail="the process that watches executions ended before its answer")
    if said.pop("over") and session is not None:
        session._end()
    return Execution(**said)


class _Template:
    """The template process and the socket by which it is handed executions."""

    def __init__(self, packages: bool, preload: Sequence[str], isolation: Isolation) -> None:
        if not hasattr(os, "fork") or not hasattr(os, "pidfd_open"):
            raise SandboxUnavailable("executing code needs Linux 5.3 or newer")
        self._socket, theirs = socket.socketpair()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
        setup = {"isolation": isolation, "preload": [*_PRELOADED, *preload], **_visible(packages)}
        folder = str(Path(__file__).parent)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-s", "-S", "-B", "-c", _PROGRAM, folder, str(theirs.fileno()), json.dumps(setup)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                env={"PYTHONHASHSEED": "0", "PATH": "", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
                | {name: value for name, value in os.environ.items() if name == "LD_LIBRARY_PATH"},
                cwd="/",
                start_new_session=True,
            )
        self._owner, self._lock = os.getpid(), threading.Lock()
        self.guarantees = _guarantees(self._hello(), isolation)

    def _hello(self) -> dict[str, bool]:
        self._socket.settimeout(_START_SECONDS)
        try:
            said = receive(self._socket)
        except (OSError, ValueError):
            said = None
        if said is None or "place" not in said:
            reason = said["error"] if said else self._last_words()
            self.close()
            raise SandboxUnavailable(f"the sandbox's template process did not start: {reason}")
        place: dict[str, bool] = said["place"]
        return place

    @property
    def alive(self) -> bool:
        return self._owner == os.getpid() and self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def hand_over(self, runner: socket.socket) -> None:
        """Let the template fork a runner that answers on this socket. Raises OSError if it is gone."""
        with self._lock:
            socket.send_fds(self._socket, [b"x"], [runner.fileno()])

    def close(self) -> None:
        self._socket.close()  # the template ends by this alone; the kill is for one that hangs
        if self._owner == os.getpid():
            try:
                self._process.wait(2)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._errors.close()

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        self._errors.seek(0)
        lines = self._errors.read()[-2000:].decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else f"exit status {self._process.poll()}"


def _visible(packages: bool) -> dict[str, Any]:
    """The folders of this system that executed code can read, and links to them that libraries are found by."""
    paths = {sysconfig.get_path("stdlib"), sysconfig.get_config_var("LIBDIR") or "", *_LIBRARIES}
    found = sysconfig.get_paths()
    installed = sorted({found["purelib"], found["platlib"]}) if packages else []
    real = sorted({os.path.realpath(path) for path in (*paths, *installed) if path and os.path.isdir(path)}, key=len)
    tops = [path for place, path in enumerate(real) if not any(path.startswith(f"{top}/") for top in real[:place])]
    links = [(path, os.path.realpath(path)) for path in (*_LIBRARIES, *installed) if os.path.islink(path)]
    return {"sources": [*tops, *_DEVICES], "links": links, "packages": installed}


def _guarantees(place: dict[str, bool], isolation: Isolation) -> dict[str, Guarantee]:
    namespaces, files, filtered, user = (place[name] for name in ("namespaces", "files", "filtered", "user"))
    no = "not on this machine" if isolation == "best" else f"not with isolation='{isolation}'"
    owner = "an unprivileged user of its own" if user else "the caller's user"
    return {
        "limits": Guarantee(True, "resource limits of the kernel, and a clock outside of the process"),
        "unprivileged": Guarantee(user or not place["root"], f"{owner}, no capabilities, no way to new ones"),
        "no network": Guarantee(
            namespaces or filtered,
            " and ".join(["an empty network namespace"] * namespaces + ["no socket calls"] * filtered) or no,
        ),
        "no files": Guarantee(files, "a root folder in memory with Python's library, read-only" if files else no),
        "no other programs": Guarantee(filtered, "no exec call" if filtered else no),
        "killed with its children": Guarantee(
            namespaces, "a process namespace of its own" if namespaces else f"{no}: its process group and adopted children only"
        ),
        "others out of reach": Guarantee(
            namespaces,
            "process, memory and message namespaces of its own" if namespaces else f"{no}: other users' processes only",
        ),
    }
