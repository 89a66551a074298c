"""`TextBackbone`: a causal language model of transformers as what the head of a reward reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from plaudit.engines.encoding import Codec
from plaudit.engines.precision import PRECISIONS, Precision
from plaudit.engines.weights import resolve_folder, weights_fingerprint
from plaudit.rewards.features import Features
from plaudit.rewards.learned.features_cache import FeatureCache, chunks
from plaudit.rewards.learned.rendering import Reading, TextReader, check_reading
from plaudit.types import Batch, EngineError, SpecError, Status, UserError, Verdict
from plaudit.types.keys import content_key
from plaudit.types.paths import cache_dir

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from plaudit.engines.forward import CausalModel

Tokens = tuple[tuple[int, ...], tuple[int, ...]]
"""A row as token ids, and the places that are read."""
Adaptation = Literal["frozen", "lora", "full"]
ADAPTATIONS: tuple[str, ...] = get_args(Adaptation)
EMBEDDED = "smollm2"
CHUNK_TOKENS = 32_768
"""Tokens between two writes of a frozen model's features: about a minute on a laptop is lost at most."""
NUMERICS = "text-1"
"""Raised when a change here changes vectors, so that kept ones are not mixed with new ones."""


class TextBackbone:
    """Last states of a language model at places of prompt and response, rows that begin alike computed once.

    model: a folder with safetensors (or one GGUF file), a hub id, or "smollm2" for the embedded model.
    adaptation: "frozen" computes each row once without gradient and keeps it on disk; "lora" trains an adapter of `rank` and
    `alpha` on all linear layers (`plaudit.engines.lora`); "full" trains all weights but the output head.
    layers: only so many layers, from the bottom, are run (the model's last norm after them); None: all.
    template, pooling: what is read and where (`rendering.TextReader`); for "position" a batch may say how many characters of
    the response are read in `extras["position"]`. max_length: tokens; longer rows are TOO_LONG. None: the model's context.
    dtype: of the weights. precision: "bfloat16" computes frozen features faster and less exactly on CPUs that can.
    cache: whether frozen features are kept in the cache folder, or the folder to keep them in. seed: of a fresh adapter.
    weights: fingerprint of the model that a checkpoint was fitted on; another one is refused.

    Nothing is loaded before it is needed. Rows: no text -> NOT_APPLICABLE, beyond the context -> TOO_LONG, refused by the
    template -> FAILED; a row that the model fails on, or gives NaN for, has a vector of NaN.
    Raises SpecError for settings that cannot work, EngineError for a model that cannot be loaded.
    """

    kind: ClassVar[str] = "text"
    progress: Callable[[int, int], None] | None = None
    """Told (rows done, rows asked for) while frozen features are computed."""

    def __init__(
        self,
        model: str | Path = EMBEDDED,
        *,
        adaptation: Adaptation = "frozen",
        layers: int | None = None,
        pooling: str = "last",
        template: str = "chat",
        rank: int = 16,
        alpha: float = 32.0,
        max_length: int | None = None,
        dtype: str = "float32",
        precision: Precision = "full",
        device: str | None = None,
        cache: bool | str | Path = True,
        seed: int = 0,
        weights: str | None = None,
    ) -> None:
        if adaptation not in ADAPTATIONS:
            raise SpecError(f"adaptation must be {', '.join(ADAPTATIONS)}, not '{adaptation}'")
        if precision not in PRECISIONS:
            raise SpecError(f"precision must be {', '.join(PRECISIONS)}, not '{precision}'")
        if precision != "full" and adaptation != "frozen":
            raise SpecError(f"precision '{precision}' has no gradients: it needs adaptation 'frozen', not '{adaptation}'")
        for name, value in (("layers", layers), ("rank", rank), ("max_length", max_length)):
            if value is not None and value < 1:
                raise SpecError(f"{name} must be at least 1, not {value}")
        check_reading(template, pooling)
        self.model = str(Path(model).resolve()) if model != EMBEDDED and Path(model).is_dir() else str(model)
        self.adaptation, self.layers, self.pooling, self.template = adaptation, layers, pooling, template
        self.rank, self.alpha, self.max_length = rank, alpha, max_length
        self.dtype, self.precision, self.device, self.seed = dtype, precision, device, seed
        self.cache, self._expected = cache, weights

    # -- what it is ------------------------------------------------------------------------------------------------------------

    @cached_property
    def folder(self) -> Path:
        """The model's folder. Raises EngineError if there is none, UserError if its weights are not those of the checkpoint."""
        if self.model == EMBEDDED:
            from plaudit.engines.default_model import ensure_default_model

            folder = ensure_default_model()
        else:
            folder = resolve_folder(self.model)
        if self._expected not in (None, weights_fingerprint(folder)):
            raise UserError(f"the reward was fitted on other weights than those of '{self.model}' in {folder}")
        return folder

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What rebuilds it, with the fingerprint of its weights."""
        names = ("model", "adaptation", "layers", "pooling", "template", "max_length", "dtype", "precision")
        adapter = ("rank", "alpha", "seed") if self.adaptation == "lora" else ()
        chosen = {name: getattr(self, name) for name in (*names, *adapter)}
        return {"kind": self.kind, **chosen, "weights": weights_fingerprint(self.folder)}

    @cached_property
    def width(self) -> int:
        """Of a vector; the weights are not read for it."""
        for owner in (self._config, self._config.get("text_config") or {}):
            for name in ("hidden_size", "n_embd", "d_model"):
                if isinstance(owner.get(name), int):
                    return int(owner[name])
        return int(self.causal_model.model.config.get_text_config().hidden_size)

    @property
    def trainable(self) -> bool:
        """Whether it learns."""
        return self.adaptation != "frozen"

    def fingerprint(self) -> str:
        """Of the model's content and of how it is read."""
        without_place = {name: value for name, value in self.settings.items() if name != "model"}
        return content_key(NUMERICS, without_place)

    def modules(self) -> dict[str, Module]:
        """The adapter, or the trunk of the model, or nothing."""
        if self.adaptation == "frozen":
            return {}
        if self.adaptation == "full":
            return {"trunk": self.causal_model.trunk}
        from plaudit.engines.lora import adapter_layers, adapter_module

        return {"adapter": adapter_module(adapter_layers(self.causal_model.model), self.causal_model.model)}

    @cached_property
    def _config(self) -> dict[str, Any]:
        """config.json; nothing where the folder has none (GGUF)."""
        try:
            found: dict[str, Any] = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise EngineError(f"'{self.folder}' has no readable config.json: {error}") from error
        return found

    @cached_property
    def causal_model(self) -> CausalModel:
        """The model, with its adapter, loaded now."""
        from plaudit.engines.forward import CausalModel, load_model
        from plaudit.engines.lora import LoRA, add_lora
        from plaudit.engines.opening import switch_dropout_off

        whole = load_model(self.folder, self.dtype, self.device)
        if self.layers is not None:
            keep_layers(whole, self.layers)
        whole.requires_grad_(self.adaptation == "full")
        switch_dropout_off(whole)
        model = CausalModel(whole, precision=self.precision)
        if self.adaptation == "lora":
            add_lora(whole, LoRA(self.rank, self.alpha), self.seed)
        return model

    @cached_property
    def reader(self) -> TextReader:
        """Prompt and response as tokens."""
        known = {**self._config, **(self._config.get("text_config") or {})}
        limits = [self.max_length, known.get("max_position_embeddings"), known.get("n_positions")]
        given = [limit for limit in limits if limit]
        vocabulary = known.get("vocab_size") or self.causal_model.vocabulary
        return TextReader(Codec(self.folder), self.template, self.pooling, min(given) if given else None, vocabulary)

    @cached_property
    def features_cache(self) -> FeatureCache | None:
        """Where frozen features are kept."""
        if self.cache is False or self.trainable:
            return None
        root = cache_dir() / "features" if self.cache is True else Path(self.cache)
        return FeatureCache(root / self.fingerprint())

    # -- reading ---------------------------------------------------------------------------------------------------------------

    def read(self, batch: Batch) -> list[Reading | Verdict]:
        """Each row as tokens, or why it has none."""
        positions = batch.extras.get("position", [None] * len(batch))
        rows = zip(batch.prompts, batch.require_responses(), positions, strict=True)
        return [self.reader.read(prompt, response, None if place is None else int(place)) for prompt, response, place in rows]

    def status(self, batch: Batch) -> Tensor:
        """[B] int8 of `Status`, by the texts alone."""
        import torch

        found = [Status.OK if isinstance(item, Reading) else item.status for item in self.read(batch)]
        return torch.tensor(found, dtype=torch.int8)

    def encode(self, batch: Batch) -> Tensor:
        """[B, width] float32 on the CPU, NaN where there is none; with gradient where trainable and gradients are enabled."""
        import torch

        found = self.read(batch)
        rows = [row for row, item in enumerate(found) if isinstance(item, Reading)]
        vectors = self._vectors([item for item in found if isinstance(item, Reading)])
        if len(rows) == len(found):
            return vectors
        return torch.full((len(found), self.width), torch.nan).index_copy(0, torch.tensor(rows, dtype=torch.int64), vectors)

    def read_features(self, batch: Batch) -> Features:
        """The vectors with the reason of each row that has none."""
        import torch

        with torch.no_grad():
            return Features(self.encode(batch), self.status(batch))

    def features(self, batch: Batch) -> Tensor:
        """[B, width] without gradient."""
        return self.read_features(batch).vectors

    def _vectors(self, readings: Sequence[Reading]) -> Tensor:
        """[n, width]; equal rows are computed once."""
        import torch

        if not readings:
            return torch.zeros(0, self.width)
        number: dict[Tokens, int] = {}
        index = [number.setdefault((one.ids, one.places), len(number)) for one in readings]
        distinct = list(number)
        if self.trainable and torch.is_grad_enabled():
            with self._in_hand():
                return self._pooled(distinct)[index]
        with torch.no_grad():
            found = self._kept(distinct) if self.features_cache is not None else dict(enumerate(self._computed(distinct)))
            return torch.stack([found[row] for row in index])

    def _kept(self, rows: Sequence[Tokens]) -> dict[int, Tensor]:
        """[width] of each row number: from the cache, or computed now, chunk by chunk, and kept."""
        cache = self.features_cache
        assert cache is not None
        keys = [content_key(*row) for row in rows]
        known = cache.get(keys)
        missing = [row for row, key in enumerate(keys) if key not in known]
        done = len(rows) - len(missing)
        for chunk in chunks([len(rows[row][0]) for row in missing], CHUNK_TOKENS):
            chosen = [missing[place] for place in chunk]
            fresh = dict(zip([keys[row] for row in chosen], self._computed([rows[row] for row in chosen]), strict=True))
            # a row that failed now (memory) may not fail the next time
            cache.put({key: vector for key, vector in fresh.items() if bool(vector.isfinite().all())})
            known.update(fresh)
            done += len(chosen)
            if self.progress is not None:
                self.progress(done, len(rows))
        return {row: known[key] for row, key in enumerate(keys)}

    def _computed(self, rows: Sequence[Tokens]) -> list[Tensor]:
        """[width] of each row without gradient; NaN for one that the model fails on."""
        import torch

        from plaudit.engines.local import BATCH_TOKENS, CPU_BATCH_TOKENS

        found: dict[int, Tensor] = {}
        with self._in_hand() as model, torch.no_grad():
            size = CPU_BATCH_TOKENS if model.device.type == "cpu" else BATCH_TOKENS
            pending = model.plan([ids for ids, _ in rows], size)
            while pending:
                batch = pending.pop(0)
                try:
                    found.update(zip(batch, self._pooled([rows[row] for row in batch]), strict=True))
                except RuntimeError:  # out of memory, mostly: row by row, and a row that fails alone has no vector
                    if len(batch) == 1:
                        found[batch[0]] = torch.full((self.width,), torch.nan)
                    else:
                        pending = [[row] for row in batch] + pending
        return [found[row] for row in range(len(rows))]

    def _pooled(self, rows: Sequence[Tokens]) -> Tensor:
        """[n, width] float32 on the CPU: the mean of the states at each row's places; shared prefixes go through once."""
        import torch

        from plaudit.engines.prefix_tree.training import PAD, tree_checkpoints

        places = [(number, place) for number, (_, own) in enumerate(rows) for place in own]
        with tree_checkpoints(self.causal_model.model):
            states = self.causal_model.states_at([ids for ids, _ in rows], places, PAD)
        states = states.float().cpu()
        if len(places) == len(rows):
            return states
        owner = torch.tensor([number for number, _ in places])
        sums = states.new_zeros(len(rows), states.shape[1]).index_add(0, owner, states)
        return sums / torch.tensor([len(own) for _, own in rows], dtype=states.dtype)[:, None]

    @contextmanager
    def _in_hand(self) -> Iterator[CausalModel]:
        """The model, for one caller at a time."""
        with self.causal_model.lock:
            yield self.causal_model


def keep_layers(model: Any, count: int) -> None:
    """Leave a transformers causal language model its `count` lowest layers, in place. Raises SpecError if it has fewer."""
    from torch.nn import ModuleList

    config = model.config.get_text_config()
    there = int(config.num_hidden_layers)
    if count > there:
        raise SpecError(f"layers is {count}, but the model has {there}")
    owners = [
        (module, name)
        for module in model.base_model.modules()
        for name, child in module.named_children()
        if isinstance(child, ModuleList) and len(child) == there
    ]
    if len(owners) != 1:
        raise SpecError("layers: this model does not keep its layers in one list")
    owner, name = owners[0]
    setattr(owner, name, getattr(owner, name)[:count])
    config.num_hidden_layers = count
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:count]
