"""Which questions to ask a new user: those whose answers say most about the latent of a `VariationalReward` (VPL, card 34).

A candidate is a set of N pairs. For each of several label vectors y the encoder gives a posterior N(mean_y, diag v_y); a set is
worth its information gain, the entropy of all of these together less their mean entropy.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Literal

from plaudit.rewards.learned.variational import Posterior, VariationalReward
from plaudit.types import Batch

if TYPE_CHECKING:
    from torch import Tensor

Form = Literal["total", "within", "released"]
Strategy = Literal["information", "best case", "random"]
ENUMERATED = 20
"""Up to so many pairs the 2^N label vectors are numbered and drawn without replacement; for more, each bit is drawn."""


def label_vectors(pairs: int, most: int, seed: int) -> Tensor:
    """[L, pairs] bool, different label vectors: all 2^pairs where these are at most `most`, else `most` of them by chance."""
    import torch

    draw = random.Random(seed)
    if pairs <= ENUMERATED:
        count = 2**pairs
        numbers = list(range(count)) if count <= most else sorted(draw.sample(range(count), most))
    else:
        numbers = [draw.getrandbits(pairs) for _ in range(most)]  # two alike among 2^21 and more do not matter
    return torch.tensor([[bool(number >> bit & 1) for bit in range(pairs)] for number in numbers]).reshape(len(numbers), pairs)


def gain(means: Tensor, variances: Tensor, form: Form = "total") -> Tensor:
    """[S] information gain in nats from [L, S, d] posteriors of L equally likely label vectors.

    "total": 1/2 sum_d (log(mean_y v_yd + var_y mean_yd) - mean_y log v_yd): the entropy of a diagonal normal with the mixture's
    variances less the mean entropy; never negative. "within": the same without the spread of the means. "released": log(mean_y
    sum_d v_yd) - mean_y sum_d log v_yd, the published code, whose first term adds variances up before the logarithm: it is no
    difference of entropies once d > 1, and is kept for comparison.
    """
    if form == "released":
        return variances.sum(-1).mean(0).log() - variances.log().sum(-1).mean(0)
    whole = variances.mean(0) + (means.var(0, unbiased=False) if form == "total" else 0.0)
    return 0.5 * (whole.log() - variances.log().mean(0)).sum(-1)


def answered(reward: VariationalReward, batch: Batch, sets: Tensor, labels: Tensor) -> Posterior:
    """Posteriors [L, S, d] of every set [S, N, 2] (row numbers) under every label vector [L, N] (True: first wins)."""
    import torch

    with torch.no_grad():
        vectors = reward.encode(batch)
        owner = torch.arange(len(sets)).repeat_interleave(sets.shape[1])
        found = []
        for label in labels:
            winner, loser = torch.where(label, sets[..., 0], sets[..., 1]), torch.where(label, sets[..., 1], sets[..., 0])
            found.append(reward.encode_sets(vectors[winner.flatten()], vectors[loser.flatten()], owner, len(sets)))
    return Posterior(torch.stack([one.mean for one in found]), torch.stack([one.log_variance for one in found]))


def information_gain(
    reward: VariationalReward, batch: Batch, sets: Tensor, *, labels: int = 50, form: Form = "total", seed: int = 0
) -> Tensor:
    """[S] what asking each set of pairs [S, N, 2] (row numbers of the batch) is worth; see `gain`. labels: most label vectors."""
    found = answered(reward, batch, sets, label_vectors(sets.shape[1], labels, seed))
    return gain(found.mean, found.log_variance.exp(), form)


def rank_questions(
    reward: VariationalReward, batch: Batch, sets: Tensor, strategy: Strategy = "information", *, labels: int = 50, seed: int = 0
) -> list[int]:
    """Numbers of the sets, the one to ask first in front.

    "information": by `information_gain`. "best case": by the lowest posterior entropy that some answers would leave. "random": in
    a random order, the baseline.
    """
    if strategy == "random":
        order = list(range(len(sets)))
        random.Random(seed).shuffle(order)
        return order
    if strategy == "information":
        worth = information_gain(reward, batch, sets, labels=labels, seed=seed)
    else:
        found = answered(reward, batch, sets, label_vectors(sets.shape[1], labels, seed))
        worth = -found.log_variance.sum(-1).min(0).values
    ranked: list[int] = worth.argsort(descending=True, stable=True).tolist()
    return ranked
