"""`LocalEngine`: any causal language model of transformers, from a folder or a hub id, run in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from plaudit.engines.folder import FolderEngine
from plaudit.engines.options import OptionPlan, option_log_probs, plan_options
from plaudit.engines.precision import PRECISIONS, Precision
from plaudit.engines.prefix_tree.cache import MOST_BYTES, PrefixCache
from plaudit.engines.rows import Row, check_lengths, gather_continuations, gather_options, prepare_rows, row_seeds
from plaudit.engines.weights import weights_fingerprint
from plaudit.types import (
    Budget,
    BudgetExceeded,
    ContinuationLogProbs,
    EngineError,
    Generation,
    NextToken,
    Request,
    Sampling,
    Status,
)

if TYPE_CHECKING:
    from torch import Tensor

    from plaudit.engines.forward import CausalModel

NUMERICS = "local-2"
"""Raised when a change of this engine changes numbers, so that stored verdicts are not mixed with new ones."""
CPU_BATCH_TOKENS, BATCH_TOKENS, GENERATION_BATCHES = 1024, 16_384, 4


class LocalEngine(FolderEngine):
    """A causal language model on this machine.

    model: a folder with safetensors (or one GGUF file), or a hub id; code from the hub is never run.
    device: torch device, None for CUDA where there is one, else the CPU. dtype: of the weights; logits become
    probabilities in float32. precision: of matrix products on a CPU, "full" for that of the dtype, "bfloat16" for faster and
    less exact scoring without gradients (`plaudit.engines.precision`). max_tokens_per_batch: padded tokens of one forward
    pass, None for what measured fastest: 1,024 on a CPU (larger batches leave its caches), 16,384 elsewhere; generation
    takes four times as many (its passes for one token a row wait for the weights, so rows are cheap). max_length: longest
    input in tokens, None for the model's `max_position_embeddings`. threads: of torch, None to leave them (OMP_NUM_THREADS).
    prefix_cache: bytes of keys and values of shared prefixes to keep for later batches, 0 for none; on a CPU the numbers of a
    call do not depend on what is kept (`plaudit.engines.prefix_tree.cache`).

    Nothing is loaded before it is needed; `version` and `control_strings` need no torch. Rows that do not fit the context
    get Status.TOO_LONG, rows that the model or the template fails on get Status.FAILED; the other rows are not touched.
    Results do not depend on the batch size or on the order of rows, apart from rounding. Calls from several threads wait
    for one another.
    """

    kind = "local"

    def __init__(
        self,
        model: str | Path,
        *,
        device: str | None = None,
        dtype: str = "float32",
        precision: Precision = "full",
        max_tokens_per_batch: int | None = None,
        max_length: int | None = None,
        threads: int | None = None,
        prefix_cache: int = MOST_BYTES,
    ) -> None:
        if prefix_cache < 0:
            raise ValueError(f"prefix_cache is a number of bytes, got {prefix_cache}")
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got '{precision}'")
        if max_tokens_per_batch is not None and max_tokens_per_batch < 1:
            raise ValueError(f"max_tokens_per_batch must be at least 1, got {max_tokens_per_batch}")
        super().__init__(model)
        self.device, self.dtype, self.precision = device, dtype, precision
        self.max_tokens_per_batch, self.threads = max_tokens_per_batch, threads
        self._max_length, self._prefix_cache = max_length, prefix_cache
        self._loading = threading.RLock()

    @cached_property
    def version(self) -> str:
        """Weights, config and tokenizer fingerprint, dtype, and the precision and the context limit if they were set."""
        precision = "" if self.precision == "full" else f":precision={self.precision}"
        limit = "" if self._max_length is None else f":max_length={self._max_length}"
        return f"{NUMERICS}:{weights_fingerprint(self.folder)}:{self.dtype}{precision}{limit}"

    @cached_property
    def _ready(self) -> CausalModel:
        from plaudit.engines.forward import CausalModel

        if self.threads is not None:
            import torch

            torch.set_num_threads(self.threads)
        model = CausalModel(self.folder, self.dtype, self.device, self.precision)
        if self._prefix_cache:
            model.prefixes = PrefixCache(self._prefix_cache)
        return model

    @property
    def causal_model(self) -> CausalModel:
        """The loaded model. Raises EngineError if it cannot be loaded."""
        with self._loading:
            return self._ready

    @property
    def max_length(self) -> int:
        """The longest input, in tokens."""
        if self._max_length is not None:
            return self._max_length
        config = self.causal_model.model.config.get_text_config()
        return int(getattr(config, "max_position_embeddings", None) or 1_000_000)

    def check(self) -> None:
        """Raises EngineError if the model is missing, has only pickled weights, or cannot be read by transformers."""
        _ = self.version
        if not (self.folder / "config.json").is_file() and not list(self.folder.glob("*.gguf")):
            raise EngineError(f"model folder '{self.folder}' has no config.json")

    def _prepare(self, requests: Sequence[Request], continuations: Sequence[str] | None = None, spare: int = 0) -> list[Row]:
        """Tokenised rows; those that the template refuses or that do not fit, with `spare` more tokens, carry a status."""
        return prepare_rows(
            self.codec,
            requests,
            continuations,
            context=self.max_length,
            vocabulary=self.causal_model.vocabulary,
            spare=spare,
        )

    def _batch_tokens(self) -> int:
        """Padded tokens of one forward pass."""
        if self.max_tokens_per_batch is not None:
            return self.max_tokens_per_batch
        return CPU_BATCH_TOKENS if self.causal_model.device.type == "cpu" else BATCH_TOKENS

    def _run(
        self,
        rows: Sequence[Row],
        forward: Callable[[list[int]], None],
        budget: Budget | None,
        *,
        passes: int = 1,
        generating: bool = False,
    ) -> None:
        """Call `forward` with batches of the numbers of usable rows; rows of a failing batch are tried one by one."""
        usable = [number for number, row in enumerate(rows) if row.status is Status.OK]
        ids = [rows[number].ids for number in usable]
        if generating:
            batches = self.causal_model.plan_decoding(ids, GENERATION_BATCHES * self._batch_tokens())
        else:
            batches = self.causal_model.plan(ids, self._batch_tokens()) if ids else []
        pending = [[usable[place] for place in batch] for batch in batches]
        while pending:
            batch = pending.pop(0)
            if budget is not None:
                budget.spend(network_calls=passes, prompt_tokens=sum(len(rows[number].ids) for number in batch))
            try:
                with self.causal_model.lock:
                    before = self.causal_model.computed
                    forward(batch)
                    computed = self.causal_model.computed - before
                if budget is not None:
                    budget.spend(computed_tokens=computed)
            except (BudgetExceeded, EngineError):
                raise
            except (RuntimeError, IndexError) as error:
                self._free_memory()
                if len(batch) > 1:
                    pending = [[number] for number in batch] + pending
                else:
                    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                    rows[batch[0]].fail(Status.FAILED, f"the model failed on this row: {reason}")

    def _free_memory(self) -> None:
        """Give cached memory of an accelerator back after a failed batch."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def next_token(
        self, requests: Sequence[Request], options: Sequence[Sequence[str]], *, grad: bool = False, budget: Budget | None = None
    ) -> NextToken:
        """[B, K] log-probability of each option right after each request.

        An option is the list of its spellings, whose probabilities are summed; spellings of several tokens and options
        that begin alike follow the rule of `plaudit.engines.options`. Raises ValueError, naming the option, if an option
        has no spelling that the tokenizer can write or shares one with another.
        """
        if not requests:
            return gather_options([], {}, len(options))
        plan = plan_options(options, self.codec.encode_continuation, self.codec.tokenizer.unk_token_id)
        longest = max(len(tokens) for tokens in plan.sequences)
        rows = self._prepare(requests, spare=longest - 1)
        found: dict[int, Tensor] = {}
        model = self.causal_model

        def forward(batch: list[int]) -> None:
            with model.gradient(grad):
                values = self._sequence_log_probs([rows[number].prompt for number in batch], plan)
                found.update(zip(batch, option_log_probs(plan, values), strict=True))

        self._run(rows, forward, budget, passes=1 + len(plan.several))
        return gather_options(rows, found, len(options))

    def _sequence_log_probs(self, prompts: list[list[int]], plan: OptionPlan) -> Tensor:
        """[B, S] log-probability of each of the plan's token sequences after each prompt."""
        import torch

        model, pad = self.causal_model, self.codec.pad
        firsts = [tokens[0] for tokens in plan.sequences]
        places = [(row, len(prompt) - 1) for row, prompt in enumerate(prompts)]
        first = torch.stack(model.log_probs_at(prompts, places, [firsts] * len(prompts), pad))
        columns = list(first.unbind(dim=1))
        for number in plan.several:
            tokens = list(plan.sequences[number])
            rest = model.continuation_log_probs(prompts, [tokens] * len(prompts), pad)
            columns[number] = torch.stack([values.sum() for values in rest])
        return torch.stack(columns, dim=1)

    def log_probs(
        self, requests: Sequence[Request], continuations: Sequence[str], *, grad: bool = False, budget: Budget | None = None
    ) -> ContinuationLogProbs:
        """Log-probability of one given continuation per request, token by token.

        Prompt and continuation are tokenised apart and joined, so the continuation's tokens do not depend on the prompt.
        An empty continuation is certain: 0 over no tokens. Raises ValueError if the two lists differ in length.
        """
        check_lengths(requests, continuations)
        if not requests:
            return gather_continuations([], {})
        rows = self._prepare(requests, continuations)
        found: dict[int, Tensor] = {}
        model = self.causal_model

        def forward(batch: list[int]) -> None:
            with model.gradient(grad):
                prompts, asked = [rows[n].prompt for n in batch], [rows[n].continuation for n in batch]
                found.update(zip(batch, model.continuation_log_probs(prompts, asked, self.codec.pad), strict=True))

        self._run(rows, forward, budget)
        return gather_continuations(rows, found)

    def hidden(self, requests: Sequence[Request]) -> Tensor:
        """[B, d] float32 last state at each request's last token; a row of NaN where the request could not be run."""
        import torch

        model = self.causal_model
        width = int(model.model.config.get_text_config().hidden_size)
        states = torch.full((len(requests), width), torch.nan)
        rows = self._prepare(requests)

        def forward(batch: list[int]) -> None:
            with model.gradient(False):
                prompts = [rows[number].prompt for number in batch]
                places = [(row, len(prompt) - 1) for row, prompt in enumerate(prompts)]
                states[batch] = model.states_at(prompts, places, self.codec.pad).float().cpu()

        self._run(rows, forward, None)
        return states

    def generate(self, requests: Sequence[Request], how: Sampling, *, budget: Budget | None = None) -> list[Generation]:
        """Continue each request until an end token, a stop string (cut off), `max_tokens`, or the end of the context.

        A row's sample is decided by the seed, its own text, and how many equal rows stand before it in the call; the
        batch size and the other rows play no part. The forced prefix is not part of the returned text.
        """
        from plaudit.engines.decoding import Continuation, continue_batch

        if not requests:
            return []
        rows = self._prepare(requests, spare=1)
        model, ends = self.causal_model, self._end_tokens()
        making = [
            Continuation(row.prompt, seed, min(how.max_tokens, self.max_length - len(row.prompt)))
            for row, seed in zip(rows, row_seeds(rows, how.seed), strict=True)
        ]

        def forward(batch: list[int]) -> None:
            chosen = [making[number] for number in batch]
            with model.stepper(self.codec.pad) as stepper:
                continue_batch(stepper, chosen, how, ends=ends, decode=self.codec.decode)
            if budget is not None:
                budget.spend(completion_tokens=sum(len(one.tokens) for one in chosen))

        self._run(rows, forward, budget, generating=True)
        return [
            Generation(one.text, one.finish, row.status, row.detail, len(row.prompt), len(one.tokens))
            if row.status is Status.OK
            else Generation("", "truncated", row.status, row.detail, len(row.prompt))
            for row, one in zip(rows, making, strict=True)
        ]

    def _end_tokens(self) -> frozenset[int]:
        """Ids that end a text: the tokenizer's and those of the generation config."""
        configured = getattr(self.causal_model.model.generation_config, "eos_token_id", None)
        ends = configured if isinstance(configured, list) else [configured]
        return frozenset(end for end in [*ends, self.codec.tokenizer.eos_token_id] if end is not None)
