"""Options of commands that train in several processes, and `plaudit config-path`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from plaudit.cli.common import err, out
from plaudit.scale.launching import WAYS, config_path, launch, rank
from plaudit.types import SpecError


@dataclass(frozen=True)
class LaunchArguments:
    """In how many processes a command trains (docs/training-past-one-process.md)."""

    processes: int | None = None
    """Train in so many processes of this machine, one a GPU. Default: this one alone, or those of `accelerate launch`."""
    sharding: str | None = None
    """How they share the work: ddp (the default), fsdp2, fsdp2-offload, cpu, cpu-fsdp2, or a file of accelerate's settings."""

    @property
    def wanted(self) -> bool:
        """Whether processes are to be started: asked for, and this is not one of them."""
        return (self.processes is not None or self.sharding is not None) and rank() is None

    def start(self, arguments: Sequence[str]) -> int:
        """The same command in several processes; its exit code."""
        if self.processes is not None and self.processes < 1:
            raise SpecError(f"--processes must be at least 1, not {self.processes}")
        return launch(arguments, self.processes, self.sharding or "ddp")


def join() -> None:
    """Join the other processes, if there are any, before a model is loaded: it belongs on this process's device.

    Only the main process says how things go.
    """
    if (number := rank()) is None:
        return
    from plaudit.fitting.processes import Processes

    Processes()
    out.quiet = err.quiet = number > 0


Launch = Annotated[LaunchArguments, tyro.conf.arg(name="")]


@dataclass
class ConfigPath:
    """Where a file of settings for `accelerate launch` lies: ddp, fsdp2, fsdp2-offload, cpu, cpu-fsdp2."""

    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = None
    """Which one. Without a name all are listed."""

    def run(self) -> int:
        """Print the path, or the names."""
        if self.name is None:
            for name, about in WAYS.items():
                out.print(f"{name:14} {about}", highlight=False, markup=False, soft_wrap=True)
        else:
            out.file.write(f"{config_path(self.name)}\n")
        return 0
