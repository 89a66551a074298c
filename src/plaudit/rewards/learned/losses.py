"""Losses of learned rewards: pairs, levels, ratings, rankings. All are sums over units, or one number a unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plaudit.types import Loss, Preferences

if TYPE_CHECKING:
    from torch import Tensor

DISAGREEMENT_LIMIT = 20.0
"""exp(-20) is about 2e-9: beyond it a weight is 0 for every purpose, and its gradient would underflow."""


def pair_losses(gaps: Tensor, prob: Tensor, *, margin: float | Tensor = 0.0, smoothing: float = 0.0) -> Tensor:
    """[P] -p log sigmoid(gap - margin) - (1 - p) log sigmoid(-gap - margin), p = prob (1 - 2 smoothing) + smoothing.

    Bradley and Terry, Biometrika 39 (1952), with soft labels (a tie is p = 0.5); margin: Touvron et al., arXiv 2307.09288,
    equation 2; smoothing: the share of labels taken to be wrong (Mitchell, "A note on DPO with noisy preferences", 2023).
    gaps: [P] reward of the first less that of the second. Swapping all pairs and labels changes nothing.
    """
    from torch.nn.functional import logsigmoid

    target = prob.to(gaps.dtype) * (1 - 2 * smoothing) + smoothing
    return -target * logsigmoid(gaps - margin) - (1 - target) * logsigmoid(-gaps - margin)


def bradley_terry_loss(
    rewards: Tensor,
    preferences: Preferences,
    *,
    margin: float | Tensor = 0.0,
    smoothing: float = 0.0,
    centring: float = 0.0,
) -> Loss:
    """Sum over pairs of weight x (pair_losses + centring (r_i + r_j)^2).

    centring: keeps rewards around 0, which pairs alone leave open (Eisenstein et al., arXiv 2312.09244, section 2). rewards: [B].
    Stats: `accuracy` over decided pairs (NaN where all are ties; equal rewards count 0.5), `gap`: mean |r_i - r_j|.
    """
    left, right = rewards[preferences.first], rewards[preferences.second]
    losses = pair_losses(left - right, preferences.prob, margin=margin, smoothing=smoothing)
    if centring:
        losses = losses + centring * (left + right).square()
    if preferences.weight is not None:
        losses = losses * preferences.weight.to(losses.dtype)
    gaps = (left - right).detach()
    stats = {"accuracy": pair_accuracy(gaps, preferences.prob), "gap": float(gaps.abs().mean()) if len(gaps) else float("nan")}
    return Loss(losses.sum(), stats=stats)


def pair_accuracy(gaps: Tensor, prob: Tensor) -> float:
    """Share of decided pairs (prob not 0.5) whose gap has the label's sign; a gap of 0 counts 0.5. NaN without decided pairs."""
    decided = prob != 0.5
    if not bool(decided.any()):
        return float("nan")
    agreement = gaps[decided].sign().double() * (prob[decided] - 0.5).sign()
    return float((agreement + 1).mean() / 2)


def ordered_thresholds(lowest: Tensor, steps: Tensor) -> Tensor:
    """[K - 1] increasing cut points of K levels: `lowest` [1], then each softplus(steps) [K - 2] above the one before."""
    import torch

    return torch.cat([lowest, lowest + torch.nn.functional.softplus(steps).cumsum(0)])


def ordinal_losses(latent: Tensor, thresholds: Tensor, levels: Tensor) -> Tensor:
    """[B] -log P(level), with P(level > k) = sigmoid(latent - thresholds[k]): the proportional-odds model (McCullagh, 1980).

    latent: [B]. thresholds: [K - 1], increasing. levels: [B] int64 in 0 .. K - 1.
    With a = latent - lower cut, b = latent - upper cut: P = sigmoid(a) sigmoid(-b) (1 - e^(b - a)), without cancellation.
    """
    import torch
    from torch.nn.functional import logsigmoid

    last = len(thresholds)
    above = latent - thresholds[(levels - 1).clamp(min=0)]
    below = latent - thresholds[levels.clamp(max=last - 1)]
    inner = (levels > 0) & (levels < last)
    width = torch.where(inner, above - below, torch.ones_like(above))
    log_prob = torch.where(levels > 0, logsigmoid(above), 0.0) + torch.where(levels < last, logsigmoid(-below), 0.0)
    return -(log_prob + torch.where(inner, torch.log(-torch.expm1(-width)), 0.0))


def rating_losses(predicted: Tensor, ratings: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    """[B] mean over a row's ratings of ((predicted - rating) / scale)^2; ratings that are NaN are not counted.

    predicted, ratings: [B] or [B, A]. scale: the ratings' standard deviations, a number or [A]. A row without any rating costs 0.
    """
    import torch

    if predicted.dim() == 1:
        predicted, ratings = predicted[:, None], ratings[:, None]
    known = ~ratings.isnan()
    errors = torch.where(known, (predicted - ratings.to(predicted.dtype).nan_to_num()) / scale, 0.0)
    return errors.square().sum(1) / known.sum(1).clamp(min=1)


def plackett_luce_losses(scores: Tensor, ratings: Tensor, groups: Tensor) -> Tensor:
    """[B] for each row the -log probability that it is chosen first among the rows of its group that are rated no higher.

    Their sum over a group without equal ratings is the Plackett-Luce negative log-likelihood of its ranking (Luce 1959, Plackett
    1975). Equally rated rows are each chosen from all that are not above them (Breslow's rule), so they are pulled together.
    scores, ratings: [B], higher is better. groups: [B]. Takes memory B x B: give it mini-batches.
    """
    import torch

    rivals = (groups[:, None] == groups[None]) & (ratings[None] <= ratings[:, None])
    every = scores[None].expand(len(scores), -1).masked_fill(~rivals, -torch.inf)
    return every.logsumexp(1) - scores


def disagreement_weight(disagreement: Tensor, scale: float = 1.0) -> Tensor:
    """exp(-scale |d|), at least exp(-20): how far a number is trusted whose two passes differ by d (Ctrl-U, arXiv 2410.11236)."""
    return (-(scale * disagreement.abs()).clamp(max=DISAGREEMENT_LIMIT)).exp()


def rectified_losses(losses: Tensor, disagreement: Tensor, *, scale: float = 1.0, cost: float = 1.0) -> Tensor:
    """exp(-u) x loss + cost x u, with u = scale |d|: the loss of an unreliable number counts less, and disagreeing has its price.

    Ctrl-U, arXiv 2410.11236 (equations 2 and 3). Without the second term, making the two passes disagree would be the way out.
    """
    return disagreement_weight(disagreement, scale) * losses + cost * scale * disagreement.abs()
