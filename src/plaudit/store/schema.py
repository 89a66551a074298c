"""The tables, and how a database is brought to the schema that this plaudit knows."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from plaudit.store.errors import missing_table
from plaudit.store.urls import WRITING
from plaudit.types import UserError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, MetaData, Table

REVISIONS = ("0001", "0002")
"""Every revision in `migrations/versions`, oldest first. Adding one there and here is all that a new schema takes."""
HEAD = REVISIONS[-1]
VERSION_TABLE = "plaudit_version"
"""Not alembic's own name: the database may belong to a program that uses alembic as well."""
ADVISORY_LOCK = 0x706C6175646974
"""Held on PostgreSQL by whoever migrates: the letters of plaudit."""

_alembic = threading.Lock()  # alembic keeps the migration that runs in module globals


def tables() -> tuple[MetaData, Table, Table]:
    """(all, rewards, verdicts) as they are after the last migration."""
    from sqlalchemy import Column, Float, ForeignKey, Index, MetaData, Table, Text

    metadata = MetaData()
    bytewise = Text().with_variant(Text(collation="C"), "postgresql")
    rewards = Table(
        "rewards",
        metadata,
        Column("fingerprint", bytewise, primary_key=True),
        Column("name", Text, nullable=False),
    )
    verdicts = Table(
        "verdicts",
        metadata,
        Column("key", bytewise, primary_key=True),
        Column("reward", bytewise, ForeignKey("rewards.fingerprint"), nullable=False),
        Column("kind", Text, nullable=False),
        Column("subject", Text, nullable=False),
        Column("written", Float, nullable=False),
        Column("body", Text, nullable=False),
        Index("ix_verdicts_reward_written", "reward", "written"),
    )
    return metadata, rewards, verdicts


def bring_to_head(engine: Engine, label: str) -> None:
    """Make or upgrade the tables. One query where there is nothing to do; any number of processes may call it at once.

    Raises UserError for a database that a newer plaudit has upgraded, and what the database raises.
    """
    if version_of(engine) == HEAD:
        return
    with _alembic, engine.connect().execution_options(**{WRITING: True}) as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            from sqlalchemy import func, select

            connection.execute(select(func.pg_advisory_xact_lock(ADVISORY_LOCK)))
        version = _locked_version(connection)
        if version == HEAD:  # another process was faster
            return
        if version is not None and version not in REVISIONS:
            raise UserError(
                f"the verdict store {label} has the schema {version}, and this plaudit knows {HEAD} at most: "
                "it was opened by a newer plaudit, so upgrade this one"
            )
        _upgrade(connection)


def version_of(engine: Engine) -> str | None:
    """The revision of a database's tables; None where no migration has run yet."""
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError

    with engine.connect() as connection:
        try:
            found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
        except DBAPIError as error:
            if missing_table(error):
                return None
            raise
    return None if found is None else str(found)


def _locked_version(connection: Connection) -> str | None:
    """The same inside a transaction, which on PostgreSQL no query may break."""
    from sqlalchemy import inspect, text

    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    return None if found is None else str(found)


def _upgrade(connection: Connection) -> None:
    """Run the migrations that are missing, inside the transaction of `connection`."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
