"""`ScalarRewardModel`: a trained reward model with a scalar head, from a folder or a hub id."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plaudit.engines.batches import pad_right, plan_batches
from plaudit.engines.encoding import Codec
from plaudit.engines.weights import resolve_folder, weights_fingerprint
from plaudit.rewards.base import BaseReward
from plaudit.rewards.features import Features
from plaudit.rewards.learned.rendering import joined, judged_messages
from plaudit.types import Batch, Context, EngineError, Message, Prompt, Scores, SpecError, Status, Verdict
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from torch import Tensor

_DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Encoded:
    """One prompt with its response, as tokens. types: segment numbers, for encoders that read pairs. broken: control tokens."""

    ids: list[int]
    types: list[int] | None = None
    broken: int = 0


class ScalarRewardModel(BaseReward):
    """A raw logit per response from `AutoModelForSequenceClassification` (safetensors only, no remote code).

    The model reads the chat template's rendering of prompt and response; without a template, encoders read (prompt, response)
    as a pair and other models `prompt`, a blank line, `response`. Control tokens in the judged texts are broken up, and the
    verdict says so. Padding never decides a value: rows are padded on the right with the model's own padding token, or, where
    it has none, with a token that does not occur in them, so each row reads as it does alone.

    model: a folder or a hub id. device: None: CUDA where there is one. dtype: of the weights. max_tokens_per_batch: padded
    tokens in one forward pass. label: name or index of the logit, needed where the head has several. max_length: tokens;
    longer rows are TOO_LONG (None: what the model's config says).
    Loading is lazy. Raises SpecError for a wrong label or dtype, EngineError for a model that cannot be loaded.
    """

    name = "scalar"
    batch_size = 64

    def __init__(
        self,
        model: str | Path,
        *,
        device: str | None = None,
        dtype: str = "float32",
        max_tokens_per_batch: int = 4096,
        label: str | int | None = None,
        max_length: int | None = None,
    ) -> None:
        if dtype not in _DTYPES:
            raise SpecError(f"dtype must be {', '.join(_DTYPES)}, not '{dtype}'")
        if max_tokens_per_batch < 1:
            raise SpecError(f"max_tokens_per_batch must be at least 1, not {max_tokens_per_batch}")
        self.model_name = str(model)
        self.name = Path(model).name or str(model)
        self.device, self.dtype, self.max_tokens_per_batch = device, dtype, max_tokens_per_batch
        self.label, self.max_length = label, max_length
        self.settings = {"dtype": dtype, "label": label, "max_length": max_length}
        self._lock = threading.RLock()

    @cached_property
    def folder(self) -> Path:
        """The model's local folder. Raises EngineError if there is none."""
        return resolve_folder(self.model_name)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The model's config.json. Raises EngineError if it cannot be read."""
        try:
            content: dict[str, Any] = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
            return content
        except (OSError, ValueError) as error:
            raise EngineError(f"'{self.folder}' has no readable config.json: {error}") from error

    @cached_property
    def codec(self) -> Codec:
        """The tokenizer."""
        return Codec(self.folder)

    @cached_property
    def column(self) -> int:
        """Which logit is the reward. Raises SpecError if the head has several and `label` names none of them."""
        names = {int(index): str(name) for index, name in (self.config.get("id2label") or {}).items()}
        count = len(names) or int(self.config.get("num_labels", 2))
        if self.label is None:
            if count == 1:
                return 0
            there = ", ".join(names.values()) or f"0 to {count - 1}"
            raise SpecError(f"the reward model '{self.model_name}' has {count} labels ({there}): say which with label=")
        if isinstance(self.label, int) and 0 <= self.label < count:
            return self.label
        for index, name in names.items():
            if name == self.label:
                return index
        raise SpecError(f"the reward model '{self.model_name}' has no label '{self.label}'")

    @cached_property
    def model(self) -> Any:
        """The transformers model, in evaluation mode. Raises EngineError if it cannot be loaded."""
        import torch
        from transformers import AutoModelForSequenceClassification

        from plaudit.engines.quiet import without_progress_bars

        try:
            with without_progress_bars():
                model, report = AutoModelForSequenceClassification.from_pretrained(
                    str(self.folder),
                    dtype=getattr(torch, self.dtype),
                    use_safetensors=True,
                    trust_remote_code=False,
                    local_files_only=True,
                    output_loading_info=True,
                )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise EngineError(f"the reward model in '{self.folder}' cannot be loaded: {reason}") from error
        if report["missing_keys"]:
            missing = ", ".join(sorted(report["missing_keys"])[:3])
            raise EngineError(f"'{self.folder}' is no trained reward model: its weights lack {missing}")
        return model.to(self.device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()

    @property
    def longest(self) -> int | None:
        """The most tokens that a row may have; None: no limit is known."""
        configured = self.config.get("max_position_embeddings") or self.config.get("n_positions")
        limits = [limit for limit in (self.max_length, configured) if limit]
        return int(min(limits)) if limits else None

    def check(self) -> None:
        """Raise EngineError or SpecError if there is no such model, or if it cannot be used as a reward."""
        weights_fingerprint(self.folder)
        _ = self.column

    def fingerprint(self) -> str:
        """Settings, and the content of weights, config, tokenizer and template; reads no weights a second time."""
        return content_key("ScalarRewardModel", self.settings, weights_fingerprint(self.folder))

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:
        """[B] raw logits. Rows: no text -> NOT_APPLICABLE, beyond the context -> TOO_LONG, a failing forward pass -> FAILED."""
        import torch

        column = self.column
        values = torch.full((len(batch),), float("nan"))
        rows, refused = self._encoded(batch)
        verdicts: list[list[Verdict]] = [[refused[row]] if row in refused else [] for row in range(len(batch))]
        order = list(rows)
        for places in plan_batches([len(rows[row].ids) for row in order], self.max_tokens_per_batch):
            chosen = [order[place] for place in places]
            for row, value in zip(chosen, self._logits([rows[row] for row in chosen], column, ctx), strict=True):
                if isinstance(value, str):
                    verdicts[row] = [Verdict(status=Status.FAILED, detail=value[:500])]
                    continue
                values[row] = value
                if rows[row].broken:
                    detail = f"control tokens broken up in the judged text: {rows[row].broken}"
                    verdicts[row] = [Verdict(value=value, detail=detail)]
        status = torch.tensor([said[0].status if said else Status.OK for said in verdicts], dtype=torch.int8)
        return Scores(values, status, verdicts=verdicts if any(verdicts) else None)

    def features(self, batch: Batch) -> Tensor:
        """[B, d] float32 the vector that the head reads; NaN where a row has none."""
        return self.read_features(batch).vectors

    def read_features(self, batch: Batch) -> Features:
        """Features with the statuses that `score` would give. Raises EngineError for a model without a linear head."""
        import torch

        rows, refused = self._encoded(batch)
        status = torch.zeros(len(batch), dtype=torch.int8)
        for row, verdict in refused.items():
            status[row] = int(verdict.status)
        vectors = torch.full((len(batch), self._head().in_features), torch.nan)
        order = list(rows)
        for places in plan_batches([len(rows[row].ids) for row in order], self.max_tokens_per_batch):
            chosen = [order[place] for place in places]
            for row, vector in zip(chosen, self._pooled([rows[row] for row in chosen]), strict=True):
                if vector is None:
                    status[row] = int(Status.FAILED)
                else:
                    vectors[row] = vector
        return Features(vectors, status)

    def _encoded(self, batch: Batch) -> tuple[dict[int, Encoded], dict[int, Verdict]]:
        """By row number: the tokens of rows that can be read, and why the others cannot."""
        with self._lock:  # loaded here, so that a model that cannot be used ends the run instead of failing every row
            _ = self.codec.tokenizer, self.codec.control_strings, self.model
        encoded = [self._encode(*texts) for texts in zip(batch.prompts, batch.require_responses(), strict=True)]
        rows = {row: item for row, item in enumerate(encoded) if isinstance(item, Encoded)}
        return rows, {row: item for row, item in enumerate(encoded) if isinstance(item, Verdict)}

    def _encode(self, prompt: Prompt, response: Any) -> Encoded | Verdict:
        try:
            messages, broken = judged_messages(prompt, response, self.codec.control_strings)
            encoded = self._tokens(messages, broken)
        except (TypeError, KeyError) as error:
            return Verdict(status=Status.NOT_APPLICABLE, detail=f"not a text or a chat: {error}")
        except Exception as error:  # a template refuses these roles, or the text is not valid Unicode
            return Verdict(status=Status.FAILED, detail=f"{type(error).__name__}: {error}"[:500])
        if self.longest is not None and len(encoded.ids) > self.longest:
            return Verdict(status=Status.TOO_LONG, detail=f"{len(encoded.ids)} tokens, the model reads {self.longest}")
        return encoded

    def _tokens(self, messages: Sequence[Message], broken: int) -> Encoded:
        tokenizer = self.codec.tokenizer
        if tokenizer.chat_template is not None:
            text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=False)
            return Encoded(tokenizer.encode(text, add_special_tokens=False), None, broken)
        question, answer = joined(messages)
        if tokenizer.sep_token is not None:
            pair = tokenizer(question, answer)
            return Encoded(list(pair["input_ids"]), list(pair["token_type_ids"]) if "token_type_ids" in pair else None, broken)
        return Encoded(list(tokenizer.encode(f"{question}\n\n{answer}")), None, broken)

    def _logits(self, rows: Sequence[Encoded], column: int, ctx: Context | None) -> list[float | str]:
        """The logit of each row, or why it failed; a batch that fails is tried again row by row."""
        try:
            with self._lock:
                values: list[float | str] = list(self._forward(rows)[:, column].float().cpu().tolist())
        except RuntimeError as error:  # out of memory among them
            if len(rows) == 1:
                return [f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"]
            return [value for row in rows for value in self._logits([row], column, ctx)]
        if ctx is not None:
            ctx.budget.spend(network_calls=1, prompt_tokens=sum(len(row.ids) for row in rows))
        return values

    def _head(self) -> Any:
        """The linear layer that makes the logits: the last one outside the backbone. Raises EngineError if there is none."""
        from torch.nn import Linear

        inside = {id(module) for module in self.model.base_model.modules()}
        heads = [module for module in self.model.modules() if isinstance(module, Linear) and id(module) not in inside]
        if not heads:
            raise EngineError(f"the reward model in '{self.folder}' has no linear head to read features from")
        return heads[-1]

    def _pooled(self, rows: Sequence[Encoded]) -> list[Tensor | None]:
        """[d] the head's input for each row, None where the forward pass fails; a batch that fails is tried row by row."""
        import torch

        seen: list[Tensor] = []
        with self._lock:
            hook = self._head().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
            try:
                self._forward(rows)
            except RuntimeError:
                return [None] if len(rows) == 1 else [vector for row in rows for vector in self._pooled([row])]
            finally:
                hook.remove()
        states = seen[-1].float()
        if states.dim() == 3:  # decoders put the head on every token, and take the logit of one
            own_pad = self.model.config.get_text_config().pad_token_id
            states = states[torch.arange(len(rows)), [_pooled_place(row.ids, own_pad) for row in rows]]
        return list(states.cpu())

    def _forward(self, rows: Sequence[Encoded]) -> Tensor:
        """[B, labels] logits of one padded batch."""
        import torch

        model = self.model
        config = model.config.get_text_config()
        own_pad = config.pad_token_id
        pad = own_pad if own_pad is not None else _unused({token for row in rows for token in row.ids}, config.vocab_size)
        widths = [len(row.ids) for row in rows]
        inputs = {
            "input_ids": pad_right([row.ids for row in rows], pad),
            "attention_mask": pad_right([[1] * width for width in widths], 0),
        }
        if rows[0].types is not None:
            inputs["token_type_ids"] = pad_right([row.types or [] for row in rows], 0)
        try:
            # the heads of transformers take the last token that is not this one
            config.pad_token_id = pad
            with torch.inference_mode():
                logits: Tensor = model(**{name: column.to(model.device) for name, column in inputs.items()}).logits
        finally:
            config.pad_token_id = own_pad
        return logits


def _pooled_place(ids: Sequence[int], pad: int | None) -> int:
    """Where the heads of transformers read a row: the last token that is not the model's own padding token."""
    return next((place for place in range(len(ids) - 1, -1, -1) if ids[place] != pad), 0)


def _unused(tokens: set[int], vocabulary: int) -> int:
    """The smallest token id that does not occur. Raises RuntimeError if every one does (the batch is then split)."""
    for token in range(vocabulary):
        if token not in tokens:
            return token
    raise RuntimeError("no token is left for padding")
