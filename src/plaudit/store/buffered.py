"""A store that goes on taking verdicts while its database is gone."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from plaudit.store.errors import StoreUnavailable
from plaudit.store.records import Record, entries
from plaudit.store.schema import version_of
from plaudit.store.store import Store
from plaudit.store.waiting import patiently
from plaudit.types import UserError

BATCH = 1000
"""Verdicts per transaction when what waits is written."""
_log = logging.getLogger("plaudit.store")


class BufferedStore(Store):
    """A store whose verdicts wait while its database is gone, full, locked or read-only, and are written when it is back.

    bound: verdicts that may wait in memory; the call that would pass it raises StoreUnavailable and keeps nothing. They are
    gone if the process dies. journal: a SQLite file in which they wait instead, without a bound other than the disk; they
    survive the process, and the next BufferedStore with this journal writes them (`plaudit store copy` can, too).
    retry_every: seconds between two attempts to reach the database, made by a thread of its own.

    No call waits: `put` returns when the verdicts are in the database, in memory or in the journal. While the database is
    gone, `get` knows what waits and nothing else; what is judged again meanwhile is kept once, and the first verdict stays.
    `rewards`, `records` and `prune` are about the database alone. Close it when done.
    """

    def __init__(
        self, url: str | Path, *, bound: int = 100_000, journal: str | Path | None = None, retry_every: float = 1.0
    ) -> None:
        super().__init__(url, patience=0.0)
        self.bound, self.journal, self.retry_every = bound, journal, retry_every
        self._buffer: _Buffer = _Memory() if journal is None else _Journal(journal)
        self._problem: StoreUnavailable | None = None
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        if len(self._buffer):
            self._start()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.url, self.bound, self.journal, self.retry_every)

    @property
    def problem(self) -> StoreUnavailable | None:
        """Why the database cannot be used now; None where it can, as far as is known."""
        return self._problem

    @property
    def waiting(self) -> int:
        """Verdicts that were accepted and are not in the database yet."""
        return len(self._buffer)

    def get(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Bodies of the records that are there or wait, by key."""
        waiting = self._buffer.get(keys)  # before the database: what is written meanwhile is found in one of the two
        if self._problem is not None:
            return waiting
        try:
            return {**waiting, **super().get(keys)}
        except StoreUnavailable as error:
            self._went(error)
            return waiting

    def put(self, fingerprint: str, name: str, records: Iterable[Record]) -> dict[str, dict[str, Any]]:
        """Keep records, all or none, in the database or until it is back; see `Store.put`.

        Raises StoreUnavailable where the bound is reached or the journal cannot be written.
        """
        return self._add(entries(fingerprint, name, records))[1]

    def _add(self, given: Sequence[Mapping[str, Any]]) -> tuple[int, dict[str, dict[str, Any]]]:
        if self._problem is None and not len(self._buffer):  # what waits goes first
            try:
                return super()._add(given)
            except StoreUnavailable as error:
                self._went(error)
        with self._lock:
            added = self._keep(given)
        self._start()
        return added

    def _keep(self, given: Sequence[Mapping[str, Any]]) -> tuple[int, dict[str, dict[str, Any]]]:
        there = self._buffer.get([entry["key"] for entry in given])
        fresh = list({entry["key"]: entry for entry in reversed(given) if entry["key"] not in there}.values())
        if self.journal is None and len(self._buffer) + len(fresh) > self.bound:
            why = self._problem or StoreUnavailable(f"the verdict store {self.label} is not written to yet", "gone")
            raise StoreUnavailable(f"{why}; {len(self._buffer):,} verdicts wait for it, and no more are accepted", why.reason)
        self._buffer.add(fresh)
        first = {entry["key"]: entry["body"] for entry in given}
        return len(fresh), {key: body for key, body in there.items() if body != first[key]}

    def flush(self) -> int:
        """Write what waits to the database now; how many verdicts that was. Raises StoreUnavailable."""
        written = 0
        with self._flushing:
            try:
                while batch := self._buffer.oldest(BATCH):
                    super()._add(batch)
                    self._buffer.remove([entry["key"] for entry in batch])
                    written += len(batch)
                if self._problem is not None:
                    self._patiently(lambda: version_of(self._engine))  # nothing waited: is it really back?
            except StoreUnavailable as error:
                self._went(error)
                raise
            back, self._problem = self._problem, None
        if back is not None:
            _log.warning("the verdict store %s is back; %d verdicts that waited are written", self.label, written)
        return written

    def close(self, wait: float = 0.0) -> None:
        """Write what waits and close all connections.

        wait: seconds to try for. Raises StoreUnavailable if verdicts in memory could not be written: they are lost when the
        process ends. Those in a journal stay there.
        """
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
        try:
            patiently(self.flush, self.label, wait)
        except StoreUnavailable as error:
            if self.journal is None and self.waiting:
                raise StoreUnavailable(f"{error}; {self.waiting:,} verdicts that waited for it are lost", error.reason) from error
            if self.waiting:
                _log.warning("%d verdicts for the store %s wait in %s", self.waiting, self.label, self.journal)
        finally:
            self._buffer.close()
            super().close()

    def _went(self, error: StoreUnavailable) -> None:
        if self._problem is None:
            _log.warning("%s; verdicts wait in %s until it is back", error, self.journal or "memory")
        self._problem = error
        self._start()

    def _start(self) -> None:
        """The thread that writes when the database is back; it ends when nothing waits."""
        with self._lock:
            if not self._closed.is_set() and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._write_when_back, name="plaudit-store", daemon=True)
                self._thread.start()

    def _write_when_back(self) -> None:
        said = ""
        while not self._closed.wait(self.retry_every):
            try:
                self.flush()
            except StoreUnavailable:  # said once, by `_went`
                continue
            except UserError as error:
                if str(error) != said:
                    _log.warning("%s; %d verdicts wait", error, self.waiting)
                said = str(error)
                continue
            with self._lock:  # nobody may add between this look and the end of the thread
                if not len(self._buffer) and self._problem is None:
                    self._thread = None
                    return


class _Buffer(Protocol):
    """Where entries wait, in the order in which they came as far as it matters: one key, one entry."""

    def __len__(self) -> int: ...
    def get(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]: ...
    def add(self, records: Iterable[Mapping[str, Any]]) -> int: ...
    def oldest(self, count: int) -> list[Mapping[str, Any]]: ...
    def remove(self, keys: Sequence[str]) -> None: ...
    def close(self) -> None: ...


class _Memory:
    def __init__(self) -> None:
        self._entries: dict[str, Mapping[str, Any]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        found = ((key, self._entries.get(key)) for key in keys) if self._entries else ()
        return {key: dict(entry["body"]) for key, entry in found if entry is not None}

    def add(self, records: Iterable[Mapping[str, Any]]) -> int:
        given = {entry["key"]: entry for entry in records}
        self._entries |= given
        return len(given)

    def oldest(self, count: int) -> list[Mapping[str, Any]]:
        return list(islice(tuple(self._entries.values()), count))  # a copy in one step: other threads add meanwhile

    def remove(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._entries.pop(key, None)

    def close(self) -> None:
        pass


class _Journal:
    """A store of its own, which is emptied once its verdicts are in the database."""

    def __init__(self, path: str | Path) -> None:
        self._store = Store(path, patience=5.0)

    def __len__(self) -> int:
        return self._store.count()

    def get(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        return self._store.get(keys)

    def add(self, records: Iterable[Mapping[str, Any]]) -> int:
        return self._store.add(records)

    def oldest(self, count: int) -> list[Mapping[str, Any]]:
        return list(islice(self._store.records(), count))

    def remove(self, keys: Sequence[str]) -> None:
        self._store.remove(keys)

    def close(self) -> None:
        self._store.close()


def _reopened(url: str, bound: int, journal: str | Path | None, retry_every: float) -> BufferedStore:
    return BufferedStore(url, bound=bound, journal=journal, retry_every=retry_every)
