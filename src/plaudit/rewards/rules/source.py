"""A content key for code, so that verdicts made by a function that was edited since are not taken from the store."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from plaudit.types import SpecError
from plaudit.types.keys import content_key


@lru_cache(maxsize=256)
def module_source(name: str) -> str | None:
    """The source text of an imported module; None where there is none (an interactive session, a compiled module)."""
    module = sys.modules.get(name)
    try:
        return inspect.getsource(module) if module is not None else None
    except (OSError, TypeError):
        return None


def function_key(function: Callable[..., Any]) -> str:
    """Content key of a function: the whole file that it stands in, its default values and the values it closes over.

    The whole file counts, so an edited helper in the same file makes a new key; code imported from other files does not.
    Raises SpecError if it closes over an object without stable content (its repr shows a memory address).
    """
    if isinstance(function, partial):
        given = _stable([function.args, function.keywords], "arguments")
        return content_key("partial", function_key(function.func), given)
    if not inspect.isfunction(function):
        return _object_key(function)
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    closed = {name: _stable(cell.cell_contents, name) for name, cell in cells}
    defaults = _stable([function.__defaults__ or (), function.__kwdefaults__ or {}], "defaults")
    return content_key(function.__qualname__, _text_of(function), closed, defaults)


def _text_of(function: FunctionType) -> str:
    try:
        whole = Path(function.__code__.co_filename).read_text(encoding="utf-8")
    except (OSError, ValueError):  # typed into a session
        whole = ""
    # functions on one line (lambdas) share name and file: the code tells them apart
    return whole + _code_text(function.__code__)


def _code_text(code: CodeType) -> str:
    constants = [_code_text(item) if isinstance(item, CodeType) else repr(item) for item in code.co_consts]
    return repr((code.co_code.hex(), code.co_names, constants))


def _object_key(function: Callable[..., Any]) -> str:
    """A callable object or a built-in: its type's file and, where it has any, its attributes."""
    if inspect.isbuiltin(function) or inspect.isclass(function):
        return content_key(function.__module__, function.__qualname__, module_source(function.__module__ or ""))
    kind = type(function)
    attributes = {name: _stable(value, name) for name, value in sorted(getattr(function, "__dict__", {}).items())}
    return content_key(kind.__module__, kind.__qualname__, module_source(kind.__module__), attributes)


def _stable(value: Any, name: str) -> Any:
    """A JSON-able stand-in for a value, or SpecError."""
    if inspect.isfunction(value) or isinstance(value, partial):
        return function_key(value)
    if isinstance(value, re.Pattern):
        return ["pattern", value.pattern, value.flags]
    if isinstance(value, (list, tuple)):
        return [_stable(item, name) for item in value]
    if isinstance(value, dict):
        return [[_stable(key, name), _stable(item, name)] for key, item in value.items()]
    if isinstance(value, (set, frozenset)):
        return sorted(json.dumps(_stable(item, name), default=str) for item in value)
    text = repr(value)
    if " at 0x" in text:
        raise SpecError(
            f"the rule uses '{name}', a {type(value).__name__} without stable content, so its verdicts could not be stored "
            "safely: pass settings={...} that say what decides the numbers"
        )
    return text
