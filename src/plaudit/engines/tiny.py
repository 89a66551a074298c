"""Causal models small enough to be trained from nothing on a laptop, with one token a character."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

BEGIN, END, UNKNOWN = "<begin>", "<end>", "<unknown>"


def character_tokenizer(characters: str, marks: Sequence[str] = ()) -> Any:
    """A transformers tokenizer of one token a character; every text begins with `<begin>` and a finished one ends with `<end>`.

    marks: further special tokens, after the characters; a text that contains one reads as that token. Other characters become
    `<unknown>`. Raises ValueError where a character is given twice or there is none.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    if not characters or len(set(characters)) != len(characters):
        raise ValueError(f"an alphabet needs at least one character, and each once: {characters!r}")
    special = (BEGIN, END, UNKNOWN)
    vocabulary = {token: number for number, token in enumerate((*special, *characters, *marks))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[(BEGIN, vocabulary[BEGIN])])
    if marks:
        tokenizer.add_special_tokens(list(marks))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BEGIN, eos_token=END, pad_token=END, unk_token=UNKNOWN, model_max_length=10**9
    )


def word_tokenizer(words: Sequence[str], marks: Sequence[str] = ()) -> Any:
    """A transformers tokenizer of one token a word, with or without the space before it; every text begins with `<begin>`.

    marks: tokens that are no words: single characters, tags such as `<r>`, numbers with a full stop such as `1.` and ` 1.`.
    What is read is written again as it was, unless a word or character is unknown (`<unknown>`). Raises ValueError where one is
    given twice.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokens = (BEGIN, END, UNKNOWN, *marks, *words, *(f" {word}" for word in words))
    if len(set(tokens)) != len(tokens):
        raise ValueError("a word or mark is given twice")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    pattern = Regex(r"</?\w+>| ?\d+\.| ?\w+|[\s\S]")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern, behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[(BEGIN, vocabulary[BEGIN])])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BEGIN, eos_token=END, pad_token=END, unk_token=UNKNOWN, model_max_length=10**9
    )


def tiny_causal_model(
    tokenizer: Any,
    *,
    layers: int,
    width: int,
    heads: int,
    context: int,
    dtype: str = "float32",
    seed: int = 0,
    deviation: float = 0.02,
) -> Any:
    """A random Llama decoder for a tokenizer: `layers` of `width` with `heads` heads, a feed-forward of 4 times the width.

    Head and embeddings are apart. The seed decides all weights; torch's global generator stays as it was. deviation: of the
    initial weights; the default is that of large models, and narrow ones learn sums several times faster from 0.06.
    """
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=context,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
        initializer_range=deviation,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
