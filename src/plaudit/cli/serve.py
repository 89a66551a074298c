"""`plaudit serve`: rewards over HTTP."""

from __future__ import annotations

import asyncio
import math
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from plaudit.cli.common import Engine, EngineArguments, notice, open_store, out
from plaudit.engines.catalogue import EngineOptions
from plaudit.serve.settings import Limits
from plaudit.types import UserError
from plaudit.types.paths import cache_dir

if TYPE_CHECKING:
    import socket

    from plaudit.serve.service import Service

TOKEN_VARIABLE = "PLAUDIT_TOKEN"


@dataclass
class Serve:
    """Serve rewards over HTTP: /v1/score, /v1/compare, /v1/rank, /v1/rewards, /health, /ready, /metrics, /docs."""

    rewards: Annotated[list[str], tyro.conf.Positional, tyro.conf.arg(metavar="REWARD...")]
    """What `plaudit judge --reward` takes; NAME=REWARD serves it under another name."""
    host: str = "127.0.0.1"
    """Address to listen on. Other machines can only reach addresses that are not 127.0.0.1; those need a token."""
    port: int = 8080
    """0 takes a free one."""
    token: tuple[str, ...] = ()
    """Bearer tokens, any of which opens the service. Better kept out of the process list: --token-file or $PLAUDIT_TOKEN."""
    token_file: Path | None = None
    """A file with one token a line."""
    no_token: bool = False
    """Let everybody who can reach the address ask."""
    engine: Engine = field(default_factory=EngineArguments)
    store: str | None = None
    """Where verdicts are kept: a path, a database URL, or none. Default: $PLAUDIT_STORE or the cache folder."""
    journal: Path | None = None
    """Folder where verdicts wait while the store is gone. Default: in the cache folder; with a SQLite store, in memory."""
    unscored: float | None = None
    """What endpoints that know only numbers (docs/serve-compat.md) send where there is none; by default they refuse."""
    limits: Annotated[Limits, tyro.conf.arg(name="")] = field(default_factory=Limits)
    log_texts: bool = False
    """Write request bodies, with the users' texts, into the access log."""

    def run(self) -> int:
        """Exit code: 0 stopped with everything answered, 1 something accepted was cut off."""
        specs = names_of(self.rewards)
        tokens = self.tokens()
        _check_limits(self.limits)
        if self.unscored is not None and not math.isfinite(self.unscored):
            raise UserError(f"--unscored must be a finite number, not {self.unscored}")
        try:
            import fastapi  # noqa: F401
            import prometheus_client  # noqa: F401
            import uvicorn  # noqa: F401
        except ImportError as error:
            raise UserError(f"serving needs {error.name}: pip install 'plaudit[serve]'") from error
        from plaudit.serve.server import listen, log_to_stderr, serve
        from plaudit.serve.service import Service

        url, journal = self.store_and_journal()
        bound = listen(self.host, self.port)
        log_to_stderr()
        with bound:
            service = Service(
                specs, engine=self.engine.engine, options=self.options(), store=url, journal=journal, limits=self.limits
            )
            return asyncio.run(
                serve(
                    service,
                    bound,
                    tokens=tokens,
                    log_texts=self.log_texts,
                    unscored=self.unscored,
                    started=lambda: announce(service, bound, with_token=bool(tokens)),
                )
            )

    def options(self) -> EngineOptions:
        """The engine's options alone: workers need none of the command line's modules."""
        return EngineOptions(**{option.name: getattr(self.engine, option.name) for option in fields(EngineOptions)})

    def store_and_journal(self) -> tuple[str | None, Path | None]:
        """The store's URL, None for none, and where verdicts wait for it. Raises UserError if it cannot be opened."""
        store = open_store(self.store)
        if store is None:
            return None, None
        store.close()
        return store.url, self.journal or (None if store.is_sqlite else cache_dir() / "journals")

    def tokens(self) -> list[str]:
        """All tokens. Raises UserError where there is none and the address can be reached from elsewhere."""
        from plaudit.serve.server import is_loopback

        found = [*self.token, *os.environ.get(TOKEN_VARIABLE, "").split()]
        if self.token_file is not None:
            try:
                lines = self.token_file.read_text(encoding="utf-8").split()
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"--token-file {self.token_file} cannot be read: {error}") from error
            if not lines:
                raise UserError(f"--token-file {self.token_file} holds no token")
            found += lines
        if any(not token or not token.isascii() or token.split() != [token] for token in found):
            raise UserError("a token is ASCII text without spaces, and not empty")
        if found and self.no_token:
            raise UserError("--no-token contradicts the tokens that are given")
        if not found and not self.no_token and not is_loopback(self.host):
            raise UserError(
                f"{self.host} can be reached from other machines: give --token, --token-file or ${TOKEN_VARIABLE}, "
                "or say --no-token"
            )
        return found


def names_of(given: list[str]) -> dict[str, str]:
    """Served name -> spec. Raises UserError where there is none, or a name is given twice."""
    if not given:
        raise UserError("there is no reward to serve; name one or more, such as: plaudit serve length yes-token")
    specs: dict[str, str] = {}
    for text in given:
        name, equals, spec = text.partition("=")
        if not equals or text.lstrip().startswith("{"):
            name, spec = text, text
        if not name or not spec or len(name) > 200:
            raise UserError(f"'{text}' is no reward to serve; expected REWARD or NAME=REWARD")
        if name in specs:
            raise UserError(f"two rewards would be called '{name}'; give one a name of its own: NAME={spec}")
        specs[name] = spec
    return specs


def _check_limits(limits: Limits) -> None:
    for name, value in vars(limits).items():
        if value is not None and (value < 0 if name in ("max_wait_ms", "drain_seconds") else value <= 0):
            raise UserError(f"--{name.replace('_', '-')} must be positive, not {value:g}")


def announce(service: Service, bound: socket.socket, *, with_token: bool) -> None:
    """Say where the service is, what it serves, and how to call it."""
    from plaudit.serve.server import address

    url = address(bound)
    out.print(f"plaudit serves {len(service.rewards)} reward(s) on {url} (docs: {url}/docs)", highlight=False, soft_wrap=True)
    for name, served in service.rewards.items():
        out.print(
            f"  {name}  {served.info.native}  {served.info.fingerprint[:12]}", highlight=False, markup=False, soft_wrap=True
        )
    first, info = next((name, served.info) for name, served in service.rewards.items())
    path, item = _example(info.native)
    token = ' -H "Authorization: Bearer $PLAUDIT_TOKEN"' if with_token else ""
    body = f'{{"reward": "{first}", "items": [{item}]}}'
    call = f"curl {url}{path}{token} -H 'Content-Type: application/json' -d '{body}'"
    out.print(call, highlight=False, markup=False, soft_wrap=True)
    if not with_token:
        notice("no token: everybody who can reach this address may ask")
    out.file.flush()


def _example(native: str) -> tuple[str, str]:
    if native == "score":
        return "/v1/score", '{"prompt": "What is 2 + 2?", "response": "4"}'
    return "/v1/compare", '{"prompt": "What is 2 + 2?", "first": "4", "second": "5"}'
