"""Tiny decoders as generators (`plaudit.engines.tiny`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plaudit.engines.tiny import BEGIN, END, UNKNOWN, character_tokenizer, tiny_causal_model
from plaudit.generators.language.generator import LanguageGenerator

__all__ = ["BEGIN", "END", "UNKNOWN", "character_tokenizer", "tiny_decoder"]


def tiny_decoder(
    characters: str,
    *,
    layers: int = 2,
    width: int = 64,
    heads: int = 4,
    context: int = 128,
    dtype: str = "float32",
    seed: int = 0,
    deviation: float = 0.02,
    marks: Sequence[str] = (),
    **settings: Any,
) -> LanguageGenerator:
    """A random Llama decoder over characters, as a generator; `settings` go to `LanguageGenerator`.

    layers of `width` with `heads` heads and a feed-forward of 4 times the width; at most `context` characters. Head and
    embeddings are apart. The seed decides all weights, whose standard deviation is `deviation` (0.06 learns sums several times
    faster at such widths). marks: special tokens beyond the characters, such as the delimiters of a contract.
    """
    tokenizer = character_tokenizer(characters, marks)
    size = {"layers": layers, "width": width, "heads": heads, "context": context}
    model = tiny_causal_model(tokenizer, **size, dtype=dtype, seed=seed, deviation=deviation)
    return LanguageGenerator(model, tokenizer=tokenizer, seed=seed, **settings)
