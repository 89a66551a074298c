import random
import signal
import sqlite3
import subprocess
import sys
import time

from plaudit.judging import Runner
from plaudit.store import Store
from tests.judging.killed_run import rows
from tests.judging.rewards import Slow

ROWS = 2000


def stored(path):
    return {record["subject"] for record in Store(path).records()}


def test_ten_kills_lose_and_double_nothing(tmp_path):
    path = tmp_path / "v.sqlite"
    moment = random.Random(5)
    reported = set()
    for _ in range(10):
        command = [sys.executable, "-u", "-m", "tests.judging.killed_run", str(path), str(ROWS)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            first = process.stdout.readline()  # the first row is out: the imports are over
            time.sleep(moment.uniform(0, 0.15))
            process.send_signal(signal.SIGKILL)
            said = (first + process.stdout.read()).split("\n")
        reported |= set(said[:-1])
        assert reported <= stored(path)
        assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)
    before = stored(path)
    assert 0 < len(before) < ROWS, "the kills came too late or too early to show anything"
    rest = Slow(batch_size=64)
    results = list(Runner(rest, Store(path)).run(rows(ROWS)))
    assert len(results) == ROWS
    assert len(rest.seen) == ROWS - len(before)
    kept = [record["subject"] for record in Store(path).records()]
    assert len(kept) == len(set(kept)) == ROWS
