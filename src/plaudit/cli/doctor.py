"""`plaudit doctor`: is everything there that plaudit needs?"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from rich.table import Table

from plaudit import __version__
from plaudit.cli.common import open_store, out
from plaudit.types import EngineError, UserError

NEEDED = ("torch", "transformers", "gguf", "safetensors", "sqlalchemy", "aiohttp", "math-verify", "pyarrow", "plotly")
OPTIONAL = {"datasets": "hub: data", "xllamacpp": "llama-cpp: engines", "vllm": "vllm: engines"}
"""Packages that only some things need."""


@dataclass
class Doctor:
    """Check the environment, the embedded model, the store and the versions."""

    json: bool = False
    """Print as JSON."""
    store: str | None = None
    """The store to look at."""
    fix: bool = False
    """Unpack the embedded model if it is not there."""

    def run(self) -> int:
        """0 if nothing is missing, else 1."""
        checks = [self._check(name, look) for name, look in self._looks()]
        if self.json:
            out.file.write(json.dumps([{"name": name, "ok": ok, "found": found} for name, ok, found in checks], indent=1) + "\n")
        else:
            table = Table(box=None, pad_edge=False, show_header=False)
            for name, ok, found in checks:
                table.add_row("[green]ok[/green]" if ok else "[red]missing[/red]", name, found)
            out.print(table)
        return 0 if all(ok for _, ok, _ in checks) else 1

    @staticmethod
    def _check(name: str, look: Callable[[], str]) -> tuple[str, bool, str]:
        try:
            return name, True, look()
        except (UserError, EngineError, PackageNotFoundError, ImportError, OSError) as error:
            return name, False, str(error) or type(error).__name__

    def _looks(self) -> list[tuple[str, Callable[[], str]]]:
        looks: list[tuple[str, Callable[[], str]]] = [
            ("plaudit", lambda: __version__),
            (
                "python",
                lambda: f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            ),
        ]
        looks += [(name, lambda name=name: version(name)) for name in NEEDED]  # type: ignore[misc]
        looks += [(f"{name} (optional)", lambda name=name: _optional(name)) for name in OPTIONAL]  # type: ignore[misc]
        looks += [("accelerator", _accelerator), ("embedded model", self._model), ("verdict store", self._store)]
        return [*looks, ("math checker", _math_checker), ("code sandbox", _sandbox)]

    def _model(self) -> str:
        from plaudit.cli.common import notice
        from plaudit.engines.default_model import default_model_is_ready, ensure_default_model

        if not default_model_is_ready() and not self.fix:
            raise UserError("not unpacked yet: `plaudit doctor --fix` or the first judge run does it (90 MB, about a minute)")
        return str(ensure_default_model(notice))

    def _store(self) -> str:
        store = open_store(self.store)
        if store is None:
            return "none"
        verdicts = sum(entry.verdicts for entry in store.rewards())
        return f"{verdicts:,} verdicts in {store.label}"


def _optional(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return f"not installed (only needed for {OPTIONAL[name]})"


def _accelerator() -> str:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"none: CPU with {torch.get_num_threads()} threads"


def _math_checker() -> str:
    from plaudit.rewards.rules import MathAnswer

    MathAnswer().check()
    return "a known right and a known wrong answer were told apart"


def _sandbox() -> str:
    """Never a failure: what it cannot guarantee here is said, and a strict sandbox refuses to run."""
    from plaudit.engines.sandbox import Sandbox

    with Sandbox(strict=False) as sandbox:
        sandbox.check()
        missing = [name for name, guarantee in sandbox.guarantees().items() if not guarantee.given]
    return f"runs; not guaranteed on this machine: {', '.join(missing)}" if missing else "runs, with every guarantee"
