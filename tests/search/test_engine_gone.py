"""A real judge over HTTP that is killed in the middle of a search: it ends with what it has, says so, and goes on later."""

import json
import subprocess
import sys

import pytest

from plaudit.engines.openai_api import OpenAIEngine
from plaudit.rewards.generative import Judge
from plaudit.search.adaptive import AdaptiveBestOfN
from plaudit.search.best_of_n import BestOfN
from plaudit.types import Budget, Sampling, Status
from tests.engines.stub_server import ROOT, running_stub
from tests.search.toy import Numbers, questions, round_trip, same

HOW = Sampling(max_tokens=2, temperature=1.0)
SEARCHES = {
    "best of n": BestOfN(n=4, how=HOW),
    "adaptive": AdaptiveBestOfN(tau=2.0, n_max=4, how=HOW),
}


def asked(url, budget, search, state=None, prompts=30):
    engine = OpenAIEngine("m", base_url=url, retries=1)
    judge = Judge(engine, "yes-token", batch_size=16)
    return search.run(Numbers(), judge, questions(prompts), budget=budget, seed=0, state=state)


@pytest.mark.parametrize("name", SEARCHES)
def test_the_search_ends_with_what_it_has_and_goes_on(name):
    search = SEARCHES[name]
    with running_stub() as stub:
        port = stub.port
        whole = asked(stub.url, budget := Budget(), search)
        assert whole.stopped is None
        assert stub.stats()["requests"] == budget.spent["network_calls"] <= budget.spent["reward_calls"] == 120  # equal ones once

        def kill(work):
            if sum(one.judged for one in work.candidates) >= 40 and stub.process.poll() is None:
                stub.process.kill()
                stub.process.wait()

        search.on_progress = kill
        try:
            first = asked(stub.url, Budget(), search)
        finally:
            search.on_progress = None
    assert "could not be reached" in first.stopped
    kept = sum(one["status"] == "ok" for one in first.history)
    assert 40 <= kept < 120
    assert first.spent["samples"] == len(first.history)
    assert set(first.scores.status.tolist()) <= {Status.OK, Status.UNREACHABLE}
    found = {one["prompt"] for one in first.history if one["status"] == "ok"}
    assert {row for row, ok in enumerate(first.scores.ok.tolist()) if ok} == found
    again = [sys.executable, "-m", "benchmarks.stub_server", "--port", str(port)]
    with subprocess.Popen(again, cwd=ROOT, stdout=subprocess.PIPE, text=True) as restarted:
        json.loads(restarted.stdout.readline())
        try:
            second = asked(f"http://127.0.0.1:{port}/v1", Budget(), search, state=round_trip(first.state))
        finally:
            restarted.kill()
    assert second.stopped is None
    assert same(second, whole)
    assert second.spent["reward_calls"] == 120 - kept
    assert first.spent["samples"] + second.spent.get("samples", 0) == 120
