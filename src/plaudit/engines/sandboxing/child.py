"""What runs in the process that judged code gets for itself. Nothing that this process says is trusted by the others."""

from __future__ import annotations

import io
import json
import os
import random
import sys
import traceback
from typing import Any

NAME = "<code>"


def fresh_space() -> dict[str, Any]:
    """The namespace in which a solution's code begins."""
    return {"__name__": "__main__", "__builtins__": __builtins__}


def run_code(code: str, space: dict[str, Any], *, left_is_error: bool = False) -> str | None:
    """Run code in the namespace; None, or the error that ended it in one line. The traceback goes to standard error.

    left_is_error: whether sys.exit() is one even with code 0: in a session others are to follow.
    """
    try:
        exec(compile(code, NAME, "exec"), space)
    except SystemExit as left:
        return None if left.code in (None, 0) and not left_is_error else f"SystemExit: {left.code}"[:500]
    except BaseException as error:
        try:
            kept = error.__traceback__.tb_next if error.__traceback__ is not None else None
            traceback.print_exception(type(error), error, kept)
            return f"{type(error).__name__}: {error}"[:500]
        except BaseException:  # an error that cannot even be shown, or no memory left to show it
            return type(error).__name__
    return None


def say(report: int, error: str | None) -> None:
    """Flush what was printed, then report on the pipe that the runner reads."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException as broken:
            error = error or f"{type(broken).__name__}: {broken}"[:500]
    os.write(report, (json.dumps({"error": error}) + "\n").encode())


def open_streams() -> None:
    """Python's own streams over descriptors 0 to 2, as a fresh interpreter has them."""
    text = {"encoding": "utf-8", "errors": "replace"}
    sys.stdin = open(0, closefd=False, **text)  # type: ignore[call-overload]  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False, **text)  # type: ignore[call-overload]  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, buffering=1, **text)  # type: ignore[call-overload]  # noqa: SIM115


def run_once(code: str, report: int) -> None:
    """One execution in a namespace of its own; threads that it started are waited for, as at the end of any program."""
    open_streams()
    random.seed(0)
    error = run_code(code, fresh_space())
    if "threading" in sys.modules and error is None:
        try:
            sys.modules["threading"]._shutdown()
        except BaseException as broken:
            error = f"{type(broken).__name__}: {broken}"[:500]
    say(report, error)
    os._exit(0 if error is None else 1)


def run_session(commands: int, report: int) -> None:
    """One execution after another in one namespace, each a JSON line of `code` and `stdin`, until the pipe closes."""
    open_streams()
    random.seed(0)
    space = fresh_space()
    with open(commands, encoding="utf-8") as lines:
        for line in lines:
            given = json.loads(line)
            sys.stdin = io.TextIOWrapper(io.BytesIO(given["stdin"].encode("utf-8", "surrogatepass")), encoding="utf-8")
            say(report, run_code(given["code"], space, left_is_error=True))
    os._exit(0)
