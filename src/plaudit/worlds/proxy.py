"""`ProxyReward`: a small learned reward of a world, fitted to few noisy comparisons of a start model's own samples."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plaudit.engines.prefix_tree.training import PAD, bradley_terry_loss
from plaudit.fitting import FitConfig, ShuffledRows, TrainResult, derive_seed, train
from plaudit.rewards.base import BaseReward
from plaudit.types import Batch, Context, Loss, Scores
from plaudit.types.keys import content_key
from plaudit.types.paths import cache_dir

if TYPE_CHECKING:
    from torch import Tensor

    from plaudit.generators.language import LanguageGenerator
    from plaudit.worlds.base import TextWorld

ROWS = 128
"""Rows of a forward pass."""
PAIRS = 32
"""Pairs of an update."""


class ProxyReward(BaseReward):
    """A Bradley-Terry reward: a linear head on the sum of a decoder's last states over the response.

    The sum makes what it learned of one character add up over many, far beyond what it has seen: the mistake that a policy
    finds. (Of a mean, which is bounded, there is little left to gain once half of the response is wrong.)
    decoder: its trunk is copied and trained further; its tokenizer reads the texts. The prompt is not looked at.
    """

    name = "proxy"
    uses_seed = False
    batch_size = 256

    def __init__(self, decoder: LanguageGenerator, key: str) -> None:
        import torch

        self.decoder = copy.deepcopy(decoder)
        width = int(self.decoder.causal_model.model.config.hidden_size)
        self.head = torch.nn.Linear(width, 1, bias=False)
        torch.nn.init.zeros_(self.head.weight)
        self.settings = {"key": key}

    def modules(self) -> dict[str, Any]:
        """What is fitted: the trunk and the head."""
        return {"trunk": self.decoder.causal_model.trunk, "head": self.head}

    def network(self) -> Any:
        """Both as one module."""
        import torch

        return torch.nn.ModuleDict(self.modules())

    def tokens(self, batch: Batch) -> list[list[int]]:
        """The tokens of each response, after the token that begins a text."""
        codec = self.decoder.codec
        return [[*codec.begin, *codec.encode_continuation(str(text))] for text in batch.require_responses()]

    def logits(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """[B] rewards of rows of tokens, with gradient."""
        import torch

        places = [(number, place) for number, row in enumerate(rows) for place in range(len(row))]
        counts = [len(row) for row in rows]
        with torch.enable_grad():
            each = self.head(self.decoder.causal_model.states_at(rows, places, PAD))[:, 0]
        return torch.stack([part.sum() for part in torch.split(each, counts)])

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:  # noqa: ARG002
        """[B] rewards."""
        import torch

        rows = self.tokens(batch)
        with torch.no_grad():
            parts = [self.logits(rows[start : start + ROWS]).detach() for start in range(0, len(rows), ROWS)]
        return Scores(torch.cat(parts) if parts else torch.empty(0))

    def fit_pairs(
        self, batch: Batch, pairs: Sequence[tuple[int, int]], config: FitConfig, *, epochs: int, seed: int
    ) -> TrainResult:
        """Bradley-Terry on pairs of rows, (better, worse)."""
        rows = self.tokens(batch)

        def loss(chosen: Sequence[tuple[int, int]]) -> Loss:
            tokens = [rows[row] for pair in chosen for row in pair]
            places = [(2 * number, 2 * number + 1) for number in range(len(chosen))]
            return Loss(bradley_terry_loss(self.logits(tokens), places) * len(chosen))

        shuffled = ShuffledRows(len(pairs), PAIRS, derive_seed(seed, "pairs"))
        return train(
            self.modules(), lambda epoch: ([pairs[row] for row in rows] for rows in shuffled(epoch)), loss, config,
            epochs=epochs, seed=seed,
        )  # fmt: skip


def noisy_pairs(values: Tensor, seed: int) -> list[tuple[int, int]]:
    """Rows 0 and 1, 2 and 3, ... as (better, worse), drawn with the Bradley-Terry probability of [2n] true values."""
    import torch

    first, second = values[0::2].double(), values[1::2].double()
    drawn = torch.rand(len(first), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    wins = drawn < (first - second).sigmoid()
    return [(2 * pair, 2 * pair + 1) if won else (2 * pair + 1, 2 * pair) for pair, won in enumerate(wins.tolist())]


def cached_proxy(world: TextWorld, level: str, seed: int, pairs: int) -> ProxyReward:
    """A world's proxy, fitted on the first call and kept in the cache folder as safetensors."""
    from filelock import FileLock
    from safetensors.torch import load_file, save_file

    start = world.base(level, seed)
    key = content_key("proxy-2", world.key(level, seed), pairs, world.truth.fingerprint())
    proxy = ProxyReward(start, key)
    path = cache_dir() / "worlds" / f"{world.name}-proxy-{key}.safetensors"
    with FileLock(path.with_suffix(".lock")):
        if not path.is_file():
            prompts = world.prompts("train", 2 * pairs, derive_seed(seed, "pairs"))
            samples = start.rollout(prompts, 1, how=world.sampling, seed=derive_seed(seed, "samples"))
            labelled = noisy_pairs(world.truth.score(samples.batch).values, derive_seed(seed, "labels"))
            config = FitConfig(learning_rate=1e-3, weight_decay=0.01, warmup_steps=5)
            proxy.fit_pairs(samples.batch, labelled, config, epochs=1, seed=seed)
            weights = {name: tensor.contiguous() for name, tensor in proxy.network().state_dict().items()}
            with tempfile.TemporaryDirectory(dir=path.parent) as work:
                save_file(weights, str(Path(work) / "proxy"))
                os.replace(Path(work) / "proxy", path)
    proxy.network().load_state_dict(load_file(str(path)))
    return proxy
