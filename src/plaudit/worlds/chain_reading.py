"""What is read off the solutions of `ChainWorld`: a decoder that knows such texts, labels at random, first parts, answers."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from plaudit.rewards.learned.decoder import TokenDecoder
from plaudit.trust.benchmarks.ranks import auc, curve_statistic
from plaudit.types import Batch, Preferences
from plaudit.worlds.chains import ChainWorld

if TYPE_CHECKING:
    from torch import Tensor

_LAST_RESULT = re.compile(r"=(-?\d+)$")


def chain_reader(world: ChainWorld, level: str | None, seed: int = 0) -> TokenDecoder:
    """A decoder of the world's size for a reward, with the weights of a start model; level None: with random ones."""
    decoder = TokenDecoder(world.characters, seed=seed, **asdict(world.decoder))
    if level is not None:
        decoder.take_weights(world.base(level, seed).causal_model.trunk)
    return decoder


def final_answer(text: str) -> str | None:
    """The result of the last step of a finished solution; None where a solution does not end with a result."""
    found = _LAST_RESULT.search(text)
    return None if found is None else str(int(found[1]))


def auroc(values: Sequence[float], right: Sequence[bool]) -> float:
    """P(a right solution has a larger value than a wrong one), ties counting half; NaN where one kind is missing."""
    import numpy as np

    if not values:
        return math.nan
    return float(curve_statistic(values, right, auc)(np.ones((1, len(values)), dtype=np.int64))[0])


def shuffled_labels(preferences: Preferences, seed: int) -> Preferences:
    """The same pairs with labels by the toss of a coin: what a reward without anything to learn is fitted on."""
    import torch

    drawn = torch.rand(len(preferences), generator=torch.Generator().manual_seed(seed)) < 0.5
    return Preferences(preferences.first, preferences.second, drawn.float(), preferences.weight)


def early_part(batch: Batch, share: float = 0.6) -> tuple[list[int], Tensor]:
    """(characters of each response's first part, [B] bool: pairs whose corrupted result lies in it, with both rows of a pair)."""
    import torch

    texts = [str(text) for text in batch.require_responses()]
    lengths = [max(1, int(share * len(text))) for text in texts]
    inside = [0 <= at < length for at, length in zip(batch.extras["wrong_from"], lengths, strict=True)]
    wrong = torch.tensor(inside[1::2])
    return lengths, wrong.repeat_interleave(2)


def partial_auroc(values: Tensor, batch: Batch, share: float = 0.6) -> float:
    """AUROC of the mean value over the first part of a solution, over questions whose corrupted result lies in that part.

    values: [B, T], one a character (a token of these texts), such as Q.
    """
    ends, inside = early_part(batch, share)
    rows = inside.nonzero()[:, 0].tolist()
    return auroc([float(values[row, : ends[row]].mean()) for row in rows], [batch.extras["wrong_from"][row] < 0 for row in rows])
