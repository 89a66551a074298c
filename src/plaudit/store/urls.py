"""Which database a store's URL or path means, and the connections to it."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plaudit.store.errors import first_line
from plaudit.types import UserError
from plaudit.types.paths import cache_dir

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

EXPECTED = "expected a path, sqlite:///PATH or postgresql://USER:PASSWORD@HOST:PORT/DATABASE (special characters as %40)"
POSTGRES = ("postgres", "postgresql", "postgresql+psycopg")
SECRET = ("password", "sslpassword")
NEEDS_DRIVER = "a verdict store on PostgreSQL needs a driver: pip install 'plaudit[postgres]'"
WRITING = "plaudit_writing"
"""Execution option of a connection that is going to write."""
SETTINGS = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
    "application_name": "plaudit",
}
"""Of libpq, unless the URL says otherwise: a host that vanished without a word is noticed within half a minute."""


def default_store_url() -> str:
    """$PLAUDIT_STORE, or a SQLite file in the cache folder."""
    return os.environ.get("PLAUDIT_STORE") or f"sqlite:///{cache_dir() / 'verdicts.sqlite'}"


def parse(url: str | Path) -> URL:
    """The URL as SQLAlchemy takes it. Raises UserError, which never repeats the text: there may be a password in it."""
    from sqlalchemy import make_url
    from sqlalchemy.engine import URL
    from sqlalchemy.exc import ArgumentError

    if "://" not in str(url):
        return URL.create("sqlite", database=str(Path(url).absolute()))
    scheme = str(url).partition("://")[0]
    try:
        parsed = make_url(str(url))
    except (ArgumentError, ValueError):
        raise UserError(
            f"the verdict store cannot be opened: its URL, which begins with {scheme}://, cannot be read; {EXPECTED}"
        ) from None
    if parsed.drivername in POSTGRES:
        if "@" in (parsed.host or ""):  # what is taken for the host is the rest of the password
            raise UserError(f"the verdict store cannot be opened: its URL has two @; {EXPECTED}")
        if find_spec("psycopg") is None:
            raise UserError(NEEDS_DRIVER)
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() != "sqlite":
        raise UserError(f"the verdict store cannot be opened: {scheme}:// is no database that plaudit knows; {EXPECTED}")
    return parsed


def label_of(url: URL) -> str:
    """The URL for people: without password and driver."""
    plain = url.difference_update_query([name for name in SECRET if name in url.query])
    return plain.set(drivername=plain.get_backend_name()).render_as_string(hide_password=True)


def sqlite_file(url: URL) -> Path | None:
    """The file of a SQLite database; None for one in memory and for PostgreSQL."""
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:") or str(url.database).startswith("file:"):
        return None
    return Path(str(url.database))


def open_engine(url: URL, *, lock_wait: float) -> Engine:
    """Connections to a database; none is made yet. lock_wait: seconds that SQLite waits for another writer.

    Parameters stay out of error messages: they are users' texts. Raises OSError where the folder cannot be made, UserError where
    the driver is not whole.
    """
    from sqlalchemy import create_engine, event

    if url.get_backend_name() == "sqlite":
        file = sqlite_file(url)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(url, hide_parameters=True)
        event.listen(engine, "connect", lambda connection, _record: _set_up_sqlite(connection, lock_wait))
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    settings = {name: value for name, value in SETTINGS.items() if name not in url.query}
    try:
        return create_engine(url, hide_parameters=True, pool_pre_ping=True, connect_args=settings)
    except ImportError as error:  # psycopg is there, and the library that it needs is not
        raise UserError(f"{NEEDS_DRIVER} ({first_line(error)})") from error


def _set_up_sqlite(connection: Any, lock_wait: float) -> None:
    """Readers do not block the writer (WAL), a second writer waits, and a commit survives the death of the process."""
    connection.isolation_level = None  # Python would begin transactions at its own discretion: `_begin_sqlite` does it
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={int(lock_wait * 1000)}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    """A writer takes its lock at once: one that began as a reader is refused when another has written meanwhile."""
    writing = connection.get_execution_options().get(WRITING, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
