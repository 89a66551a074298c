"""The process: a socket, uvicorn, time limits for half-open connections, and a shutdown that finishes what was accepted."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from plaudit.types import EngineError, UserError

if TYPE_CHECKING:
    from uvicorn import Server

    from plaudit.serve.service import Service

log = logging.getLogger("plaudit.serve")


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound; port 0 takes a free one. Raises UserError where it cannot be had."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
    except (OSError, OverflowError) as error:
        raise UserError(f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}") from error
    return found


def address(bound: socket.socket) -> str:
    """The base URL of a bound socket."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address; a name other than localhost may stand for any."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def serve(
    service: Service,
    bound: socket.socket,
    *,
    tokens: Sequence[str] = (),
    log_texts: bool = False,
    unscored: float | None = None,
    started: Callable[[], None] = lambda: None,
) -> int:
    """Run the service until SIGTERM or Ctrl-C; 0: everything accepted was answered, 1: some of it was cut off.

    started: called when the rewards are resolved, before the first request. Raises UserError or EngineError where a reward
    cannot be used.
    """
    import uvicorn

    from plaudit.serve.app import create_app

    await service.start()
    started()
    config = uvicorn.Config(
        create_app(service, tokens=tokens, log_texts=log_texts, unscored=unscored),
        http=_protocol(service.limits.read_seconds),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=max(1, int(service.limits.drain_seconds)),
    )
    server = _draining_server(config, service)
    warming = asyncio.create_task(_warm(service, server))
    try:
        await server.serve(sockets=[bound])
    finally:
        warming.cancel()
        await asyncio.gather(warming, return_exceptions=True)
        lost = await service.close()
    if not warming.cancelled() and (error := warming.exception()) is not None:
        raise error
    if server.cut_off:
        lost.append(f"{server.cut_off} requests were not finished within {service.limits.drain_seconds:g} s and got 503")
    for sentence in lost:
        log.error("%s", sentence)
    return 1 if lost else 0


async def _warm(service: Service, server: Server) -> None:
    try:
        await service.load_weights()
    except (UserError, EngineError):
        server.should_exit = True
        raise


def _draining_server(config: Any, service: Service) -> Any:
    """A uvicorn server that keeps answering while it drains: the socket stays open, so that /ready can say 503."""
    import uvicorn

    class DrainingServer(uvicorn.Server):
        cut_off = 0
        draining: asyncio.Task[None] | None = None

        def handle_exit(self, sig: int, frame: Any) -> None:  # noqa: ARG002  # uvicorn's interface
            if self.draining is not None:  # asked twice: now
                self.should_exit = self.force_exit = True
                return
            # from the main thread, between two byte codes: the loop is woken by uvicorn's own tick
            self.draining = asyncio.get_event_loop().create_task(self.drain())

        async def drain(self) -> None:
            self.cut_off = await service.drain()
            self.should_exit = True

    return DrainingServer(config)


def _protocol(seconds: float) -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol, with a limit on the time between a connection's first byte (or its opening) and whole headers.

    uvicorn limits idle connections only between requests; one that sends a header now and then would stay for ever.
    """
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    class Deadline(AutoHTTPProtocol):  # type: ignore[valid-type,misc]
        waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._busy():
                self._unwatch()
            elif self.waiting is None:
                self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._unwatch()
            super().connection_lost(exc)

        def _busy(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _watch(self) -> None:
            self.waiting = asyncio.get_running_loop().call_later(seconds, self._give_up)

        def _unwatch(self) -> None:
            if self.waiting is not None:
                self.waiting.cancel()
                self.waiting = None

        def _give_up(self) -> None:
            self.waiting = None
            if not self._busy():
                self.transport.abort()

    return Deadline


def log_to_stderr() -> None:
    """Access log lines, one JSON object each, on standard error."""
    logger = logging.getLogger("plaudit.serve.access")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
