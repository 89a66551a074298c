"""llama.cpp's own server inside this process, by way of xllamacpp, asked over the loopback with a key of its own."""

from __future__ import annotations

import importlib.util
import secrets
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plaudit.engines.gguf_files import GgufFacts
from plaudit.engines.http_client import Call, JsonClient, RequestProblem
from plaudit.types import EngineError, Message, UserError

PACKAGE = "xllamacpp"
LONGEST = 24 * 3600.0
"""Seconds that one answer may take: nothing is lost on the way, so whoever waits for a long text waits."""


@dataclass(frozen=True)
class Settings:
    """How llama.cpp runs a file. context: tokens of each slot. slots: rows at once. threads: None for llama.cpp's choice.

    exact: keys and values in float32 and no flash attention. gpu_layers: on an accelerator, -1 for as many as fit.
    """

    path: Path
    context: int
    slots: int = 1
    threads: int | None = None
    exact: bool = True
    gpu_layers: int = -1


def require_package() -> None:
    """Raise UserError, saying what to install, where xllamacpp is missing."""
    if importlib.util.find_spec(PACKAGE) is None:
        raise UserError(f"llama.cpp engines need {PACKAGE}: pip install 'plaudit[llama-cpp]'")


def _parameters(settings: Settings, key: str) -> Any:
    """What xllamacpp is told."""
    import xllamacpp

    given = xllamacpp.CommonParams()
    given.model.path = str(settings.path)
    given.n_ctx, given.n_parallel = settings.context * settings.slots, settings.slots
    given.kv_unified = False
    if settings.threads is not None:
        given.cpuparams.n_threads = given.cpuparams_batch.n_threads = settings.threads
    if settings.exact:
        given.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        given.cache_type_k = given.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    given.n_gpu_layers = settings.gpu_layers
    given.fit_params = False  # a context that is smaller than asked for would refuse rows in silence
    given.cache_ram_mib = 0  # what a slot holds is enough, since rows come in the order of their texts
    given.prefill_assistant = False  # a turn that has ended is not continued
    given.warmup, given.ui, given.verbosity = False, False, -1
    given.hostnames, given.port, given.api_keys = ["127.0.0.1"], 0, [key]
    return given


class LlamaServer:
    """A running server on a free port of 127.0.0.1; it ends with this object.

    Raises UserError where xllamacpp is missing, EngineError where llama.cpp cannot load the file.
    """

    def __init__(self, settings: Settings) -> None:
        require_package()
        import xllamacpp

        key = secrets.token_hex(16)
        try:
            self._server = xllamacpp.Server(_parameters(settings, key))
        except RuntimeError as error:
            raise EngineError(
                f"llama.cpp cannot load '{settings.path}': it is damaged, of a kind that this llama.cpp does not know, "
                f"or larger than the memory ({error})"
            ) from error
        self.client = JsonClient(
            self._server.listening_address,
            headers={"Authorization": f"Bearer {key}"},
            secret=key,
            concurrency=settings.slots,
            timeout=LONGEST,
            retries=0,
        )
        weakref.finalize(self, self.client.close)

    def ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request. Raises RequestProblem where there is none."""
        answer = self.client.post_all([Call(path, body, _as_object)], lambda: None)[0]
        if isinstance(answer, RequestProblem):
            raise answer
        return answer


def _as_object(answer: Any) -> dict[str, Any]:
    return dict(answer)


class LlamaTokenizer:
    """The tokenizer and chat template inside a GGUF file, as far as `Codec` asks for them; llama.cpp itself reads both."""

    def __init__(self, server: LlamaServer, facts: GgufFacts) -> None:
        self.server = server
        self.bos_token_id, self.unk_token_id, self.pad_token_id = facts.bos, facts.unknown, None
        self.chat_template = "of the file" if facts.has_template else None

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids; control tokens inside the text are read as such. Raises UnicodeEncodeError for lone surrogates."""
        text.encode()
        body = {"content": text, "add_special": add_special_tokens, "parse_special": True}
        return list(self.server.ask("/tokenize", body)["tokens"])

    def apply_chat_template(self, chat: Sequence[Message], **_: Any) -> str:
        """The chat as text, with the turn opened for the assistant. Raises jinja2.TemplateError if the template refuses it."""
        from jinja2 import TemplateError

        for message in chat:
            message["content"].encode()
        try:
            return str(self.server.ask("/apply-template", {"messages": list(chat)})["prompt"])
        except RequestProblem as problem:
            raise TemplateError(problem.detail) from problem
