"""What commands share: consoles, engine options, opening rewards and the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro
from rich.console import Console

from plaudit.engines.catalogue import DEFAULT, EngineOptions, open_engine
from plaudit.rewards.base import BaseReward
from plaudit.rewards.catalogue import Resolver
from plaudit.store import Store, default_store_url

out = Console()
"""Results."""
err = Console(stderr=True)
"""Everything that is not a result: progress, notices, errors."""


@dataclass
class EngineArguments:
    """How the judge's model is run."""

    engine: str = DEFAULT
    """The model behind judges: smollm2 (embedded), a model folder, OWNER/NAME, openai:MODEL, or http://HOST:PORT/v1#MODEL."""
    device: str | None = None
    """cpu, cuda, cuda:1 ...; by default a GPU where there is one."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of a local model."""
    threads: int | None = None
    """CPU threads of a local model."""
    concurrency: int = 16
    """Requests in flight at once, for engines over HTTP."""
    timeout: float = 60.0
    """Seconds per request, for engines over HTTP."""
    retries: int = 5
    """How often a failed request is tried again, for engines over HTTP."""
    price_in: float = 0.0
    """Price per million prompt tokens, to estimate and count cost."""
    price_out: float = 0.0
    """Price per million generated tokens."""

    def resolver(self) -> Resolver:
        """Turns reward names into rewards on this engine."""
        options = EngineOptions(
            self.device, self.dtype, self.threads, self.concurrency, self.timeout, self.retries, self.price_in, self.price_out
        )
        return Resolver(lambda: open_engine(self.engine, options, progress=notice))


Engine = Annotated[EngineArguments, tyro.conf.arg(name="")]


def notice(text: str) -> None:
    """Tell the user something that is not a result."""
    err.print(text, style="dim", highlight=False)


def open_store(url: str | None) -> Store | None:
    """The store that a `--store` option names: a URL or path, `none` for no store, None for the default one."""
    return None if url == "none" else Store(url or default_store_url())


def resolve_all(arguments: EngineArguments, specs: list[str]) -> list[BaseReward]:
    """Several rewards on one engine."""
    resolver = arguments.resolver()
    return [resolver.resolve(spec) for spec in specs]
