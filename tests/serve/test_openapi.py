"""What the OpenAPI description promises: no request ends in a 500, and every status code is a documented one."""

import asyncio
import threading

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings

from plaudit.rewards.catalogue import Resolver
from plaudit.serve.app import create_app
from plaudit.serve.service import Service
from plaudit.serve.settings import Limits
from tests.serve.some_rewards import Longer

schemathesis.checks.load_all_checks()
CHECKS = [
    schemathesis.checks.CHECKS.get_one(name)
    for name in ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
]


@pytest.fixture(scope="module")
def api():
    """A service in an event loop of its own thread, and its description."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def do(work):
        return asyncio.run_coroutine_threadsafe(work, loop).result(30)

    async def start():
        resolver = Resolver(lambda: None)
        rewards = {"length": resolver.resolve("length"), "exact-match": resolver.resolve("exact-match"), "longer": Longer()}
        service = Service(rewards, in_process=True, limits=Limits(max_items=8, queue=4096))
        await service.start()
        await service.load_weights()
        return service

    service = do(start())
    app = create_app(service)
    yield schemathesis.openapi.from_asgi("/openapi.json", _In(app, loop))
    do(service.close())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


class _In:
    """An ASGI application that runs in another thread's loop, where its service lives."""

    def __init__(self, app: FastAPI, loop: asyncio.AbstractEventLoop) -> None:
        self.app, self.loop = app, loop

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        sent = []

        async def whole():
            given = False

            async def take():
                nonlocal given
                if given:
                    await asyncio.sleep(3600)
                given = True
                return {"type": "http.request", "body": body}

            async def put(message):
                sent.append(message)

            await self.app(scope, take, put)

        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(whole(), self.loop))
        for message in sent:
            await send(message)


MODES = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name.lower())
@pytest.mark.parametrize(
    "path", ["/v1/score", "/v1/compare", "/v1/rank", "/get_reward", "/compute_score", "/classify", "/rerank"]
)
def test_every_post_keeps_its_description(api, path, mode):
    codes = set()

    @given(api[path]["POST"].as_strategy(generation_mode=mode))
    @settings(max_examples=20, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    def ask(case):
        if mode is MODES[0]:  # a random name is seldom that of a reward
            _name_the_reward(case, path)
        response = case.call()
        codes.add(response.status_code)
        case.validate_response(response, checks=CHECKS)

    ask()
    assert codes - {200} <= {400, 404, 422, 503}
    if path != "/compute_score":  # it takes one of two sets of fields, which a description of fields cannot say
        assert (200 if mode is MODES[0] else 422) in codes


def _name_the_reward(case, path):
    if path.startswith("/v1/") and "rerank" not in path:
        case.body["reward"] = "length"
    elif path in ("/classify", "/rerank"):
        case.body["model"] = "length"
    else:
        case.query["reward"] = "length"


def test_every_get_keeps_its_description(api):
    for path in ("/health", "/ready", "/metrics", "/v1/rewards"):
        case = api[path]["GET"].Case()
        response = case.call()
        assert response.status_code == 200
        case.validate_response(response, checks=CHECKS)
    assert {path for path in api.raw_schema["paths"] if "post" not in api.raw_schema["paths"][path]} == {
        "/health",
        "/ready",
        "/metrics",
        "/v1/rewards",
    }
