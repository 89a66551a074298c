"""Tiny random reward models in a folder, with a byte-level tokenizer and a ChatML template."""

from __future__ import annotations

from pathlib import Path

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|end|>"]


def save_tokenizer(folder: Path, *, template: bool = True, pad: str | None = None) -> int:
    """Write a tokenizer over single bytes; returns the vocabulary's size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={sign: index for index, sign in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(SPECIAL)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", pad_token=pad)
    tokenizer.chat_template = TEMPLATE if template else None
    tokenizer.save_pretrained(folder)
    return core.get_vocab_size()


def save_model(
    folder: Path, kind: str, *, labels: int = 1, pad: bool = False, template: bool = True, positions: int = 256
) -> Path:
    """Write a two-layer sequence classifier: kind is llama, qwen2, gpt2 or bert. pad: the config has a padding token (eos)."""
    import torch
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    size = save_tokenizer(folder, template=template, pad="<|end|>" if pad or kind == "bert" else None)
    shared = {
        "vocab_size": size,
        "num_labels": labels,
        "pad_token_id": size - 1 if pad or kind == "bert" else None,
        "eos_token_id": size - 1,
    }
    if kind == "gpt2":
        config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=positions, bos_token_id=size - 1, **shared)
        model = transformers.GPT2ForSequenceClassification
    else:
        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
        family = {"llama": "Llama", "qwen2": "Qwen2", "bert": "Bert"}[kind]
        extra = {} if kind == "bert" else {"num_key_value_heads": 1}
        config = getattr(transformers, f"{family}Config")(max_position_embeddings=positions, **sizes, **extra, **shared)
        model = getattr(transformers, f"{family}ForSequenceClassification")
    torch.manual_seed(7)
    built = model(config)
    for parameter in built.parameters():  # larger than usual, so that a wrongly pooled token shows in the value
        torch.nn.init.normal_(parameter, std=0.3)
    built.save_pretrained(folder)
    return folder
