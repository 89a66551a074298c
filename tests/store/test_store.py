import multiprocessing
import pickle
import sqlite3
import threading
import time

import pytest

from plaudit.store import Record, Store
from plaudit.types import UserError


def records(count, start=0, **body):
    return [
        Record(f"{index:032x}", "score", f"row-{index}", {"value": index / 2, "status": 0, **body})
        for index in range(start, start + count)
    ]


def test_folders_are_made(tmp_path):
    Store(tmp_path / "deep" / "er" / "v.sqlite").put("f" * 32, "length", records(1))
    assert Store(f"sqlite:///{tmp_path}/deep/er/v.sqlite").count() == 1


def test_what_is_put_is_found_again_by_key(store_url):
    store = Store(store_url)
    store.put("f" * 32, "length", records(1200, text='naïve "quoted" \u2028'))
    found = store.get([f"{index:032x}" for index in range(-1 + 1, 1300)])
    assert len(found) == 1200
    assert found[f"{7:032x}"] == {"value": 3.5, "status": 0, "text": 'naïve "quoted" \u2028'}


def test_the_first_verdict_stays(store_url):
    store = Store(store_url)
    store.put("f" * 32, "a", records(1))
    store.put("f" * 32, "a", [Record(f"{0:032x}", "score", "row-0", {"value": 99.0, "status": 0})])
    assert store.get([f"{0:032x}"])[f"{0:032x}"]["value"] == 0.0


def test_two_writers_leave_one_of_each(store_url):
    Store(store_url)
    problems = []

    def write():
        try:
            store = Store(store_url)
            for start in range(0, 400, 20):
                store.put("f" * 32, "a", records(20, start))
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert [entry.verdicts for entry in Store(store_url).rewards()] == [400]


def test_list_export_and_prune(store_url):
    store = Store(store_url)
    store.put("a" * 32, "one", records(3))
    store.put("b" * 32, "two", records(2, 10))
    assert {(entry.name, entry.verdicts) for entry in store.rewards()} == {("one", 3), ("two", 2)}
    assert [record["subject"] for record in store.records("bb")] == ["row-10", "row-11"]
    assert len(list(store.records())) == 5
    assert store.prune(reward="aa") == 3
    assert [entry.name for entry in store.rewards()] == ["two"]
    assert store.prune(before=time.time() - 60) == 0
    assert store.prune(before=time.time() + 60) == 2
    assert store.rewards() == []
    for nothing in ({}, {"reward": ""}):
        with pytest.raises(ValueError, match="needs a reward or a time"):
            store.prune(**nothing)


def test_records_are_streamed_in_the_order_of_the_bytes_of_their_keys(store_url):
    store = Store(store_url)
    keys = ["B", "a", "_", "Z", "ä", "0", "a_b", "aB"]
    store.put("r", "one", [Record(key, "score", key, {"status": 0}) for key in keys])
    assert [record["key"] for record in store.records()] == sorted(keys)
    assert sorted(store.get([*keys, "b"])) == sorted(keys)


def test_reading_does_not_hold_everything_and_lets_others_write(store_url):
    store = Store(store_url)
    store.put("r" * 32, "one", records(2500))
    stream = store.records()
    assert next(stream)["subject"] == "row-0"
    store.put("r" * 32, "one", records(10, 5000))
    assert len(list(stream)) == 2499, "what was written after the reading began is not in it"
    assert store.count() == 2510


def test_counting_removing_and_adding_what_another_store_gave(store_url, tmp_path):
    store, other = Store(store_url), Store(tmp_path / "other.sqlite")
    store.put("r" * 32, "one", records(600))
    given = list(store.records())
    assert (other.add(given), other.add(given)) == (600, 0)
    assert list(other.records()) == given, "also the time of writing"
    assert store.remove([record["key"] for record in given[50:]]) == 550
    assert store.count() == 50
    assert store.remove([]) == 0
    assert store.put("r" * 32, "one", []) == {}


def test_a_pickled_store_opens_the_same_database(store_url):
    store = Store(store_url, patience=7.0)
    store.put("r" * 32, "one", records(3))
    again = pickle.loads(pickle.dumps(store))
    assert (again.count(), again.patience) == (3, 7.0)


def test_a_forked_process_makes_connections_of_its_own(store_url):
    store = Store(store_url)
    store.put("r" * 32, "one", records(3))
    child = multiprocessing.get_context("fork").Process(target=lambda: store.put("r" * 32, "one", records(3, 100)))
    child.start()
    for start in range(200, 260):
        store.put("r" * 32, "one", records(1, start))
    child.join()
    assert (child.exitcode, store.count()) == (0, 66)


def test_a_percent_sign_is_no_wildcard(store_url):
    store = Store(store_url)
    store.put("a" * 32, "one", records(3))
    assert store.prune(reward="%") == 0


@pytest.mark.parametrize("url", ["nonsense://x", "mysql://u:pw@h/d", "sqlite:////proc/none/v.sqlite"])
def test_a_database_that_cannot_be_opened_is_one_sentence(url):
    with pytest.raises(UserError, match="cannot be opened") as caught:
        Store(url)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_database(tmp_path):
    path = tmp_path / "v.sqlite"
    path.write_text("this is not a database, it is a text that is long enough to have a header " * 20)
    with pytest.raises(UserError, match="cannot be opened"):
        Store(path)


def test_it_is_in_write_ahead_mode(tmp_path):
    path = tmp_path / "v.sqlite"
    Store(path).put("a" * 32, "one", records(1))
    assert sqlite3.connect(path).execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_many_may_open_a_new_store_at_once(tmp_path):
    path, problems = tmp_path / "new.sqlite", []
    start = threading.Barrier(8)

    def open_it(number):
        start.wait()
        try:
            Store(path).put("reward", "name", [Record(f"key {number}", "score", "row", {"status": 0})])
        except UserError as error:
            problems.append(error)

    threads = [threading.Thread(target=open_it, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert len(Store(path).get([f"key {number}" for number in range(8)])) == 8
