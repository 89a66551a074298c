"""`plaudit store`: what verdicts there are, and what to do with them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import tyro
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from plaudit.cli.common import err, notice, open_store, out
from plaudit.judging.output import atomic
from plaudit.store import Store, copy_verdicts
from plaudit.types import UserError

DAY = 86400.0


@dataclass
class _OnStore:
    """Commands on the store."""

    store: str | None = None
    """A path, or postgresql://USER:PASSWORD@HOST:PORT/DATABASE. Default: $PLAUDIT_STORE or the cache folder."""

    def open(self) -> Store:
        """The store; there must be one, unless it is the default one."""
        store = open_store(None) if self.store is None else _named(self.store, must_exist=True)
        assert store is not None
        return store


def _named(url: str, *, must_exist: bool) -> Store:
    if url == "none":
        raise UserError("this command needs a store, not 'none'")
    return Store(url, must_exist=must_exist)


@dataclass
class StoreStatus(_OnStore):
    """Say where the store is, what is in it, and which schema its tables have (opening a store upgrades them)."""

    json: bool = False
    """Print as JSON."""

    def run(self) -> int:
        """Always 0."""
        store = self.open()
        entries = store.rewards()
        verdicts = sum(entry.verdicts for entry in entries)
        document = {"store": store.label, "schema": store.version, "rewards": len(entries), "verdicts": verdicts}
        if self.json:
            out.file.write(json.dumps(document, indent=1) + "\n")
            return 0
        held = f"{_many(verdicts, 'verdict')} of {_many(len(entries), 'reward')}, schema {store.version}"
        out.print(f"{store.label}\n{held}", highlight=False, markup=False, soft_wrap=True)
        return 0


@dataclass
class StoreList(_OnStore):
    """List the rewards that have verdicts in the store."""

    json: bool = False
    """Print as JSON."""

    def run(self) -> int:
        """Always 0."""
        entries = self.open().rewards()
        if self.json:
            out.file.write(json.dumps([vars(entry) for entry in entries], indent=1) + "\n")
            return 0
        table = Table(box=None, pad_edge=False)
        for column in ("reward", "fingerprint", "verdicts", "last written"):
            table.add_column(column)
        for entry in entries:
            written = "" if entry.last is None else datetime.fromtimestamp(entry.last).isoformat(" ", "minutes")
            table.add_row(escape(entry.name), entry.fingerprint[:12], f"{entry.verdicts:,}", written)
        out.print(table if entries else "the store is empty")
        return 0


@dataclass
class StorePrune(_OnStore):
    """Delete verdicts of one reward and / or older than some days."""

    reward: str | None = None
    """A fingerprint, or its beginning."""
    older_than: float | None = None
    """Days."""

    def run(self) -> int:
        """Always 0."""
        if not self.reward and self.older_than is None:
            raise UserError("nothing to prune: give --reward FINGERPRINT and / or --older-than DAYS")
        if self.older_than is not None and not self.older_than >= 0:
            raise UserError(f"--older-than is {self.older_than:g}, expected days: 0 or more")
        before = None if self.older_than is None else time.time() - self.older_than * DAY
        gone = self.open().prune(reward=self.reward, before=before)
        out.print(f"{_many(gone, 'verdict')} deleted", highlight=False)
        return 0


@dataclass
class StoreExport(_OnStore):
    """Write verdicts as JSON lines."""

    file: tyro.conf.Positional[Path] = Path("verdicts.jsonl")
    reward: str | None = None
    """Only this reward: a fingerprint, or its beginning."""

    def run(self) -> int:
        """Always 0."""
        count = 0
        with atomic(self.file) as handle:
            for record in self.open().records(self.reward):
                handle.write(json.dumps(record, ensure_ascii=False) + "\n")
                count += 1
        notice(f"{_many(count, 'verdict')} written to {self.file}")
        return 0


@dataclass
class StoreCopy:
    """Copy verdicts from one store to another, for instance from SQLite to PostgreSQL: runs go on there without judging again."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FROM")]
    """A path or database URL; it stays as it is."""
    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TO")]
    """A path or database URL; made if it is not there. What it has already stays, so that a stopped copy can be repeated."""
    reward: str | None = None
    """Only this reward: a fingerprint, or its beginning."""
    json: bool = False
    """Print the counts as JSON."""

    def run(self) -> int:
        """Always 0."""
        source = _named(self.source, must_exist=True)
        wanted = [entry for entry in source.rewards() if entry.fingerprint.startswith(self.reward or "")]
        if not wanted and self.reward is not None:  # before the target is made
            raise UserError(f"the verdict store {source.label} has no reward whose fingerprint begins with '{self.reward}'")
        target = _named(self.target, must_exist=False)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=err, disable=self.json or not err.is_terminal, transient=True) as bar:
            task = bar.add_task("copying", total=sum(entry.verdicts for entry in wanted))
            copied = copy_verdicts(source, target, reward=self.reward, progress=lambda read: bar.update(task, completed=read))
        if self.json:
            counts = {**vars(copied), "present": copied.present}
            out.file.write(json.dumps({"from": source.label, "to": target.label, **counts}, indent=1) + "\n")
            return 0
        out.print(f"{_many(copied.written, 'verdict')} of {_many(copied.rewards, 'reward')} copied to {target.label}, "
                  f"{copied.present:,} were there already", highlight=False, markup=False, soft_wrap=True)  # fmt: skip
        return 0


def _many(count: int, thing: str) -> str:
    return f"{count:,} {thing}" + ("" if count == 1 else "s")
