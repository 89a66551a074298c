"""Tiny random language models with a real byte-level tokenizer, saved as folders that transformers can load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + CHATML
DROPS_SYSTEM = "{% if messages[0]['role'] == 'system' %}{% set messages = messages[1:] %}{% endif %}" + CHATML
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
WORDS = (
    "Is the answer right? Yes, the answer is right. No, the answer is wrong. yes no Yes No A B tie 1 2 3 4 5 10 "
    "user assistant system What is two plus two? The sum is four. Judge the response below and say yes or no. "
)


def tiny_tokenizer(template: str | None = CHATML) -> Any:
    """Byte-level BPE of 400 tokens, digits apart, as SmolLM2's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([WORDS] * 20, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    if template is not None:
        fast.chat_template = template
    return fast


def tiny_config(family: str, vocabulary: int, context: int) -> Any:
    """Two layers, width 32; large random weights, so that different inputs give clearly different outputs."""
    from transformers import Gemma2Config, GPT2Config, LlamaConfig, Qwen2Config

    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "initializer_range": 0.25}
    if family == "gpt2":
        return GPT2Config(vocab_size=vocabulary, n_positions=context, n_embd=32, n_layer=2, n_head=4, **ends)
    shared = {
        "vocab_size": vocabulary,
        "max_position_embeddings": context,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        **ends,
    }
    if family == "gemma2":  # caps its logits after the head
        return Gemma2Config(head_dim=8, sliding_window=4096, final_logit_softcapping=5.0, **shared)
    return {"llama": LlamaConfig, "qwen2": Qwen2Config}[family](**shared)


def save_tiny_model(
    folder: Path, family: str = "llama", *, context: int = 256, template: str | None = CHATML, seed: int = 0
) -> Path:
    """Write a tiny model of the family to `folder`, and return it."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = tiny_tokenizer(template)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(tiny_config(family, len(tokenizer), context), dtype=torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_tiny_gguf(folder: Path, target: Path) -> Path:
    """The tiny Llama of `save_tiny_model` as a float32 GGUF file, tokenizer and chat template included."""
    import json

    import gguf
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(str(target), "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(groups)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_vocab_size(config["vocab_size"])
    _add_tiny_tokenizer(writer, tokenizer, (folder / "chat_template.jinja").read_text())
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for name, weight in load_file(folder / "model.safetensors").items():
        for ending, count in (("q_proj.weight", heads), ("k_proj.weight", groups)):
            if name.endswith(ending):  # llama.cpp turns neighbouring numbers, transformers the two halves
                half = weight.reshape(count, 2, weight.shape[0] // count // 2, weight.shape[1])
                weight = half.swapaxes(1, 2).reshape(weight.shape).copy()
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def _add_tiny_tokenizer(writer: Any, tokenizer: dict[str, Any], template: str) -> None:
    import gguf

    vocabulary = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])
    kinds = gguf.TokenType
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")  # digits apart, then GPT-2's words
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([kinds.CONTROL if token in SPECIAL else kinds.NORMAL for token, _ in vocabulary])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(template)
