"""`LlamaCppEngine`: one GGUF file through llama.cpp, in this process; quantised weights stay quantised.

llama.cpp's server tells the log-probabilities of the tokens that come next, never those of a text that is given. Given tokens are
therefore scored by forced choice: the one token that may be drawn comes back with the log-probability that it had before.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from plaudit.engines.encoding import Codec
from plaudit.engines.gguf_files import GgufFacts, read_facts
from plaudit.engines.http_client import RequestProblem
from plaudit.engines.llama_cpp_server import PACKAGE, LlamaServer, LlamaTokenizer, Settings, require_package
from plaudit.engines.options import OptionPlan, option_log_probs, plan_options
from plaudit.engines.rows import Row, check_lengths, gather_continuations, gather_options, prepare_rows, row_seeds
from plaudit.engines.weights import file_fingerprint
from plaudit.types import Budget, ContinuationLogProbs, Engine, EngineError, Generation, NextToken, Request, Sampling, Status

NUMERICS = "llama-cpp-1"
"""Raised when a change of this engine changes numbers, so that stored verdicts are not mixed with new ones."""
LONGEST_CONTEXT = 8192
"""Tokens of context where none is asked for and the model was trained on more: memory for it is taken at once."""
SHOWN = 1000
"""Tokens of which one answer tells the log-probability: measured, that many cost about a third of a step of a small model."""
EVERY = 10**7
"""More than any vocabulary: all tokens are told, which takes most of a second."""
FORCED = 1000.0
"""What is added to the logit of the one token that may be drawn."""
LEAST = math.log(2.0**-149)
"""The natural log of the smallest float32: llama.cpp cannot tell smaller probabilities."""
LARGEST_SEED = 0xFFFFFFFF
"""Means "a random seed" to llama.cpp, so it is never sent."""


class LlamaCppEngine(Engine):
    """A GGUF file on this machine.

    context: longest input in tokens, None for what the model was trained on, at most 8,192. slots: rows at once; more of them
    make generation faster (decoding waits for the weights) and cost the context's memory each. exact: keys and values in
    float32, without flash attention: a row's numbers do then not depend on what was computed before it, so a repeated run gives
    the same bits (with one slot); otherwise memory is halved, and log-probabilities scatter by some hundredths. threads: None for
    llama.cpp's choice. gpu_layers: layers on an accelerator that xllamacpp was built for, -1 for as many as fit.

    Shared prefixes are computed once: rows are run in the order of their tokens, and a slot keeps what the last row left.
    llama.cpp also rounds what goes into a product with quantised weights, so numbers differ from those of a local engine on the
    same weights (docs/engines.md says how much). Nothing is loaded before it is needed. Gives no gradients and no hidden states.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        context: int | None = None,
        slots: int = 1,
        threads: int | None = None,
        exact: bool = True,
        gpu_layers: int = -1,
    ) -> None:
        for name, given in (("context", context), ("slots", slots), ("threads", threads)):
            if given is not None and given < 1:
                raise ValueError(f"{name} must be at least 1, got {given}")
        self.path, self.slots, self.threads, self.exact, self.gpu_layers = Path(path), slots, threads, exact, gpu_layers
        self._context = context
        self._loading = threading.RLock()
        self.name = f"llama-cpp:{self.path.name}"

    @cached_property
    def version(self) -> str:
        """Fingerprint of the file, version of llama.cpp's package, and the settings that change numbers."""
        try:
            package = version(PACKAGE)
        except PackageNotFoundError:
            require_package()
            raise
        settings = {"context": self._context, "slots": None if self.slots == 1 else self.slots, "exact": self.exact}
        said = ":".join(f"{name}={value}" for name, value in settings.items() if value is not None)
        return f"{NUMERICS}:{file_fingerprint(self.path)}:{PACKAGE}-{package}:{said}"

    def check(self) -> None:
        """Raises UserError if xllamacpp is missing, EngineError if the file is missing or no GGUF file."""
        require_package()
        if not self.path.is_file():
            raise EngineError(f"model file '{self.path}' does not exist")
        with self.path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise EngineError(f"'{self.path}' is not a GGUF file")

    @cached_property
    def facts(self) -> GgufFacts:
        """What the file says about its model."""
        return read_facts(self.path)

    @property
    def control_strings(self) -> tuple[str, ...]:
        """Texts of the file's control tokens."""
        return self.facts.control_strings

    @property
    def max_length(self) -> int:
        """The longest input, in tokens."""
        return self._context or min(self.facts.context or LONGEST_CONTEXT, LONGEST_CONTEXT)

    @cached_property
    def _ready(self) -> LlamaServer:
        self.check()
        return LlamaServer(
            Settings(self.path, self.max_length, self.slots, threads=self.threads, exact=self.exact, gpu_layers=self.gpu_layers)
        )

    @property
    def server(self) -> LlamaServer:
        """llama.cpp with the file loaded. Raises EngineError if it cannot be loaded."""
        with self._loading:
            return self._ready

    @cached_property
    def codec(self) -> Codec:
        """The tokenizer and chat template of the file."""
        codec = Codec(self.path.parent)
        codec.tokenizer = LlamaTokenizer(self.server, self.facts)
        return codec

    def close(self) -> None:
        """Give the memory back; the file is loaded again when it is next needed."""
        with self._loading:
            for name in ("_ready", "codec"):
                self.__dict__.pop(name, None)

    def render(self, request: Request) -> str:
        """The text that the model sees, chat template and forced prefix included. Raises ValueError if the template refuses."""
        return self.codec.render(request)

    def generate(self, requests: Sequence[Request], how: Sampling, *, budget: Budget | None = None) -> list[Generation]:
        """Continue each request until an end token, a stop string (cut off), `max_tokens`, or the end of the context.

        A row's sample is decided by the seed, its own text, and how many equal rows stand before it in the call.
        """
        rows = self._prepare(requests, spare=1)
        seeds = row_seeds(rows, how.seed)
        made: dict[int, Generation] = {}

        def run(number: int, slot: int) -> None:
            row = rows[number]
            room = min(how.max_tokens, self.max_length - len(row.prompt))
            if room < 1:
                made[number] = Generation("", "truncated", prompt_tokens=len(row.prompt))
                return
            settings = {
                "n_predict": room,
                "temperature": how.temperature,
                "top_p": how.top_p,
                "samplers": ["temperature", "top_p"],
                "stop": [stop for stop in how.stop if stop],
                "seed": seeds[number] % LARGEST_SEED,
            }
            answer = self._ask(row.prompt, settings, slot, budget)
            made[number] = one = read_generation(answer, len(row.prompt))
            if budget is not None:
                budget.spend(completion_tokens=one.completion_tokens)

        self._run(rows, run, budget)
        return [
            made.get(number, Generation("", "truncated", row.status, row.detail, len(row.prompt)))
            for number, row in enumerate(rows)
        ]

    def next_token(
        self, requests: Sequence[Request], options: Sequence[Sequence[str]], *, grad: bool = False, budget: Budget | None = None
    ) -> NextToken:
        """[B, K] log-probability of each option right after each request, by the rule of `plaudit.engines.options`.

        Every option has its own log-probability, however unlikely it is; `floor` is what a float32 can hold at least.
        Raises NotImplementedError for grad=True, ValueError as `plan_options` does.
        """
        import torch

        _refuse_gradient(grad)
        if not requests:
            return gather_options([], {}, len(options))
        plan = plan_options(options, self.codec.encode_continuation, self.codec.tokenizer.unk_token_id)
        rows = self._prepare(requests, spare=max(len(tokens) for tokens in plan.sequences) - 1)
        found: dict[int, Any] = {}

        def run(number: int, slot: int) -> None:
            values = self._sequence_log_probs(rows[number].prompt, plan, slot, budget)
            found[number] = option_log_probs(plan, torch.tensor([values]))[0]

        self._run(rows, run, budget)
        return gather_options(rows, found, len(options), floor=LEAST)

    def log_probs(
        self, requests: Sequence[Request], continuations: Sequence[str], *, grad: bool = False, budget: Budget | None = None
    ) -> ContinuationLogProbs:
        """Log-probability of one given continuation per request, token by token, each by a forced choice.

        A row with a token that is less probable than a float32 can hold has failed. An empty continuation is certain: 0 over no
        tokens. Raises NotImplementedError for grad=True, ValueError if the two lists differ in length.
        """
        import torch

        _refuse_gradient(grad)
        check_lengths(requests, continuations)
        rows = self._prepare(requests, continuations)
        found: dict[int, Any] = {}

        def run(number: int, slot: int) -> None:
            prompt, tokens = rows[number].prompt, rows[number].continuation
            values = [
                self._token_log_probs([*prompt, *tokens[:place]], [token], slot, budget)[token]
                for place, token in enumerate(tokens)
            ]
            if any(value <= LEAST for value in values):
                raise RequestProblem(Status.FAILED, "a token of the continuation is less probable than llama.cpp can tell")
            found[number] = torch.tensor(values, dtype=torch.float32)

        self._run(rows, run, budget)
        return gather_continuations(rows, found)

    def _prepare(self, requests: Sequence[Request], continuations: Sequence[str] | None = None, spare: int = 0) -> list[Row]:
        return prepare_rows(self.codec, requests, continuations, context=self.max_length, spare=spare) if requests else []

    def _run(self, rows: Sequence[Row], run: Callable[[int, int], None], budget: Budget | None) -> None:
        """Call `run` with the number of each usable row and a slot, rows with a common beginning one after another."""
        usable = sorted((n for n, row in enumerate(rows) if row.status is Status.OK), key=lambda n: (rows[n].ids, n))

        def run_part(slot: int, part: Iterable[int]) -> None:
            for number in part:
                if budget is not None:
                    budget.spend(prompt_tokens=len(rows[number].ids))
                try:
                    run(number, slot)
                except RequestProblem as problem:
                    rows[number].fail(problem.status, f"llama.cpp failed on this row: {problem.detail}")

        size = max(1, -(-len(usable) // self.slots))
        parts = [usable[start : start + size] for start in range(0, len(usable), size)]
        if len(parts) < 2:
            run_part(0, usable)
            return
        with ThreadPoolExecutor(len(parts)) as pool:
            for done in [pool.submit(run_part, slot, part) for slot, part in enumerate(parts)]:
                done.result()

    def _ask(self, prompt: Sequence[int], settings: dict[str, Any], slot: int, budget: Budget | None) -> dict[str, Any]:
        if budget is not None:
            budget.spend(network_calls=1)
        body = {"prompt": list(prompt), "cache_prompt": True, "id_slot": slot, **settings}
        answer = self.server.ask("/completion", body)
        if budget is not None:
            budget.spend(computed_tokens=answer["timings"]["prompt_n"])
        return answer

    def _sequence_log_probs(self, prompt: Sequence[int], plan: OptionPlan, slot: int, budget: Budget | None) -> list[float]:
        """Log-probability of each of the plan's token sequences after a prompt."""
        steps = plan.steps.items()
        return plan.chained({before: self._token_log_probs([*prompt, *before], ids, slot, budget) for before, ids in steps})

    def _token_log_probs(
        self, prompt: Sequence[int], wanted: Sequence[int], slot: int, budget: Budget | None
    ) -> dict[int, float]:
        """Log-probability of each wanted token right after a prompt: among the likely ones, else by a forced choice.

        A token that is a part of a character is not answered when it is forced: it is looked for among all tokens.
        """
        found: dict[int, float] = {}

        def ask(token: int, shown: int) -> dict[str, Any]:
            settings = {"n_predict": 1, "temperature": 0.0, "n_probs": shown, "logit_bias": [[token, FORCED]]}
            return self._ask(prompt, settings, slot, budget)

        def look(shown: int) -> None:
            told = read_shown(ask(self._harmless, shown))
            found.update({token: told[token] for token in wanted if token in told})

        if len(wanted) > 1:
            look(SHOWN)
        for token in wanted:
            if token in found:
                continue
            value = read_forced(ask(token, 1), token)
            if value is not None:
                found[token] = value
                continue
            for shown in (SHOWN, EVERY):
                if token not in found:
                    look(shown)
        return found

    @cached_property
    def _harmless(self) -> int:
        """A token of whole characters, drawn where only the others' probabilities matter."""
        return int(self.codec.tokenizer.encode("a", add_special_tokens=False)[-1])


def read_generation(answer: dict[str, Any], prompt_tokens: int) -> Generation:
    """The text of a completion. An end token ends it and is not counted. Raises RequestProblem if it did not end well."""
    reason, count = answer.get("stop_type"), int(answer["tokens_predicted"])
    if reason not in ("eos", "word", "limit"):
        raise RequestProblem(Status.FAILED, f"the text ended for the reason {reason!r}")
    finish = "truncated" if reason == "limit" else "complete"
    completion = count - 1 if reason == "eos" else count
    return Generation(
        str(answer["content"]), "complete" if finish == "complete" else "truncated",
        prompt_tokens=prompt_tokens, completion_tokens=completion,
    )  # fmt: skip


def read_shown(answer: dict[str, Any]) -> dict[int, float]:
    """Natural log-probabilities of the likeliest tokens by id, at least `LEAST`."""
    return {int(one["id"]): _told(one["logprob"]) for one in _place(answer)["top_logprobs"]}


def read_forced(answer: dict[str, Any], token: int) -> float | None:
    """Natural log-probability of the token that was forced, at least `LEAST`; None if it is a part of a character.

    Raises RequestProblem if another token came.
    """
    if not answer.get("completion_probabilities"):
        return None
    place = _place(answer)
    if place["id"] != token:
        raise RequestProblem(Status.FAILED, f"token {token} was asked for, token {place['id']} came")
    return _told(place["logprob"])


def _place(answer: dict[str, Any]) -> dict[str, Any]:
    try:
        return dict(answer["completion_probabilities"][0])
    except (KeyError, IndexError, TypeError):
        raise RequestProblem(Status.FAILED, "the answer holds no log-probabilities") from None


def _told(value: Any) -> float:
    """A log-probability as float; llama.cpp writes null for NaN, and the lowest float for a probability of 0."""
    if not isinstance(value, int | float) or math.isnan(value):
        raise RequestProblem(Status.FAILED, "the model gave NaN for this row")
    return min(0.0, max(float(value), LEAST))


def _refuse_gradient(grad: bool) -> None:
    if grad:
        raise NotImplementedError("llama.cpp gives no gradients: use the local engine")
