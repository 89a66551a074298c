"""Things by name: builders that import what they build when they are called, for files of settings and the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from plaudit.types.errors import SpecError


def built(package: str, place: str) -> Callable[..., Any]:
    """A builder that imports `module:Class` of a package when it is called."""
    module, name = place.split(":")

    def build(**settings: Any) -> Any:
        return getattr(import_module(f"{package}.{module}"), name)(**settings)

    build.__doc__ = f"`{package}.{module}.{name}`."
    return build


def build_named(kind: str, builders: Mapping[str, Callable[..., Any]], name: str, settings: Mapping[str, Any]) -> Any:
    """What a name and its settings stand for. Raises SpecError for an unknown name, or settings that it does not take."""
    if name not in builders:
        raise SpecError(f"unknown {kind} '{name}'; expected one of {', '.join(sorted(builders))}")
    try:
        return builders[name](**settings)
    except (TypeError, ValueError) as error:
        raise SpecError(f"{kind} '{name}': {error}") from error
