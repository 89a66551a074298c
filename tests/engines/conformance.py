"""Every kind of engine that can be opened here, and what each declares that it cannot do."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from plaudit.engines.local import LocalEngine
from plaudit.types import Engine, Request, Status
from tests.engines.tiny import save_tiny_gguf, save_tiny_model

CONTEXT = 256
OPTIONS = [[" Yes", "Yes", "yes"], [" No", "No", "no"]]


@dataclass
class Candidate:
    """An engine under test, and what it declares.

    exact: log-probabilities of every option and of given continuations, whatever the text. seeded: the same seed gives the same
    text. grad: gradients. hidden: last states. tolerance: between log-probabilities that should be equal. again: a fresh engine
    of the same kind, of which nothing may be loaded. other: one whose numbers differ. chats: it has a chat template.
    tokens: of a greedy text.
    """

    engine: Engine
    again: Callable[[], Engine]
    other: Callable[[], Engine]
    exact: bool = True
    seeded: bool = True
    grad: bool = False
    hidden: bool = False
    renders: bool = True
    tolerance: float = 1e-4
    options: list[list[str]] = field(default_factory=lambda: OPTIONS)
    texts: tuple[str, ...] = ("Judge the response", "Is the answer right?", "What is two plus two?")
    unicode: str = "é日 \U0001f600"

    chats: bool = True
    tokens: int = 12

    def request(self, text: str, prefix: str = "") -> Request:
        """A chat; plain text for models without a chat template, where a prefix would get a space before it."""
        return Request(({"role": "user", "content": text},) if self.chats else text, prefix)


Opener = Callable[[Path], Any]


@contextmanager
def local(folder: Path) -> Iterator[Candidate]:
    model = save_tiny_model(folder / "tiny", context=CONTEXT)
    yield Candidate(
        LocalEngine(model, device="cpu"),
        again=lambda: LocalEngine(model, device="cpu"),
        other=lambda: LocalEngine(save_tiny_model(folder / "other", seed=1), device="cpu"),
        grad=True,
        hidden=True,
    )


@contextmanager
def padded(folder: Path) -> Iterator[Candidate]:
    """A model that shared prefixes cannot serve: it takes padded batches and its own logits."""
    model = save_tiny_model(folder / "tiny", "gemma2", context=CONTEXT)
    yield Candidate(
        LocalEngine(model, device="cpu"),
        again=lambda: LocalEngine(model, device="cpu"),
        other=lambda: LocalEngine(model, device="cpu", max_length=99),
        grad=True,
        hidden=True,
    )


def _characters(seed: int = 0) -> Any:
    from plaudit.generators.language import tiny_decoder

    letters = "abcdefghijklmnopqrstuvwxyzJITWYNR ?.:<>|_\n"
    return tiny_decoder(letters, width=16, context=CONTEXT, seed=seed, deviation=0.5)


def _character_settings() -> dict[str, Any]:
    return {"options": [["y", "Y"], ["n", "N"]], "unicode": "naive", "chats": False, "grad": True, "hidden": True}


@contextmanager
def live(folder: Path) -> Iterator[Candidate]:
    """The policy that is trained, as its own judge."""
    from plaudit.generators.language.engine import LiveEngine

    generator = _characters()
    yield Candidate(
        LiveEngine(generator),
        again=lambda: LiveEngine(generator),
        other=lambda: LiveEngine(_characters(1)),
        **_character_settings(),
    )


@contextmanager
def switched(folder: Path) -> Iterator[Candidate]:
    """The same with an adapter beside it that is switched on."""
    import torch

    from plaudit.engines.lora import LoRA
    from plaudit.engines.switched import SwitchedAdapter
    from plaudit.generators.language.engine import LiveEngine

    generator = _characters()
    adapter = SwitchedAdapter(generator.causal_model, LoRA(2, 4.0), seed=5)
    with torch.no_grad():
        for weight in adapter.weights.parameters():
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    plain = LiveEngine(generator)
    with adapter.on():
        yield Candidate(
            plain,
            again=lambda: LiveEngine(generator),
            other=lambda: LiveEngine(_characters(1)),
            **{**_character_settings(), "grad": False},
        )


@contextmanager
def llama_cpp(folder: Path) -> Iterator[Candidate]:
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is not installed: pip install 'plaudit[llama-cpp]'")
    from plaudit.engines.llama_cpp import LlamaCppEngine

    path = save_tiny_gguf(save_tiny_model(folder / "tiny", context=CONTEXT), folder / "tiny.gguf")
    engine = LlamaCppEngine(path, threads=1)
    yield Candidate(
        engine,
        again=lambda: LlamaCppEngine(path, threads=1),
        other=lambda: LlamaCppEngine(path, threads=1, exact=False),
    )
    engine.close()


@contextmanager
def llama_server(folder: Path) -> Iterator[Candidate]:
    """`OpenAIEngine` on llama.cpp's own server, with a real model behind it."""
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is not installed: pip install 'plaudit[llama-cpp]'")
    from plaudit.engines.llama_cpp_server import LlamaServer, Settings
    from plaudit.engines.openai_api import OpenAIEngine

    path = save_tiny_gguf(save_tiny_model(folder / "tiny", context=CONTEXT), folder / "tiny.gguf")
    server = LlamaServer(Settings(path, CONTEXT, threads=1))
    key = server.client._secret
    url = f"{server.client.base_url}/v1"

    def opened(model: str = "tiny") -> Engine:
        return OpenAIEngine(model, base_url=url, api_key=key, concurrency=1, retries=0)

    engine = opened()
    texts = [f"Judge response {number}" for number in range(80)]
    # this server shows no log-probabilities where the likeliest token is a part of a character, as random weights often have it
    shown = engine.next_token([Request(({"role": "user", "content": text},)) for text in texts], OPTIONS).status
    usable = tuple(text for text, status in zip(texts, shown, strict=True) if status is Status.OK)[:3]
    yield Candidate(
        engine, again=opened, other=lambda: opened("another"), exact=False, renders=False, texts=usable, unicode="naïve",
    )  # fmt: skip
    engine.close()  # type: ignore[attr-defined]


@contextmanager
def stub(folder: Path) -> Iterator[Candidate]:
    """`OpenAIEngine` on a server that always answers the same."""
    from plaudit.engines.openai_api import OpenAIEngine
    from tests.engines.stub_server import running_stub

    with running_stub("--text", "The verdict is A.") as running:

        def opened(model: str = "stub") -> OpenAIEngine:
            return OpenAIEngine(model, base_url=running.url, api_key="", retries=0)

        engine = opened()
        yield Candidate(engine, again=opened, other=lambda: opened("another"), exact=False, seeded=False, renders=False)
        engine.close()


@contextmanager
def vllm(folder: Path) -> Iterator[Candidate]:
    import torch

    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vllm is not installed: pip install 'plaudit[vllm]' on a machine with a GPU")
    if not torch.cuda.is_available():
        pytest.skip("vLLM needs a GPU, and there is none")
    from plaudit.engines.vllm import VLLMEngine

    model = save_tiny_model(folder / "tiny", context=CONTEXT)
    settings: dict[str, Any] = {"memory": 0.3, "dtype": "float32", "extra": {"enforce_eager": True}}
    yield Candidate(
        VLLMEngine(model, **settings),
        again=lambda: VLLMEngine(model, **settings),
        other=lambda: VLLMEngine(model, **{**settings, "dtype": "bfloat16"}),
        tolerance=1e-2,
    )


@contextmanager
def embedded(folder: Path) -> Iterator[Candidate]:
    """The embedded model, run by transformers."""
    from plaudit.engines.default_model import ensure_default_model

    model = ensure_default_model()
    yield Candidate(
        LocalEngine(model, device="cpu", max_length=CONTEXT),
        again=lambda: LocalEngine(model, device="cpu", max_length=CONTEXT),
        other=lambda: LocalEngine(model, device="cpu", dtype="bfloat16", max_length=CONTEXT),
        hidden=True,
        tolerance=1e-3,
        tokens=4,
    )


ENGINES: dict[str, Opener] = {
    "local": local,
    "padded": padded,
    "live": live,
    "switched": switched,
    "llama-cpp": llama_cpp,
    "llama-server": llama_server,
    "stub": stub,
    "vllm": vllm,
    "embedded": embedded,
}
