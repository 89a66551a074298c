"""The embedded judge behind the service: the offline numbers, whoever shares the batch, with its weights in memory once."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from plaudit.data.row import Row
from plaudit.engines.catalogue import open_engine
from plaudit.judging import Runner
from plaudit.rewards.catalogue import Resolver
from tests.serve.running import running

pytestmark = pytest.mark.model

QUESTIONS = ["What is 2 + 2?", "Name a colour.", "Is water wet?"]
ANSWERS = ["4.", "Blue.", "Yes, because it is a liquid.", "I do not know."]


@pytest.fixture(scope="module")
def service():
    with running("yes-token", "verdict", "length") as found:
        yield found


@pytest.fixture(scope="module")
def resolver():
    return Resolver(lambda: open_engine())


def test_judges_share_one_process(service):
    assert len(service.workers()) == 2


def test_scores_of_many_callers_are_the_offline_ones(service, resolver):
    items = [{"prompt": question, "response": answer} for question in QUESTIONS[:2] for answer in ANSWERS[:3]]
    rows = [Row(str(number), item["prompt"], (item["response"],)) for number, item in enumerate(items)]
    offline = [result.values[0] for result in Runner(resolver.resolve("yes-token")).run(rows)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda item: service.post("/v1/score", {"reward": "yes-token", "items": [item]}), items))
    assert [answer.status_code for answer in answers] == [200] * len(items)
    found = [answer.json()["items"][0]["value"] for answer in answers]
    assert found == pytest.approx(offline, abs=1e-5)
    assert answers[0].json()["fingerprint"] == resolver.resolve("yes-token").fingerprint()
    metrics = service.get("/metrics").text
    assert float(metrics.split('plaudit_batch_units_count{reward="yes-token"} ')[1].split()[0]) < len(items)
    assert 'plaudit_spent_total{reward="yes-token",what="computed_tokens"}' in metrics


def test_pairs_and_ranks_are_the_offline_ones(service, resolver):
    row = Row("0", QUESTIONS[0], tuple(ANSWERS[:3]))
    (offline,) = Runner(resolver.resolve("verdict"), pairs="all").run([row])
    item = {"prompt": row.prompt, "responses": list(row.responses)}
    (ranked,) = service.post("/v1/rank", {"reward": "verdict", "items": [item], "verdicts": True}).json()["items"]
    assert [one["value"] for one in ranked["responses"]] == pytest.approx(offline.values, abs=1e-5)
    assert [pair["prob"] for pair in ranked["pairs"]] == pytest.approx([pair.prob for pair in offline.pairs], abs=1e-5)
    pair = {"prompt": row.prompt, "first": row.responses[0], "second": row.responses[1]}
    (compared,) = service.post("/v1/compare", {"reward": "verdict", "items": [pair]}).json()["items"]
    assert compared["prob"] == pytest.approx(offline.pairs[0].prob, abs=1e-5)
    assert len(compared["by_order"]) == 2
