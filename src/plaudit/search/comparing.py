"""Searches beside their baseline of equal cost: plain best-of-n with the same mean number of samples, or of tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from plaudit.fitting.seeds import derive_seed
from plaudit.rewards.scoring import score_counted
from plaudit.search.best_of_n import BestOfN
from plaudit.types import Batch, Budget, Context, Generator, Reward, Search, SearchResult, UserError

Equal = Literal["samples", "sampled_tokens"]


@dataclass
class Compared:
    """A search and plain best-of-n at the same cost.

    quality, baseline_quality: what the independent reward says of each prompt's result, None where it says nothing or nothing was
    found. samples, tokens: mean a prompt, of the search and of the baseline.
    """

    name: str
    result: SearchResult
    baseline: SearchResult
    quality: list[float | None]
    baseline_quality: list[float | None]

    @property
    def gain(self) -> list[float | None]:
        """Quality less that of the baseline, prompt by prompt; None where either is missing."""
        pairs = zip(self.quality, self.baseline_quality, strict=True)
        return [None if ours is None or theirs is None else ours - theirs for ours, theirs in pairs]

    def figures(self) -> dict[str, float | int | None]:
        """Means over prompts; quality over those that have one, the others counted."""
        prompts = len(self.quality)
        return {
            "quality": _mean(self.quality),
            "baseline_quality": _mean(self.baseline_quality),
            "gain": _mean(self.gain),
            "without_quality": sum(value is None for value in self.gain),
            **{name: self.result.spent.get(name, 0.0) / prompts for name in ("samples", "sampled_tokens", "reward_calls")},
            **{f"baseline_{name}": self.baseline.spent.get(name, 0.0) / prompts for name in ("samples", "sampled_tokens")},
        }


def compare_searches(
    searches: Mapping[str, Search],
    generator: Generator,
    reward: Reward,
    prompts: Batch,
    *,
    truth: Reward,
    seed: int = 0,
    how: Any = None,
    equal: Equal = "samples",
    limits: Mapping[str, float] | None = None,
) -> list[Compared]:
    """Every search, and for each the plain best-of-n that costs the same.

    truth: the independent reward of results; no search sees it. how: sampling of the baselines. equal: what is
    the same: the mean number of samples a prompt, or of tokens, for which the baseline's n is the search's tokens over the mean
    tokens of its own samples, at least 1; what it really spent is in the figures. limits: of the budget of each search.

    Raises UserError without prompts, or for a search that drew nothing or whose samples have no tokens to compare by.
    """
    if not len(prompts):
        raise UserError("there are no prompts to search for")
    found = []
    for name, search in searches.items():
        result = search.run(generator, reward, prompts, budget=Budget(dict(limits or {})), seed=seed)
        n = _equal_n(name, result, len(prompts), equal, generator, reward, prompts, how, seed)
        plain = BestOfN(n=max(1.0, n), how=how)
        baseline = plain.run(generator, reward, prompts, budget=Budget(), seed=derive_seed(seed, "baseline"))
        qualities = [quality_of(one, truth, seed) for one in (result, baseline)]
        found.append(Compared(name, result, baseline, *qualities))
    return found


def _equal_n(
    name: str,
    result: SearchResult,
    count: int,
    equal: Equal,
    generator: Generator,
    reward: Reward,
    prompts: Batch,
    how: Any,
    seed: int,
) -> float:
    """Samples a prompt at which plain best-of-n costs what a search did."""
    if not result.spent.get(equal):
        raise UserError(f"the search '{name}' has spent no {equal}: there is no equal cost")
    if equal == "samples":
        return result.spent["samples"] / count
    trial = BestOfN(n=1, how=how).run(generator, reward, prompts, budget=Budget(), seed=derive_seed(seed, "length"))
    return result.spent[equal] / trial.spent[equal]


def quality_of(result: SearchResult, truth: Reward, seed: int = 0) -> list[float | None]:
    """What an independent reward says of each prompt's result; None where nothing was found or it says nothing."""
    rows = [row for row, ok in enumerate(result.scores.ok.tolist()) if ok]
    values: list[float | None] = [None] * len(result.batch)
    if rows:
        scores = score_counted(truth, result.batch.select(rows), Context(seed=seed)).scores
        for row, value in zip(rows, scores.values.tolist(), strict=True):
            values[row] = None if math.isnan(value) else value
    return values


def samples_of(result: SearchResult, prompts: Batch) -> Batch:
    """Every sample of a search as a batch, in the order of drawing, in groups by prompt."""
    import torch

    rows = [int(record["prompt"]) for record in result.history]
    responses = [record["response"] for record in result.history]
    return replace(prompts.select(rows), responses=responses, groups=torch.tensor(rows, dtype=torch.int64))


def expected_best_of_n(values: Sequence[float | None], worth: Sequence[float], n: float) -> float:
    """Mean worth of the sample with the highest value among n of one prompt's N, over all ways to draw them.

    The sample at rank r (from 0, the first of equals first) is the best of n with probability C(N-1-r, n-1) / C(N, n). A fraction
    of n mixes the whole numbers next to it. Samples without a value rank last. Raises ValueError unless 1 <= n <= N.
    """
    count, low = len(values), math.floor(n)
    if not 1 <= n <= count:
        raise ValueError(f"the best of {n:g} cannot be told from {count} samples")
    ranked = sorted(range(count), key=lambda row: -math.inf if values[row] is None else values[row], reverse=True)  # type: ignore[arg-type,return-value]

    def whole(size: int) -> float:
        ways = [math.comb(count - 1 - rank, size - 1) for rank in range(count)]
        return math.fsum(way * worth[row] for way, row in zip(ways, ranked, strict=True)) / math.comb(count, size)

    return whole(low) if n == low else (low + 1 - n) * whole(low) + (n - low) * whole(low + 1)


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
