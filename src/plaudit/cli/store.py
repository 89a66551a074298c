"""`plaudit store`: what verdicts there are, and what to do with them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import tyro
from rich.table import Table

from plaudit.cli.common import notice, open_store, out
from plaudit.judging.output import atomic
from plaudit.store import Store
from plaudit.types import UserError

DAY = 86400.0


@dataclass
class _OnStore:
    """Commands on the store."""

    store: str | None = None
    """A path or database URL. Default: $PLAUDIT_STORE or the cache folder."""

    def open(self) -> Store:
        """The store; there must be one."""
        store = open_store(self.store)
        if store is None:
            raise UserError("this command needs a store, not 'none'")
        return store


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
            table.add_row(entry.name, entry.fingerprint[:12], f"{entry.verdicts:,}", written)
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
        if self.reward is None and self.older_than is None:
            raise UserError("nothing to prune: give --reward FINGERPRINT and / or --older-than DAYS")
        before = None if self.older_than is None else time.time() - self.older_than * DAY
        gone = self.open().prune(reward=self.reward, before=before)
        out.print(f"{gone:,} verdicts deleted", highlight=False)
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
        notice(f"{count:,} verdicts written to {self.file}")
        return 0
