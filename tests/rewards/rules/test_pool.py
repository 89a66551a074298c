"""The pool of processes: hard limits, replacement, self-test, and no process left behind."""

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from plaudit.rewards.rules.pool import ProcessPool
from plaudit.types import Status, UserError

HERE = "tests.rewards.rules.checkers"


@pytest.fixture
def pool():
    made = []

    def make(function="misbehave", timeout=30.0, workers=2, **more):
        made.append(ProcessPool(f"{HERE}:{function}", timeout=timeout, workers=workers, **more))
        return made[-1]

    yield make
    for each in made:
        each.close()


def gone(pid, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_answers_come_in_order(pool):
    answers = pool("double").map([[n] for n in range(100)])
    assert [answer.value for answer in answers] == [2 * n for n in range(100)]
    assert pool("double").map([]) == []


def test_a_worker_that_hangs_is_killed_and_replaced(pool):
    tight = pool(timeout=1.0, workers=1)
    (before,) = tight.map([["pid"]])
    answers = tight.map([["a"], ["sleep"], ["b"], ["stuck in C"], ["pid"]])
    assert [answer.status for answer in answers] == [Status.OK, Status.TIMED_OUT, Status.OK, Status.TIMED_OUT, Status.OK]
    assert answers[4].value != before.value
    assert gone(before.value)


def test_death_errors_prints_and_memory_cost_their_own_item_only(pool):
    answers = pool().map([["die"], ["raise"], ["print"], ["memory"], ["fine"]])
    assert [answer.status for answer in answers] == [Status.FAILED, Status.FAILED, Status.OK, Status.FAILED, Status.OK]
    assert "exit status 3" in answers[0].detail
    assert answers[1].detail == "ValueError: no"
    assert answers[2].value == "print"
    assert "MemoryError" in answers[3].detail
    assert answers[4].value == "fine"


def test_a_broken_checker_is_refused_at_the_start(pool):
    pool("double", self_test=[([2], 4)]).check()
    with pytest.raises(UserError, match="self-test failed: for \\[2\\] it says 4, but 5"):
        pool("double", self_test=[([2], 5)]).map([[1]])
    with pytest.raises(UserError, match="nothing_there"):
        pool("nothing_there").check()
    with pytest.raises(UserError, match="positive"):
        pool(timeout=0)


def test_many_threads_share_the_workers(pool):
    shared, results = pool("double"), {}

    def use(start):
        results[start] = [answer.value for answer in shared.map([[n] for n in range(start, start + 20)])]

    threads = [threading.Thread(target=use, args=(start,)) for start in range(0, 100, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {start: [2 * n for n in range(start, start + 20)] for start in range(0, 100, 20)}
    assert len(shared.pids()) <= 2


def test_workers_do_not_import_torch_and_end_with_close(pool):
    used = pool()
    assert used.map([["torch"]])[0].value is False
    (pid,) = used.pids()
    used.close()
    assert gone(pid)
    assert used.map([["again"]])[0].value == "again"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_starts_workers_of_its_own(pool):
    used = pool(workers=1)
    (mine,) = used.map([["pid"]])
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, str(used.map([["pid"]])[0].value).encode())
        used.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(read, 20)) != mine.value
    assert used.map([["pid"]])[0].value == mine.value


SCRIPT = f"""
import sys, threading
from plaudit.rewards.rules.pool import ProcessPool
pool = ProcessPool("{HERE}:misbehave", timeout=2.0, workers=2)
pids = [str(pool.map([["pid"]])[0].value)]
if sys.argv[1] == "stuck":
    threading.Thread(target=pool.map, args=([["stuck in C"]],), daemon=True).start()
print(*pids, flush=True)
if sys.argv[1] != "exit":
    sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["exit", "idle", "stuck"])
def test_no_worker_outlives_its_parent(how):
    parent = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["", *sys.path])},
    )
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert pids
    if how != "exit":
        time.sleep(0.3)
        pids = [child.pid for child in psutil.Process(parent.pid).children(recursive=True)]
        assert pids
        parent.send_signal(signal.SIGKILL)
    parent.wait(60)
    assert all(gone(pid) for pid in pids)
    parent.stdin.close()
    parent.stdout.close()
