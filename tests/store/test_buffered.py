"""A store that goes on taking verdicts while its database is gone: nothing lost, nothing doubled, no end of memory."""

import pickle
import signal
import subprocess
import sys
import threading
import time

import pytest

from plaudit.store import BufferedStore, Record, Store, StoreUnavailable, copy_verdicts
from tests.engines.processes import until


def some(start, count=10, **body):
    return [
        Record(f"{number:032x}", "score", f"row-{number}", {"value": number, **body}) for number in range(start, start + count)
    ]


def keys(start, count=10):
    return [record.key for record in some(start, count)]


@pytest.fixture(params=["memory", "journal"])
def journal(request, tmp_path):
    return None if request.param == "memory" else tmp_path / "journal.sqlite"


def test_verdicts_wait_while_the_database_is_gone_and_are_written_when_it_is_back(postgres, postgres_url, journal):
    store = BufferedStore(postgres_url, journal=journal, retry_every=0.05)
    store.put("r", "n", some(0))
    assert (store.waiting, store.problem) == (0, None)
    postgres.stop()
    store.put("r", "n", some(10))
    store.put("q", "another", some(20))
    assert store.waiting == 20
    assert store.problem is not None
    assert store.problem.reason == "gone"
    assert sorted(store.get(keys(0, 30))) == keys(10, 20), "what waits is known, what is in the database is not"
    assert store.put("r", "n", some(10, value=-1)) == {
        record.key: {"value": number} for number, record in enumerate(some(10), 10)
    }
    postgres.start()
    assert until(lambda: store.waiting == 0 and store.problem is None)
    assert sorted(store.get(keys(0, 40))) == keys(0, 30)
    kept = {record["key"]: (record["name"], record["body"]["value"]) for record in Store(postgres_url).records()}
    assert kept == {record.key: ("another" if number >= 20 else "n", number) for number, record in enumerate(some(0, 30))}
    store.put("r", "n", some(30))
    assert store.waiting == 0
    store.close()


def test_many_threads_write_through_an_outage(postgres, postgres_url, journal):
    store = BufferedStore(postgres_url, journal=journal, retry_every=0.02)
    problems, accepted = [], [set() for _ in range(3)]
    stop = threading.Event()

    def write(place):
        number = 0
        while not stop.is_set():
            try:
                batch = some(place * 1_000_000 + number, 7)
                store.put(f"reward {number % 2}", "n", batch)
                accepted[place] |= {record.key for record in batch}
                store.get([batch[0].key])
            except Exception as error:
                problems.append(error)
            number += 5  # overlapping batches: some keys are put twice
            time.sleep(0.002)

    threads = [threading.Thread(target=write, args=(place,)) for place in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        time.sleep(0.2)
        postgres.stop()
        time.sleep(0.2)
        postgres.start()
    time.sleep(0.2)
    stop.set()
    for thread in threads:
        thread.join()
    store.close(wait=20)
    assert problems == []
    kept = [record["key"] for record in Store(postgres_url).records()]
    assert set(kept) == set().union(*accepted)
    assert len(kept) == len(set(kept)) > 100


def test_at_its_bound_it_refuses_and_keeps_nothing_of_the_call(postgres, postgres_url):
    store = BufferedStore(postgres_url, bound=25, retry_every=0.05)
    postgres.stop()
    store.put("r", "n", some(0))
    store.put("r", "n", some(5, 15))
    with pytest.raises(StoreUnavailable, match="cannot be reached.*20 verdicts wait for it, and no more are accepted") as caught:
        store.put("r", "n", some(20))
    assert caught.value.retryable
    assert store.waiting == 20
    store.put("r", "n", some(20, 5))
    with pytest.raises(StoreUnavailable, match="25 verdicts that waited for it are lost"):
        store.close()
    postgres.start()


def test_closing_waits_for_the_database(postgres, postgres_url):
    store = BufferedStore(postgres_url)
    postgres.stop()
    store.put("r", "n", some(0))
    back = threading.Timer(0.5, postgres.start)
    back.start()
    store.close(wait=60)
    back.join()
    assert Store(postgres_url).count() == 10


def test_a_journal_keeps_what_its_process_could_not_write(postgres, postgres_url, tmp_path):
    """The process that accepted the verdicts is killed while the database is gone."""
    journal = tmp_path / "journal.sqlite"
    Store(postgres_url)
    code = (
        "import sys, time\nfrom plaudit.store import BufferedStore\nfrom tests.store.test_buffered import some\n"
        f"store = BufferedStore({postgres_url!r}, journal={str(journal)!r})\nprint('open', flush=True)\nsys.stdin.readline()\n"
        "store.put('r', 'n', some(0))\nprint(store.waiting, flush=True)\ntime.sleep(60)\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        process.stdout.readline()
        postgres.stop()
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline().strip() == "10"
        process.send_signal(signal.SIGKILL)
    postgres.start()
    assert Store(postgres_url).count() == 0
    assert Store(journal).count() == 10
    store = BufferedStore(postgres_url, journal=journal, retry_every=0.05)
    assert until(lambda: store.waiting == 0)
    store.close()
    assert Store(postgres_url).count() == 10
    assert Store(journal).count() == 0


def test_a_journal_outlives_a_store_that_is_closed_and_can_be_copied(postgres, postgres_url, tmp_path):
    journal = tmp_path / "journal.sqlite"
    store = BufferedStore(postgres_url, journal=journal)
    postgres.stop()
    store.put("r", "n", some(0))
    store.close()
    postgres.start()
    assert copy_verdicts(Store(journal), Store(postgres_url)).written == 10


def test_a_full_or_read_only_database_is_waited_for_like_one_that_is_gone(postgres, postgres_url):
    store = BufferedStore(postgres_url, retry_every=0.05)
    name = postgres_url.rpartition("/")[2]
    postgres.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    store._engine.dispose()
    store.put("r", "n", some(0))
    assert store.waiting == 10
    assert store.problem is not None
    assert store.problem.reason == "read-only"
    postgres.run(f"ALTER DATABASE {name} SET default_transaction_read_only = off")
    store._engine.dispose()
    assert until(lambda: store.waiting == 0)
    store.close()
    assert Store(postgres_url).count() == 10


def test_with_a_database_that_is_there_it_is_an_ordinary_store(store_url):
    store = BufferedStore(store_url)
    assert store.put("r", "n", some(0)) == {}
    assert store.put("r", "n", [Record(keys(0)[3], "score", "s", {"value": "other"})]) == {keys(0)[3]: {"value": 3}}
    assert len(store.get(keys(0))) == 10
    assert [entry.verdicts for entry in store.rewards()] == [10]
    again = pickle.loads(pickle.dumps(store))
    assert (again.count(), again.bound) == (10, store.bound)
    assert store.flush() == 0
    again.close()
    store.close()


def test_a_database_that_is_gone_at_the_start_is_refused(postgres, postgres_url):
    postgres.stop()
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        BufferedStore(postgres_url)
