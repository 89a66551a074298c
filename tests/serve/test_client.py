"""A reward that asks a service gives what the reward itself gives."""

import json
import subprocess
import sys

import pytest
import torch

from plaudit import Batch
from plaudit.data import Row
from plaudit.judging import Runner
from plaudit.judging.easy import load_reward
from plaudit.rewards.remote import RemoteReward
from plaudit.store import Store
from plaudit.types import Context, EngineError, SpecError, Status
from tests.serve.running import running

FILE = "tests/serve/served.py"
SPECS = {"parts": f"{FILE}:Parts", "longer": f"{FILE}:Longer", "rank": f"{FILE}:Rank", "short": f"{FILE}:short"}
ROWS = [
    Row("a", "p", ("x", "xyz", "", "late"), finish=("complete", "truncated", "complete", "complete")),
    Row("b", [{"role": "user", "content": "q"}], ("hole", "xy"), references=("r", "r"), user="u", extras={"k": [1, None]}),
    Row("c", {"goal": "g", "n": 3}, ("xy", "zz")),
]


@pytest.fixture(scope="module")
def service():
    with running(*(f"{name}={spec}" for name, spec in SPECS.items()), PLAUDIT_TOKEN="sesame") as started:
        yield started


def remote(service, name, **options):
    return RemoteReward(service.url, name, "sesame", **options)


def judged(reward, store=None, rows=ROWS, seed=0):
    runner = Runner(reward, store, Context(seed=seed), "all")
    return [result.to_json() for result in runner.run(rows)], runner.progress


@pytest.mark.parametrize("name", SPECS)
def test_the_same_results_and_the_same_identity(service, name):
    here, there = load_reward(SPECS[name]), remote(service, name, items_per_request=2)
    assert judged(there, seed=3)[0] == judged(here, seed=3)[0]
    for what in ("name", "native", "uses_seed", "higher_is_better"):
        assert getattr(there, what) == getattr(here, what)
    assert there.fingerprint() == here.fingerprint()


def test_statuses_parts_and_spread_come_through(service):
    batch = Batch(["p"] * 3, ["hole", "late", "abc"])
    scores = remote(service, "parts").score(batch)
    assert [Status(code) for code in scores.status.tolist()] == [Status.OK, Status.TIMED_OUT, Status.OK]
    assert scores.parts["other"].isnan().tolist() == [True, False, False]
    assert scores.spread is not None
    assert torch.isnan(scores.values).tolist() == [False, True, False]


@pytest.mark.parametrize("first_here", [True, False])
@pytest.mark.parametrize("name", ["longer", "rank", "short"])
def test_verdicts_are_shared_with_the_reward_itself(service, tmp_path, name, first_here):
    rewards = [load_reward(SPECS[name]), remote(service, name)]
    store = Store(tmp_path / "v.sqlite")
    first, progress = judged(rewards[not first_here], store)
    assert progress.judged > 0
    second, progress = judged(rewards[first_here], store)
    assert (second, progress.judged) == (first, 0)


def test_composed_with_rewards_that_are_here(service, monkeypatch):
    monkeypatch.setenv("PLAUDIT_TOKEN", "sesame")
    sum_of = load_reward(f"{{sum: {{there: {{reward: '{service.url}#short', weight: 2}}, exact-match: 1}}}}")
    assert sum_of.score(Batch(["p"], ["ab"], references=["ab"])).values.tolist() == [2.0]


def test_the_command_line_takes_an_address(service, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"prompt": "p", "response": "abcd"}) + "\n")
    command = [sys.executable, "-m", "plaudit", "judge", str(file), "--store", "none", "--json", "--reward"]
    environment = {"PATH": "/usr/bin", "PLAUDIT_TOKEN": "sesame", "HOME": str(tmp_path)}
    done = subprocess.run([*command, f"{service.url}#short"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["reward"] == {"name": "short", "fingerprint": load_reward(SPECS["short"]).fingerprint()}
    refused = subprocess.run(
        [*command, f"{service.url}#short"], capture_output=True, text=True, env={**environment, "PLAUDIT_TOKEN": "no"}
    )
    assert refused.returncode == 2
    assert "Authorization" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("name", "words"),
    [("nobody", "has no reward 'nobody': it has parts, longer, rank, short"), (None, "name one of them")],
)
def test_a_name_that_is_not_served(service, name, words):
    with pytest.raises(SpecError, match=words):
        remote(service, name).check()


@pytest.mark.parametrize("url", ["localhost:80", "ftp://x", "http://", "http://u:p@x"])
def test_addresses_that_are_none(url):
    with pytest.raises(SpecError, match="address"):
        RemoteReward(url)


def test_what_answers_must_be_plaudit():
    command = [sys.executable, "-m", "benchmarks.stub_server", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stub:
        port = json.loads(stub.stdout.readline())["port"]
        with pytest.raises(EngineError, match="cannot be used"):
            RemoteReward(f"http://127.0.0.1:{port}", retries=0).check()
        stub.kill()


def test_responses_of_different_prompts_are_not_compared_as_if_they_shared_one(service):
    batch = Batch(["p", "q"], ["a", "bc"])
    with pytest.raises(SpecError, match="share prompt"):
        remote(service, "longer").compare(batch, torch.tensor([0]), torch.tensor([1]))


def test_pictures_are_not_sent(service):
    with pytest.raises(SpecError, match="judges texts"):
        remote(service, "short").score(Batch(["p"], torch.zeros(1, 3, 2, 2)))


def test_another_reward_under_the_name_ends_the_run(service):
    there = remote(service, "short")
    there._info = {**there.info, "fingerprint": "0" * 32}  # as if the service had been started anew in between
    with pytest.raises(EngineError, match="changed its reward 'short'"):
        there.score(Batch(["p"], ["a"]))


def test_each_request_is_counted(service):
    context = Context()
    remote(service, "short", items_per_request=2).score(Batch(["p"] * 5, ["a"] * 5), context)
    assert context.budget.spent["network_calls"] == 3


def test_a_service_that_is_gone_leaves_rows_that_can_be_judged_again(tmp_path):
    store = Store(tmp_path / "v.sqlite")
    with running(f"short={SPECS['short']}") as started:
        runner = Runner(RemoteReward(started.url, retries=0), store)
        assert [result.values for result in runner.run(ROWS[1:])] == [[0.25, 0.5], [0.5, 0.5]]
    (result,) = runner.run(ROWS[:1])
    assert {one.status for one in result.responses} == {Status.UNREACHABLE}
    assert "connection failed" in result.responses[0].verdicts[0].detail
    assert runner.progress.stopped == "the engine cannot be reached any more"
    assert len(list(store.records())) == 4
    with pytest.raises(EngineError, match="cannot be used: connection failed"):
        RemoteReward(started.url, retries=0).check()
