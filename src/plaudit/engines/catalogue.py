"""Engines by name: what `--engine` accepts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from plaudit.engines.precision import Precision
from plaudit.types import Engine, SpecError

DEFAULT = "smollm2"


@dataclass(frozen=True)
class EngineOptions:
    """Settings that engines share; each reads those that concern it."""

    device: str | None = None
    """cpu, cuda, cuda:1 ...; by default a GPU where there is one."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Number format of a local model; by default float32, for vLLM that in which the model is stored."""
    precision: Precision = "full"
    """Matrix products of a local model on a CPU: full (that of its number format), or bfloat16: faster, less exact."""
    threads: int | None = None
    """CPU threads of a local model."""
    context: int | None = None
    """Longest input of a local model, in tokens; by default what the model was made for (llama.cpp: at most 8,192)."""
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


def open_engine(
    spec: str = DEFAULT, options: EngineOptions | None = None, progress: Callable[[str], None] | None = None
) -> Engine:
    """The engine that a text names. No weights are loaded yet; the embedded model is unpacked, once, if it is not there.

    `smollm2`: the embedded SmolLM2-135M-Instruct. A folder, or `OWNER/NAME` (hub id): a transformers causal LM.
    `llama-cpp:FILE.gguf`: through llama.cpp; `llama-cpp:smollm2` is the embedded model's 4-bit file. `vllm:FOLDER` or
    `vllm:OWNER/NAME`: through vLLM in this process. `openai:MODEL`: the OpenAI API ($OPENAI_API_KEY).
    `http(s)://HOST/v1#MODEL`: any OpenAI-compatible server, those of vLLM and llama.cpp among them.
    progress: told, in a sentence, what takes long. Raises SpecError if the text names none of these.
    """
    options = options or EngineOptions()
    if spec.startswith(("openai:", "http://", "https://")):
        return _open_api(spec, options)
    if spec.startswith(("llama-cpp:", "vllm:")):
        kind, _, named = spec.partition(":")
        return (_open_llama_cpp if kind == "llama-cpp" else _open_vllm)(named, options, progress)
    model: str | Path
    if spec == DEFAULT:
        from plaudit.engines.default_model import ensure_default_model

        model = ensure_default_model(progress)
    elif Path(spec).is_dir():
        model = Path(spec)
    elif Path(spec).suffix == ".gguf":
        raise SpecError(f"'{spec}' is a GGUF file; expected llama-cpp:{spec}, or the folder that holds it")
    elif spec.count("/") == 1 and not spec.startswith(("/", ".")):
        model = spec
    else:
        raise SpecError(
            f"unknown engine '{spec}'; expected '{DEFAULT}', a model folder, OWNER/NAME of a hub model, llama-cpp:FILE.gguf, "
            "vllm:MODEL, openai:MODEL, or http://HOST:PORT/v1#MODEL"
        )
    from plaudit.engines.local import LocalEngine

    return LocalEngine(
        model,
        device=options.device,
        dtype=options.dtype or "float32",
        precision=options.precision,
        threads=options.threads,
        max_length=options.context,
    )


def _open_llama_cpp(named: str, options: EngineOptions, progress: Callable[[str], None] | None) -> Engine:
    from plaudit.engines.llama_cpp import LlamaCppEngine

    path = Path(named)
    if named == DEFAULT:
        from plaudit.engines.default_model import ensure_default_gguf

        path = ensure_default_gguf(progress)
    elif not path.is_file():
        raise SpecError(f"the engine 'llama-cpp:{named}' names no file; expected llama-cpp:FILE.gguf or llama-cpp:{DEFAULT}")
    return LlamaCppEngine(path, context=options.context, threads=options.threads)


def _open_vllm(named: str, options: EngineOptions, progress: Callable[[str], None] | None) -> Engine:
    from plaudit.engines.vllm import VLLMEngine

    model: str | Path = named
    if named == DEFAULT:
        from plaudit.engines.default_model import ensure_default_model

        model = ensure_default_model(progress)
    elif Path(named).is_dir():
        model = Path(named)
    elif named.count("/") != 1 or named.startswith(("/", ".")):
        raise SpecError(f"the engine 'vllm:{named}' names no model; expected vllm:FOLDER, vllm:OWNER/NAME or vllm:{DEFAULT}")
    return VLLMEngine(model, dtype=options.dtype, max_length=options.context)


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
