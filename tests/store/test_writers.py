"""Several writers at once: the first verdict stays, everybody learns which one that was, and nobody waits in a circle."""

import multiprocessing
import random
import threading
import time

import pytest

from plaudit.store import Record, Store, StoreUnavailable
from plaudit.store import store as store_module

KEYS = [f"{number:032x}" for number in range(300)]


def write_all(url, name, start, said):
    """Write every key, in an order and in batches of its own, with a body that names the writer; what it is told."""
    store, draw = Store(url), random.Random(name)
    keys = draw.sample(KEYS, len(KEYS))
    start.wait()
    told = {}
    try:
        while keys:
            batch, keys = keys[:37], keys[37:]
            first = store.put("r" * 32, "one", [Record(key, "score", name, {"value": name, "status": 0}) for key in batch])
            told |= {key: first.get(key, {"value": name})["value"] for key in batch}
        said.put((name, told))
    except Exception as error:
        said.put((name, f"{type(error).__name__}: {error}"))


def test_the_first_verdict_stays_and_both_writers_report_it(store_url):
    Store(store_url)
    context = multiprocessing.get_context("fork")
    start, said = context.Barrier(3), context.Queue()
    writers = [context.Process(target=write_all, args=(store_url, name, start, said)) for name in "abc"]
    for writer in writers:
        writer.start()
    answers = dict(said.get(timeout=60) for _ in writers)
    for writer in writers:
        writer.join()
    kept = {key: body["value"] for key, body in Store(store_url).get(KEYS).items()}
    assert len(kept) == len(KEYS)
    assert answers == dict.fromkeys("abc", kept)
    assert {record["subject"] for record in Store(store_url).records()} == set(kept.values())


def test_the_writer_that_came_second_is_told_what_stays(store_url):
    store = Store(store_url)
    assert store.put("r", "n", [Record("a", "score", "1", {"value": 1.0})]) == {}
    both = [Record("a", "score", "2", {"value": 2.0}), Record("b", "score", "2", {"value": 2.0})]
    assert store.put("r", "n", both) == {"a": {"value": 1.0}}
    assert store.get(["a", "b"]) == {"a": {"value": 1.0}, "b": {"value": 2.0}}
    twice = [Record("c", "score", "1", {"value": 1}), Record("c", "score", "1", {"value": 2})]
    assert store.put("r", "n", twice) == {}
    assert store.get(["c"]) == {"c": {"value": 1}}


def test_pruning_beside_a_writer_loses_no_verdict_that_was_written_after(store_url):
    """A reward is deleted with its last verdict; a writer may be about to add the next one."""
    Store(store_url)
    problems, stop = [], threading.Event()

    def prune():
        store = Store(store_url)
        while not stop.is_set():
            try:
                store.prune(reward="r")
            except Exception as error:
                problems.append(error)

    pruner = threading.Thread(target=prune)
    pruner.start()
    store = Store(store_url)
    try:
        for number in range(150):
            store.put("r" * 32, "one", [Record(f"{number:032x}", "score", "s", {"status": 0})])
    finally:
        stop.set()
        pruner.join()
    assert problems == []
    store.put("r" * 32, "one", [Record("last", "score", "s", {"status": 0})])
    assert [entry.name for entry in store.rewards()] == ["one"]
    assert store.count() == len(list(store.records())), "a verdict without its reward"


def test_a_transaction_that_the_database_breaks_is_run_again(postgres, postgres_url):
    """A trigger raises a real serialisation failure three times."""
    store = Store(postgres_url)
    postgres.run("CREATE SEQUENCE tries", postgres_url)
    postgres.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF nextval('tries') <= 3 THEN "
        "RAISE EXCEPTION 'could not serialize' USING ERRCODE = '40001'; END IF; RETURN NEW; END $$",
        postgres_url,
    )
    postgres.run("CREATE TRIGGER refuse BEFORE INSERT ON verdicts FOR EACH ROW EXECUTE FUNCTION refuse()", postgres_url)
    assert store.put("r", "n", [Record("a", "score", "s", {"value": 1})]) == {}
    assert store.count() == 1


def test_a_lock_that_is_never_given_back_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "BUSY", 0.05)
    holder, other = Store(tmp_path / "v.sqlite"), Store(tmp_path / "v.sqlite", patience=0.2)
    with holder._engine.connect().execution_options(plaudit_writing=True) as connection, connection.begin():
        with pytest.raises(StoreUnavailable, match="is locked by another program") as caught:
            other.put("r", "n", [Record("a", "score", "s", {})])
        assert caught.value.reason == "locked"
        assert other.get(["a"]) == {}, "readers are not locked out"
    other.put("r", "n", [Record("a", "score", "s", {})])
    assert other.count() == 1


def test_a_lock_that_is_given_back_in_time_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "BUSY", 0.05)
    holder, other = Store(tmp_path / "v.sqlite"), Store(tmp_path / "v.sqlite", patience=30)
    held = threading.Event()

    def hold():
        with holder._engine.connect().execution_options(plaudit_writing=True) as connection, connection.begin():
            held.set()
            time.sleep(0.5)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    other.put("r", "n", [Record("a", "score", "s", {})])
    thread.join()
    assert other.count() == 1
