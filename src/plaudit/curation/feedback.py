"""Implicit feedback into preferences: what a community took up again, seen against how often it was shown.

A feed shows samples and counts how many people reuse each. Counts follow the author's audience and the time on show; rates do
not. `community_triplets` compares, within a prompt, samples whose rate is high beyond doubt with samples whose rate is low beyond
doubt (Social Reward's biases a to e; thresholds and prior are plaudit's own, as none are published). Everything that is left out
is counted in the `BuildReport`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from plaudit.fitting.seeds import derive_seed, permutation
from plaudit.types import Batch, Preferences
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Exposure:
    """What a feed logged about one sample.

    views: people who were shown it. reuse_users: who built on it; once a person. author: whose own reuse does not count.
    expert_reuse: reuses by top creators. posted: time of posting, in any unit.
    """

    views: int
    reuse_users: Collection[str]
    author: str = ""
    expert_reuse: int = 0
    posted: float = 0.0

    @property
    def reuses(self) -> int:
        """Other people who built on it."""
        return len(set(self.reuse_users) - {self.author})


@dataclass(frozen=True)
class TripletRules:
    """How counts become labels.

    prior: (a, b) of the Beta distribution of rates before anything was seen. level: mass of the central posterior interval.
    quantiles: (low, high) of the posterior mean rates of a prompt's samples with at least `least_views` views: a sample is
    positive where its whole interval lies above the high one, negative where it lies below the low one and it was seen by
    `least_views` people. least_users: a positive needs so many independent people. per_sample: pairs that one sample is in at
    most; per_prompt: of one prompt, so that common prompts do not dominate. posted_within: largest difference of posting times
    in a pair; None: any. expert_bonus: reuses that one by a top creator counts in addition. Raises ValueError for other numbers.
    """

    prior: tuple[float, float] = (1.0, 20.0)
    level: float = 0.9
    quantiles: tuple[float, float] = (0.3, 0.7)
    least_views: int = 30
    least_users: int = 2
    per_sample: int = 4
    per_prompt: int = 200
    posted_within: float | None = None
    expert_bonus: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.quantiles
        if not (0 <= low <= high <= 1 and 0 < self.level < 1 and min(self.prior) > 0):
            raise ValueError("expected 0 <= low quantile <= high quantile <= 1, 0 < level < 1 and a positive prior")
        if min(self.per_sample, self.per_prompt) < 1 or min(self.least_views, self.least_users, self.expert_bonus) < 0:
            raise ValueError("expected caps of at least 1, and no negative least_views, least_users or expert_bonus")


@dataclass
class BuildReport:
    """What became of the samples. dropped: by reason. prompts_without: with positives only, negatives only, or neither."""

    samples: int = 0
    positives: int = 0
    negatives: int = 0
    unlabelled: int = 0
    pairs: int = 0
    prompts: int = 0
    prompts_without_pairs: int = 0
    dropped: dict[str, int] = field(default_factory=dict)


def community_triplets(
    batch: Batch, exposures: Sequence[Exposure], rules: TripletRules | None = None, *, seed: int = 0
) -> tuple[Preferences, BuildReport]:
    """Pairs (first beats second) of the batch's rows, always of one prompt, from reuse rates.

    A sample without views, or with more reuses than views (a logging error), is dropped; so is one whose content was seen
    before under its prompt. seed: which pairs stay under the caps. Raises ValueError where the two lengths differ.
    """
    rules = rules or TripletRules()
    kept, report = _usable(batch, exposures)
    views = {row: float(exposures[row].views) for row in kept}
    reuses = {row: min(views[row], exposures[row].reuses + rules.expert_bonus * exposures[row].expert_reuse) for row in kept}

    def labelled(rows: Sequence[int]) -> tuple[list[int], list[int]]:
        mean, low, high = beta_interval([reuses[row] for row in rows], [views[row] for row in rows], rules.prior, rules.level)
        seen = [place for place, row in enumerate(rows) if views[row] >= rules.least_views]
        if not seen:
            return [], []
        below, above = _quantiles(mean[seen], rules.quantiles)
        good = [row for place, row in enumerate(rows) if low[place] > above and exposures[row].reuses >= rules.least_users]
        return good, [rows[place] for place in seen if high[place] < below]

    return _paired(batch, exposures, kept, labelled, rules, report, seed)


def count_triplets(
    batch: Batch, exposures: Sequence[Exposure], rules: TripletRules | None = None, *, seed: int = 0
) -> tuple[Preferences, BuildReport]:
    """The biased way, for comparison: positives and negatives by the quantiles of the raw reuse counts; same caps.

    Samples whose count equals the quantile are neither. Raises ValueError where the two lengths differ.
    """
    rules = rules or TripletRules()
    kept, report = _usable(batch, exposures)

    def labelled(rows: Sequence[int]) -> tuple[list[int], list[int]]:
        import numpy as np

        counts = np.asarray([float(exposures[row].reuses) for row in rows])
        below, above = _quantiles(counts, rules.quantiles)
        good = [row for row, count in zip(rows, counts, strict=True) if count > above]
        return good, [row for row, count in zip(rows, counts, strict=True) if count < below]

    return _paired(batch, exposures, kept, labelled, rules, report, seed)


def beta_interval(
    reuses: Sequence[float], views: Sequence[float], prior: tuple[float, float], level: float
) -> tuple[Floats, Floats, Floats]:
    """(mean, low, high), each [N], of the posterior Beta(a + reuses, b + views - reuses) of each rate; central interval."""
    import numpy as np
    from scipy.special import betaincinv

    a = prior[0] + np.asarray(reuses, dtype=np.float64)
    b = prior[1] + np.asarray(views, dtype=np.float64) - np.asarray(reuses, dtype=np.float64)
    tail = (1 - level) / 2
    return a / (a + b), betaincinv(a, b, tail), betaincinv(a, b, 1 - tail)


def _quantiles(values: Floats, quantiles: tuple[float, float]) -> tuple[float, float]:
    import numpy as np

    low, high = np.quantile(values, quantiles)
    return float(low), float(high)


def _usable(batch: Batch, exposures: Sequence[Exposure]) -> tuple[list[int], BuildReport]:
    """Rows whose log makes sense, each content once a prompt."""
    if len(exposures) != len(batch):
        raise ValueError(f"{len(exposures)} exposures for {len(batch)} samples")
    responses = batch.require_responses()
    dropped: Counter[str] = Counter()
    seen: set[tuple[str, str]] = set()
    kept = []
    for row, one in enumerate(exposures):
        if one.views <= 0 or not math.isfinite(one.views):
            dropped["never shown"] += 1
        elif one.reuses > one.views:
            dropped["more reuses than views"] += 1
        elif (key := (content_key(batch.prompts[row]), _content(responses[row]))) in seen:
            dropped["duplicate"] += 1
        else:
            seen.add(key)
            kept.append(row)
    return kept, BuildReport(samples=len(batch), dropped=dict(dropped))


def _content(response: Any) -> str:
    """A hash of what a response holds."""
    if hasattr(response, "numpy"):
        return content_key(list(response.shape), response.detach().cpu().numpy().tobytes().hex())
    return content_key(response)


def _paired(
    batch: Batch,
    exposures: Sequence[Exposure],
    kept: Sequence[int],
    labelled: Any,
    rules: TripletRules,
    report: BuildReport,
    seed: int,
) -> tuple[Preferences, BuildReport]:
    """Label each prompt's rows and pair them under the caps."""
    import torch

    by_prompt: dict[str, list[int]] = {}
    for row in kept:
        by_prompt.setdefault(content_key(batch.prompts[row]), []).append(row)
    pairs: list[tuple[int, int]] = []
    for number, rows in enumerate(by_prompt.values()):
        good, bad = labelled(rows)
        found = _matched(good, bad, exposures, rules, derive_seed(seed, "pairs", number))
        report.positives += len(good)
        report.negatives += len(bad)
        report.unlabelled += len(rows) - len(good) - len(bad)
        report.prompts_without_pairs += not found
        pairs += found
    report.prompts, report.pairs = len(by_prompt), len(pairs)
    columns = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
    return Preferences(columns[:, 0].clone(), columns[:, 1].clone(), torch.ones(len(pairs))), report


def _matched(
    good: Sequence[int], bad: Sequence[int], exposures: Sequence[Exposure], rules: TripletRules, seed: int
) -> list[tuple[int, int]]:
    """Positives with negatives in random order: no row in more than `per_sample` pairs, no more than `per_prompt` pairs.

    In a turn each row of the shorter side meets another row of the longer one, so that partners are used evenly.
    """
    first = [good[place] for place in permutation(len(good), derive_seed(seed, "positives"))]
    second = [bad[place] for place in permutation(len(bad), derive_seed(seed, "negatives"))]
    if not first or not second:
        return []
    longer, shorter = (first, second) if len(first) >= len(second) else (second, first)
    pairs: list[tuple[int, int]] = []
    shifts: list[int] = []
    for turn in range(min(rules.per_sample, len(longer))):
        shift = turn * len(shorter) % len(longer)
        while shift in shifts:
            shift = (shift + 1) % len(longer)
        shifts.append(shift)
        for place, row in enumerate(shorter):
            other = longer[(place + shift) % len(longer)]
            pair = (other, row) if longer is first else (row, other)
            apart = abs(exposures[pair[0]].posted - exposures[pair[1]].posted)
            if rules.posted_within is None or apart <= rules.posted_within:
                pairs.append(pair)
    return pairs[: rules.per_prompt]
