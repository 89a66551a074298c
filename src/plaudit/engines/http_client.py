"""JSON over HTTP for engines that live behind a server: bounded concurrency, retries with back-off, a hard time limit.

Asynchronous inside, synchronous outside: every client owns one background thread with an event loop and one session whose
connections stay open, so it can be called from any thread and from inside a running event loop.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import threading
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from plaudit.types import EngineError, Status

if TYPE_CHECKING:
    import aiohttp
    from tenacity import AsyncRetrying, RetryCallState

T = TypeVar("T")

RETRIED_CODES = frozenset({408, 409, 429})
"""Besides these, every code from 500 on is tried again. 400, 401, 403, 404 and 422 say that asking again is useless."""

SHOWN_CHARACTERS = 200
"""How much of a server's own message a detail sentence keeps."""


class RequestProblem(Exception):
    """Why one attempt gave no answer.

    status: what the row gets once no attempt is left. retryable: whether asking again may help. retry_after: seconds that
    the server asked to wait.
    """

    def __init__(self, status: Status, detail: str, *, retryable: bool = False, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.retryable, self.retry_after = status, detail, retryable, retry_after


@dataclass(frozen=True)
class Call(Generic[T]):
    """One POST: path below the base URL, JSON-able body (None: a GET), and `read`, which turns the parsed answer into a value.

    `read` raises RequestProblem where the answer is of no use; any other error ends the whole call of `post_all`.
    """

    path: str
    body: Mapping[str, Any] | None
    read: Callable[[Any], T]


class JsonClient:
    """Posts JSON bodies to one server and reads the JSON answers.

    base_url: without a trailing slash. headers: sent with every request. secret: never shown in a message.
    concurrency: most requests in flight at any moment, over all threads that use this client. timeout: seconds of one
    attempt. retries: attempts after the first. backoff: seconds before the first retry, doubled each time up to
    `max_backoff` and spread by a factor of 0.5 to 1.5; a `Retry-After` header of the server is honoured up to `max_wait`.
    seed: of that spread, the only randomness here; it moves waiting times, never results.
    """

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str],
        secret: str = "",
        concurrency: int = 16,
        timeout: float = 60.0,
        retries: int = 5,
        backoff: float = 0.5,
        max_backoff: float = 20.0,
        max_wait: float = 120.0,
        seed: int = 0,
    ) -> None:
        self.base_url, self.concurrency, self.timeout, self.retries = base_url, concurrency, timeout, retries
        self.backoff, self.max_backoff, self.max_wait = backoff, max_backoff, max_wait
        self._headers, self._secret = dict(headers), secret
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: aiohttp.ClientSession | None = None
        self._slots: asyncio.Semaphore | None = None
        self._retrying: AsyncRetrying | None = None
        self._closer: weakref.finalize[Any, JsonClient] | None = None
        self._process = 0
        self._down = False

    def post_all(self, calls: Sequence[Call[T]], on_attempt: Callable[[], None]) -> list[T | RequestProblem]:
        """The answers in the order of the calls; a call that failed gives its RequestProblem.

        on_attempt: called before every attempt, from the background thread; what it raises stops everything and is raised here.
        """
        return self._run(self._post_all(calls, on_attempt))

    def get_code(self, path: str, *, timeout: float = 10.0, tries: int = 3) -> int:
        """Status code of one GET. Raises EngineError, in one sentence, if the server cannot be reached in `tries` tries."""
        return self._run(self._get_code(path, timeout, tries))

    def close(self) -> None:
        """Close connections and end the background thread. The client opens again when it is next used."""
        with self._lock:
            closer, self._closer, self._loop = self._closer, None, None
        if closer is not None:
            closer()

    def redact(self, text: str) -> str:
        """The text without the secret, on one line, shortened."""
        if self._secret:
            text = text.replace(self._secret, "***")
        text = " ".join(text.split())
        return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"

    def __getstate__(self) -> dict[str, Any]:
        fresh = dict.fromkeys(("_loop", "_session", "_slots", "_retrying", "_closer", "_lock"))
        return {**self.__dict__, **fresh}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    # -- the background thread ---------------------------------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._ready_loop())
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C here must also end what is in flight there
            raise

    def _ready_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._process != os.getpid():  # a forked child has no copy of the thread
                loop = asyncio.new_event_loop()
                thread = threading.Thread(target=loop.run_forever, name="plaudit-http", daemon=True)
                thread.start()
                session, self._slots, self._retrying = asyncio.run_coroutine_threadsafe(self._open(), loop).result()
                self._session, self._loop, self._process = session, loop, os.getpid()
                self._closer = weakref.finalize(self, _shut_down, loop, thread, session)
            return self._loop

    async def _open(self) -> tuple[aiohttp.ClientSession, asyncio.Semaphore, AsyncRetrying]:
        import aiohttp
        from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt

        scheme, host = urlsplit(self.base_url).scheme, urlsplit(self.base_url).hostname or ""
        # once: asking per request costs more than the request; a proxy does not reach this machine's own loopback
        proxy = None if host.startswith("127.") or proxy_bypass(host) else getproxies().get(scheme)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),  # the slots below bound it, over all threads
            timeout=aiohttp.ClientTimeout(total=self.timeout),
            headers={**self._headers, "Content-Type": "application/json"},
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=proxy,
        )
        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, RequestProblem) and error.retryable),
            stop=stop_after_attempt(self.retries + 1),
            wait=self._pause,
            reraise=True,
        )
        return session, asyncio.Semaphore(self.concurrency), retrying

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        asked = getattr(error, "retry_after", None) or 0.0
        own: float = min(self.backoff * 2.0 ** (state.attempt_number - 1), self.max_backoff) * (0.5 + self._random.random())
        return max(own, min(asked, self.max_wait))

    # -- requests ----------------------------------------------------------------------------------------------------------

    async def _post_all(self, calls: Sequence[Call[T]], on_attempt: Callable[[], None]) -> list[T | RequestProblem]:
        """A few workers that share one queue cost less than one task a request."""
        results: dict[int, T | RequestProblem] = {}
        queue = iter(enumerate(calls))

        async def worker() -> None:
            for index, call in queue:
                answer = await self._ask(call, on_attempt)
                results[index] = answer

        async with _fail_together() as group:
            for _ in range(min(self.concurrency, len(calls))):
                group.create_task(worker())
        return [results[index] for index in range(len(calls))]

    async def _ask(self, call: Call[T], on_attempt: Callable[[], None]) -> T | RequestProblem:
        data = None if call.body is None else json.dumps(call.body).encode()
        failed: RequestProblem | None = None
        try:
            answer = await self._attempt(call, data, on_attempt)
        except RequestProblem as problem:
            gone = problem.status is Status.UNREACHABLE
            if not problem.retryable or (gone and self._down):  # one row gave up on a dead server: no other waits for it again
                return problem
            failed = problem
        else:
            self._down = False
            return answer

        async def again() -> T:
            nonlocal failed
            if failed is not None:  # the first attempt was made above: most requests never pay for the retry machinery
                first, failed = failed, None
                raise first
            return await self._attempt(call, data, on_attempt)

        assert self._retrying is not None
        try:
            answer = await self._retrying.copy()(again)
        except RequestProblem as problem:
            self._down = problem.status is Status.UNREACHABLE
            return problem
        self._down = False
        return answer

    async def _attempt(self, call: Call[T], data: bytes | None, on_attempt: Callable[[], None]) -> T:
        import aiohttp

        assert self._session is not None
        assert self._slots is not None
        async with self._slots:
            on_attempt()
            try:
                method = "GET" if data is None else "POST"
                async with self._session.request(method, self.base_url + call.path, data=data) as response:
                    body = await response.read()
            except TimeoutError:
                raise RequestProblem(Status.TIMED_OUT, f"no answer within {self.timeout:g} s", retryable=True) from None
            except (aiohttp.ClientError, OSError) as error:
                raise RequestProblem(Status.UNREACHABLE, f"connection failed: {self._say(error)}", retryable=True) from None
        if response.status >= 400:
            raise self._refusal(response.status, response.headers.get("Retry-After"), body)
        try:
            answer = json.loads(body)
        except ValueError:
            raise RequestProblem(Status.FAILED, "the server's answer is not whole JSON", retryable=True) from None
        return call.read(answer)

    def _refusal(self, code: int, retry_after: str | None, body: bytes) -> RequestProblem:
        message, kind = _error_message(body)
        detail = f"the server answered {code}: {self.redact(message) or 'no message'}"
        if code in (400, 413, 422) and _says_too_long(message, kind):
            return RequestProblem(Status.TOO_LONG, detail)
        retryable = (code in RETRIED_CODES or code >= 500) and kind != "insufficient_quota"
        status = Status.TIMED_OUT if code in (408, 504) else Status.FAILED
        return RequestProblem(status, detail, retryable=retryable, retry_after=seconds_to_wait(retry_after))

    def _say(self, error: BaseException) -> str:
        return self.redact(str(error)) or type(error).__name__

    async def _get_code(self, path: str, timeout: float, tries: int) -> int:
        import aiohttp

        assert self._session is not None
        reason = ""
        for attempt in range(tries):
            await asyncio.sleep(0.2 * attempt)
            try:
                limit = aiohttp.ClientTimeout(total=timeout)
                async with self._session.get(self.base_url + path, timeout=limit) as response:
                    return response.status
            except TimeoutError:
                reason = f"no answer within {timeout:g} s"
            except (aiohttp.ClientError, OSError) as error:
                reason = self._say(error)
        raise EngineError(f"the server at {self.base_url} cannot be reached: {reason}")


class _fail_together:  # noqa: N801 - used as a statement
    """An asyncio.TaskGroup that raises the first error itself, not an ExceptionGroup around it."""

    async def __aenter__(self) -> asyncio.TaskGroup:
        self._group = asyncio.TaskGroup()
        return await self._group.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        try:
            await self._group.__aexit__(*error)
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None


def _shut_down(loop: asyncio.AbstractEventLoop, thread: threading.Thread, session: aiohttp.ClientSession) -> None:
    """Runs when a client is closed, collected, or the interpreter ends."""
    if not thread.is_alive():  # after a fork only the parent has the thread
        return
    if threading.current_thread() is thread:  # collected by the garbage collector inside the loop: it cannot wait for itself
        loop.create_task(session.close()).add_done_callback(lambda _: loop.stop())
        return
    asyncio.run_coroutine_threadsafe(session.close(), loop).result(timeout=5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(timeout=5)
    loop.close()


def seconds_to_wait(retry_after: str | None) -> float | None:
    """A `Retry-After` header in seconds (RFC 9110, 10.2.3: a number or a date); None where it is absent or unreadable."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def _error_message(body: bytes) -> tuple[str, str]:
    """(message, code) out of an error body: `{"error": {"message", "code"}}`, `{"message"}`, `{"detail"}` or plain text."""
    text = body.decode("utf-8", "replace")
    try:
        answer = json.loads(text)
    except ValueError:
        return text, ""
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    if isinstance(error, dict):
        message = error.get("message") or error.get("detail") or text
        return str(message), str(error.get("code") or error.get("type") or "")
    return str(error), ""


def _says_too_long(message: str, kind: str) -> bool:
    """OpenAI gives a code; vLLM and llama.cpp say it in words."""
    low = message.lower()
    return kind in ("context_length_exceeded", "exceed_context_size_error") or any(
        words in low for words in ("maximum context length", "context size", "context window", "context_length_exceeded")
    )
