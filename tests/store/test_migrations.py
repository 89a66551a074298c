"""Databases of every age end up with the same tables, and keep their verdicts."""

import json
import multiprocessing
import subprocess
import sys

import pytest
from sqlalchemy import create_engine, inspect, text

from plaudit.store import Record, Store, StoreUnavailable
from plaudit.store.schema import HEAD, REVISIONS, VERSION_TABLE, tables
from plaudit.store.urls import parse
from plaudit.types import UserError

OLD = (
    "CREATE TABLE rewards (fingerprint VARCHAR(32) NOT NULL, name TEXT NOT NULL, PRIMARY KEY (fingerprint))",
    "CREATE TABLE verdicts (key VARCHAR(32) NOT NULL, reward VARCHAR(32) NOT NULL, kind VARCHAR(16) NOT NULL, "
    "subject TEXT NOT NULL, written FLOAT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (key), "
    "FOREIGN KEY(reward) REFERENCES rewards (fingerprint))",
    "CREATE INDEX ix_verdicts_reward ON verdicts (reward)",
    "INSERT INTO rewards VALUES ('{r}', 'length')".format(r="r" * 32),
)
"""What plaudit made before there were migrations, word for word."""


def engine_of(url):
    return create_engine(parse(url))


def run(url, *statements):
    engine = engine_of(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def old_store(url, count=700):
    rows = [
        "INSERT INTO verdicts VALUES ('{:032x}', '{}', 'score', 'row-{}', {}, '{}')".format(
            number, "r" * 32, number, 1000.5 + number, json.dumps({"value": number / 3, "status": 0}).replace(":", "\\:")
        )
        for number in range(count)
    ]
    run(url, *OLD, *rows)


def differences(url):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    engine = engine_of(url)
    with engine.connect() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        found = compare_metadata(MigrationContext.configure(connection, opts=options), tables()[0])
    engine.dispose()
    # SQLite's columns keep the lengths that they were made with; it never looks at them
    return [one for one in found if not (url.startswith("sqlite") and isinstance(one, list) and one[0][0] == "modify_type")]


def test_a_new_database_has_the_tables_that_the_code_uses(store_url):
    assert Store(store_url).version == HEAD
    assert differences(store_url) == []


def test_a_store_from_before_migrations_keeps_its_verdicts(store_url):
    old_store(store_url)
    store = Store(store_url)
    assert store.version == HEAD
    assert differences(store_url) == []
    kept = list(store.records())
    assert [(one["subject"], one["written"], one["body"]["value"]) for one in kept] == [
        (f"row-{number}", 1000.5 + number, number / 3) for number in range(700)
    ]
    assert [(entry.name, entry.verdicts) for entry in store.rewards()] == [("length", 700)]
    store.put("r" * 32, "length", [Record(f"{0:032x}", "a longer kind than before", "again", {"value": 9, "status": 0})])
    assert store.get([f"{0:032x}"])[f"{0:032x}"]["value"] == 0


def test_each_older_revision_is_brought_to_the_last(store_url):
    old_store(store_url, 3)
    run(
        store_url,
        f"CREATE TABLE {VERSION_TABLE} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)",
        f"INSERT INTO {VERSION_TABLE} VALUES ('0001')",
    )
    assert Store(store_url).version == HEAD
    assert differences(store_url) == []
    assert Store(store_url).count() == 3
    engine = engine_of(store_url)
    assert [index["name"] for index in inspect(engine).get_indexes("verdicts")] == ["ix_verdicts_reward_written"]
    engine.dispose()


def test_the_list_of_revisions_is_that_of_the_scripts():
    from pathlib import Path

    from alembic.config import Config
    from alembic.script import ScriptDirectory

    import plaudit.store

    config = Config()
    config.set_main_option("script_location", str(Path(plaudit.store.__file__).parent / "migrations"))
    scripts = ScriptDirectory.from_config(config)
    assert tuple(reversed([script.revision for script in scripts.walk_revisions()])) == REVISIONS
    assert scripts.get_heads() == [HEAD]


def test_a_database_of_a_newer_plaudit_is_one_sentence_and_stays_as_it_is(store_url):
    Store(store_url).put("r", "n", [Record("k", "score", "s", {"status": 0})])
    run(store_url, f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(UserError, match="has the schema 9999.*upgrade this one") as caught:
        Store(store_url)
    assert not isinstance(caught.value, StoreUnavailable)
    assert "s3cret" not in str(caught.value)
    run(store_url, f"UPDATE {VERSION_TABLE} SET version_num = '{HEAD}'")
    assert Store(store_url).count() == 1


def test_an_upgrade_that_fails_leaves_the_old_store(store_url):
    old_store(store_url, 3)
    run(store_url, "CREATE TABLE other (id INTEGER)", "CREATE INDEX ix_verdicts_reward_written ON other (id)")
    before = rows_of(store_url)
    with pytest.raises(UserError, match="cannot be opened"):
        Store(store_url)
    assert not inspect(engine_of(store_url)).has_table(VERSION_TABLE)
    assert rows_of(store_url) == before


def rows_of(url):
    engine = engine_of(url)
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT key, written, body FROM verdicts ORDER BY key")).all()
    engine.dispose()
    return rows


def open_and_put(url, number, start, problems):
    start.wait()
    try:
        Store(url).put("reward", "name", [Record(f"key {number}", "score", "row", {"status": 0})])
    except Exception as error:
        problems.put(f"{type(error).__name__}: {error}")


@pytest.mark.parametrize("age", ["new", "old"])
def test_many_processes_may_open_one_store_at_once(store_url, age):
    if age == "old":
        old_store(store_url, 50)
    context = multiprocessing.get_context("fork")
    start, problems = context.Barrier(6), context.SimpleQueue()
    processes = [context.Process(target=open_and_put, args=(store_url, number, start, problems)) for number in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert problems.empty(), problems.get()
    store = Store(store_url)
    assert len(store.get([f"key {number}" for number in range(6)])) == 6
    assert store.count() == (56 if age == "old" else 6)
    assert differences(store_url) == []


def test_opening_what_is_at_the_last_revision_imports_no_alembic(store_url):
    Store(store_url)
    code = f"import sys\nfrom plaudit.store import Store\nStore({store_url!r}).get(['k'])\nprint('alembic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_two_databases_may_be_made_by_two_threads_at_once(tmp_path):
    import threading

    problems = []

    def make(number):
        try:
            Store(tmp_path / f"{number}.sqlite").put("r", "n", [Record("k", "score", "s", {})])
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert all(Store(tmp_path / f"{number}.sqlite", must_exist=True).count() == 1 for number in range(6))
