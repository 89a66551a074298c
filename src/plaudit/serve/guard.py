"""What stands before the endpoints: tokens, sizes, times, the refusal of new work while draining, and the access log."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from datetime import UTC, datetime
from typing import Any

from plaudit.serve.service import PAUSE, Service
from plaudit.serve.settings import Refused

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = frozenset({"/health", "/ready"})
"""For load balancers, which have no token; they say nothing about rewards or texts."""
ALWAYS = OPEN_PATHS | {"/metrics"}
"""Answered while draining too."""
NOTES = "plaudit.notes"
"""Where in the ASGI scope endpoints leave what the access log should say."""

access = logging.getLogger("plaudit.serve.access")


class Guard:
    """ASGI middleware. tokens: any of them opens; none: everybody may ask. log_texts: the access log holds request bodies."""

    def __init__(self, app: App, service: Service, *, tokens: Sequence[str] = (), log_texts: bool = False) -> None:
        self._app, self._service, self._log_texts = app, service, log_texts
        self._tokens = [token.encode() for token in tokens]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        notes: dict[str, Any] = {}
        scope[NOTES] = notes
        start, code = time.perf_counter(), 0
        counted = scope["path"] not in ALWAYS
        body = b""

        async def sending(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        try:
            self._admit(scope)
            if counted:
                self._service.in_flight += 1
            try:
                body = await self._body(scope, receive)
                _check_unicode(body)
                await self._app(scope, _replay(body, receive), sending)
            finally:
                if counted:
                    self._service.in_flight -= 1
        except Refused as refused:
            await _answer(sending, refused)
        finally:
            self._log(scope, code, time.perf_counter() - start, body, notes)

    def _admit(self, scope: Scope) -> None:
        """Raise Refused where the request must not go on: 401 without a token, 503 while draining."""
        path = scope["path"]
        if self._tokens and path not in OPEN_PATHS and not self._knows(_header(scope, b"authorization")):
            raise Refused(401, "this service wants the header 'Authorization: Bearer TOKEN' with a token that it knows")
        if self._service.draining and path not in ALWAYS:
            raise Refused(503, "the service is shutting down", retry_after=PAUSE)

    def _knows(self, header: bytes) -> bool:
        """Whether the header holds one of the tokens. The time it takes says nothing about them.

        As a bearer token, or as the password of Basic: trainers whose clients send no header of the user's have only an
        address to put it into (http://ANY:TOKEN@HOST:PORT/get_reward).
        """
        scheme, _, given = header.partition(b" ")
        given = given.strip()
        if scheme.lower() == b"basic":
            try:
                given = base64.b64decode(given, validate=True).partition(b":")[2]
            except ValueError:
                return False
        same = [hmac.compare_digest(given, token) for token in self._tokens]
        return scheme.lower() in (b"bearer", b"basic") and any(same)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body. Raises Refused: 413 as soon as it is too large, 408 when it comes too slowly."""
        limits = self._service.limits
        declared = _header(scope, b"content-length")
        too_large = Refused(413, f"the body is larger than the {limits.max_body} bytes that are allowed")
        if declared.isdigit() and int(declared) > limits.max_body:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(limits.read_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refused(400, "the body ended before its end")
                    body += message.get("body", b"")
                    if len(body) > limits.max_body:
                        raise too_large
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise Refused(408, f"the body did not arrive within {limits.read_seconds:g} s") from None

    def _log(self, scope: Scope, code: int, seconds: float, body: bytes, notes: dict[str, Any]) -> None:
        route = getattr(scope.get("route"), "path", None) or "other"
        self._service.metrics.requests.labels(route, str(code)).inc()
        self._service.metrics.seconds.labels(route).observe(seconds)
        if route in ALWAYS:
            return
        record = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "client": (scope.get("client") or ("",))[0],
            "method": scope["method"],
            "path": scope["path"],
            "code": code,
            "ms": round(seconds * 1000, 2),
            "bytes": len(body),
            **notes,
        }
        if self._log_texts and body:
            record["body"] = body.decode("utf-8", "replace")
        access.info(json.dumps(record))


def _check_unicode(body: bytes) -> None:
    """Raise Refused (422) where a JSON body holds half a surrogate pair: no text has it, and no answer could quote it."""
    if b"\\ud" not in body and b"\\uD" not in body:
        return
    try:
        json.dumps(json.loads(body), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Refused(422, "a text of this body holds half a surrogate pair (\\ud800 to \\udfff), which is no Unicode") from None
    except (ValueError, RecursionError):
        pass  # the endpoint says what is wrong


def _header(scope: Scope, name: bytes) -> bytes:
    return next((value for key, value in scope["headers"] if key == name), b"")


def _replay(body: bytes, receive: Receive) -> Receive:
    """Gives the body once; what comes after it is the client hanging up."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay


def problem_headers(refused: Refused) -> dict[str, str]:
    """Headers of a refusal."""
    headers = {} if refused.retry_after is None else {"Retry-After": str(refused.retry_after)}
    if refused.code == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if refused.code in (408, 413):
        headers["Connection"] = "close"  # the rest of the body is not read
    return headers


async def _answer(send: Send, refused: Refused) -> None:
    body = json.dumps({"detail": refused.sentence}).encode()
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), **problem_headers(refused)}
    headers = [(name.lower().encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": refused.code, "headers": headers})
    await send({"type": "http.response.body", "body": body})
