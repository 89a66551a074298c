"""Dawid and Skene's model of a panel: what the true labels are, and how each judge errs, from votes alone.

Every item has one true class, drawn with the prior; a judge who sees class c says class l with probability confusion[c, l],
independently of the other judges (Dawid and Skene, Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm,
1979). EM in log-space from the shares of votes; equal weights in, equal posteriors out, so a tie stays a tie. Judges that share
their mistakes break the independence, and the model then trusts them too much: `agreement` beside it is the warning.
Intervals are a bootstrap over items (or clusters of them).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plaudit.trust.agreement import Measured
from plaudit.trust.bootstrap import cluster_bootstrap

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Codes = NDArray[np.int64]

MISSING = -1
"""A vote that was not given."""


@dataclass(frozen=True)
class DawidSkene:
    """A fitted panel of J judges over C classes.

    posterior: [N, C] probability of each class per item, NaN where an item has no vote. prior: [C]. confusion: [J, C, C],
    row true class, column what the judge says. log_posterior: of the fit, penalty included; it never falls between rounds.
    rounds: of EM. converged: whether the last round gained less than the tolerance.
    """

    posterior: Floats
    prior: Floats
    confusion: Floats
    log_posterior: float
    rounds: int
    converged: bool

    @property
    def accuracy(self) -> Floats:
        """[J] probability that a judge names the true class, over the prior."""
        accuracy: Floats = (self.prior[None, :] * self.confusion.diagonal(axis1=1, axis2=2)).sum(axis=1)
        return accuracy

    def labels(self, margin: float = 1e-9) -> list[int | None]:
        """Most probable class of each item; None for a tie and for an item without votes."""
        found: list[int | None] = []
        for row in self.posterior.tolist():
            top = max(row) if not any(math.isnan(value) for value in row) else math.nan
            best = [label for label, value in enumerate(row) if value >= top - margin]
            found.append(best[0] if len(best) == 1 else None)
        return found

    def read(self, votes: Sequence[Sequence[int]] | Codes) -> Floats:
        """[M, C] posterior of new items from the same judges' votes [M, J]; NaN where an item has no vote."""
        codes = _codes(votes, len(self.prior))
        if codes.shape[1] != len(self.confusion):
            raise ValueError(f"the panel has {len(self.confusion)} judges, the votes are of {codes.shape[1]}")
        joint = _log_joint(_said(codes, len(self.prior)), self.prior[None], self.confusion[None])[0]
        return _shares(joint, (codes != MISSING).any(axis=1))


def dawid_skene(
    votes: Sequence[Sequence[int]] | Codes,
    classes: int,
    *,
    swap: Sequence[int] | None = None,
    anchor: float = 1.0,
    smoothing: float = 0.01,
    most_rounds: int = 2000,
    tolerance: float = 1e-9,
) -> DawidSkene:
    """Fit the model by EM.

    votes: [N, J] class numbers 0 .. classes - 1, `MISSING` where a judge did not vote. swap: for votes on pairs, the class
    that each class becomes when the two responses change places (first, tie, second: 2, 1, 0); prior and confusions are then
    kept symmetric, so that swapping every pair mirrors every posterior.
    smoothing, anchor: Dirichlet penalties, in votes. The first is added to each cell of every confusion and to the prior:
    without it a judge who never erred on 5 items would be believed for ever. The anchor is added where a judge is right: votes
    alone do not tell a class from its name, and one judge, or judges that only ever contradict each other, would otherwise
    drift to saying nothing.
    tolerance: gain in log-posterior per item below which EM stops.
    Raises ValueError without votes, for classes below 2, for labels out of range and for a swap that is no involution.
    """
    codes = _codes(votes, classes)
    if swap is not None and (len(swap) != classes or any(swap[swap[c]] != c for c in range(classes))):
        raise ValueError(f"swap is {list(swap)}: swapping twice must give the same class back")
    if not (codes != MISSING).any():
        raise ValueError("there is no vote to fit a panel on")
    import numpy as np

    ones = np.ones((1, len(codes)))
    settings = (_order(swap, classes), (smoothing, anchor), most_rounds, tolerance)
    prior, confusion, gained, rounds, converged = _fit(_said(codes, classes), ones, *settings)
    joint = _log_joint(_said(codes, classes), prior, confusion)[0]
    posterior = _shares(joint, (codes != MISSING).any(axis=1))
    return DawidSkene(posterior, prior[0], confusion[0], float(gained[0]), rounds, converged)


def judge_accuracies(
    votes: Sequence[Sequence[int]] | Codes,
    classes: int,
    *,
    swap: Sequence[int] | None = None,
    anchor: float = 1.0,
    smoothing: float = 0.01,
    clusters: Sequence[Hashable] | None = None,
    repeats: int = 200,
    seed: int = 0,
) -> list[Measured]:
    """Each judge's accuracy by the model, with a 95 % bootstrap interval over items: the model is fitted again in each draw.

    clusters: of each item (several pairs of one prompt); each item its own if None. A judge without a vote is not measured.
    """
    import numpy as np

    codes = _codes(votes, classes)
    kept = codes[(codes != MISSING).any(axis=1)]
    names = [name for name, row in zip(clusters or range(len(codes)), codes, strict=True) if bool((row != MISSING).any())]
    said, order = _said(kept, classes), _order(swap, classes)
    found = []
    for judge in range(codes.shape[1]):
        cast = int((kept[:, judge] != MISSING).sum())
        if cast == 0:
            found.append(Measured(None, {"no votes": len(kept)}))
            continue

        def accuracy(weights: Any, judge: int = judge) -> Floats:
            prior, confusion, *_ = _fit(said, np.asarray(weights, dtype=np.float64), order, (smoothing, anchor), 200, 1e-7)
            values: Floats = (prior * confusion[:, judge].diagonal(axis1=1, axis2=2)).sum(axis=1)
            return values

        interval = cluster_bootstrap(names, accuracy, repeats=repeats, seed=seed, share=True)
        found.append(Measured(interval, {} if interval is not None else {"no interval": len(kept)}))
    return found


def _codes(votes: Sequence[Sequence[int]] | Codes, classes: int) -> Codes:
    import numpy as np

    codes = np.asarray(votes, dtype=np.int64)
    if classes < 2:
        raise ValueError(f"{classes} classes cannot be told apart")
    if codes.ndim != 2 or codes.shape[1] < 1:
        raise ValueError(f"votes have the shape {codes.shape}, expected items x judges")
    if codes.size and (codes.min() < MISSING or codes.max() >= classes):
        raise ValueError(f"votes lie between {codes.min()} and {codes.max()}, expected {MISSING} to {classes - 1}")
    return codes


def _said(codes: Codes, classes: int) -> Floats:
    """[N, J, C] 1 where a judge said a class; a missing vote is a row of zeros."""
    import numpy as np

    said: Floats = (codes[:, :, None] == np.arange(classes)).astype(np.float64)
    return said


def _order(swap: Sequence[int] | None, classes: int) -> list[int]:
    return list(range(classes)) if swap is None else list(swap)


def _fit(
    said: Floats, weights: Floats, swap: Sequence[int], penalties: tuple[float, float], most_rounds: int, tolerance: float
) -> tuple[Floats, Floats, Floats, int, bool]:
    """EM for R weightings of the items at once: weights [R, N] -> prior [R, C], confusion [R, J, C, C], log-posterior [R]."""
    import numpy as np

    cast = said.sum(axis=1)
    total = cast.sum(axis=1, keepdims=True)
    classes = said.shape[2]
    first = np.where(total > 0, cast / np.maximum(total, 1), 1 / classes)
    posterior = np.broadcast_to(first, (len(weights), *first.shape))
    before = np.full(len(weights), -np.inf)
    voted = (total[:, 0] > 0).astype(np.float64)
    smoothing, anchor = penalties
    added = smoothing + anchor * np.eye(classes)
    rounds, converged = 0, False
    while rounds < most_rounds and not converged:
        rounds += 1
        prior, confusion = _maximised(said, weights * voted, posterior, swap, smoothing, added)
        joint = _log_joint(said, prior, confusion)
        peak = joint.max(axis=2, keepdims=True)
        evidence = peak[:, :, 0] + np.log(np.exp(joint - peak).sum(axis=2))
        penalty = smoothing * np.log(prior).sum(axis=1) + (added * np.log(confusion)).sum(axis=(1, 2, 3))
        now = (weights * voted * evidence).sum(axis=1) + penalty
        posterior = np.exp(joint - evidence[:, :, None])
        items = np.maximum((weights * voted).sum(axis=1), 1)
        converged = bool(((now - before) <= tolerance * items).all())
        before = now
    return prior, confusion, before, rounds, converged


def _maximised(
    said: Floats, weights: Floats, posterior: Floats, swap: Sequence[int], smoothing: float, added: Floats
) -> tuple[Floats, Floats]:
    """Prior and confusions from weighted posteriors and the penalties; made symmetric under the swap."""
    import numpy as np

    weighed = weights[:, :, None] * posterior
    mass = weighed.sum(axis=1) + smoothing
    counts = np.matmul(weighed.transpose(0, 2, 1), said.reshape(len(said), -1)[None])
    counts = counts.reshape(len(weights), said.shape[2], said.shape[1], said.shape[2]).transpose(0, 2, 1, 3) + added
    order = list(swap)
    mass = mass + mass[:, order]
    counts = counts + counts[:, :, order][:, :, :, order]
    return mass / mass.sum(axis=1, keepdims=True), counts / counts.sum(axis=3, keepdims=True)


def _log_joint(said: Floats, prior: Floats, confusion: Floats) -> Floats:
    """[R, N, C] log P(class and votes)."""
    import numpy as np

    flat = np.log(confusion).transpose(0, 1, 3, 2).reshape(len(prior), -1, prior.shape[1])
    joint: Floats = np.log(prior)[:, None] + np.matmul(said.reshape(len(said), -1)[None], flat)
    return joint


def _shares(joint: Floats, voted: Any) -> Floats:
    import numpy as np

    shifted = np.exp(joint - joint.max(axis=1, keepdims=True))
    shares: Floats = np.where(voted[:, None], shifted / shifted.sum(axis=1, keepdims=True), np.nan)
    return shares
