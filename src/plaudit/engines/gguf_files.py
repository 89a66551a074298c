"""GGUF files as transformers models and tokenizers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from plaudit.engines.quiet import without_progress_bars
from plaudit.types import EngineError


def load_gguf_model(path: Path) -> Any:
    """The causal language model of a GGUF file with its weights turned back into float32 numbers.

    transformers reads the file; its own `from_pretrained(gguf_file=...)` would do the same, but asks for accelerate.
    Raises EngineError if weights are missing, ValueError if the architecture is not supported.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    config = AutoConfig.from_pretrained(str(path.parent), gguf_file=path.name, local_files_only=True)
    # the skeleton is only asked for its parameter names
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(config)
    with without_progress_bars():
        read = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=skeleton, torch_dtype=torch.float32)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    missing = model.load_state_dict(read["tensors"], strict=False).missing_keys
    model.tie_weights()
    tied = set(model.all_tied_weights_keys)
    if lacking := [name for name in missing if name not in tied]:
        raise EngineError(f"'{path}' lacks weights of its model: {', '.join(lacking[:3])}")
    return model.eval()


def load_gguf_tokenizer(path: Path) -> Any:
    """The tokenizer of a GGUF file.

    transformers leaves out the pre-tokenizer that `tokenizer.ggml.pre` names. For "smollm" (digits apart, then GPT-2's
    words; llama.cpp, `LLAMA_VOCAB_PRE_TYPE_SMOLLM`) it is put back, since "\\n 5" is split differently without it.
    """
    from gguf import GGUFReader
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name, local_files_only=True)
    field = GGUFReader(str(path)).get_field("tokenizer.ggml.pre")
    if field is not None and field.contents() == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
        )
    return tokenizer
