"""A causal language model on a device, and the parts of its forward pass: states, and logits only where they are needed."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plaudit.engines.batches import pad_right, plan_batches
from plaudit.engines.decoding import PaddedStepper, Stepper
from plaudit.engines.packing import packed_linears
from plaudit.engines.precision import Precision, reduce_precision
from plaudit.engines.prefix_tree.cost import Shape, padded_estimate, tree_estimate
from plaudit.engines.prefix_tree.trie import PrefixTree, build_tree, pack
from plaudit.engines.quiet import without_progress_bars
from plaudit.engines.weights import weight_files
from plaudit.types import EngineError

if TYPE_CHECKING:
    from torch import Tensor

    from plaudit.engines.prefix_tree.cache import Layers, PrefixCache

LOGIT_ROWS = 256
"""How many positions get logits at once: bounds memory by 256 times the vocabulary."""
KEPT_BYTES = 2**29
"""Memory for the keys and values of one prefix tree."""


def load_model(folder: Path, dtype: str, device: str | None) -> Any:
    """The transformers causal language model of a folder, in evaluation mode. Raises EngineError if it cannot be loaded."""
    import torch
    from transformers import AutoModelForCausalLM

    if not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise EngineError(f"dtype '{dtype}' is not a torch floating point type such as float32 or bfloat16")
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    weights = weight_files(folder)
    try:
        if not any(path.suffix == ".safetensors" for path in weights):
            from plaudit.engines.gguf_files import load_gguf_model

            model = load_gguf_model(weights[0]).to(getattr(torch, dtype))
        else:
            with without_progress_bars():
                model = AutoModelForCausalLM.from_pretrained(
                    str(folder), dtype=getattr(torch, dtype), use_safetensors=True, trust_remote_code=False, local_files_only=True
                )
        return model.to(place).eval()
    except EngineError:
        raise
    except Exception as error:  # cut-off files, unknown architectures, wrong shapes: each library raises its own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EngineError(f"the model in '{folder}' cannot be loaded: {reason}") from error


class CausalModel:
    """Forward passes of one model. Rows are padded on the right and need no attention mask: a causal model never looks right.

    Logits are computed for the asked positions only. Most models put a plain linear head on the trunk's last state; for
    those the head is applied to the gathered states. Models that do more to their logits (caps, scales) are noticed by a
    five-token trial when the model is loaded, and go through their own forward pass.

    folder: where the model lies, or a transformers causal language model that is there already (dtype and device are then its
    own). precision: of the trunk's matrix products (`plaudit.engines.precision`).
    computed: how many tokens have gone through the model so far, prompts and padding included, the steps of decoding not.
    prefixes: keeps shared prefixes from one batch to the next where it is given; without gradient only.
    """

    prefixes: PrefixCache | None = None

    def __init__(
        self, folder: Path | Any, dtype: str = "float32", device: str | None = None, precision: Precision = "full"
    ) -> None:
        self.model = load_model(folder, dtype, device) if isinstance(folder, Path) else folder.eval()
        self.device = self.model.device
        self.lock = threading.RLock()
        self.computed = 0
        self.trunk = self.model.base_model
        self.head = self.model.get_output_embeddings()
        self.keeps_logits = "logits_to_keep" in inspect.signature(self.model.forward).parameters
        self.plain_head = self._head_is_plain()
        self.tree_refused = self._why_no_tree()
        self.precision = precision
        if precision != "full":  # after the trials, which ask for more agreement than it leaves
            reduce_precision(self.model, self.trunk)
        if self.tree_refused is not None:
            logging.getLogger(__name__).info("shared prefixes are computed again for every row: %s", self.tree_refused)

    def _why_no_tree(self) -> str | None:
        """Why shared prefixes cannot be computed once for this model; None if they can."""
        from plaudit.engines.prefix_tree.run import why_not_served

        if not self.plain_head:
            return "its head does more than a matrix product"
        return why_not_served(self.model, self.trunk)

    @cached_property
    def shape(self) -> Shape:
        """What a token costs."""
        return Shape.of(self.model, self.trunk)

    def _head_is_plain(self) -> bool:
        """Whether head(trunk(x)) gives the model's own logits."""
        import torch

        if self.head is None or self.trunk is self.model:
            return False
        ids = torch.arange(5, device=self.device).remainder(self.vocabulary)[None]
        try:
            with torch.no_grad():
                ours = self.head(self.trunk(input_ids=ids, use_cache=False).last_hidden_state)
                return torch.allclose(ours, self.model(input_ids=ids, use_cache=False).logits, atol=1e-5, rtol=1e-4)
        except (RuntimeError, TypeError, AttributeError):
            return False

    @property
    def vocabulary(self) -> int:
        """The number of token ids that the model can read."""
        return int(self.model.get_input_embeddings().num_embeddings)

    def gradient(self, wanted: bool) -> AbstractContextManager[Any]:
        """Context in which forward passes run. Raises EngineError for gradients in reduced precision."""
        import torch

        if wanted and self.precision != "full":
            raise EngineError(f"precision '{self.precision}' is for scoring: gradients need precision 'full'")
        return torch.enable_grad() if wanted else torch.no_grad()

    def states(self, rows: Sequence[Sequence[int]], pad: int) -> Tensor:
        """[B, L, d] the trunk's last states."""
        ids = pad_right(rows, pad).to(self.device)
        self.computed += ids.numel()
        states: Tensor = self.trunk(input_ids=ids, use_cache=False).last_hidden_state
        return states

    def log_probs_at(
        self, rows: Sequence[Sequence[int]], places: Sequence[tuple[int, int]], wanted: Sequence[Sequence[int]], pad: int
    ) -> list[Tensor]:
        """For each (row, position), the log-probabilities of the wanted token ids right after that position.

        rows: B lists of token ids. places, wanted: N each. Returns N tensors on the CPU, one value per wanted id. Never
        holds more than LOGIT_ROWS rows of logits at once where the head is plain; keeps the graph. Raises ValueError for a
        place that is outside of its row.
        """
        check_places(rows, places)
        if not places:
            return []
        source = self.states_at(rows, places, pad) if self.plain_head else self.logits_at(rows, places, pad)
        results: list[Tensor] = []
        for start in range(0, len(places), LOGIT_ROWS):
            chunk, ids = source[start : start + LOGIT_ROWS], wanted[start : start + LOGIT_ROWS]
            results += self._picked(chunk, ids)
        return results

    def prefers_tree(self, rows: Sequence[Sequence[int]]) -> bool:
        """Whether the rows are run as a prefix tree: it costs less than a padded batch, or a prefix is marked to be kept."""
        if self.tree_refused is not None or not rows:
            return False
        if (cache := self._cache()) is not None and cache.has_marked(rows):
            return True
        return tree_estimate(rows, self.shape).cost < padded_estimate([len(row) for row in rows], self.shape).cost

    def states_at(self, rows: Sequence[Sequence[int]], places: Sequence[tuple[int, int]], pad: int) -> Tensor:
        """[N, d] the trunk's last states at each (row, position); shared prefixes are computed once where that pays."""
        if not places:
            import torch

            return torch.empty(
                0, int(self.model.config.get_text_config().hidden_size), device=self.device, dtype=self.model.dtype
            )
        if self.prefers_tree(rows):
            from plaudit.engines.prefix_tree.run import sequence_nodes

            tree = build_tree(rows)
            nodes = sequence_nodes(tree, places)
            return self._run_tree(tree, nodes)[nodes]
        states = self.states(rows, pad)
        return states[[row for row, _ in places], [place for _, place in places]]

    def _cache(self) -> PrefixCache | None:
        """The prefix cache, where it may be used now."""
        import torch

        return None if torch.is_grad_enabled() else self.prefixes

    def _run_tree(self, tree: PrefixTree, needed: Sequence[int], kept: Layers | None = None) -> Tensor:
        """[N, d] states of a tree; those of the needed nodes are there. kept: takes keys and values, if given."""
        from plaudit.engines.prefix_tree.cache import cached_states
        from plaudit.engines.prefix_tree.run import tree_states

        if (cache := self._cache()) is None or not needed:
            self.computed += len(tree)
            return tree_states(self.model, self.trunk, tree, kept=kept)
        states, computed = cached_states(self.model, self.trunk, tree, needed, cache, kept)
        self.computed += computed
        return states

    def plan(self, rows: Sequence[Sequence[int]], max_tokens: int) -> list[list[int]]:
        """Row numbers in batches: as forests that keep what is shared together where that costs less, else padded rows.

        max_tokens: padded tokens of a batch. Forests are bounded by the memory of their keys and values instead.
        """
        padded = plan_batches([len(row) for row in rows], max_tokens)
        if self.tree_refused is not None or not rows:
            return padded
        budget = max(int(KEPT_BYTES / self.shape.kept_bytes), max(len(row) for row in rows))
        forests = pack(rows, budget)
        as_trees = sum(tree_estimate([rows[row] for row in forest], self.shape).cost for forest in forests)
        as_rows = sum(padded_estimate([len(rows[row]) for row in batch], self.shape).cost for batch in padded)
        return forests if as_trees < as_rows else padded

    def plan_decoding(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[list[int]]:
        """Row numbers in batches to be continued together, of at most `max_tokens` tokens of padded (distinct) prompts."""
        if self.tree_refused is not None:
            return plan_batches([len(prompt) for prompt in prompts], max_tokens)
        from plaudit.engines.prefix_tree.decode import plan_rows

        return plan_rows(prompts, max_tokens)

    @contextmanager
    def stepper(self, pad: int) -> Iterator[Stepper]:
        """A fresh stepper for one batch: over shared prompts where the model is served, else over padded rows."""
        if self.tree_refused is not None:
            padded = PaddedStepper(self.model, pad)
            with packed_linears(self.model):
                yield padded
            self.computed += padded.computed
            return
        from plaudit.engines.prefix_tree.decode import TreeStepper, decoding_mode

        with decoding_mode(self.model), packed_linears(self.model):
            yield TreeStepper(self.model, self.trunk, self._run_tree)

    def continuation_log_probs(
        self, prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]], pad: int
    ) -> list[Tensor]:
        """Per row, the log-probability of each continuation token, on the CPU; keeps the graph."""
        import torch

        rows = [[*prompt, *tokens] for prompt, tokens in zip(prompts, continuations, strict=True)]
        places, wanted = [], []
        for row, (prompt, tokens) in enumerate(zip(prompts, continuations, strict=True)):
            for offset, token in enumerate(tokens):
                places.append((row, len(prompt) - 1 + offset))
                wanted.append([token])
        if not places:
            return [torch.empty(0) for _ in rows]
        values = torch.cat(self.log_probs_at(rows, places, wanted, pad))
        return list(torch.split(values, [len(tokens) for tokens in continuations]))

    def _picked(self, chunk: Tensor, ids: Sequence[Sequence[int]]) -> list[Tensor]:
        """Log-probabilities of some ids from states or logits [n, ...]; with gradient the logits are recomputed backward."""
        import torch
        from torch.utils.checkpoint import checkpoint

        index = pad_right(ids, 0).to(chunk.device)

        def pick(part: Tensor) -> Tensor:
            logits = self.head(part) if self.plain_head else part
            precise = logits if logits.dtype == torch.float64 else logits.float()
            return torch.log_softmax(precise, dim=-1).gather(1, index)

        values = checkpoint(pick, chunk, use_reentrant=False) if torch.is_grad_enabled() and chunk.requires_grad else pick(chunk)
        values = values.cpu()
        return [values[place, : len(wanted)] for place, wanted in enumerate(ids)]

    def logits_at(self, rows: Sequence[Sequence[int]], places: Sequence[tuple[int, int]], pad: int) -> Tensor:
        """[N, V] logits at (row, position) through the model's own forward pass."""
        import torch

        row_of = torch.tensor([row for row, _ in places], device=self.device)
        position = torch.tensor([place for _, place in places], device=self.device)
        ids = pad_right(rows, pad).to(self.device)
        self.computed += ids.numel()
        if not self.keeps_logits:
            logits: Tensor = self.model(input_ids=ids, use_cache=False).logits
            return logits[row_of, position]
        kept, column = torch.unique(position, return_inverse=True)
        logits = self.model(input_ids=ids, use_cache=False, logits_to_keep=kept).logits
        return logits[row_of, column]


def check_places(rows: Sequence[Sequence[int]], places: Sequence[tuple[int, int]]) -> None:
    """Raise ValueError for the first (row, position) at which there is no token."""
    for row, place in places:
        if not 0 <= row < len(rows):
            raise ValueError(f"there is no row {row} among {len(rows)}")
        if not 0 <= place < len(rows[row]):
            raise ValueError(f"row {row} has {len(rows[row])} tokens, none at position {place}")
