"""An engine that goes away in the middle of a run, as a user meets it on the command line."""

import json
import subprocess
import sys
import time

from plaudit.store import Store
from tests.cli.test_judge import plaudit
from tests.engines.stub_server import ROOT, running_stub

ROWS = 9000


def stored(path):
    return sum(entry.verdicts for entry in Store(path).rewards()) if path.exists() else 0


def test_the_run_ends_with_a_summary_and_can_be_resumed(tmp_path):
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"prompt": f"p {number}", "response": f"r {number}"}) + "\n" for number in range(ROWS))
    )
    with running_stub() as stub:
        port = stub.port
        arguments = ["--engine", f"http://127.0.0.1:{port}/v1#m", "--retries", "1", "--out", "out.jsonl", "--json"]
        command = [sys.executable, "-m", "plaudit", "judge", "rows.jsonl", *arguments, "--store", "s.sqlite"]
        running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while stored(tmp_path / "s.sqlite") < 256 and time.monotonic() < deadline:
            time.sleep(0.02)
        stub.process.kill()
        stub.process.wait()
        said, complained = running.communicate(timeout=120)
    assert running.returncode == 1, said + complained
    report = json.loads(said)
    assert report["complete"] is False
    assert report["summary"]["status"]["unreachable"] > 0
    assert 0 < report["summary"]["status"]["ok"] < ROWS
    assert "Run the same command again" in complained
    kept = stored(tmp_path / "s.sqlite")
    assert kept == report["summary"]["status"]["ok"]

    assert "cannot be reached" in plaudit("judge", "rows.jsonl", *arguments, "--store", "s.sqlite", cwd=tmp_path, code=2).stderr

    again = [sys.executable, "-m", "benchmarks.stub_server", "--port", str(port)]
    with subprocess.Popen(again, cwd=ROOT, stdout=subprocess.PIPE, text=True) as restarted:
        restarted.stdout.readline()
        try:
            done = plaudit("judge", "rows.jsonl", *arguments, "--store", "s.sqlite", cwd=tmp_path)
        finally:
            restarted.kill()
    assert json.loads(done.stdout)["summary"]["status"] == {"ok": ROWS}
    assert stored(tmp_path / "s.sqlite") == ROWS
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == ROWS
