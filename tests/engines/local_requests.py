"""Requests for tests of the local engine, and the same computed by a plain transformers model."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from plaudit.engines.local import LocalEngine
from plaudit.types import Request


def chat(text: str, prefix: str = "") -> Request:
    return Request(({"role": "system", "content": "You judge."}, {"role": "user", "content": text}), prefix)


def requests(count: int = 9) -> list[Request]:
    mixed = [chat("Is the answer right? " * (1 + number % 4) + str(number), "Answer:" * (number % 2)) for number in range(count)]
    return [*mixed, Request("What is two plus two? The sum is")]


@lru_cache
def load_plainly(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder)


def plain_model(engine: LocalEngine) -> tuple[Any, Any]:
    """Another copy of the engine's model and tokenizer, loaded without plaudit."""
    return load_plainly(engine.folder)


def plain_log_probs(engine: LocalEngine, text: str, then: str = "") -> torch.Tensor:
    """[T, V] of one text, alone, through the model's own forward pass; the prompt is rendered by hand."""
    model, tokenizer = plain_model(engine)
    ids = tokenizer.encode(text, add_special_tokens=False) + tokenizer.encode(then, add_special_tokens=False)
    with torch.no_grad():
        return torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), dim=-1)


def by_hand(request: Request) -> str:
    if isinstance(request.messages, str):
        return request.messages + request.prefix
    turns = [f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in request.messages]
    return "".join(turns) + "<|im_start|>assistant\n" + request.prefix
