"""Preference pairs out of a policy's own samples: the one that a reward likes best against the one that it likes least (FLR)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from plaudit.data.row import Row
from plaudit.fitting.seeds import derive_seed
from plaudit.types import Batch, Context, Generator, Reward, Sampling, Status
from plaudit.types.keys import content_key

CHUNK = 32
"""Prompts sampled and scored together."""


@dataclass(frozen=True)
class MiningReport:
    """pairs: made. equal: prompts whose samples all have one score, or one text. close: best and worst less than `least_gap`
    apart. unscored: prompts with fewer than two scored samples. left_out: samples without a score, by status. mean_gap: of the
    pairs; None where there are none."""

    prompts: int = 0
    pairs: int = 0
    equal: int = 0
    close: int = 0
    unscored: int = 0
    mean_gap: float | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Every field by name."""
        return asdict(self)


def mine_pairs(
    policy: Generator,
    reward: Reward,
    prompts: Batch,
    n: int = 8,
    *,
    least_gap: float = 0.0,
    how: Any = None,
    seed: int = 0,
    ctx: Context | None = None,
) -> tuple[list[Row], MiningReport]:
    """For each prompt n samples of the policy; the highest score is chosen, the lowest rejected, ties by the earlier sample.

    how: None for temperature 0.7, as published. least_gap: pairs of scores that lie closer teach noise and are left out, as are
    groups whose samples are all equal. Rows have the chosen response first; extras `scores` keeps both numbers. A reward that is
    the policy itself has to be frozen, or the two raise each other. Raises ValueError for n < 2.
    """
    if n < 2:
        raise ValueError(f"a pair needs at least two samples of a prompt, not {n}")
    ctx, how = ctx or Context(), how or Sampling(max_tokens=256, temperature=0.7)
    rows: list[Row] = []
    counts, left_out = Counter[str](), Counter[str]()
    gaps: list[float] = []
    for start in range(0, len(prompts), CHUNK):
        chunk = prompts.select(range(start, min(start + CHUNK, len(prompts))))
        drawn = policy.rollout(chunk, n, how=how, seed=derive_seed(seed, "mining", start)).batch
        scores = reward.score(drawn, ctx)
        left_out.update(Status(code).label for code in scores.status.tolist() if code != Status.OK)
        for samples in drawn.group_rows():
            valued = [(float(scores.values[row]), row) for row in samples if scores.ok[row]]
            reason, pair = _extremes(valued, drawn, least_gap)
            counts[reason] += 1
            if pair is not None:
                gaps.append(pair[0][0] - pair[1][0])
                rows.append(_row(drawn, pair))
    mean = sum(gaps) / len(gaps) if gaps else None
    report = MiningReport(
        len(prompts), len(rows), counts["equal"], counts["close"], counts["unscored"], mean, dict(sorted(left_out.items()))
    )
    return rows, report


Valued = tuple[float, int]


def _extremes(valued: list[Valued], drawn: Batch, least_gap: float) -> tuple[str, tuple[Valued, Valued] | None]:
    """Best and worst (score, row), or the reason why there is no pair."""
    if len(valued) < 2:
        return "unscored", None
    best = max(valued, key=lambda one: (one[0], -one[1]))
    worst = min(valued, key=lambda one: (one[0], one[1]))
    responses = drawn.require_responses()
    if best[0] == worst[0] or content_key(responses[best[1]]) == content_key(responses[worst[1]]):
        return "equal", None
    return ("close", None) if best[0] - worst[0] < least_gap else ("pair", (best, worst))


def _row(drawn: Batch, pair: tuple[Valued, Valued]) -> Row:
    responses = drawn.require_responses()
    prompt = drawn.prompts[pair[0][1]]
    chosen = tuple(responses[row] for _, row in pair)
    references = None if drawn.references is None else tuple(drawn.references[row] for _, row in pair)
    return Row(
        f"mined-{content_key(prompt, list(chosen))[:12]}",
        prompt,
        chosen,
        references,
        gold=(1.0, 0.0),
        extras={"scores": [score for score, _ in pair]},
    )
