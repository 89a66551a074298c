"""The endpoints that other tools' clients speak, on a real service."""

import asyncio
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.serve.running import running

FILE = "tests/serve/served.py"
REWARDS = (f"short={FILE}:short", f"longer={FILE}:Longer", f"rank={FILE}:Rank", "exact-match")


@pytest.fixture(scope="module")
def service():
    with running(*REWARDS, PLAUDIT_TOKEN="sesame") as started:
        yield started


@pytest.fixture(scope="module")
def lenient():
    with running(REWARDS[0], "--unscored", "-1") as started:
        yield started


def ask(service, path, body, token="sesame"):
    return service.post(path, body, headers={"Authorization": f"Bearer {token}"})


def as_openrlhf_does(url, payload):
    """The released client's call: one POST with nothing but the address, no header of its own."""

    async def post():
        async with aiohttp.ClientSession() as session, session.post(url, json=payload) as response:
            response.raise_for_status()
            return await response.json()

    return asyncio.run(post())


def test_openrlhf_asks_with_the_token_in_the_address(service):
    parts = urlsplit(service.url)
    payload = {"query": ["Why? Because.</s>"], "prompts": ["Why? "], "labels": [""]}
    url = f"http://trainer:sesame@{parts.netloc}/get_reward?reward=short"
    assert as_openrlhf_does(url, payload) == {"rewards": [0.125], "scores": [0.125], "extra_logs": {}}
    with pytest.raises(aiohttp.ClientResponseError, match="401"):
        as_openrlhf_does(url.replace("sesame", "wrong"), payload)


def test_openrlhf_labels_are_references(service):
    body = {"query": ["2+2=4", "2+2=5"], "prompts": ["2+2=", "2+2="], "labels": ["4", "4"]}
    assert ask(service, "/get_reward?reward=exact-match", body).json()["rewards"] == [1.0, 0.0]


def test_what_cannot_be_judged_refuses_the_answer_and_never_is_zero(service):
    body = {"query": ["p ab", "p "], "prompts": ["p ", "p "]}
    answer = ask(service, "/get_reward?reward=short", body)
    assert answer.status_code == 422
    assert answer.json()["rows"][0]["index"] == 1
    assert answer.json()["rows"][0]["status"] == "abstained"
    assert "1 of 2 items could not be judged" in answer.json()["detail"]


def test_a_reference_that_is_missing_is_told(service):
    answer = ask(service, "/compute_score?reward=exact-match", {"solution_str": "4"})
    assert answer.status_code == 422
    assert answer.json()["rows"][0]["status"] == "missing_reference"


def test_the_users_number_is_sent_marked_and_counted(lenient):
    body = {"query": ["p ab", "p "], "prompts": ["p ", "p "]}
    answer = lenient.post("/get_reward", body).json()
    assert answer["rewards"] == answer["scores"] == [0.5, -1.0]
    assert answer["extra_logs"] == {"unscored": [0.0, 1.0]}
    assert lenient.post("/compute_score", {"solution_str": ""}).json() == {"score": -1.0, "unscored": 1.0}
    assert 'plaudit_unscored_sent_total{reward="short",status="abstained"} 2.0' in lenient.get("/metrics").text
    logged = [line for line in lenient.accesses if line["path"] == "/get_reward"]
    assert logged[-1]["unscored"] == 1
    assert logged[-1]["statuses"] == {"ok": 1, "abstained": 1}


def test_a_reward_that_compares_judges_the_answers_of_one_prompt_together(service):
    body = {"query": ["p a", "p abc", "p ab"], "prompts": ["p "] * 3}
    assert ask(service, "/get_reward?reward=longer", body).json()["rewards"] == pytest.approx([0.1, 0.9, 0.5])
    alone = ask(service, "/get_reward?reward=longer", {"query": ["p a"], "prompts": ["p "]})
    assert alone.status_code == 422
    assert alone.json()["rows"][0]["status"] == "empty_group"


def test_verl_gets_what_compute_score_may_return(service):
    single = {"data_source": "sums", "solution_str": "4", "ground_truth": "4", "extra_info": {"index": 3, "num_turns": None}}
    assert ask(service, "/compute_score?reward=exact-match", single).json() == {"score": 1.0}
    batch = {"data_sources": ["sums"] * 2, "solution_strs": ["4", "5"], "ground_truths": ["4", "4"], "extra_infos": [{}, None]}
    assert ask(service, "/compute_score?reward=exact-match", batch).json() == [{"score": 1.0}, {"score": 0.0}]


def test_verls_reward_loop_reads_its_probability(service):
    answer = ask(service, "/classify", {"model": "short", "input": "abcd", "use_activation": False}).json()
    assert answer["data"][-1]["probs"][-1] == 0.25


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_rerank_best_first(service, path):
    body = {"model": "short", "query": "q", "documents": ["abc", {"text": "a"}, "ab"], "top_n": 2, "return_documents": True}
    answer = ask(service, path, body).json()
    assert answer["model"] == "short"
    assert answer["results"] == [
        {"index": 1, "relevance_score": 1.0, "document": {"text": "a"}},
        {"index": 2, "relevance_score": 0.5, "document": {"text": "ab"}},
    ]


def test_rerank_by_a_reward_where_less_is_better_and_in_the_other_shape(service):
    body = {"model": "rank", "query": "q", "texts": ["abc", "a"], "return_text": True, "raw_scores": True, "truncate": False}
    assert ask(service, "/rerank", body).json() == [
        {"index": 1, "score": 0.5, "text": "a"},
        {"index": 0, "score": 1.0, "text": "abc"},
    ]


@pytest.mark.parametrize(
    ("path", "body", "code", "words"),
    [
        ("/get_reward", {"query": ["a"]}, 422, "name a reward"),
        ("/get_reward?reward=nobody", {"query": ["a"]}, 404, "there is no reward of that name"),
        ("/get_reward?reward=short", {"query": []}, 422, "query"),
        ("/get_reward?reward=short", {"query": ["ab"], "prompts": ["x"]}, 422, "do not begin with their prompts"),
        ("/rerank", {"model": "gpt", "query": "q", "documents": ["a"]}, 404, "there is no reward of that name"),
        ("/rerank", {"query": "q"}, 422, "either documents or texts"),
        ("/compute_score?reward=short", {}, 422, "either solution_str or solution_strs"),
    ],
)
def test_refusals_say_what_was_expected(service, path, body, code, words):
    answer = ask(service, path, body)
    assert answer.status_code == code
    assert words in answer.json()["detail"]
