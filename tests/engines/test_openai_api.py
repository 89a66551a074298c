"""`OpenAIEngine` against a real local server that misbehaves."""

from __future__ import annotations

import asyncio
import math
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from plaudit.engines.openai_api import OpenAIEngine
from plaudit.types import Budget, BudgetExceeded, EngineError, Request, Sampling, SpecError, Status
from tests.engines.stub_server import RunningStub, running_stub

KEY = "sk-secret-0123456789"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningStub]:
    with running_stub("--text", "The verdict is A.", "--key", KEY) as stub:
        yield stub


@pytest.fixture
def stub(server: RunningStub) -> RunningStub:
    server.reset()
    return server


def engine(stub: RunningStub, **settings: object) -> OpenAIEngine:
    chosen = {"api_key": KEY, "retries": 3, "backoff": 0.01, "timeout": 30.0, **settings}
    return OpenAIEngine("stub", base_url=stub.url, **chosen)  # type: ignore[arg-type]


def chat(text: str, prefix: str = "") -> Request:
    return Request(({"role": "user", "content": text},), prefix)


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.parametrize(
    ("behaviour", "status", "attempts", "says"),
    [
        ("ok", Status.OK, 1, ""),
        ("429 ok", Status.OK, 2, ""),
        ("408 409 500 ok", Status.OK, 4, ""),
        ("503+0.01 ok", Status.OK, 2, ""),
        ("cut ok", Status.OK, 2, ""),
        ("close ok", Status.OK, 2, ""),
        ("reset ok", Status.OK, 2, ""),
        ("empty ok", Status.OK, 2, ""),
        ("slow=3 ok", Status.OK, 2, ""),
        ("500", Status.FAILED, 4, "500: told to answer 500"),
        ("429", Status.FAILED, 4, "429"),
        ("504", Status.TIMED_OUT, 4, "504"),
        ("cut", Status.FAILED, 4, "not whole JSON"),
        ("empty", Status.FAILED, 4, "no choices"),
        ("slow=3", Status.TIMED_OUT, 4, "no answer within 0.4 s"),
        ("reset", Status.UNREACHABLE, 4, "connection failed"),
        ("close", Status.UNREACHABLE, 4, "connection failed"),
        ("400", Status.FAILED, 1, "400"),
        ("401", Status.FAILED, 1, "401"),
        ("403", Status.FAILED, 1, "403"),
        ("404", Status.FAILED, 1, "404"),
        ("422", Status.FAILED, 1, "422"),
        ("quota", Status.FAILED, 1, "exceeded your current quota"),
        ("long", Status.TOO_LONG, 1, "maximum context length"),
        ("null", Status.FAILED, 1, "holds no text"),
    ],
)
def test_every_misbehaviour_has_its_outcome(stub: RunningStub, behaviour: str, status: Status, attempts: int, says: str) -> None:
    answer = engine(stub, timeout=0.4 if "slow" in behaviour else 30.0).generate([chat(f"[behave: {behaviour}]")], Sampling())[0]
    assert answer.status is status
    assert stub.stats()["requests"] == attempts
    assert says in answer.detail
    assert (answer.text == "The verdict is A.") == (status is Status.OK)
    assert (answer.detail == "") == (status is Status.OK)


def test_retry_after_is_waited_for_and_bounded(stub: RunningStub) -> None:
    waits = []
    told = engine(stub)
    pause = told._client._pause
    told._client._pause = lambda state: waits.append(pause(state)) or 0.0  # type: ignore[method-assign, func-returns-value]
    texts = [told.generate([chat(f"[behave: {word} ok]")], Sampling())[0].text for word in ("429+7", "429+99999", "429")]
    assert texts == ["The verdict is A."] * 3
    assert waits[0] == 7.0
    assert waits[1] == told._client.max_wait
    assert 0.005 <= waits[2] <= 0.015


def test_order_of_results_is_order_of_requests(stub: RunningStub) -> None:
    requests = [chat(f"[behave: {'500 echo' if i % 3 == 0 else 'echo'}] {i}") for i in range(60)]
    answers = engine(stub).generate(requests, Sampling())
    assert [answer.text.split("] ")[1] for answer in answers] == [f"{i}" for i in range(60)]
    assert stub.stats()["requests"] == 80


@pytest.mark.parametrize("concurrency", [1, 4])
def test_concurrency_is_bounded_over_all_threads(stub: RunningStub, concurrency: int) -> None:
    shared = engine(stub, concurrency=concurrency)
    threads = [
        threading.Thread(target=shared.generate, args=([chat(f"[behave: slow=0.05] {n} {i}") for i in range(6)], Sampling()))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = stub.stats()
    assert seen["requests"] == 24
    assert seen["max_in_flight"] <= concurrency
    assert (seen["max_in_flight"] > 1) == (concurrency > 1)


def test_works_inside_a_running_event_loop(stub: RunningStub) -> None:
    async def inside() -> str:
        return engine(stub).generate([chat("hello")], Sampling())[0].text

    assert asyncio.run(inside()) == "The verdict is A."


def test_sampling_reaches_the_server(stub: RunningStub) -> None:
    how = Sampling(max_tokens=7, temperature=0.5, top_p=0.9, stop=("END",), seed=3)
    told = engine(stub, extra={"max_tokens": None, "max_completion_tokens": 9, "seed": 4})
    told.generate([chat("hello")], how)
    assert stub.stats()["last_body"] == {
        "model": "stub",
        "messages": [{"role": "user", "content": "hello"}],
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["END"],
        "max_completion_tokens": 9,
        "seed": 4,
    }


def test_truncated_answers_say_so(stub: RunningStub) -> None:
    answers = engine(stub).generate([chat("[behave: length]"), chat("plain")], Sampling())
    assert [answer.finish for answer in answers] == ["truncated", "complete"]


def test_plain_strings_go_to_completions(stub: RunningStub) -> None:
    answer = engine(stub).generate([Request("Once upon", " a time")], Sampling())[0]
    assert answer.text == "The verdict is A."
    assert stub.stats()["last_body"]["prompt"] == "Once upon a time"


def test_prefix_is_continued_where_the_server_can(stub: RunningStub) -> None:
    able = engine(stub, extra={"continue_final_message": True})
    assert able.generate([chat("hello", "The verdict")], Sampling())[0].text == "The verdict is A."
    body = stub.stats()["last_body"]
    assert body["messages"][-1] == {"role": "assistant", "content": "The verdict"}
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    able.generate([chat("hello")], Sampling())
    assert "continue_final_message" not in stub.stats()["last_body"]


def test_a_repeated_prefix_is_removed(stub: RunningStub) -> None:
    assert engine(stub).generate([chat("hello", "The verdict")], Sampling())[0].text == " is A."
    assert stub.stats()["last_body"]["messages"][-1] == {"role": "assistant", "content": "The verdict"}


@pytest.mark.parametrize("plain", [False, True])
def test_next_token_sums_spellings_and_bounds_the_unseen(stub: RunningStub, plain: bool) -> None:
    text = "[behave: top=Yes:-0.5,YES:-2.0,No:-3.0]"
    answer = engine(stub).next_token([Request(text) if plain else chat(text)], [["Yes", "YES"], ["No"], ["Maybe", " maybe"]])
    expected = [math.log(math.exp(-0.5) + math.exp(-2.0)), -3.0, -3.0]
    assert answer.status == [Status.OK]
    assert answer.log_probs[0].tolist() == pytest.approx(expected, abs=1e-6)
    assert answer.floor is not None
    assert answer.floor.tolist() == [-3.0]


@pytest.mark.parametrize(
    ("behaviour", "says"), [("nologprobs", "use a text contract"), ("nan", "not numbers"), ("500", "told to answer 500")]
)
def test_next_token_without_numbers_is_nan_with_a_reason(stub: RunningStub, behaviour: str, says: str) -> None:
    answer = engine(stub, retries=0).next_token([chat(f"[behave: {behaviour}]"), chat("fine")], [["Yes"], ["No"]])
    assert answer.status == [Status.FAILED, Status.OK]
    assert answer.log_probs.isnan().tolist() == [[True, True], [False, False]]
    assert answer.floor is not None
    assert answer.floor.isnan().tolist() == [True, False]
    assert says in answer.detail[0]
    assert answer.detail[1] == ""


def test_gradients_are_refused_in_a_sentence(stub: RunningStub) -> None:
    with pytest.raises(NotImplementedError, match="no gradients"):
        engine(stub).next_token([chat("x")], [["Yes"]], grad=True)
    with pytest.raises(NotImplementedError, match="no gradients"):
        engine(stub).log_probs([Request("x")], ["y"], grad=True)


def test_log_probs_of_continuations(stub: RunningStub) -> None:
    requests = [Request("The capital is"), chat("chat"), Request("The cap"), Request("Two"), Request("empty")]
    answer = engine(stub).log_probs(requests, [" Paris", "x", "ital is", " more words", ""])
    assert answer.status == [Status.OK, Status.FAILED, Status.FAILED, Status.OK, Status.FAILED]
    assert answer.total.isnan().tolist() == [False, True, True, False, True]
    assert answer.tokens[3].tolist() == pytest.approx([-0.5, -0.6])
    assert answer.total[0].item() == pytest.approx(-0.6)
    assert "chat server" in answer.detail[1]
    assert "spans" in answer.detail[2]


def test_a_server_that_continues_a_prefix_scores_given_answers_of_chats(stub: RunningStub) -> None:
    """vLLM's dialect: the log-probabilities of a prompt that ends with the answer."""
    able = engine(stub, extra={"continue_final_message": True})
    requests = [chat("capital?", "It is"), chat("capital?", "It"), chat("capital?", "It is"), chat("x")]
    answer = able.log_probs(requests, [" Paris", " is not Rome", "land", "y"])
    assert answer.status == [Status.OK, Status.OK, Status.FAILED, Status.FAILED]
    assert answer.tokens[0].tolist() == pytest.approx([-0.6])
    assert answer.tokens[1].tolist() == pytest.approx([-0.3, -0.4, -0.5])
    assert answer.total.isnan().tolist() == [False, False, True, True]
    assert "as whole tokens" in answer.detail[2]
    assert "no log-probabilities of the prompt" in answer.detail[3], "the first token of all has none"
    body = stub.stats()["last_body"]
    assert (body["prompt_logprobs"], body["add_generation_prompt"]) == (0, False)


def test_tokens_calls_and_cost_are_counted(stub: RunningStub) -> None:
    budget = Budget()
    told = engine(stub, price_in=2.0, price_out=10.0)
    told.generate([chat("[behave: 500 ok]"), chat("[behave: empty ok]"), chat("[behave: 404]")], Sampling(), budget=budget)
    assert budget.spent["network_calls"] == 5
    assert budget.spent["prompt_tokens"] == 300, "an answer without choices was paid for all the same"
    assert budget.spent["completion_tokens"] == 30
    assert budget.spent["cost"] == pytest.approx((300 * 2 + 30 * 10) / 1e6)
    assert budget.spent["estimated_tokens"] == 0


def test_missing_token_counts_are_estimated_and_marked(stub: RunningStub) -> None:
    budget = Budget()
    answer = engine(stub).generate([chat("[behave: nousage]")], Sampling(), budget=budget)[0]
    assert (answer.prompt_tokens, answer.completion_tokens) == (5, 5)  # 17 characters each, four a token, rounded up
    assert budget.spent["estimated_tokens"] == 10


def test_a_budget_stops_the_run(stub: RunningStub) -> None:
    with pytest.raises(BudgetExceeded, match="network_calls"):
        engine(stub, concurrency=2).generate(
            [chat(f"{i}") for i in range(50)], Sampling(), budget=Budget(limits={"network_calls": 10})
        )
    assert stub.stats()["requests"] <= 10


def test_check_passes_on_a_server_and_on_one_without_models(stub: RunningStub) -> None:
    engine(stub).check()
    with running_stub("--no-models") as other:
        OpenAIEngine("m", base_url=other.url).check()


def test_check_names_a_wrong_key_without_showing_it(stub: RunningStub) -> None:
    with pytest.raises(EngineError, match=r"refused the API key \(401\)") as caught:
        engine(stub, api_key="sk-wrong").check()
    assert "sk-wrong" not in str(caught.value)


def test_check_says_that_nobody_listens() -> None:
    with pytest.raises(EngineError, match="cannot be reached"):
        OpenAIEngine("m", base_url=f"http://127.0.0.1:{closed_port()}/v1").check()


def test_a_refused_port_gives_unreachable_rows() -> None:
    lost = OpenAIEngine("m", base_url=f"http://127.0.0.1:{closed_port()}/v1", retries=2, backoff=0.01)
    answers = lost.generate([chat(f"{i}") for i in range(40)], Sampling())
    assert {answer.status for answer in answers} == {Status.UNREACHABLE}


def test_a_server_that_dies_leaves_the_scored_rows() -> None:
    with running_stub("--text", "A") as mortal:
        told = OpenAIEngine("m", base_url=mortal.url, concurrency=1, retries=1, backoff=0.01)
        requests = [chat(f"{i}") for i in range(10)] + [chat("[behave: die]")] + [chat(f"{i}") for i in range(30)]
        answers = told.generate(requests, Sampling())
    assert [answer.status for answer in answers] == [Status.OK] * 10 + [Status.UNREACHABLE] * 31
    assert [answer.text for answer in answers[:11]] == ["A"] * 10 + [""]


def test_after_a_restart_the_rows_are_answered_again() -> None:
    port = closed_port()
    told = OpenAIEngine("m", base_url=f"http://127.0.0.1:{port}/v1", retries=1, backoff=0.01)
    assert told.generate([chat("x")], Sampling())[0].status is Status.UNREACHABLE
    with running_stub("--port", str(port), "--text", "back"):
        assert [answer.text for answer in told.generate([chat("x"), chat("[behave: reset ok]")], Sampling())] == ["back", "back"]


def test_the_key_appears_nowhere(stub: RunningStub) -> None:
    told = engine(stub)
    answer = told.generate([chat("[behave: leak]")], Sampling())[0]
    assert "Bearer ***" in answer.detail
    assert KEY not in answer.detail + repr(told) + told.version + repr(told._client) + str(told.__dict__)


def test_key_comes_from_the_environment(stub: RunningStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    engine(stub, api_key=None).check()


def test_version_follows_what_changes_numbers() -> None:
    base = OpenAIEngine("m", base_url="http://a/v1")
    same = OpenAIEngine("m", base_url="http://a/v1/", api_key="k", concurrency=3, timeout=1, retries=0, price_in=1)
    assert base.version == same.version
    others = [
        OpenAIEngine("n", base_url="http://a/v1"),
        OpenAIEngine("m", base_url="http://b/v1"),
        OpenAIEngine("m", base_url="http://a/v1", top_logprobs=5),
        OpenAIEngine("m", base_url="http://a/v1", extra={"reasoning_effort": "low"}),
    ]
    assert len({base.version, *(other.version for other in others)}) == 5


@pytest.mark.parametrize("address", ["localhost:8000", "ftp://a/v1", "http://me:pw@a/v1", ""])
def test_bad_addresses_are_refused(address: str) -> None:
    with pytest.raises(SpecError) as caught:
        OpenAIEngine("m", base_url=address)
    assert "pw" not in str(caught.value)


def test_empty_lists_and_closed_engines(stub: RunningStub) -> None:
    told = engine(stub)
    assert told.generate([], Sampling()) == []
    assert tuple(told.next_token([], [["Yes"]]).log_probs.shape) == (0, 1)
    told.close()
    told.close()
    assert told.generate([chat("x")], Sampling())[0].status is Status.OK
    assert pickle.loads(pickle.dumps(told)).generate([chat("x")], Sampling())[0].status is Status.OK


def test_importing_and_building_loads_nothing_heavy() -> None:
    code = (
        "import sys; from plaudit.engines.openai_api import OpenAIEngine; OpenAIEngine('m').version; "
        "assert not {'torch', 'aiohttp', 'tenacity', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
