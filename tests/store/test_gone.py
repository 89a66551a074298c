"""A database that goes away, fills up or may not be written: one sentence each, and the same call works once it is back."""

import logging
import subprocess
import threading
import time

import pytest
from sqlalchemy import event

from plaudit.store import Record, Store, StoreUnavailable
from plaudit.types import UserError


def one(key="a", **body):
    return [Record(key, "score", "s", {"status": 0, **body})]


def test_a_call_waits_for_a_database_that_comes_back(postgres, postgres_url, caplog):
    store = Store(postgres_url, patience=60)
    store.put("r", "n", one("a"))
    postgres.stop()
    back = threading.Timer(1.0, postgres.start)
    back.start()
    with caplog.at_level(logging.WARNING, "plaudit.store"):
        store.put("r", "n", one("b"))
    back.join()
    assert sorted(store.get(["a", "b"])) == ["a", "b"]
    assert len([record for record in caplog.records if "trying again" in record.message]) == 1
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("mode", ["immediate", "fast"])
def test_patience_ends(postgres, postgres_url, mode):
    store = Store(postgres_url, patience=0.3)
    store.put("r", "n", one("a"))
    postgres.stop(mode)
    for call in (lambda: store.get(["a"]), lambda: store.put("r", "n", one("b")), store.rewards, lambda: list(store.records())):
        with pytest.raises(StoreUnavailable, match="cannot be reached") as caught:
            call()
        assert (caught.value.reason, caught.value.retryable) == ("gone", True)
        assert "s3cret" not in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        Store(postgres_url)
    postgres.start()
    assert sorted(store.get(["a", "b"])) == ["a"]
    store.put("r", "n", one("b"))
    assert store.count() == 2


def test_a_server_that_dies_while_it_streams_is_one_sentence(postgres, postgres_url):
    store = Store(postgres_url, patience=0)
    store.put("r", "n", [Record(f"{number:032x}", "score", "s", {"text": "x" * 500}) for number in range(20_000)])
    stream = store.records()
    next(stream)
    postgres.stop()
    with pytest.raises(StoreUnavailable):
        list(stream)


def test_a_read_only_database_is_said_at_once(postgres, postgres_url, tmp_path):
    Store(postgres_url).put("r", "n", one("a"))
    name = postgres_url.rpartition("/")[2]
    postgres.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    Store(tmp_path / "v.sqlite").put("r", "n", one("a"))
    for url in (postgres_url, f"sqlite:///file:{tmp_path}/v.sqlite?mode=ro&uri=true"):
        store = Store(url, patience=600)
        assert store.count() == 1
        with pytest.raises(StoreUnavailable, match="is read-only") as caught:
            store.put("r", "n", one("b"))
        assert not caught.value.retryable
    with pytest.raises(StoreUnavailable, match="cannot be opened") as caught:
        Store(postgres.new_database() + "?options=-cdefault_transaction_read_only%3Don")
    assert caught.value.reason == "read-only"


def test_a_full_disk_below_sqlite(tmp_path):
    """SQLite's own limit on pages stands in for the disk: it ends in the same error, from the same place."""
    store = Store(tmp_path / "v.sqlite", patience=0)
    store.put("r", "n", one("a"))
    store.close()
    event.listen(store._engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count=12"))
    with pytest.raises(StoreUnavailable, match="is full") as caught:
        store.put("r", "n", one("b", text="x" * 100_000))
    assert (caught.value.reason, caught.value.retryable) == ("full", True)
    assert sorted(store.get(["a", "b"])) == ["a"]


def test_a_disk_that_is_really_full(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], capture_output=True, check=False).returncode:
        pytest.skip("nothing may be mounted here, so there is no small disk")
    try:
        store = Store(disk / "v.sqlite", patience=0)
        written = []
        with pytest.raises(StoreUnavailable, match="is full"):
            for number in range(100):
                store.put("r", "n", one(f"{number:032x}", text="x" * 20_000))
                written.append(f"{number:032x}")
        assert len(written) > 3
        assert sorted(store.get([f"{number:032x}" for number in range(100)])) == written
        store.close()
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_full_disk_below_postgres(postgres, postgres_url):
    """The server raises its own code for it, out of a trigger."""
    store = Store(postgres_url, patience=0)
    postgres.run(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$",
        postgres_url,
    )
    postgres.run("CREATE TRIGGER f BEFORE INSERT ON verdicts FOR EACH ROW EXECUTE FUNCTION full_disk()", postgres_url)
    with pytest.raises(StoreUnavailable, match="the disk of the verdict store .* is full") as caught:
        store.put("r", "n", one("a", text="a user's text"))
    assert "a user's text" not in str(caught.value)
    assert "a user's text" not in str(caught.value.__cause__)
    postgres.run("DROP TRIGGER f ON verdicts", postgres_url)
    store.put("r", "n", one("a"))
    assert [entry.verdicts for entry in store.rewards()] == [1]


def test_what_waiting_does_not_mend_is_not_waited_for(postgres, postgres_url):
    store = Store(postgres_url, patience=600)
    postgres.run("DROP TABLE verdicts", postgres_url)
    begun = time.monotonic()
    with pytest.raises(UserError, match="cannot be used.*verdicts") as caught:
        store.put("r", "n", one("a"))
    assert not isinstance(caught.value, StoreUnavailable)
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://u:top%40secret@127.0.0.1:1/d", "Connection refused"),
        ("postgres://u:topsecret@127.0.0.1:1/d?password=topsecret", "Connection refused"),
        ("postgresql://u:x@topsecret@127.0.0.1:1/d", "two @"),
        ("postgresql://u:topsecret@host:port/d", "cannot be read"),
        ("mysql://u:topsecret@h/d", "no database that plaudit knows"),
    ],
)
def test_no_message_holds_the_password(url, words):
    with pytest.raises(UserError, match=words) as caught:
        Store(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_usual_scheme_and_no_password_in_what_is_shown(postgres, postgres_url, scheme):
    store = Store(postgres_url.replace("postgresql", scheme, 1))
    store.put("r", "n", one())
    assert store.label == postgres_url.replace("s3cret-pw", "***")
    assert "s3cret" not in repr(store)
    assert store.label in repr(store)


def test_a_wrong_password_is_one_sentence(postgres_url):
    with pytest.raises(UserError, match="password authentication failed") as caught:
        Store(postgres_url.replace("s3cret-pw", "wr0ng"))
    assert "wr0ng" not in str(caught.value)


def test_a_missing_driver_says_what_to_install(monkeypatch):
    from plaudit.store import urls

    monkeypatch.setattr(urls, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install 'plaudit\\[postgres\\]'"):
        Store("postgresql://u:pw@h/d")


def test_a_store_that_must_exist(tmp_path):
    with pytest.raises(UserError, match="there is no verdict store at"):
        Store(tmp_path / "none.sqlite", must_exist=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_was_deleted_takes_no_verdicts(tmp_path, replaced):
    """SQLite itself would write on, into a file without a name."""
    store = Store(tmp_path / "v.sqlite")
    store.put("r", "n", one("a"))
    for path in tmp_path.iterdir():
        path.unlink()
    if replaced:
        Store(tmp_path / "v.sqlite")
    for call in (lambda: store.put("r", "n", one("b")), lambda: store.get(["a"])):
        with pytest.raises(UserError, match="was deleted or replaced"):
            call()
