"""Many clients at once: everybody gets the offline numbers of what he asked, and overload is told, never an error."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from plaudit import Batch
from plaudit.data import Row
from plaudit.judging import Runner
from plaudit.judging.easy import load_reward
from plaudit.rewards.remote import RemoteReward
from plaudit.types import Context
from tests.serve.running import running

FILE = "tests/serve/served.py"
SPECS = {"short": f"{FILE}:short", "parts": f"{FILE}:Parts", "longer": f"{FILE}:Longer", "rank": f"{FILE}:Rank"}
ROWS = [Row(str(row), f"p{row}", tuple("x" * (1 + (3 * row + place) % 7) for place in range(4))) for row in range(12)]
SEEDS = (0, 5)


@pytest.fixture(scope="module")
def offline():
    """What the rewards themselves say: values by reward, seed and row."""
    return {
        (name, seed): [result.values for result in Runner(load_reward(spec), None, Context(seed=seed), "all").run(ROWS)]
        for name, spec in SPECS.items()
        for seed in SEEDS
    }


@pytest.fixture(scope="module")
def service():
    with running(*(f"{name}={spec}" for name, spec in SPECS.items())) as started:
        yield started


def ask(client, rng, offline):
    """One random request; what is wrong with its answer, None if nothing."""
    name, seed, row = rng.choice(list(SPECS)), rng.choice(SEEDS), rng.choice(ROWS)
    expected = offline[name, seed][int(row.id)]
    shared = {"reward": name, "seed": seed}
    if name in ("short", "parts") and rng.random() < 0.7:
        places = rng.sample(range(4), rng.randint(1, 4))
        items = [{"id": str(place), "prompt": row.prompt, "response": row.responses[place]} for place in places]
        answer = client.post("/v1/score", json={**shared, "items": items})
        found = {int(one["id"]): one["value"] for one in answer.json().get("items", ())}
        expected = {place: expected[place] for place in places}
    else:
        items = [{"prompt": row.prompt, "responses": list(row.responses)}]
        answer = client.post("/v1/rank", json={**shared, "items": items})
        found = [one["value"] for item in answer.json().get("items", ()) for one in item["responses"]]
    if answer.status_code != 200 or found != expected:
        return f"{name}, seed {seed}, row {row.id}: {answer.status_code} {answer.text[:200]}, expected {expected}"
    return None


def test_answers_do_not_depend_on_who_asks_at_the_same_time(service, offline):
    def client(number):
        rng = random.Random(number)
        with httpx.Client(base_url=service.url, timeout=60) as http:
            return [problem for _ in range(25) if (problem := ask(http, rng, offline))]

    with ThreadPoolExecutor(16) as pool:
        assert [problem for problems in pool.map(client, range(16)) for problem in problems] == []
    metrics = service.get("/metrics").text
    batches = sum(float(line.split()[-1]) for line in metrics.splitlines() if line.startswith("plaudit_batch_units_count"))
    assert batches < 16 * 25, "no two requests ever shared a call of a reward: nothing was tested"


def test_overload_is_429_with_a_time_to_come_back_and_retrying_gets_everything():
    with running(f"slow={FILE}:slow", "--queue", "4", "--batch-size", "2") as small:
        item = {"items": [{"prompt": "p", "response": "0.1"}]}

        def client(_):
            return small.post("/v1/score", item)

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(client, range(48)))
        codes = Counter(answer.status_code for answer in answers)
        assert set(codes) == {200, 429}, codes
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers if answer.status_code == 429)
        patient = RemoteReward(small.url, concurrency=8, items_per_request=1, retries=10, backoff=0.05)
        scores = patient.score(Batch(["p"] * 24, ["0.01"] * 24))
        assert scores.values.tolist() == [1.0] * 24


def test_who_would_wait_longer_than_he_may_is_refused_at_once():
    with running(f"slow={FILE}:slow", "--batch-size", "1", "--request-seconds", "2") as small:
        assert small.post("/v1/score", {"items": [{"prompt": "p", "response": "0.5"}]}).status_code == 200  # it knows its pace

        def client(number):
            return small.post("/v1/score", {"items": [{"prompt": f"p{number}", "response": "0.5"}]})

        with ThreadPoolExecutor(32) as pool:
            answers = list(pool.map(client, range(32)))
        codes = Counter(answer.status_code for answer in answers)
        assert codes[200] >= 1
        assert codes[429] >= 16, codes
        assert "s of work wait" in next(answer.json()["detail"] for answer in answers if answer.status_code == 429)
