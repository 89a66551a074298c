"""Every verdict, kept: one row per thing judged, keyed by its content.

The key covers the reward's fingerprint (engine, weights, contract, sampling) and the sample itself, so a verdict is found
again whichever file it came from, and never reused after anything that decides it has changed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from plaudit.store.errors import StoreUnavailable, first_line, translated
from plaudit.store.records import Record, RewardEntry, entries, from_text, row_of, to_json, to_text
from plaudit.store.schema import bring_to_head, tables, version_of
from plaudit.store.urls import WRITING, label_of, open_engine, parse, sqlite_file
from plaudit.store.waiting import default_patience, patiently
from plaudit.types import UserError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Select, Table

T = TypeVar("T")
LOOKUP = 500
"""Keys per query: below SQLite's default limit on variables."""
BUSY = 30.0
"""Seconds that one statement waits for SQLite's lock, at most."""


class Store:
    """Verdicts in a database. `url`: a path that becomes a SQLite file (WAL), or sqlite:///... or postgresql://... .

    Writing is insert-or-ignore inside one transaction per call: after `put` returns, the records survive a kill; two writers
    of the same verdict leave the one that came first, and every reader sees that one. A store may be used by several threads,
    and be pickled; a process that was forked off makes connections of its own.

    patience: seconds for which a call waits when the database is gone, locked or full, and then raises StoreUnavailable;
    None takes $PLAUDIT_STORE_PATIENCE, or 60. must_exist: refuse a SQLite file that is not there instead of making it.
    Raises UserError if the database cannot be opened (StoreUnavailable where it is a matter of time), without waiting.
    """

    def __init__(self, url: str | Path, *, patience: float | None = None, must_exist: bool = False) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        self.patience = default_patience() if patience is None else patience
        parsed = parse(url)
        self.label = label_of(parsed)
        """Where the store is, for people: without the password, which `url` has."""
        self._file = sqlite_file(parsed)
        if must_exist and self._file is not None and not self._file.is_file():
            raise UserError(f"there is no verdict store at {self._file}")
        self.url = parsed.render_as_string(hide_password=False)
        self._process = os.getpid()
        self._metadata, self._rewards, self._verdicts = tables()
        try:
            self._engine: Engine = open_engine(parsed, lock_wait=min(BUSY, max(5.0, self.patience)))
            bring_to_head(self._engine, self.label)
            self._identity = self._identify()
        except (SQLAlchemyError, OSError) as error:
            sentence = f"the verdict store {self.label} cannot be opened: {first_line(error)}"
            meaning = translated(error, self.label) if isinstance(error, SQLAlchemyError) else None
            if isinstance(meaning, StoreUnavailable):
                raise StoreUnavailable(sentence, meaning.reason) from error
            raise UserError(sentence) from error

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.label!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (type(self), self.url, self.patience)

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a SQLite file."""
        return self._engine.dialect.name == "sqlite"

    @property
    def version(self) -> str | None:
        """The revision of the tables: the last of `plaudit.store.schema.REVISIONS`, unless a newer plaudit moved on."""
        return self._patiently(lambda: version_of(self._engine))

    def get(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Bodies of the records that are there, by key. Raises StoreUnavailable."""

        def read(connection: Connection) -> dict[str, dict[str, Any]]:
            return self._bodies(connection, keys)

        return self._read(read)

    def put(self, fingerprint: str, name: str, records: Iterable[Record]) -> dict[str, dict[str, Any]]:
        """Keep records of one reward, all or none; those that are there already stay as they are.

        Returns the bodies that stayed where they are not the given ones, by key: another writer was first, and what everybody
        reads from now on is what it wrote. Raises StoreUnavailable, in which case nothing was kept.
        """
        return self._add(entries(fingerprint, name, records))[1]

    def add(self, records: Iterable[Mapping[str, Any]]) -> int:
        """Keep records in the form that `records` gives, all or none; how many were not there yet. Raises StoreUnavailable."""
        return self._add(list(records))[0]

    def _add(self, given: Sequence[Mapping[str, Any]]) -> tuple[int, dict[str, dict[str, Any]]]:
        """How many were new, and the bodies that were there before where they differ."""
        names = {entry["reward"]: to_text(entry["name"]) for entry in given}
        rows: dict[str, dict[str, Any]] = {}
        for entry in given:
            rows.setdefault(entry["key"], row_of(entry))
        if not rows:
            return 0, {}
        # Every writer goes through the keys in the same order: whoever comes second waits, and none waits in a circle.
        rewards = [{"fingerprint": fingerprint, "name": names[fingerprint]} for fingerprint in sorted(names)]
        verdicts = [rows[key] for key in sorted(rows)]

        def write(connection: Connection) -> tuple[int, dict[str, dict[str, Any]]]:
            self._insert(connection, self._rewards, rewards)
            new = self._insert(connection, self._verdicts, verdicts)
            if new == len(verdicts):
                return new, {}
            stayed = self._bodies(connection, list(rows))
            return new, {key: body for key, body in stayed.items() if to_json(body) != rows[key]["body"]}

        return self._write(write)

    def _insert(self, connection: Connection, table: Table, rows: list[dict[str, Any]]) -> int:
        """Insert what is not there yet; how many that was."""
        from sqlalchemy.dialects.postgresql import insert

        statement = table.insert().prefix_with("OR IGNORE") if self.is_sqlite else insert(table).on_conflict_do_nothing()
        return connection.execute(statement, rows, execution_options={"preserve_rowcount": True}).rowcount

    def _bodies(self, connection: Connection, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        from sqlalchemy import select

        found: dict[str, dict[str, Any]] = {}
        table = self._verdicts.c
        for start in range(0, len(keys), LOOKUP):
            query = select(table.key, table.body).where(table.key.in_(keys[start : start + LOOKUP]))
            found.update((key, json.loads(body)) for key, body in connection.execute(query))
        return found

    def rewards(self) -> list[RewardEntry]:
        """Every reward in the store, the last written first. Raises StoreUnavailable."""
        from sqlalchemy import func, select

        rewards, verdicts = self._rewards.c, self._verdicts.c
        counts = (
            select(
                verdicts.reward,
                func.count().label("verdicts"),
                func.min(verdicts.written).label("first"),
                func.max(verdicts.written).label("last"),
            )
            .group_by(verdicts.reward)
            .subquery()
        )
        query = select(rewards.fingerprint, rewards.name, func.coalesce(counts.c.verdicts, 0), counts.c.first, counts.c.last)
        query = query.select_from(self._rewards.outerjoin(counts, rewards.fingerprint == counts.c.reward))
        rows = self._read(lambda connection: connection.execute(query).all())
        found = [RewardEntry(row[0], from_text(row[1]), *row[2:]) for row in rows]
        return sorted(found, key=lambda entry: (-(entry.last or 0.0), entry.fingerprint))

    def records(self, reward: str | None = None) -> Iterator[dict[str, Any]]:
        """Stream records as JSON-able dictionaries, in the order of their keys, as they are when the reading begins.

        reward: a fingerprint or its beginning. Raises StoreUnavailable, also in the middle.
        """
        from sqlalchemy.exc import SQLAlchemyError

        query = self._records_query(reward)
        try:
            with self._connect() as connection:
                # PostgreSQL keeps the rows on its side (a cursor with a name), and both dialects hand out a thousand at a time
                for row in connection.execution_options(yield_per=1000).execute(query):
                    yield {
                        "key": row.key, "reward": row.reward, "name": from_text(row.name), "kind": from_text(row.kind),
                        "subject": from_text(row.subject), "written": row.written, "body": json.loads(row.body),
                    }  # fmt: skip
        except SQLAlchemyError as error:
            raise translated(error, self.label) from error

    def _records_query(self, reward: str | None) -> Select[Any]:
        from sqlalchemy import select

        table = self._verdicts.c
        query = select(table.key, table.reward, self._rewards.c.name, table.kind, table.subject, table.written, table.body).join(
            self._rewards, table.reward == self._rewards.c.fingerprint
        )
        if reward is not None:
            query = query.where(table.reward.startswith(reward, autoescape=True))
        return query.order_by(table.key)

    def prune(self, *, reward: str | None = None, before: float | None = None) -> int:
        """Delete verdicts of one reward (fingerprint or its beginning) and / or written before a time; how many went.

        Raises ValueError without any condition: an empty call must not empty the store. Raises StoreUnavailable.
        """
        from sqlalchemy import delete, exists

        if not reward and before is None:
            raise ValueError("prune needs a reward or a time")
        query = delete(self._verdicts)
        if reward:
            query = query.where(self._verdicts.c.reward.startswith(reward, autoescape=True))
        if before is not None:
            query = query.where(self._verdicts.c.written < before)
        empty = delete(self._rewards).where(~exists().where(self._verdicts.c.reward == self._rewards.c.fingerprint))

        def write(connection: Connection) -> int:
            gone = connection.execute(query).rowcount
            connection.execute(empty)
            return int(gone)

        return self._write(write)

    def count(self) -> int:
        """How many verdicts there are. Raises StoreUnavailable."""
        from sqlalchemy import func, select

        query = select(func.count()).select_from(self._verdicts)
        return self._read(lambda connection: int(connection.execute(query).scalar_one()))

    def remove(self, keys: Sequence[str]) -> int:
        """Delete the verdicts with these keys, all or none; how many went. Their rewards stay listed. Raises StoreUnavailable."""
        from sqlalchemy import delete

        table = self._verdicts
        parts = [sorted(keys)[start : start + LOOKUP] for start in range(0, len(keys), LOOKUP)]

        def write(connection: Connection) -> int:
            return sum(connection.execute(delete(table).where(table.c.key.in_(part))).rowcount for part in parts)

        return self._write(write)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    # -- transactions --------------------------------------------------------------------------------------------------------

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        if self._process != os.getpid():  # forked: the connections belong to the parent, which goes on using them
            self._engine.dispose(close=False)
            self._process = os.getpid()
        if self._identify() != self._identity:  # SQLite would go on writing into a file that nobody finds any more
            raise UserError(f"the file of the verdict store {self.label} was deleted or replaced while it was in use")
        with self._engine.connect() as connection:
            yield connection

    def _identify(self) -> tuple[int, int] | None:
        """Which file the path means now; None where there is none."""
        try:
            found = None if self._file is None else self._file.stat()
        except OSError:
            return None
        return None if found is None else (found.st_dev, found.st_ino)

    def _read(self, work: Callable[[Connection], T]) -> T:
        def read() -> T:
            with self._connect() as connection:
                return work(connection)

        return self._patiently(read)

    def _write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction. It may run several times: also when the connection is lost while it is committed."""

        def write() -> T:
            with self._connect() as connection:
                writing = connection.execution_options(**{WRITING: True})
                with writing.begin():
                    return work(writing)

        return self._patiently(write)

    def _patiently(self, call: Callable[[], T]) -> T:
        from sqlalchemy.exc import SQLAlchemyError

        def attempt() -> T:
            try:
                return call()
            except SQLAlchemyError as error:
                raise translated(error, self.label) from error

        return patiently(attempt, self.label, self.patience)


def _reopened(kind: type[Store], url: str, patience: float) -> Store:
    return kind(url, patience=patience)
