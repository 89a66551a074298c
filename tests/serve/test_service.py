"""A real server process: answers, workers that die, batches of several callers, draining."""

import asyncio
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from plaudit.data.row import Row
from plaudit.judging import Runner
from plaudit.rewards.catalogue import Resolver
from plaudit.store import Store
from plaudit.types import Context
from tests.engines.processes import until
from tests.serve.running import running
from tests.serve.some_rewards import Drawing

REWARDS = f"{os.path.dirname(__file__)}/some_rewards.py"
TEXTS = ["four", "the answer is 4", "", "x" * 500, "\\boxed{4}", "é\u2028 \U0001f600"]


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    store = tmp_path_factory.mktemp("store") / "v.sqlite"
    names = ["length", "exact-match", f"odd={REWARDS}:OnDemand", f"drawing={REWARDS}:Drawing", f"longer={REWARDS}:Longer"]
    with running(*names, "--batch-seconds", "3", store=str(store)) as found:
        found.store = store
        yield found


def ask(service, reward, texts, **options):
    items = [{"prompt": "What is 2 + 2?", "response": text, "reference": "4"} for text in texts]
    return service.post("/v1/score", {"reward": reward, "items": items, **options})


def offline(reward, texts, seed=0):
    rows = [Row(str(number), "What is 2 + 2?", (text,), references=("4",)) for number, text in enumerate(texts)]
    return [result.values[0] for result in Runner(reward, context=Context(seed=seed)).run(rows)]


def values(answer):
    assert answer.status_code == 200, answer.text
    return [item["value"] for item in answer.json()["items"]]


@pytest.mark.parametrize("name", ["length", "exact-match"])
def test_rules_give_the_offline_numbers_exactly(service, name):
    reward = Resolver(lambda: None).resolve(name)
    answer = ask(service, name, TEXTS)
    assert values(answer) == offline(reward, TEXTS)
    assert answer.json()["fingerprint"] == reward.fingerprint()


def test_pairs_and_ranks(service):
    pair = {"prompt": "p", "first": "abc", "second": "a", "id": "one"}
    for reward in ("length", "longer"):
        (item,) = service.post("/v1/compare", {"reward": reward, "items": [pair]}).json()["items"]
        assert item["prob"] == pytest.approx(1 / (1 + 2.718281828**-2), abs=1e-6)
        assert item["id"] == "one"
        ranked = service.post("/v1/rank", {"reward": reward, "items": [{"prompt": "p", "responses": ["a", "abc", "ab"]}]})
        assert ranked.json()["items"][0]["order"] == [1, 2, 0]
    refused = ask(service, "longer", ["a"])
    assert refused.status_code == 422
    assert "only compares" in refused.json()["detail"]


def test_what_cannot_be_judged_is_null_with_a_reason(service):
    answer = ask(service, "odd", ["ab", "none", "raise"]).json()
    assert [item["status"] for item in answer["items"]] == ["ok", "abstained", "failed"]
    assert [item["value"] for item in answer["items"]] == [2.0, None, None]
    assert "as asked" in answer["items"][2]["detail"]
    assert answer["counts"] == {"ok": 1, "abstained": 1, "failed": 1}
    assert 'plaudit_results_total{reward="odd",status="abstained"}' in service.get("/metrics").text


def test_draws_do_not_depend_on_who_else_asks(service):
    alone = {seed: offline(Drawing(), [f"{seed} {n}" for n in range(6)], seed) for seed in range(4)}
    with ThreadPoolExecutor(16) as pool:
        jobs = {
            (seed, again): pool.submit(ask, service, "drawing", [f"{seed} {n}" for n in range(6)], seed=seed)
            for seed in alone
            for again in range(4)
        }
    for (seed, _), job in jobs.items():
        assert values(job.result()) == alone[seed]


def test_callers_share_batches_and_get_their_own_answers(service):
    with ThreadPoolExecutor(16) as pool:
        jobs = [pool.submit(ask, service, "odd", ["sleep:0.05", "x" * number]) for number in range(16)]
    for number, job in enumerate(jobs):
        assert values(job.result()) == [10.0, float(number)]
    text = service.get("/metrics").text
    calls = float(text.split('plaudit_batch_units_count{reward="odd"} ')[1].split()[0])
    units = float(text.split('plaudit_batch_units_sum{reward="odd"} ')[1].split()[0])
    assert units > calls  # some calls held more than one unit


def test_a_slow_reward_does_not_hold_up_another(service):
    slow = threading.Thread(target=ask, args=(service, "odd", ["sleep:1.5"]))
    slow.start()
    assert until(lambda: not slow.is_alive() or ask(service, "length", ["abc"]).status_code == 200)
    assert slow.is_alive()
    slow.join()


def test_a_killed_worker_is_started_again_and_its_batch_judged(service):
    before = set(service.workers())
    with ThreadPoolExecutor(4) as pool:
        job = pool.submit(ask, service, "odd", ["sleep:1.0", "abc"])
        assert until(lambda: 'waiting_units{reward="odd"} 0.0' in service.get("/metrics").text and not job.done())
        victims = [pid for pid in before if _is_busy(pid)]
        for pid in victims or before:
            os.kill(pid, signal.SIGKILL)
        assert values(job.result()) == [9.0, 3.0]
    assert set(service.workers()) != before
    assert until(service.ready)


def _is_busy(pid):
    with open(f"/proc/{pid}/wchan", encoding="utf-8") as file:
        return "nanosleep" in file.read()


def test_a_request_that_kills_its_worker_twice_fails_alone(service):
    with ThreadPoolExecutor(4) as pool:
        ask(service, "odd", ["abc"])
        held = pool.submit(ask, service, "odd", ["sleep:0.7"])
        assert until(lambda: not held.done() and 'waiting_units{reward="odd"} 0.0' in service.get("/metrics").text)
        deadly, fine = pool.submit(ask, service, "odd", ["die"]), pool.submit(ask, service, "odd", ["abcd"])
    assert values(fine.result()) == [4.0]
    assert deadly.result().status_code == 503
    assert "died twice" in deadly.result().json()["detail"]
    assert values(ask(service, "odd", ["ab"])) == [2.0]


def test_a_reward_that_hangs_is_ended(service):
    answer = ask(service, "odd", ["sleep:60"])
    assert answer.status_code == 504
    assert values(ask(service, "odd", ["ab"])) == [2.0]


def test_verdicts_are_kept_and_reused(service):
    texts = [f"kept {number}" for number in range(5)]
    assert values(ask(service, "odd", texts)) == values(ask(service, "odd", texts))
    store = Store(service.store)
    assert len({record["key"] for record in store.records() if record["body"].get("value") == 6.0}) >= 5
    text = service.get("/metrics").text
    assert float(text.split('plaudit_reused_units_total{reward="odd"} ')[1].split()[0]) >= 5


def test_the_access_log_holds_no_texts(service):
    secret = "a text that nobody may log"
    ask(service, "odd", [secret])
    assert until(lambda: any(line.get("items") == 1 for line in service.accesses))
    assert secret not in service.log
    line = next(line for line in service.accesses if line["path"] == "/v1/score")
    assert {"time", "client", "code", "ms", "bytes", "reward", "items", "statuses"} <= set(line)


def test_draining_answers_everything_that_was_accepted():
    async def load(found):
        async with httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=64)) as client:
            body = {"items": [{"prompt": "p", "response": "sleep:0.1"}]}
            jobs = [asyncio.create_task(client.post(f"{found.url}/v1/score", json=body)) for _ in range(24)]
            while found.process.poll() is None and sum(job.done() for job in jobs) < 3:
                await asyncio.sleep(0.02)
            os.killpg(found.process.pid, signal.SIGTERM)  # as process managers do: to the workers too
            await asyncio.sleep(0.15)
            ready = await client.get(f"{found.url}/ready")
            late = await client.post(f"{found.url}/v1/score", json=body)
            return await asyncio.gather(*jobs), ready, late

    with running(f"{REWARDS}:OnDemand") as found:
        answers, ready, late = asyncio.run(load(found))
        assert [answer.status_code for answer in answers] == [200] * 24
        assert (ready.status_code, late.status_code) == (503, 503)
        assert "shutting down" in late.json()["detail"]
        assert "Retry-After" in late.headers
        assert found.process.wait(20) == 0


def test_a_drain_that_takes_too_long_says_what_was_cut_off():
    with running(f"{REWARDS}:OnDemand", "--drain-seconds", "0.5") as found, ThreadPoolExecutor(2) as pool:
        body = {"items": [{"prompt": "p", "response": "sleep:30"}]}
        job = pool.submit(found.post, "/v1/score", body)
        assert until(lambda: "plaudit_waiting_units" in found.get("/metrics").text and not job.done())
        assert until(lambda: _begun(found))
        assert found.stop() == 1
        assert job.result().status_code == 503
        assert "1 requests were not finished" in found.log


def _begun(found):
    return any(_is_busy(pid) for pid in found.workers())
