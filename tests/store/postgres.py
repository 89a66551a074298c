"""A real PostgreSQL for tests: Debian's server in a temporary folder, started once a session, a fresh database for each test.

A pytest plugin (tests/conftest.py): every test may ask for `postgres` (the server, which can be stopped and started) or
`postgres_url` (an empty database). Both skip, and say why, where there is no server to be had.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

USER, PASSWORD = "plaudit", "s3cret-pw"
SETTINGS = {
    "fsync": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "autovacuum": "off",
    "listen_addresses": "127.0.0.1",
    "lc_messages": "C",
    "logging_collector": "off",
}


def programs() -> Path | None:
    """The folder of the newest server that Debian's packages installed; None where there is none."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")]
    return max(found, key=lambda path: float(path.parent.name), default=None)


class PostgresServer:
    """A server on a free port of the loopback, with one user who needs a password. Raises RuntimeError if it does not start.

    settings: of postgresql.conf, in place of those for tests, which do not wait for the disk.
    """

    def __init__(self, folder: Path, bin_folder: Path, **settings: str) -> None:
        self.folder, self.bin = folder, bin_folder
        self._owner = _unprivileged() if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
        self._numbers = count()
        self._kept: str | None = None
        if self._owner is not None:
            os.chown(folder, self._owner.pw_uid, self._owner.pw_gid)
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self.data = folder / "data"
        self._call("initdb", "-D", str(self.data), "-U", USER, "--pwfile", str(secret), "-A", "scram-sha-256", "-E", "UTF8",
                   "--locale=C.UTF-8", "--no-sync")  # fmt: skip
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        settings = {**SETTINGS, **settings, "port": str(self.port), "unix_socket_directories": str(folder)}
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        self.start()

    def start(self) -> None:
        """Start, and wait until it answers."""
        self._call("pg_ctl", "-D", str(self.data), "-l", str(self.folder / "log"), "-w", "-t", "60", "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop, as a crash does (`immediate`) or in order (`fast`); what was committed is there after `start`."""
        self._call("pg_ctl", "-D", str(self.data), "-m", mode, "-w", "-t", "60", "stop")

    @property
    def running(self) -> bool:
        """Whether it has a process."""
        return (self.data / "postmaster.pid").exists()

    def url(self, database: str = "postgres", scheme: str = "postgresql") -> str:
        """Of one database, with the password."""
        return f"{scheme}://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"test_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name}")
        return self.url(name)

    def emptied(self) -> str:
        """The URL of one database that is kept, without connections, tables and settings: cheaper than a new one."""
        if self._kept is None:
            self._kept = self.new_database()
            return self._kept
        name = self._kept.rpartition("/")[2]
        self.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        self.run(f"ALTER DATABASE {name} RESET ALL")
        self.run("DROP SCHEMA public CASCADE", self._kept)
        self.run("CREATE SCHEMA public", self._kept)
        return self._kept

    def run(self, statement: str, url: str | None = None) -> list[tuple[object, ...]]:
        """Run one statement as the owner of everything; its rows."""
        import psycopg

        with psycopg.connect(url or self.url(), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def remove(self) -> None:
        """Stop and delete everything."""
        if self.running:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _call(self, program: str, *arguments: str) -> None:
        who = {} if self._owner is None else {"user": self._owner.pw_uid, "group": self._owner.pw_gid, "extra_groups": []}
        # the output goes to a file: the server inherits it, and a pipe would stay open as long as it runs
        with (self.folder / "output").open("w+") as output:
            done = subprocess.run(
                [self.bin / program, *arguments], cwd=self.folder, stdout=output, stderr=output, check=False, **who
            )
            if done.returncode:
                output.seek(0)
                log = self.folder / "log"
                raise RuntimeError(f"{program} failed: {output.read()} {log.read_text()[-2000:] if log.exists() else ''}")


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


@pytest.fixture(scope="session")
def postgres_session() -> Iterator[PostgresServer]:
    """The one server of a test session."""
    pytest.importorskip("psycopg", reason="the driver is not installed: pip install 'plaudit[postgres]'")
    found = programs()
    if found is None:
        pytest.skip("there is no PostgreSQL server below /usr/lib/postgresql: apt-get install postgresql")
    server = PostgresServer(Path(tempfile.mkdtemp(prefix="plaudit-postgres-")), found)
    yield server
    server.remove()


@pytest.fixture
def postgres(postgres_session: PostgresServer) -> Iterator[PostgresServer]:
    """The server, running; a test may stop it."""
    if not postgres_session.running:
        postgres_session.start()
    yield postgres_session
    if not postgres_session.running:
        postgres_session.start()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    """The URL of an empty database."""
    return postgres.emptied()


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'v.sqlite'}"
    return str(request.getfixturevalue("postgres_url"))
