"""`plaudit search` with a generator and a reward of the user's own, and files as a user finds them afterwards."""

import json
import os
import subprocess
import sys

import pytest

from plaudit.types import Status
from tests.engines.stub_server import ROOT, running_stub

MINE = """
import os, signal
from tests.search.toy import Numbers, Worth


class Killer(Numbers):
    "Ends the judge's server before its second draw."
    def rollout(self, *arguments, **settings):
        if self.drawn and os.path.exists("server.pid"):
            os.kill(int(open("server.pid").read()), signal.SIGKILL)
            os.remove("server.pid")
        return super().rollout(*arguments, **settings)


def right(response: str, reference: str) -> bool:
    return int(response) % 10 == int(reference)
"""
SETTINGS = """
prompts: prompts.jsonl
generator: mine.py:Numbers
reward: mine.py:Worth
search: {name: best_of_n, n: 4}
how: {max_tokens: 2}
truth: mine.py:right
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "small.yaml").write_text(SETTINGS)
    lines = [json.dumps({"prompt": f"question {number}", "reference": str(number % 10)}) for number in range(12)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_best_of_four(folder, plaudit):
    code, shown, _ = plaudit("search", "small.yaml", "--json")
    report = json.loads(shown)
    assert code == 0
    found = rows(folder / "small.best.jsonl")
    assert len(found) == report["prompts"] == report["found"] == 12
    for line in found:
        values = [one["value"] for one in line["samples"]]
        assert len(values) == 4
        assert line["value"] == max(values)
        assert float(line["response"]) == line["value"]
    right = [int(line["response"]) % 10 == number % 10 for number, line in enumerate(found)]
    assert report["truth"] == {"mean": pytest.approx(sum(right) / 12), "n": 12}
    assert report["spent"]["samples"] == report["spent"]["reward_calls"] == report["candidates"]["ok"] == 48
    assert report["spent"]["sampled_tokens"] == sum(len(one["response"]) for line in found for one in line["samples"])
    code, shown, _ = plaudit("search", "small.yaml", "--set", "search.n=2", "--seed", "1", "--out", "two.jsonl")
    assert code == 0
    assert "12 of 12 prompts" in shown
    assert {len(line["samples"]) for line in rows(folder / "two.jsonl")} == {2}


def test_other_searches_by_name(folder, plaudit):
    for name in ("vote", "self_consistency", "{name: adaptive, tau: 90, n_max: 3}"):
        assert plaudit("search", "small.yaml", "--set", f"search={name}", "--fresh")[0] == 0
    samples = [len(line["samples"]) for line in rows(folder / "small.best.jsonl")]
    assert min(samples) < 3 == max(samples)


def test_a_budget_stops_and_a_larger_one_goes_on(folder, plaudit):
    whole = folder / "whole.jsonl"
    assert plaudit("search", "small.yaml", "--out", whole)[0] == 0
    code, shown, complained = plaudit("search", "small.yaml", "--set", "budget.reward_calls=20", "--json")
    report = json.loads(shown)
    assert code == 1
    assert report["spent"]["reward_calls"] == 20
    assert report["found"] == 5
    assert "reward_calls is spent" in report["stopped"]
    found = rows(folder / "small.best.jsonl")
    assert found[11]["response"] is None
    assert found[11]["status"] == "unreachable"
    assert plaudit("search", "small.yaml", "--set", "budget.reward_calls=20")[0] == 1  # the limit is of the whole search
    code, shown, complained = plaudit("search", "small.yaml")
    assert code == 0
    assert "going on" in complained
    assert (folder / "small.best.jsonl").read_text() == whole.read_text()
    assert not (folder / "small.best.jsonl.state.json").exists()


def test_a_judge_that_is_killed(folder, plaudit):
    settings = ["--set", "generator=mine.py:Killer", "--set", "reward=yes-token", "--set", "search.n=64", "--retries", "0"]
    with running_stub() as stub:
        engine = ["--engine", f"http://127.0.0.1:{stub.port}/v1#m"]
        (folder / "server.pid").write_text(str(stub.process.pid))
        code, shown, _ = plaudit("search", "small.yaml", *settings, *engine, "--json")
        report = json.loads(shown)
        port = stub.port
    assert code == 1
    assert "could not be reached" in report["stopped"]
    assert report["found"] == 8  # the first portion of 8 prompts, 64 samples each
    assert report["spent"]["reward_calls"] >= 8 * 64
    assert report["candidates"]["ok"] == 8 * 64
    again = [sys.executable, "-m", "benchmarks.stub_server", "--port", str(port)]
    with subprocess.Popen(again, cwd=ROOT, stdout=subprocess.PIPE, text=True) as restarted:
        restarted.stdout.readline()
        try:
            code, shown, _ = plaudit("search", "small.yaml", *settings, *engine, "--json")
        finally:
            restarted.kill()
    report = json.loads(shown)
    assert code == 0
    assert report["found"] == 12
    assert report["spent"]["samples"] == report["candidates"]["ok"] == 12 * 64


def test_a_killed_search_goes_on_from_its_file(folder):
    """The process itself is killed by SIGKILL between two portions, after its state was written."""
    program = (
        "import os, plaudit.cli.search as s\n"
        "s.STATE_EVERY = -1.0\n"
        "told = s.Keeper.__call__\n"
        "def call(self, work):\n"
        "    told(self, work)\n"
        "    if sum(one.judged for one in work.candidates) >= 16: os.kill(os.getpid(), 9)\n"
        "s.Keeper.__call__ = call\n"
        "from plaudit.cli.main import main\n"
        "main(['search', 'small.yaml', '--json'])\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    killed = subprocess.run([sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, check=False)
    assert killed.returncode == -9, killed.stderr
    kept = json.loads((folder / "small.best.jsonl.state.json").read_text())
    assert len(kept["candidates"]) == 48
    command = [sys.executable, "-m", "plaudit", "search", "small.yaml", "--json"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["spent"]["samples"] == 48
    assert json.loads(done.stdout)["spent"]["reward_calls"] == 48


def test_candidates_that_are_there_already(folder, plaudit):
    lines = [{"id": f"row {n}", "prompt": f"p{n}", "responses": ["3", "12", str(n)]} for n in range(5)]
    (folder / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "recorded.yaml").write_text("candidates: answers.jsonl\nreward: mine.py:Worth\n")
    code, shown, _ = plaudit("search", "recorded.yaml", "--json")
    assert code == 0
    assert json.loads(shown)["spent"] == {"reward_calls": 15.0}
    assert [line["response"] for line in rows(folder / "recorded.best.jsonl")] == ["12"] * 5
    assert rows(folder / "recorded.best.jsonl")[2]["id"] == "row 2"
    assert plaudit("search", "recorded.yaml", "--set", "search=adaptive")[0] == 2
    assert plaudit("search", "recorded.yaml", "--set", "prompts=3")[0] == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["search=best"], "unknown search 'best'"),
        (["search.m=3"], "search 'best_of_n'"),
        (["search.n=0"], "n of at least 1"),
        (["budget=5"], "expected limits by name"),
        (["budget.samples=lots"], "budget.samples"),
        (["generator=mine.py:Nobody"], "defines no 'Nobody'"),
        (["reward=nonsense"], "unknown reward 'nonsense'"),
        (["prompts=gone.jsonl"], "cannot be read"),
        (["world=nowhere"], "unknown world"),
        (["what=3"], "unknown setting 'what'"),
        (["search={name: pruned, at: 2}"], "step by step"),
    ],
)
def test_mistakes_are_one_sentence(folder, plaudit, changes, said):
    code, _, complained = plaudit("search", "small.yaml", *(part for change in changes for part in ("--set", change)))
    assert code == 2
    assert said in " ".join(complained.split())
    assert len(complained.strip().splitlines()) == 1


def test_a_state_that_is_broken_or_of_something_else(folder, plaudit):
    (folder / "small.best.jsonl.state.json").write_text("{broken")
    code, _, complained = plaudit("search", "small.yaml")
    assert code == 2
    assert "--fresh" in complained
    (folder / "small.best.jsonl.state.json").write_text('{"key": "other", "candidates": [], "memory": {}}')
    assert plaudit("search", "small.yaml")[0] == 2
    assert plaudit("search", "small.yaml", "--fresh")[0] == 0


def test_help_has_examples(plaudit, capsys):
    with pytest.raises(SystemExit):
        plaudit("search", "--help")
    shown = capsys.readouterr().out
    assert "plaudit search search.yaml" in shown
    assert "adaptive" in shown


def test_rows_without_a_number_say_why(folder, plaudit):
    (folder / "mine.py").write_text(
        MINE + "\n\nclass Broken(Worth):\n    def __init__(self):\n        super().__init__(broken=1)\n"
    )
    code, shown, _ = plaudit("search", "small.yaml", "--set", "reward=mine.py:Broken", "--json")
    report = json.loads(shown)
    assert code == 0
    assert report["found"] == 0
    assert report["mean"] is None
    assert report["candidates"] == {"not_a_number": 48}
    assert {line["status"] for line in rows(folder / "small.best.jsonl")} == {Status.NOT_A_NUMBER.label}
