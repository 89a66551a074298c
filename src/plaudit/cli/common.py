"""What commands share: consoles, engine options, opening rewards and the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console

from plaudit.engines.catalogue import DEFAULT, EngineOptions, open_engine
from plaudit.rewards.catalogue import Resolver
from plaudit.store import Store, default_store_url

out = Console()
"""Results."""
err = Console(stderr=True)
"""Everything that is not a result: progress, notices, errors."""


@dataclass(frozen=True)
class EngineArguments(EngineOptions):
    """How the judge's model is run."""

    engine: str = DEFAULT
    """The model behind judges: smollm2 (embedded), a model folder, OWNER/NAME, openai:MODEL, http://HOST:PORT/v1#MODEL,
    llama-cpp:FILE.gguf, or vllm:MODEL (docs/engines.md)."""

    def resolver(self) -> Resolver:
        """Turns reward names into rewards on this engine."""
        return Resolver(lambda: open_engine(self.engine, self, progress=notice))


Engine = Annotated[EngineArguments, tyro.conf.arg(name="")]


def notice(text: str) -> None:
    """Tell the user something that is not a result."""
    err.print(text, style="dim", highlight=False)


def open_store(url: str | None) -> Store | None:
    """The store that a `--store` option names: a URL or path, `none` for no store, None for the default one."""
    return None if url == "none" else Store(url or default_store_url())
