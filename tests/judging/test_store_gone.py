"""A run whose database goes away: it waits, and goes on or ends with what is kept."""

import json
import signal
import subprocess
import sys
import threading
import time

import pytest

from plaudit.cli.main import main
from plaudit.judging import Runner
from plaudit.store import BufferedStore, Store
from tests.engines.processes import until
from tests.judging.killed_run import rows
from tests.judging.rewards import Slow, WordCount


class Breaks(WordCount):
    """Does something to the database in its second call."""

    def __init__(self, breaks, at=2):
        super().__init__(batch_size=16)
        self.breaks, self.at = breaks, at

    def score(self, batch, ctx=None):
        scores = super().score(batch, ctx)
        if self.calls == self.at:
            self.breaks()
        return scores


def values(results):
    return [result.values for result in results]


def test_a_run_waits_for_its_database_and_goes_on(postgres, postgres_url):
    def restart_later():
        postgres.stop()
        timers.append(threading.Timer(1.0, postgres.start))
        timers[0].start()

    timers = []
    reward = Breaks(restart_later)
    runner = Runner(reward, Store(postgres_url, patience=60))
    found = values(runner.run(rows(80)))
    timers[0].join()
    assert runner.progress.stopped is None
    assert found == values(Runner(WordCount()).run(rows(80)))
    assert len(reward.seen) == Store(postgres_url).count() == 80, "nothing was judged twice"


def test_a_run_whose_database_stays_away_ends_with_what_is_kept_and_can_be_resumed(postgres, postgres_url):
    runner = Runner(Breaks(postgres.stop, at=3), Store(postgres_url, patience=0.2))
    found = list(runner.run(rows(80)))
    assert "cannot be reached" in runner.progress.stopped
    assert "16 verdicts of the last batch are not kept" in runner.progress.stopped
    assert len(found) == runner.progress.rows == 32, "two batches were kept; the third was not, and is not handed out"
    postgres.start()
    assert {record["subject"] for record in Store(postgres_url).records()} == {result.row.id for result in found}
    again = Breaks(lambda: None)
    rest = Runner(again, Store(postgres_url))
    assert values(rest.run(rows(80))) == values(Runner(WordCount()).run(rows(80)))
    assert len(again.seen) == 48


def test_with_a_buffered_store_nothing_waits_and_nothing_is_lost(postgres, postgres_url):
    store = BufferedStore(postgres_url, retry_every=0.05)
    runner = Runner(Breaks(postgres.stop), store)
    found = values(runner.run(rows(80)))
    assert found == values(Runner(WordCount()).run(rows(80)))
    assert store.waiting == 64
    postgres.start()
    assert until(lambda: store.waiting == 0)
    store.close()
    assert Store(postgres_url).count() == 80


def test_kills_lose_and_double_nothing(postgres_url):
    """As test_kill.py does on SQLite."""
    reported: set[str] = set()
    for pause in (0.0, 0.05, 0.2):
        command = [sys.executable, "-u", "-m", "tests.judging.killed_run", postgres_url, "2000"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            first = process.stdout.readline()
            time.sleep(pause)
            process.send_signal(signal.SIGKILL)
            said = (first + process.stdout.read()).split("\n")
        reported |= set(said[:-1])
        assert reported <= {record["subject"] for record in Store(postgres_url).records()}
    before = Store(postgres_url).count()
    assert 0 < before < 2000
    rest = Slow(batch_size=64)
    assert len(list(Runner(rest, Store(postgres_url)).run(rows(2000)))) == 2000
    assert len(rest.seen) == 2000 - before
    assert Store(postgres_url).count() == 2000


def test_two_runs_of_a_reward_that_changes_its_mind_report_the_same(store_url):
    """Both look before either has written; what was written first is what both report."""
    meet = threading.Barrier(2)

    class Unsteady(WordCount):
        def __init__(self, noise):
            super().__init__(batch_size=8)
            self.noise = noise

        def score(self, batch, ctx=None):
            meet.wait(timeout=30)
            scores = super().score(batch, ctx)
            scores.values += self.noise
            return scores

    found = {}

    def judge(noise):
        found[noise] = values(Runner(Unsteady(noise), Store(store_url)).run(rows(32)))

    threads = [threading.Thread(target=judge, args=(noise,)) for noise in (0.25, 0.5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0.25] == found[0.5]
    kept = {record["subject"]: record["body"]["value"] for record in Store(store_url).records()}
    assert [[kept[row.id]] for row in rows(32)] == found[0.25]


REWARD = """
from pathlib import Path
from plaudit import as_reward
def words(response):
    stop = Path("stop")
    if response == "stop now" and stop.exists():
        stop.unlink()
        Path("stopped").touch()
        while Path("stopped").exists():
            pass
    return float(len(response.split()))
reward = as_reward(words, name="words")
"""


@pytest.mark.parametrize("patience", ["60", "0.2"])
def test_on_the_command_line(postgres, postgres_url, tmp_path, monkeypatch, capsys, patience):
    """Exit code 0 where the database comes back in time; else 1, and the command can be run again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLAUDIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PLAUDIT_STORE_PATIENCE", patience)
    responses = [f"word {number}" for number in range(900)] + ["stop now"] + [f"more words {number}" for number in range(900)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"prompt": "p", "response": one}) + "\n" for one in responses))
    (tmp_path / "words.py").write_text(REWARD)
    (tmp_path / "stop").touch()

    def outage():
        assert until(lambda: (tmp_path / "stopped").exists(), 60)
        postgres.stop()
        (tmp_path / "stopped").unlink()
        if patience == "60":
            threading.Event().wait(0.5)
            postgres.start()

    thread = threading.Thread(target=outage)
    thread.start()
    judge = ["judge", "rows.jsonl", "--reward", "words.py:reward", "--json", "--store", postgres_url]
    code = main(judge)
    thread.join()
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert "s3cret" not in said.out + said.err
    if patience == "60":
        assert (code, report["complete"]) == (0, True)
    else:
        assert (code, report["complete"]) == (1, False)
        assert "cannot be reached" in said.err
        assert "Run the same command again" in said.err
        postgres.start()
        assert Store(postgres_url).count() == report["summary"]["rows"] < len(responses)
        assert main(judge) == 0
    assert Store(postgres_url).count() == len(responses)
