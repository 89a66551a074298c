"""What a batch costs as a tree and as padded rows, counted before anything is run.

The unit is one token through the trunk's matrices. Attention is added per pair of tokens; it runs far below the rate of
the matrices, which `ATTENTION` allows for. Calls of small kernels are added for every block and layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from plaudit.engines.prefix_tree.blocks import BLOCK
from plaudit.engines.prefix_tree.trie import Tokens, shared_length

ATTENTION = 3.0
"""How much slower an operation of attention is than one of a matrix product."""
CALL = 0.02
"""One block's attention calls in one layer, in tokens through one layer."""
ON_ACCELERATOR = {8: 1.8, 4: 1.8, 2: 4.0}
"""By bytes of a weight: how much slower a token of a tree is than one of a padded batch where kernels wait for their launch.
Measured on one H100 with SmolLM2-135M (16,384 unshared tokens, and 64 pairs): 1.6 to 1.7 in float32, 3.1 to 5 in bfloat16."""


@dataclass(frozen=True)
class Shape:
    """Of a model: operations per token in the trunk's matrices, per attended pair, kept bytes per token, and how much slower
    a token of a tree is than one of a padded batch on the model's device.
    """

    token: float
    pair: float
    kept_bytes: float
    slower: float = 1.0

    @classmethod
    def of(cls, model: Any, trunk: Any) -> Shape:
        """Read from the configuration and the number of weights; embeddings are looked up, not multiplied."""
        config = model.config.get_text_config()
        heads, width = config.num_attention_heads, config.hidden_size
        head = getattr(config, "head_dim", None) or width // heads
        keys = (getattr(config, "num_key_value_heads", None) or heads) * head
        layers = config.num_hidden_layers
        weights = sum(weight.numel() for weight in trunk.parameters()) - config.vocab_size * width
        slower = 1.0 if model.device.type == "cpu" else ON_ACCELERATOR.get(model.dtype.itemsize, 4.0)
        return cls(2.0 * weights, 4.0 * heads * head * layers, 2.0 * keys * layers * model.dtype.itemsize, slower)


@dataclass(frozen=True)
class Estimate:
    """Tokens and attended pairs of one way to run a batch, and its cost in tokens through the trunk."""

    tokens: int
    pairs: float
    cost: float


def tree_estimate(rows: Sequence[Tokens], shape: Shape) -> Estimate:
    """Of running the rows as one tree; no tree is built."""
    tokens, pairs, before = 0, 0.0, ()  # type: tuple[int, float, Tokens]
    for row in sorted(rows, key=list):
        shared = shared_length(before, row)
        fresh = len(row) - shared
        tokens += fresh
        pairs += fresh * (shared + min(fresh, BLOCK) + (fresh - min(fresh, BLOCK)) / 2)
        before = row
    blocks = tokens / BLOCK + 1
    cost = tokens + ATTENTION * pairs * shape.pair / shape.token + CALL * blocks
    return Estimate(tokens, pairs, shape.slower * cost)


def padded_estimate(lengths: Sequence[int], shape: Shape) -> Estimate:
    """Of running rows of these lengths as one padded batch."""
    widest = max(lengths, default=0)
    tokens = len(lengths) * widest
    pairs = tokens * widest / 2
    return Estimate(tokens, pairs, tokens + ATTENTION * pairs * shape.pair / shape.token)
