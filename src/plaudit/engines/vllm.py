"""`VLLMEngine`: a transformers model through vLLM, in this process, on a GPU; prefixes are kept in its paged cache.

Prompts go in as token ids, made by the same codec as the local engine's, so both engines see the same tokens. Written against
vLLM 0.33: `logprob_token_ids` tells the exact log-probability of the answers that a judge may give, however unlikely they are.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from plaudit.engines.folder import FolderEngine
from plaudit.engines.http_client import RequestProblem
from plaudit.engines.options import option_log_probs, plan_options
from plaudit.engines.rows import Row, check_lengths, gather_continuations, gather_options, prepare_rows, row_seeds
from plaudit.engines.weights import weights_fingerprint
from plaudit.types import (
    Budget,
    ContinuationLogProbs,
    EngineError,
    Generation,
    NextToken,
    Request,
    Sampling,
    Status,
    UserError,
)
from plaudit.types.keys import content_key

NUMERICS = "vllm-1"
"""Raised when a change of this engine changes numbers, so that stored verdicts are not mixed with new ones."""
MOST_TOKENS = 128
"""Most `logprob_token_ids` of one request that vLLM takes."""
SEEDS = 2**63


@dataclass
class Asked:
    """One request to vLLM: the number of the row that it is for, the prompt's token ids, and the sampling parameters by name."""

    row: int
    prompt: list[int]
    settings: dict[str, Any]
    before: tuple[int, ...] = ()
    wanted: list[int] = field(default_factory=list)


class VLLMEngine(FolderEngine):
    """A causal language model of transformers, run by vLLM's offline `LLM`.

    model: a folder with safetensors, or a hub id; code from the hub is never run. dtype: None for that in which the model is
    stored. max_length: longest input in tokens, None for the model's own. adapter: folder of a LoRA adapter (peft) that is
    applied to every request. gpus: over which the model is split. memory: share of each GPU's memory that vLLM may take.
    extra: more arguments of `vllm.LLM`, which win over those from here.

    Prefixes are cached. Given continuations (`log_probs`) are read from prompt log-probabilities, for which vLLM computes
    the whole prompt anew. A request always makes one token, so inputs must be one token shorter than the context. Numbers depend
    on which rows run together, as always on GPUs: by some thousandths in bfloat16. Gives no gradients and no hidden states.
    """

    kind = "vllm"
    rows_at_once = 512

    def __init__(
        self,
        model: str | Path,
        *,
        dtype: str | None = None,
        max_length: int | None = None,
        adapter: str | Path | None = None,
        gpus: int = 1,
        memory: float = 0.9,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(model)
        self.dtype, self.gpus, self.memory = dtype, gpus, memory
        self.adapter, self.extra, self._max_length = None if adapter is None else Path(adapter), dict(extra or {}), max_length
        self._loading = threading.RLock()

    @cached_property
    def version(self) -> str:
        """Fingerprint of weights and adapter, vLLM's version, and the settings that change numbers."""
        _require_package()
        adapter = None if self.adapter is None else [weights_fingerprint(self.adapter), self._adapter_config]
        settings = content_key(self.dtype, self._max_length, self.gpus, adapter, self.extra)
        return f"{NUMERICS}:{weights_fingerprint(self.folder)}:vllm-{version('vllm')}:{settings}"

    @cached_property
    def _adapter_config(self) -> dict[str, Any]:
        assert self.adapter is not None
        path = self.adapter / "adapter_config.json"
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise EngineError(f"'{self.adapter}' holds no LoRA adapter (adapter_config.json): {error}") from error

    def check(self) -> None:
        """Raises UserError if vLLM is missing, EngineError if the model or the adapter is."""
        _require_package()
        if not (self.folder / "config.json").is_file():
            raise EngineError(f"model folder '{self.folder}' has no config.json")
        _ = self.version

    @cached_property
    def _ready(self) -> Any:
        self.check()
        from vllm import LLM

        rank = {} if self.adapter is None else {"enable_lora": True, "max_lora_rank": int(self._adapter_config["r"])}
        settings = {
            "model": str(self.folder),
            "dtype": self.dtype or "auto",
            "max_model_len": self._max_length,
            "tensor_parallel_size": self.gpus,
            "gpu_memory_utilization": self.memory,
            "enable_prefix_caching": True,
            "trust_remote_code": False,
            "seed": 0,
            **rank,
            **self.extra,
        }
        try:
            return LLM(**settings)
        except Exception as error:  # no GPU, too little memory, an unknown architecture: each raises its own
            raise EngineError(f"vLLM cannot run the model in '{self.folder}': {_reason(error)}") from error

    @property
    def llm(self) -> Any:
        """vLLM's `LLM` with the model loaded. Raises EngineError if it cannot be loaded."""
        with self._loading:
            return self._ready

    @property
    def max_length(self) -> int:
        """The longest input plus output, in tokens."""
        return int(self.llm.model_config.max_model_len)

    def generate(self, requests: Sequence[Request], how: Sampling, *, budget: Budget | None = None) -> list[Generation]:
        """Continue each request until an end token, a stop string (cut off), `max_tokens`, or the end of the context.

        A row's random numbers are decided by the seed, its own text, and how many equal rows stand before it in the call.
        """
        rows = self._prepare(requests, spare=1)
        made: dict[int, Generation] = {}
        asked: list[Asked] = []
        for number, (row, seed) in enumerate(zip(rows, row_seeds(rows, how.seed), strict=True)):
            room = min(how.max_tokens, self.max_length - len(row.prompt)) if row.status is Status.OK else 0
            if room > 0:
                asked.append(Asked(number, row.prompt, generation_settings(how, seed, room)))
            elif row.status is Status.OK:
                made[number] = Generation("", "truncated", prompt_tokens=len(row.prompt))
        for one, output in self._ask(rows, asked, budget):
            try:
                made[one.row] = generation = read_generation(output, len(one.prompt))
            except RequestProblem as problem:
                rows[one.row].fail(problem.status, problem.detail)
                continue
            if budget is not None:
                budget.spend(completion_tokens=generation.completion_tokens)
        return [
            made.get(number, Generation("", "truncated", row.status, row.detail, len(row.prompt)))
            for number, row in enumerate(rows)
        ]

    def next_token(
        self, requests: Sequence[Request], options: Sequence[Sequence[str]], *, grad: bool = False, budget: Budget | None = None
    ) -> NextToken:
        """[B, K] log-probability of each option right after each request, by the rule of `plaudit.engines.options`.

        Raises NotImplementedError for grad=True, ValueError as `plan_options` does.
        """
        import torch

        _refuse_gradient(grad)
        plan = plan_options(options, self.codec.encode_continuation, self.codec.tokenizer.unk_token_id)
        rows = self._prepare(requests, spare=max(len(tokens) for tokens in plan.sequences))
        asked = [
            Asked(number, [*row.prompt, *before], option_settings(part), before, part)
            for number, row in enumerate(rows)
            if row.status is Status.OK
            for before, wanted in plan.steps.items()
            for part in (wanted[start : start + MOST_TOKENS] for start in range(0, len(wanted), MOST_TOKENS))
        ]
        known: dict[int, dict[tuple[int, ...], dict[int, float]]] = {}
        for one, output in self._ask(rows, asked, budget):
            try:
                known.setdefault(one.row, {}).setdefault(one.before, {}).update(read_options(output, one.wanted))
            except RequestProblem as problem:
                rows[one.row].fail(problem.status, problem.detail)
        found = {
            number: option_log_probs(plan, torch.tensor([plan.chained(steps)]))[0]
            for number, steps in known.items()
            if rows[number].status is Status.OK
        }
        return gather_options(rows, found, len(options))

    def log_probs(
        self, requests: Sequence[Request], continuations: Sequence[str], *, grad: bool = False, budget: Budget | None = None
    ) -> ContinuationLogProbs:
        """Log-probability of one given continuation per request, token by token; an empty one is certain: 0 over no tokens.

        Raises NotImplementedError for grad=True, ValueError if the two lists differ in length.
        """
        import torch

        _refuse_gradient(grad)
        check_lengths(requests, continuations)
        rows = self._prepare(requests, continuations, spare=1)
        usable = [number for number, row in enumerate(rows) if row.status is Status.OK]
        found = {number: torch.empty(0) for number in usable if not rows[number].continuation}
        asked = [Asked(number, rows[number].ids, scoring_settings()) for number in usable if rows[number].continuation]
        for one, output in self._ask(rows, asked, budget):
            row = rows[one.row]
            try:
                found[one.row] = torch.tensor(read_continuation(output, len(row.prompt), row.continuation))
            except RequestProblem as problem:
                row.fail(problem.status, problem.detail)
        return gather_continuations(rows, found)

    def _prepare(self, requests: Sequence[Request], continuations: Sequence[str] | None = None, spare: int = 0) -> list[Row]:
        if not requests:
            return []
        vocabulary = int(self.llm.model_config.get_vocab_size())
        return prepare_rows(self.codec, requests, continuations, context=self.max_length, vocabulary=vocabulary, spare=spare)

    def _ask(self, rows: Sequence[Row], asked: Sequence[Asked], budget: Budget | None) -> list[tuple[Asked, Any]]:
        """vLLM's output of each request that it answers; if it refuses a batch, its requests are tried one by one."""
        if not asked:
            return []
        if budget is not None:
            budget.spend(network_calls=len(asked), prompt_tokens=sum(len(one.prompt) for one in asked))
        pending, answered = [list(asked)], []
        while pending:
            batch = pending.pop(0)
            try:
                answered += list(zip(batch, self._generate(batch), strict=True))
            except Exception as error:
                if any(kind.__name__ == "EngineDeadError" for kind in type(error).__mro__):
                    raise EngineError(f"vLLM has ended: {_reason(error)}") from error
                if len(batch) > 1:
                    pending = [[one] for one in batch] + pending
                else:
                    rows[batch[0].row].fail(Status.FAILED, f"vLLM failed on this row: {_reason(error)}")
        if budget is not None:
            computed = sum(len(one.prompt) - (output.num_cached_tokens or 0) for one, output in answered)
            budget.spend(computed_tokens=computed)
        return answered

    def _generate(self, batch: Sequence[Asked]) -> list[Any]:
        from vllm import SamplingParams
        from vllm.lora.request import LoRARequest

        adapter = None if self.adapter is None else LoRARequest("adapter", 1, str(self.adapter.resolve()))
        with self._loading:  # the offline LLM is not made for several threads
            return list(
                self.llm.generate(
                    [{"prompt_token_ids": one.prompt} for one in batch],
                    [SamplingParams(**one.settings) for one in batch],
                    use_tqdm=False,
                    lora_request=adapter,
                )
            )


def generation_settings(how: Sampling, seed: int, room: int) -> dict[str, Any]:
    """Arguments of `SamplingParams` for a text. seed: of this row. room: most tokens."""
    settings: dict[str, Any] = {"max_tokens": room, "temperature": how.temperature, "top_p": how.top_p, "seed": seed % SEEDS}
    if stops := [stop for stop in how.stop if stop]:
        settings["stop"] = stops
    return settings


def option_settings(tokens: Sequence[int]) -> dict[str, Any]:
    """Arguments of `SamplingParams` for the log-probabilities of at most MOST_TOKENS given next tokens."""
    return {"max_tokens": 1, "temperature": 0.0, "logprob_token_ids": list(tokens), "detokenize": False}


def scoring_settings() -> dict[str, Any]:
    """Arguments of `SamplingParams` for the log-probabilities of the prompt's own tokens."""
    return {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0, "detokenize": False}


def read_generation(output: Any, prompt_tokens: int) -> Generation:
    """The text of a `RequestOutput`. An end token ends it and is not counted. Raises RequestProblem if it did not end well."""
    made = output.outputs[0]
    if made.finish_reason not in ("stop", "length"):
        raise RequestProblem(Status.FAILED, f"vLLM ended the text for the reason {made.finish_reason!r}")
    by_token = made.finish_reason == "stop" and not isinstance(made.stop_reason, str)
    return Generation(
        made.text,
        "truncated" if made.finish_reason == "length" else "complete",
        prompt_tokens=prompt_tokens,
        completion_tokens=len(made.token_ids) - by_token,
    )


def read_options(output: Any, tokens: Sequence[int]) -> dict[int, float]:
    """Natural log-probability of each wanted token right after the prompt. Raises RequestProblem if one is not told."""
    told = (output.outputs[0].logprobs or [{}])[0]
    return {token: _told(told, token) for token in tokens}


def read_continuation(output: Any, start: int, tokens: Sequence[int]) -> list[float]:
    """Natural log-probabilities of the prompt's tokens from `start` on. Raises RequestProblem if one is not told."""
    places = list(output.prompt_logprobs or ())[start:]
    if len(places) != len(tokens):
        raise RequestProblem(Status.FAILED, f"vLLM told log-probabilities of {len(places)} tokens, not of {len(tokens)}")
    return [_told(place or {}, token) for place, token in zip(places, tokens, strict=True)]


def _told(place: Mapping[int, Any], token: int) -> float:
    if token not in place:
        raise RequestProblem(Status.FAILED, f"vLLM told no log-probability of token {token}")
    value = float(place[token].logprob)
    if math.isnan(value):
        raise RequestProblem(Status.FAILED, "the model gave NaN for this row")
    return min(0.0, value)


def _require_package() -> None:
    try:
        version("vllm")
    except PackageNotFoundError:
        raise UserError("vLLM engines need vllm and a GPU: pip install 'plaudit[vllm]'") from None


def _reason(error: BaseException) -> str:
    said = str(error).strip()
    return said.splitlines()[0] if said else type(error).__name__


def _refuse_gradient(grad: bool) -> None:
    if grad:
        raise NotImplementedError("vLLM gives no gradients: use the local engine")
