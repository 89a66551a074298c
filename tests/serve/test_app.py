"""The endpoints without a process: rewards in a thread, requests through ASGI."""

import asyncio
import json
import logging

import httpx
import pytest

from plaudit.rewards.catalogue import Resolver
from plaudit.serve.app import create_app
from plaudit.serve.service import Service
from plaudit.serve.settings import Limits
from tests.serve.some_rewards import Longer, OnDemand

ITEM = {"prompt": "p", "response": "abc"}
LIMITS = Limits(max_items=4, max_body=2000, queue=8, batch_size=2, request_seconds=5.0, read_seconds=0.5, max_wait_ms=0.0)


def run(test, *, limits=LIMITS, rewards=None, store=None, **options):
    """Run `await test(client, service)` against a service that is ready."""

    async def main():
        service = Service(rewards or {"odd": OnDemand()}, limits=limits, store=store, in_process=True)
        await service.start()
        await service.load_weights()
        transport = httpx.ASGITransport(create_app(service, **options), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://plaudit") as client:
            try:
                return await test(client, service)
            finally:
                await service.close()

    return asyncio.run(main())


async def asleep(service):
    """Wait until the reward is at work. (Its worker's lock says less: the service also takes it to look after the worker.)"""
    assert await asyncio.to_thread(service._specs["odd"].asleep.wait, 20)


async def queued(service, units):
    """Wait until so many units are in the queue."""
    while service.rewards["odd"].batcher.units < units:
        await asyncio.sleep(0.005)


def post(body, path="/v1/score", **options):
    """The answer to one request."""

    async def test(client, _service):
        if isinstance(body, (bytes, str)):
            return await client.post(path, content=body, headers={"Content-Type": "application/json"})
        return await client.post(path, json=body)

    return run(test, **options)


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        (b"{", 400, "not JSON"),
        (b"\xff\xfe", 400, "body"),
        (b"[" * 900, 400, "not JSON"),
        (b'{"items": [{"prompt": "p", "response": "\\ud800"}]}', 422, "surrogate"),
        (b'{"items": [{"prompt": "p", "response": "a", "extras": {"x": NaN}}]}', 422, "items.0.extras"),
        ({"items": []}, 422, "items"),
        ({"items": [ITEM], "sead": 1}, 422, "sead"),
        ({"items": [ITEM], "seed": "1"}, 422, "seed"),
        ({"items": [ITEM], "seed": True}, 422, "seed"),
        ({"items": [ITEM], "seed": 2**31}, 422, "seed"),
        ({"items": [ITEM], "reward": "nobody"}, 404, "this service has odd"),
        ({"items": [{"prompt": 1, "response": "a"}]}, 422, "items.0.prompt"),
        ({"items": [{**ITEM, "id": "a\u0000b"}]}, 422, "items.0.id"),
        ({"items": [ITEM] * 5}, 422, "5 items are more than the 4"),
        ({"items": [{"prompt": "p" * 3000, "response": ""}]}, 413, "larger than the 2000 bytes"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(body, code, says):
    answer = post(body)
    assert (answer.status_code, answer.headers["content-type"]) == (code, "application/json")
    assert says in answer.json()["detail"]


def test_a_body_without_its_type_says_what_is_missing():
    async def test(client, _service):
        return await client.post("/v1/score", content=json.dumps({"items": [ITEM]}))

    answer = run(test)
    assert answer.status_code == 422
    assert "Content-Type: application/json" in answer.json()["detail"]


def test_a_large_body_is_refused_while_it_is_read():
    sent = 0

    async def chunks():
        nonlocal sent
        while True:
            sent += 1
            yield b" " * 500

    async def test(client, _service):
        return await client.post("/v1/score", content=chunks(), headers={"Content-Type": "application/json"})

    assert run(test).status_code == 413
    assert sent <= 6


def test_a_slow_body_is_refused():
    async def chunks():
        yield b"{"
        await asyncio.sleep(30)

    async def test(client, _service):
        return await client.post("/v1/score", content=chunks(), headers={"Content-Type": "application/json"})

    assert run(test).status_code == 408


def test_tokens():
    async def test(client, _service):
        def code(header):
            return client.get("/v1/rewards", headers={} if header is None else {"Authorization": header})

        codes = [(await code(header)).status_code for header in (None, "Bearer", "Bearer wrong", "first", "Bearer first2")]
        fine = [(await code(f"Bearer {token}")).status_code for token in ("first", "second")]
        refused = await code(None)
        return codes, fine, refused, [(await client.get(path)).status_code for path in ("/health", "/ready", "/metrics", "/docs")]

    codes, fine, refused, others = run(test, tokens=["first", "second"])
    assert codes == [401] * 5
    assert fine == [200, 200]
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert others == [200, 200, 401, 401]


def test_a_full_queue_is_429():
    async def test(client, service):
        def ask(text, count=1, **more):
            return asyncio.create_task(
                client.post("/v1/score", json={"items": [{"prompt": "p", "response": text}] * count, **more})
            )

        busy = ask("sleep:1")
        await asleep(service)
        waiting = []
        for text in ("abc", "abcd"):
            waiting.append(ask(text, 4))
            await queued(service, 4 * len(waiting))
        late, full = await ask("abcde", timeout_seconds=0.1), await ask("abc")
        return await busy, [await one for one in waiting], late, full, service.metrics.text().decode()

    busy, waiting, late, full, metrics = run(test)
    assert [answer.status_code for answer in (busy, *waiting)] == [200] * 3
    assert (full.status_code, late.status_code) == (429, 429)
    assert int(full.headers["Retry-After"]) >= 1
    assert 'plaudit_refused_total{code="429",reward="odd"} 2.0' in metrics


def test_a_late_request_is_dropped_before_it_is_judged():
    async def test(client, service):
        def ask(text, **more):
            return asyncio.create_task(client.post("/v1/score", json={"items": [{"prompt": "p", "response": text}], **more}))

        busy = ask("sleep:0.5")
        await asleep(service)
        late = await ask("sleep:3", timeout_seconds=0.1)
        return late, service.rewards["odd"].batcher.units, await busy

    late, units, busy = run(test)
    assert (late.status_code, units, busy.status_code) == (504, 0, 200)
    assert "within 0.1 s" in late.json()["detail"]


def test_who_hangs_up_is_dropped():
    async def test(client, service):
        busy = asyncio.create_task(client.post("/v1/score", json={"items": [{"prompt": "p", "response": "sleep:0.4"}]}))
        await asleep(service)
        body = json.dumps({"items": [ITEM]}).encode()
        sent = []
        messages = [{"type": "http.request", "body": body}, {"type": "http.disconnect"}]
        scope = {
            "type": "http", "method": "POST", "path": "/v1/score", "raw_path": b"/v1/score", "query_string": b"", "root_path": "",
            "headers": [(b"content-type", b"application/json")], "http_version": "1.1", "scheme": "http",
        }  # fmt: skip

        async def receive():
            return messages.pop(0)

        async def send(message):
            sent.append(message)

        await client._transport.app(scope, receive, send)
        units, in_flight = service.rewards["odd"].batcher.units, service.in_flight
        await busy
        return sent[0]["status"], units, in_flight

    assert run(test) == (499, 0, 1)


def test_draining_refuses_what_is_new():
    async def test(client, service):
        service.draining = True
        paths = ("/health", "/ready", "/metrics", "/v1/rewards")
        return [(await client.get(path)).status_code for path in paths]

    assert run(test) == [200, 503, 200, 503]


def test_several_rewards_must_be_named():
    answer = post({"items": [ITEM]}, rewards={"odd": OnDemand(), "longer": Longer()})
    assert answer.status_code == 422
    assert "odd, longer" in answer.json()["detail"]


def test_one_request_has_one_fault_that_is_its_own():
    """A reward that refuses the input of one request (a rule that asks for a column) does not refuse its neighbours'."""
    rule = Resolver(lambda: None).resolve(f"{__file__.replace('test_app', 'some_rules')}:wants_topic")

    async def test(client, _service):
        bodies = [{"items": [{**ITEM, "extras": extras}]} for extras in ({"topic": "x"}, {}, {"topic": "y"})]
        answers = await asyncio.gather(*(client.post("/v1/score", json=body) for body in bodies))
        return [answer.status_code for answer in answers], answers[1].json()["detail"]

    codes, detail = run(test, rewards={"rule": rule})
    assert codes == [200, 422, 200]
    assert "asks for 'topic'" in detail


def test_the_access_log_holds_texts_only_where_that_was_asked_for(caplog):
    logging.getLogger("plaudit.serve.access").propagate = True
    with caplog.at_level(logging.INFO, "plaudit.serve.access"):
        post({"items": [{"prompt": "p", "response": "kept private"}]})
        quiet = caplog.text
        post({"items": [{"prompt": "p", "response": "kept private"}]}, log_texts=True)
    assert "kept private" not in quiet
    assert '"statuses": {"ok": 1}' in quiet
    assert "kept private" in caplog.text


def test_verdicts_come_where_they_are_wanted():
    bodies = [{"items": [{"prompt": "p", "response": "raise"}], "verdicts": wanted} for wanted in (False, True)]
    (quiet,), (said,) = (post(body).json()["items"] for body in bodies)
    assert "verdicts" not in quiet
    assert said["verdicts"][0]["status"] == "failed"
    assert quiet["detail"] == said["detail"] == "RuntimeError: as asked"
