"""`LanguageGenerator`: a causal language model as a policy, trained whole or through a low-rank adapter."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plaudit.engines.decoding import Continuation, continue_batch, row_seed
from plaudit.engines.lora import LoRA, adapter_layers, adapter_module, add_lora, load_lora, without_adapter
from plaudit.engines.opening import new_value_head, opened, switch_dropout_off
from plaudit.engines.prefix_tree.training import PAD
from plaudit.generators.language import stepping
from plaudit.generators.language.statistics import ABILITIES, token_statistics
from plaudit.generators.language.tokens import SEGMENTERS, Segmenter, TokenRows, spread_rows, step_spans, steps_inside
from plaudit.types import Batch, Generator, Prompt, Request, Sampling, States, StepStats, Trajectories, UserError, prompt_text

if TYPE_CHECKING:
    from torch import Tensor

    from plaudit.engines.forward import CausalModel

RESCORED = 10_000_000
"""Weights of a model from which on rounding passes 1e-5 nats, so that rollouts are evaluated once more."""
PROMPT_TOKENS = 4096
"""Padded tokens of distinct prompts that are continued together."""


class LanguageGenerator(Generator):
    """A causal language model of transformers that writes a response token by token; a step is one token.

    model: a folder with safetensors, a hub id, "smollm2" for the embedded model, or a transformers model that is there already
    (then with its tokenizer). lora: a fresh adapter, or the folder of a saved one; None trains all weights. value_head: a
    linear value of each state, 0 at first, for `evaluate(need=("value",))`. chat: whether a prompt that is plain text becomes
    a user's message in the model's chat template; None: where there is a template. segments: "sentences", "lines" or a function
    that gives the parts of a text; their spans of characters go to `Batch.segments`, of steps to `Trajectories.segments`.
    temperature: at which given responses are evaluated (`encode`); rollouts record their own. score_encoded: False leaves out
    their log-probabilities (NaN: nobody knows who wrote them), which imitation does not need. rescore: whether a rollout is
    evaluated once more for its log-probabilities, so that ratios are 1 to the last bits; else those noted while sampling are
    taken, by other kernels, which agree within rounding (about 2e-5 nats for SmolLM2 in float32). None: for models of more
    than 10 million weights. max_length: tokens of prompt and response, None for the model's context. seed: of fresh adapters.

    Prompts are computed once for all their samples, forward and backward, and no padding is run where rows share prefixes.
    A sample depends on its prompt, the seed and its number among equal prompts alone, not on the rest of the batch, apart from
    rounding. Dropout is switched off: a policy gives the same probability twice. A prompt that fills the context gets an
    empty response whose `done` is "truncated" and whose mask is empty.
    Raises EngineError for a model that cannot be loaded, UserError for settings that cannot work.
    """

    def __init__(
        self,
        model: str | Path | Any,
        *,
        tokenizer: Any = None,
        lora: LoRA | str | Path | None = None,
        value_head: bool = False,
        chat: bool | None = None,
        segments: str | Segmenter | None = None,
        temperature: float = 1.0,
        score_encoded: bool = True,
        rescore: bool | None = None,
        max_length: int | None = None,
        device: str | None = None,
        dtype: str = "float32",
        seed: int = 0,
    ) -> None:
        if isinstance(segments, str) and segments not in SEGMENTERS:
            raise UserError(f"segments must be one of {', '.join(SEGMENTERS)} or a function, not '{segments}'")
        if temperature <= 0:
            raise UserError(f"temperature must be positive, not {temperature:g}")
        self.causal_model, self.codec = opened(model, tokenizer, device, dtype)
        self.segmenter = SEGMENTERS[segments] if isinstance(segments, str) else segments
        self.temperature, self.chat, self._max_length = temperature, chat, max_length
        self.score_encoded = score_encoded
        weights = sum(weight.numel() for weight in self.causal_model.model.parameters())
        self.rescore = weights > RESCORED if rescore is None else rescore
        self._adapter_off = False
        switch_dropout_off(self.causal_model.model)
        if isinstance(lora, LoRA):
            add_lora(self.causal_model.model, lora, seed)
        elif lora is not None:
            load_lora(self.causal_model.model, Path(lora))
        self.value_head = new_value_head(self.causal_model) if value_head else None

    # -- weights -----------------------------------------------------------------------------------------------------------

    @cached_property
    def _layers(self) -> list[Any]:
        """The adapted layers; none where all weights are trained."""
        return list(adapter_layers(self.causal_model.model).values())

    def modules(self) -> dict[str, Any]:
        """`policy`: the model, or its adapter alone; `value_head` where there is one."""
        adapters = adapter_layers(self.causal_model.model)
        found = {"policy": adapter_module(adapters, self.causal_model.model) if adapters else self.causal_model.model}
        return found if self.value_head is None else {**found, "value_head": self.value_head}

    def frozen(self) -> LanguageGenerator:
        """The model as the reference policy: with an adapter, this very model with the adapter off; else a frozen copy."""
        if self._layers:
            reference = copy.copy(self)
            reference._adapter_off, reference.value_head = True, None
            return reference
        reference = copy.deepcopy(self)
        for module in reference.modules().values():
            module.requires_grad_(False)
        return reference

    def __deepcopy__(self, memo: dict[int, Any]) -> LanguageGenerator:
        from plaudit.engines.forward import CausalModel

        other = copy.copy(self)
        other.__dict__.pop("_layers", None)
        other.causal_model = CausalModel(copy.deepcopy(self.causal_model.model, memo))
        other.value_head = copy.deepcopy(self.value_head, memo)
        memo[id(self)] = other
        return other

    def save(self, folder: str | Path) -> None:
        """Write the model (or its adapter), the tokenizer and the value head to a folder, weights as safetensors."""
        from safetensors.torch import save_file

        from plaudit.engines.quiet import without_progress_bars

        with without_progress_bars():
            self.causal_model.model.save_pretrained(str(folder))
        self.codec.tokenizer.save_pretrained(str(folder))
        if self.value_head is not None:
            save_file(self.value_head.state_dict(), str(Path(folder) / "value_head.safetensors"))

    @property
    def max_length(self) -> int:
        """The most tokens that prompt and response may have together."""
        if self._max_length is not None:
            return self._max_length
        config = self.causal_model.model.config.get_text_config()
        return int(getattr(config, "max_position_embeddings", None) or 1_000_000)

    @contextmanager
    def _in_hand(self) -> Iterator[CausalModel]:
        """The model, alone, with the adapter on or off as this generator has it."""
        with self.causal_model.lock:
            if self._adapter_off:
                with without_adapter(self._layers):
                    yield self.causal_model
            else:
                yield self.causal_model

    # -- tokens ------------------------------------------------------------------------------------------------------------

    @cached_property
    def ends(self) -> frozenset[int]:
        """The ids that end a response."""
        listed = getattr(self.causal_model.model.generation_config, "eos_token_id", None)
        ids = listed if isinstance(listed, (list, tuple)) else [listed]
        return frozenset(int(token) for token in (*ids, self.codec.tokenizer.eos_token_id) if token is not None)

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        """The tokens that the model sees before its first own. Raises ValueError if the chat template refuses them."""
        if not isinstance(prompt, (list, tuple)):
            text = prompt_text(prompt)
            chat = self.codec.tokenizer.chat_template is not None if self.chat is None else self.chat
            request = Request(({"role": "user", "content": text},) if chat else text)
        else:
            request = Request(tuple(prompt))
        return self.codec.encode_prompt(request)

    def _prompts(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """The tokens of each prompt; equal texts are tokenised once."""
        known: dict[str, list[int]] = {}
        found = []
        for prompt in prompts:
            key = prompt if isinstance(prompt, str) else repr(prompt)
            if key not in known:
                known[key] = self.encode_prompt(prompt)
            found.append(known[key])
        return found

    # -- sampling ----------------------------------------------------------------------------------------------------------

    def rollout(self, prompts: Batch, n: int, *, how: Sampling, start: States | None = None, seed: int) -> Trajectories:
        """n responses per prompt, with the log-probability of every token under the model at `how.temperature`.

        The token that ends a response is a step of its own. With temperature 0 no step has a density: the mask is empty, and
        the log-probabilities are those at temperature 1. `how.top_p` cuts what is drawn, not the recorded probabilities.
        `how.seed` is not read: `seed` is.
        """
        import torch

        if start is not None:
            raise ValueError("a language model continues prompts: put what is there already into the prompt")
        if n < 1:
            raise ValueError(f"at least one sample per prompt is needed, not {n}")
        places = [row for row in range(len(prompts)) for _ in range(n)]
        ids = self._prompts(prompts.prompts)
        rows = self.continuations([ids[row] for row in places], how, seed)
        self.continue_rows(rows, how)
        made = TokenRows([list(row.prompt) for row in rows], [_completion(row) for row in rows])
        mask = made.mask()
        if self.rescore:
            log_probs = self._log_probs_now(made, how.temperature or 1.0)
        else:
            log_probs = spread_rows([value for row in rows for value in row.log_probs], mask)
        batch = replace(
            prompts.select(places),
            responses=[row.text for row in rows],
            groups=torch.tensor(places, dtype=torch.int64),
            lengths=[len(row.tokens) for row in rows],
            finish=[row.finish for row in rows],
        )
        done = ["terminal" if row.finish == "complete" else "truncated" for row in rows]
        return self._trajectories(batch, made, log_probs, mask if how.temperature > 0 else mask & False, done, how)

    def continuations(self, prompts: Sequence[list[int]], how: Sampling, seed: int) -> list[Continuation]:
        """One row a sample; its seed comes from its own prompt and its number among equal prompts."""
        seen: Counter[tuple[int, ...]] = Counter()
        rows = []
        for prompt in prompts:
            key = tuple(prompt)
            own = row_seed(seed, " ".join(map(str, key)), seen[key])
            rows.append(Continuation(prompt, own, min(how.max_tokens, self.max_length - len(prompt))))
            seen[key] += 1
        return rows

    def continue_rows(self, rows: Sequence[Continuation], how: Sampling) -> None:
        """Write all rows, in batches over shared prompts."""
        live = [row for row in rows if row.room > 0]
        with self._in_hand() as model:
            for batch in model.plan_decoding([row.prompt for row in live], PROMPT_TOKENS) if live else []:
                with model.stepper(PAD) as stepper:
                    chosen = [live[place] for place in batch]
                    continue_batch(stepper, chosen, how, ends=self.ends, decode=self.codec.decode, record=not self.rescore)

    def _trajectories(
        self, batch: Batch, rows: TokenRows, log_probs: Tensor, mask: Tensor, done: list[str], how: Sampling
    ) -> Trajectories:
        segments = None
        if self.segmenter is not None:
            spans = [list(self.segmenter(str(text))) for text in batch.require_responses()]
            batch = replace(batch, segments=spans)
            lengths = batch.lengths or []
            segments = [
                step_spans(span, tokens[:length], self.codec.decode, len(tokens))
                for span, tokens, length in zip(spans, rows.completions, lengths, strict=True)
            ]
        return Trajectories(batch, log_probs, mask, segments=segments, done=done, how=how, payload=rows)

    def start(self, prompts: Batch, n: int, *, seed: int = 0) -> States:  # noqa: ARG002
        """n empty responses per prompt; nothing is drawn yet (`plaudit.generators.language.stepping`)."""
        return stepping.started(self, prompts, n)

    def step(self, states: States, how: Sampling, *, seed: int, until: str = "token") -> States:
        """Every unfinished response further by a token, a sentence or the whole turn."""
        return stepping.stepped(self, states, how, seed=seed, until=until)

    def read(self, states: States) -> Batch:
        """The responses so far."""
        return stepping.read(self, states)

    # -- evaluation --------------------------------------------------------------------------------------------------------

    def encode(self, batch: Batch, *, seed: int = 0) -> Trajectories:  # noqa: ARG002
        """Given responses (texts) as trajectories: teacher forcing. `log_probs` are this model's, now, at `temperature`; NaN
        without `score_encoded`.

        A response ends with the model's own end token, unless `batch.finish` says that it was cut off. What does not fit the
        context is cut off too. Nothing is drawn. `extras["environment"]`: spans of characters of each response that the model
        did not write (the output of code, a tool's answer): it reads them, and the mask leaves their tokens out.
        """
        import torch

        prompts = self._prompts(batch.prompts)
        finish = batch.finish or ["complete"] * len(batch)
        end = self.codec.tokenizer.eos_token_id
        completions, lengths, done = [], [], []
        for prompt, response, finished in zip(prompts, batch.require_responses(), finish, strict=True):
            if not isinstance(response, str):
                raise ValueError(f"a language model reads responses that are texts, not {type(response).__name__}")
            room = max(0, self.max_length - len(prompt))
            tokens = self.codec.encode_continuation(response)
            whole = [*tokens, end] if finished == "complete" and end is not None else tokens
            completions.append(whole[:room])
            lengths.append(min(len(tokens), room))
            done.append("terminal" if finished == "complete" and len(whole) <= room else "truncated")
        rows = TokenRows(prompts, completions)
        how = Sampling(max_tokens=self.max_length, temperature=self.temperature)
        unknown = torch.full((len(rows), rows.width), torch.nan)
        log_probs = self._log_probs_now(rows, how.temperature) if self.score_encoded else unknown
        mask = rows.mask()
        for row, spans in enumerate(batch.extras.get("environment") or ()):
            if spans:
                mask[row, steps_inside(spans, rows.completions[row][: lengths[row]], self.codec.decode)] = False
        return self._trajectories(replace(batch, lengths=lengths), rows, log_probs, mask, done, how)

    def _log_probs_now(self, rows: TokenRows, temperature: float) -> Tensor:
        import torch

        mask = rows.mask()
        with torch.no_grad():
            return spread_rows(self._statistics(rows, temperature, ("log_prob",), mask)["log_prob"], mask)

    def evaluate(
        self,
        t: Trajectories,
        *,
        need: Sequence[str] = ("log_prob",),
        steps: Sequence[int] | None = None,
        part: str | None = None,
    ) -> StepStats:
        """[B, T] statistics of every token under the current weights, at the temperature that the trajectories record.

        need: log_prob, entropy (of the whole distribution, in nats), value (of the state before the token), log_pb (0: a text
        is reached in one way only). Numbers are 0 where there is no token. steps: columns to compute, None for all; the
        result has as many. Keeps the graph where gradients are enabled. Raises ValueError for other needs and parts, and for
        trajectories of another generator.
        """
        import torch

        if part is not None:
            raise ValueError(f"a language model has no part '{part}'")
        if unknown := [name for name in need if name not in ABILITIES]:
            raise ValueError(f"a language model gives {', '.join(ABILITIES)}, not {', '.join(unknown)}")
        if "value" in need and self.value_head is None:
            raise ValueError("this language model has no value head: build it with value_head=True")
        rows = t.payload
        if not isinstance(rows, TokenRows):
            raise ValueError("these trajectories were not made by a language model")
        temperature = (t.how.temperature if isinstance(t.how, Sampling) else 0.0) or self.temperature
        mask = rows.mask(t.log_probs.shape[1])
        if steps is not None:
            chosen = torch.zeros(mask.shape[1], dtype=torch.bool)
            chosen[list(steps)] = True
            mask = mask & chosen
        flat = self._statistics(rows, temperature, need, mask)
        columns = {name: spread_rows(values, mask) for name, values in flat.items()}
        if "log_pb" in need:
            columns["log_pb"] = torch.zeros(mask.shape)
        if steps is not None:
            columns = {name: values[:, list(steps)] for name, values in columns.items()}
        return StepStats(**columns)

    def _statistics(self, rows: TokenRows, temperature: float, need: Sequence[str], mask: Tensor) -> dict[str, Tensor]:
        """Per wanted name, [N] values of the tokens under the mask, row after row, on the CPU."""
        with self._in_hand() as model:
            return token_statistics(model, self.value_head, rows, temperature, need, mask)


def _completion(row: Continuation) -> list[int]:
    return row.tokens if row.end is None else [*row.tokens, row.end]
