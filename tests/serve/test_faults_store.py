"""A verdict store that is gone or full: what was answered is kept in the end, each verdict once, and the rest is refused."""

import shutil
import subprocess
from contextlib import suppress

import pytest

from plaudit.store import Store
from tests.engines.processes import until
from tests.serve.running import running

REWARD = "slow=tests/serve/served.py:slow"


def numbered(first, count=5):
    return {
        "items": [{"prompt": "p", "response": f"0.000{number}", "id": f"n{number}"} for number in range(first, first + count)]
    }


def kept(url):
    """The ids that the store has, each as often as it is there."""
    return sorted(record["subject"] for record in Store(url).records())


def test_a_database_that_is_gone_and_comes_back_loses_nothing(postgres, tmp_path):
    url = postgres.new_database()
    with running(REWARD, "--journal", str(tmp_path / "journal"), store=url) as served:
        answered = []

        def ask(first):
            answer = served.post("/v1/score", numbered(first))
            assert answer.status_code in (200, 503), answer.text
            if answer.status_code == 200:
                answered.extend(one["id"] for one in answer.json()["items"])
            return answer.status_code

        assert ask(100) == 200
        postgres.stop()
        codes = [ask(first) for first in range(200, 260, 5)]
        assert until(lambda: not served.ready())
        assert "store" in served.get("/ready").json()["detail"]
        postgres.start()
        assert until(served.ready, 40)
        assert ask(300) == 200
        assert served.stop() == 0
        assert kept(url) == sorted(answered), codes


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here: it takes the right to mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_told_and_what_was_answered_is_kept_once_there_is_room(small_disk):
    database = small_disk / "v.sqlite"
    with running(REWARD, store=str(database)) as served:
        answered = []

        def ask(first):
            answer = served.post("/v1/score", numbered(first))
            assert answer.status_code in (200, 503, 507), answer.text
            if answer.status_code == 200:
                answered.extend(one["id"] for one in answer.json()["items"])

        ask(100)
        stuffing = small_disk / "stuffing"
        with stuffing.open("wb") as file, suppress(OSError):
            file.write(b"x" * shutil.disk_usage(small_disk).total)
        assert shutil.disk_usage(small_disk).free < 4096
        for first in range(200, 400, 5):
            ask(first)
        assert until(lambda: not served.ready())
        assert "full" in served.get("/ready").json()["detail"]
        stuffing.unlink()
        assert until(served.ready, 40)
        ask(500)
        assert served.stop() == 0
        assert kept(database) == sorted(answered)
