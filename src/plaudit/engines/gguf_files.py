"""GGUF files as transformers models and tokenizers."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from plaudit.engines.quiet import without_progress_bars
from plaudit.engines.weights import file_fingerprint, write_atomically
from plaudit.types import EngineError
from plaudit.types.paths import cache_dir

CONTROL = 3
"""The type of control tokens in `tokenizer.ggml.token_type`."""


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


@dataclass(frozen=True)
class GgufFacts:
    """What a GGUF file says about its model. context: the longest input it was trained on, 0 where it does not say.

    control_strings: texts of the control tokens, sorted. bos, unknown: ids of the tokens, None where there is none.
    """

    context: int
    has_template: bool
    control_strings: tuple[str, ...]
    bos: int | None
    unknown: int | None


def read_facts(path: Path) -> GgufFacts:
    """The facts of a GGUF file, read once (seconds for a large vocabulary) and kept in `cache_dir()` by the file's content.

    Raises EngineError, in one sentence, if the file is not there or is not GGUF.
    """
    kept = cache_dir() / "gguf" / f"{file_fingerprint(path)}.json"
    try:
        facts = json.loads(kept.read_text(encoding="utf-8"))
        return GgufFacts(**{**facts, "control_strings": tuple(facts["control_strings"])})
    except (OSError, ValueError, TypeError, KeyError):
        pass
    found = _read_facts(path)
    with contextlib.suppress(OSError):  # then it is read again the next time
        write_atomically(kept, json.dumps(asdict(found)))
    return found


def _read_facts(path: Path) -> GgufFacts:
    from gguf import GGUFReader

    try:
        reader = GGUFReader(str(path))
    except (ValueError, IndexError, KeyError, OSError) as error:  # a file that is cut off, or something else altogether
        raise EngineError(f"'{path}' cannot be read as a GGUF file: {error}") from error

    def value(name: str) -> Any:
        field = reader.get_field(name)
        return None if field is None else field.contents()

    tokens, kinds = reader.get_field("tokenizer.ggml.tokens"), value("tokenizer.ggml.token_type") or []
    if tokens is None:
        raise EngineError(f"'{path}' holds no tokenizer: it is not a language model")
    marked = [bytes(tokens.parts[tokens.data[number]]).decode() for number, kind in enumerate(kinds) if kind == CONTROL]
    context = value(f"{value('general.architecture')}.context_length")
    return GgufFacts(
        context=int(context or 0),
        has_template=value("tokenizer.chat_template") is not None,
        control_strings=tuple(sorted(set(marked))),
        bos=value("tokenizer.ggml.bos_token_id"),
        unknown=value("tokenizer.ggml.unknown_token_id"),
    )
