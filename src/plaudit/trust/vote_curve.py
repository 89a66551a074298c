"""What more votes would be worth: accuracy against their number, from the votes that are stored and nothing else.

The accuracy at k of K stored votes is the mean over all subsets of k of them (over `MOST_SUBSETS` drawn ones where there are
more), so it is unbiased for k fresh votes, nothing is asked again, and every vote counts at every k. Credit of a case is its
mean over subsets; intervals are clustered by prompt, so they are those of the cases, not of the subsets. How the votes of a
subset are counted is `plaudit.rewards.generative.counting`, as for the reward itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from plaudit.fitting.seeds import derive_seed
from plaudit.judging.metrics import TIE_MARGIN
from plaudit.judging.results import RowResult
from plaudit.judging.voting import votes_of
from plaudit.rewards.base import Native
from plaudit.rewards.generative.counting import group_shares, modal_value, moments_of_votes
from plaudit.rewards.generative.voting import Combine
from plaudit.trust.agreement import Case, Measured, cluster_of, measure, places, win

if TYPE_CHECKING:
    from torch import Tensor

MOST_SUBSETS = 256
Credit = Callable[["Tensor"], "Tensor"]
"""Subsets of a case's votes, [K, S] bool -> [S] credit in [0, 1], NaN where a subset has no usable vote."""


@dataclass(frozen=True)
class VotePoint:
    """Accuracy with k votes. undecided: share of (case, subset) without a single usable vote, which are no part of it."""

    k: int
    accuracy: Measured
    undecided: float

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        return {"k": self.k, "accuracy": self.accuracy.to_json(), "undecided": round(self.undecided, 6)}


def subsets(total: int, k: int, seed: int, most: int = MOST_SUBSETS) -> Tensor:
    """[total, S] bool: every subset of k of `total` votes, or `most` random ones where there are more.

    Raises ValueError unless 1 <= k <= total.
    """
    import torch

    if not 1 <= k <= total:
        raise ValueError(f"{k} of {total} votes cannot be taken")
    if math.comb(total, k) <= most:
        chosen = torch.tensor(list(combinations(range(total), k)), dtype=torch.int64)
    else:
        generator = torch.Generator().manual_seed(derive_seed(seed, "subsets", total, k))
        chosen = torch.rand(most, total, generator=generator).argsort(dim=1)[:, :k]
    return torch.zeros(len(chosen), total, dtype=torch.bool).scatter_(1, chosen, True).T


def default_counts(total: int) -> list[int]:
    """1, 2, 4 ... below the total, and the total."""
    return [*(2**power for power in range(total.bit_length()) if 2**power < total), total]


def curve_of(
    cases: Iterable[tuple[Hashable, Credit]], total: int, ks: Sequence[int] | None = None, seed: int = 0, *, strict: bool = False
) -> list[VotePoint]:
    """The curve of any cases: (cluster, credit) each. strict: a subset without a usable vote is wrong, not left out."""
    known = list(cases)
    points = []
    for k in default_counts(total) if ks is None else ks:
        chosen = subsets(total, k, seed)
        found: list[tuple[Hashable, Case]] = []
        silent = 0.0
        for cluster, credit in known:
            credits = credit(chosen)
            silent += float(credits.isnan().double().mean())
            credits = credits.nan_to_num(0.0) if strict else credits
            decided = ~credits.isnan()
            value = float(credits[decided].mean()) if bool(decided.any()) else None
            found.append((cluster, (value, "" if value is not None else "no usable vote")))
        points.append(VotePoint(k, measure(found), silent / len(known) if known else 0.0))
    return points


def counted(values: Tensor, used: Tensor, combine: Combine, native: Native = "score") -> Tensor:
    """[S, R] votes on R responses as each of S subsets counts them; NaN where it has no usable vote.

    values: [K, R] higher is better. used: [K, S, R] bool, of subsets and of votes with a number at once.
    """
    import torch

    each = values[:, None, :].expand(used.shape)
    if combine != "majority":  # a sum orders as the mean does
        return moments_of_votes(each, used)[0]
    if native == "score_group":
        return group_shares(each, used[:, :, 0])
    flat = modal_value(each.reshape(len(values), -1), used.reshape(len(values), -1))
    return torch.as_tensor(flat).reshape(used.shape[1:])


def pick_credit(values: Tensor, best: Tensor, combine: Combine = "mean", native: Native = "score_group") -> Credit:
    """Credit of picking the highest response: 1 for one of the best, a tie shared. values: [K, R]. best: [R] bool.

    In a group a vote without a number for some response does not count.
    """
    import torch

    usable = values.isfinite().all(dim=1, keepdim=True) if native == "score_group" else values.isfinite()

    def credit(chosen: Tensor) -> Tensor:
        said = counted(values, chosen[:, :, None] & usable[:, None, :].expand(-1, -1, values.shape[1]), combine, native)
        top = said >= said.amax(dim=1, keepdim=True) - TIE_MARGIN
        share = (top & best).double().sum(dim=1) / top.double().sum(dim=1)
        return torch.where(said.isnan().any(dim=1), torch.nan, share)

    return credit


def pick_share(values: Tensor, right: Tensor) -> float:
    """Share of groups whose highest value is the right response's, a tie shared; a group without values is not right.

    values: [U, R], NaN where there are none. right: [U, R] bool.
    """
    import torch

    top = values == torch.where(values.isnan(), -torch.inf, values).amax(dim=1, keepdim=True)
    return float(((top & right).double().sum(1) / top.double().sum(1).clamp_min(1)).mean())


def contest_credit(values: Tensor, combine: Combine = "mean", native: Native = "score") -> Credit:
    """Credit of ordering two responses, the better one first: 1, 0, or 0.5 for a tie. values: [K, 2]."""
    import torch

    return pick_credit(values, torch.tensor([True, False]), combine, native)


def vote_curve(
    results: Sequence[RowResult],
    *,
    ks: Sequence[int] | None = None,
    combine: Combine = "mean",
    native: Native = "score",
    seed: int = 0,
) -> list[VotePoint]:
    """Accuracy on labelled pairs (on labelled single responses where there are no pairs) against the number of votes.

    results: of `VoteRunner`; rows with fewer votes than most are left out of it. native: of the reward that voted.
    Empty where nothing was voted on or labelled. Raises ValueError for a k below 1 or above the votes that there are.
    """
    total = max((len(votes_of(result)) for result in results), default=0)
    voted = [result for result in results if len(votes_of(result)) == total]
    cases = [(cluster_of(result.row), credit) for result in voted for credit in _credits(result, combine, native)]
    return curve_of(cases, total, ks, seed) if cases and total > 1 else []


def _credits(result: RowResult, combine: Combine, native: Native) -> Iterator[Credit]:
    import torch

    votes, gold = votes_of(result), result.row.gold
    if gold is None:
        return
    if len(gold) == 1:
        if not result.pairs and gold[0] in (0.0, 1.0):
            yield _correct_credit(_table(votes), gold[0] == 1.0, combine)
        return
    for first, second in result.row.contests():
        if gold[first] == gold[second]:
            continue
        better, worse = (first, second) if gold[first] > gold[second] else (second, first)
        if result.pairs:
            place = next((n for n, pair in enumerate(result.pairs) if {pair.first, pair.second} == {better, worse}), None)
            if place is None:
                continue
            probs = torch.tensor([math.nan if vote.pairs[place].prob is None else vote.pairs[place].prob for vote in votes])
            probs = probs if result.pairs[place].first == better else 1 - probs
            if combine == "majority":
                probs = torch.where(probs.isnan(), torch.nan, (probs - 0.5).sign() / 2 + 0.5)
            yield contest_credit(torch.stack([probs, 1 - probs], dim=1))
        else:
            yield _chosen_credit(_table(votes), better, worse, combine, native)


def _table(votes: Sequence[RowResult]) -> Tensor:
    """[K, R] the values of each vote, NaN where there is none."""
    import torch

    return torch.tensor([[math.nan if value is None else value for value in vote.values] for vote in votes], dtype=torch.float64)


def _chosen_credit(table: Tensor, better: int, worse: int, combine: Combine, native: Native) -> Credit:
    """Credit of two of several responses, which are counted together."""
    import torch

    usable = table.isfinite()
    if native == "score_group":
        usable = usable.all(dim=1, keepdim=True).expand_as(usable)

    def credit(chosen: Tensor) -> Tensor:
        said = counted(table, chosen[:, :, None] & usable[:, None, :], combine, native)
        margin = said[:, better] - said[:, worse]
        return torch.where(margin.isnan(), torch.nan, torch.where(margin.abs() <= TIE_MARGIN, 0.5, (margin > 0).double()))

    return credit


def _correct_credit(table: Tensor, right: bool, combine: Combine) -> Credit:
    """Credit of calling a single response right (above 0.5) or wrong."""
    import torch

    usable = table.isfinite()

    def credit(chosen: Tensor) -> Tensor:
        said = counted(table, chosen[:, :, None] & usable[:, None, :], combine)[:, 0]
        return torch.where(said.isnan(), torch.nan, ((said > 0.5) == right).double())

    return credit


def vote_agreement(results: Sequence[RowResult]) -> Measured:
    """How often two votes on the same thing say the same: mean of 1 - |a - b| over pairs of votes, a tie half.

    Of each pair of responses that was judged; of rows with one response, whether the two values are equal.
    """

    def cases() -> Iterator[tuple[Hashable, Case]]:
        for result in results:
            votes = votes_of(result)
            if len(votes) < 2:
                continue
            if len(result.row.responses) == 1:
                values = [vote.values[0] for vote in votes if vote.values and vote.values[0] is not None]
                yield cluster_of(result.row), _alike([float(a == b) for a, b in combinations(values, 2)])
                continue
            judged = [(pair.first, pair.second) for pair in result.pairs] or list(places(result.row))
            for i, j in judged:
                wins = [won for vote in votes if (won := win(vote, i, j)[0]) is not None]
                yield cluster_of(result.row), _alike([1 - abs(a - b) for a, b in combinations(wins, 2)])

    return measure(cases())


def _alike(found: Sequence[float]) -> Case:
    return (math.fsum(found) / len(found), "") if found else (None, "fewer than two usable votes")
