"""The entry point: commands, `--version`, and errors as one sentence with exit code 2."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

from plaudit import __version__
from plaudit.cli.align import Align
from plaudit.cli.audit import Audit
from plaudit.cli.bench import Bench
from plaudit.cli.common import err
from plaudit.cli.demo import Demo
from plaudit.cli.diff import Diff
from plaudit.cli.doctor import Doctor
from plaudit.cli.fit import Fit
from plaudit.cli.judge import Judge
from plaudit.cli.launching import ConfigPath, join
from plaudit.cli.reproduce import Gallery, Reproduce, Seeds
from plaudit.cli.rewards import Rewards
from plaudit.cli.search import Search
from plaudit.cli.serve import Serve
from plaudit.cli.store import StoreCopy, StoreExport, StoreList, StorePrune, StoreStatus
from plaudit.scale.launching import tell
from plaudit.types import EngineError, UserError

DESCRIPTION = "plaudit: build a reward, find out how far it can be trusted, and optimise against it."

StoreCommand = (
    Annotated[StoreList, tyro.conf.subcommand("list")]
    | Annotated[StorePrune, tyro.conf.subcommand("prune")]
    | Annotated[StoreExport, tyro.conf.subcommand("export")]
    | Annotated[StoreCopy, tyro.conf.subcommand("copy")]
    | Annotated[StoreStatus, tyro.conf.subcommand("status")]
)
Command = (
    Annotated[Judge, tyro.conf.subcommand("judge")]
    | Annotated[Audit, tyro.conf.subcommand("audit")]
    | Annotated[Bench, tyro.conf.subcommand("bench")]
    | Annotated[Diff, tyro.conf.subcommand("diff")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Rewards, tyro.conf.subcommand("rewards")]
    | Annotated[Fit, tyro.conf.subcommand("fit")]
    | Annotated[Align, tyro.conf.subcommand("align")]
    | Annotated[ConfigPath, tyro.conf.subcommand("config-path")]
    | Annotated[Search, tyro.conf.subcommand("search")]
    | Annotated[Serve, tyro.conf.subcommand("serve")]
    | Annotated[Reproduce, tyro.conf.subcommand("reproduce")]
    | Annotated[Seeds, tyro.conf.subcommand("seeds")]
    | Annotated[Gallery, tyro.conf.subcommand("gallery")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
    | Annotated[StoreCommand, tyro.conf.subcommand("store", description="Look into, clean, export or move the kept verdicts.")]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 well, 1 with losses, 2 something to mend, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if list(arguments) == ["--version"]:
        sys.stdout.write(f"plaudit {__version__}\n")
        return 0
    logging.basicConfig(level=os.environ.get("PLAUDIT_LOG", "WARNING").upper())
    try:
        return _run(arguments)
    except (UserError, EngineError) as error:
        if tell(error):
            return 2
        err.print(f"plaudit: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        err.print("interrupted: stored verdicts stay; run the same command again to go on")
        return 130
    except BrokenPipeError:
        # the reader of our output went away (`| head`): nothing more to say, and Python must not try to flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(arguments: Sequence[str]) -> int:
    """Parse (which may print the help) and run."""
    command = tyro.cli(
        Command,
        prog="plaudit",
        description=DESCRIPTION,
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    launch = getattr(command, "launch", None)
    if launch is not None and launch.wanted:
        return int(launch.start(arguments))
    if launch is not None:
        join()
    return int(command.run())


if __name__ == "__main__":
    sys.exit(main())
