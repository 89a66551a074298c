"""Triples from a pool of policies: two answers of one policy, and one of another (policy discriminative learning, card 45).

For a prompt, policy A gives the reference and the chosen answer, another policy B the rejected one; nobody labels anything.
POLAR, arXiv 2507.05197, section 2. What would teach copying, or nothing, is left out and counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from plaudit.fitting import derive_seed
from plaudit.rewards.base import BaseReward
from plaudit.rewards.learned.data import FitData
from plaudit.types import Batch, Context, Generator, Preferences, Prompt, Scores, Status, UserError

ROUNDS = 8
"""How often what was left out is drawn again before fewer triples than asked for are given."""


@dataclass(frozen=True)
class Triple:
    """One comparison against a reference. policy, rival: places in the pool of who wrote reference and chosen, and rejected."""

    prompt: Prompt
    reference: str
    chosen: str
    rejected: str
    policy: int = -1
    rival: int = -1


@dataclass
class Triples:
    """Triples, and how many were left out, by reason: "copy" (chosen or rejected is the reference), "equal" (the two are)."""

    triples: list[Triple]
    left_out: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.triples)

    def data(self) -> FitData:
        """Two rows a triple, with its reference, and one pair over them; rows of a triple are in one group."""
        return triples_data(self.triples)


def triples_data(triples: Sequence[Triple]) -> FitData:
    """Triples as what a reward is fitted on: rows 2 i (chosen) and 2 i + 1 (rejected), both with the reference."""
    import torch

    rows = [triple for triple in triples for _ in range(2)]
    batch = Batch(
        prompts=[triple.prompt for triple in rows],
        responses=[text for triple in triples for text in (triple.chosen, triple.rejected)],
        references=[triple.reference for triple in rows],
        groups=torch.arange(len(triples)).repeat_interleave(2),
    )
    first = torch.arange(0, len(rows), 2)
    return FitData(batch, Preferences(first, first + 1, torch.ones(len(first))))


def why_left_out(reference: str, chosen: str, rejected: str) -> str | None:
    """Why a triple teaches nothing: "copy" or "equal"; None for one that is kept."""
    return "copy" if reference in (chosen, rejected) else "equal" if chosen == rejected else None


def overlap(reference: str, text: str) -> float:
    """Share of a text's characters that occur in the reference, each at most as often as there; 0 for an empty text."""
    common = Counter(reference) & Counter(text)
    return sum(common.values()) / len(text) if text else 0.0


class Overlap(BaseReward):
    """The baseline that copying satisfies: `overlap` of a response with its reference. Without one: MISSING_REFERENCE."""

    name = "overlap"
    uses_seed = False

    def __init__(self) -> None:
        self.settings = {}

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:  # noqa: ARG002
        """[B] in [0, 1]."""
        import torch

        given = batch.references or [None] * len(batch)
        pairs = list(zip(given, batch.require_responses(), strict=True))
        values = torch.tensor([overlap(str(reference), str(text)) if reference else math.nan for reference, text in pairs])
        status = torch.where(values.isnan(), int(Status.MISSING_REFERENCE), int(Status.OK)).to(torch.int8)
        return Scores(values, status)


def policy_triples(
    pool: Sequence[Generator], prompts: Batch, n: int, seed: int, *, hard: float = 0.0, rivals: int = 4, how: Any = None
) -> Triples:
    """n triples over a pool of policies: prompts, policies and rivals drawn alike, all by the seed.

    hard: share of triples whose rejected answer is, among one sample each of `rivals` other policies, the one most like the
    reference (`overlap`). how: sampling settings. Triples that are left out are drawn again a few times; a pool of policies
    that are nearly the same gives fewer than n, and `left_out` says so.
    Raises UserError for a pool of fewer than two policies, no prompts, or hard outside of [0, 1].
    """
    import random

    if len(pool) < 2 or not len(prompts):
        raise UserError("triples need at least two policies and one prompt")
    if not 0 <= hard <= 1:
        raise UserError(f"hard is a share in [0, 1], not {hard:g}")
    found = Triples([])
    for number in range(ROUNDS):
        missing = n - len(found)
        if missing <= 0:
            break
        draw = random.Random(derive_seed(seed, "triples", number))
        plan = []
        for _ in range(missing):
            policy = draw.randrange(len(pool))
            count = min(rivals, len(pool) - 1) if draw.random() < hard else 1
            others = draw.sample([place for place in range(len(pool)) if place != policy], count)
            plan.append((draw.randrange(len(prompts)), policy, others))
        _add(found, pool, prompts, plan, derive_seed(seed, "samples", number), how)
    return found


def _add(
    found: Triples, pool: Sequence[Generator], prompts: Batch, plan: Sequence[tuple[int, int, list[int]]], seed: int, how: Any
) -> None:
    """Sample a plan of (prompt, policy, rivals), each policy in one rollout, and keep what can be kept."""
    asked: dict[int, list[tuple[int, int]]] = {}
    for number, (prompt, policy, others) in enumerate(plan):
        for place in (policy, policy, *others):
            asked.setdefault(place, []).append((number, prompt))
    written: dict[tuple[int, int], list[str]] = {}
    for place, jobs in sorted(asked.items()):
        given = prompts.select([prompt for _, prompt in jobs])
        drawn = pool[place].rollout(given, 1, how=how, seed=derive_seed(seed, place))
        for (number, _), text in zip(jobs, drawn.batch.require_responses(), strict=True):
            written.setdefault((number, place), []).append(str(text))
    for number, (prompt, policy, others) in enumerate(plan):
        reference, chosen = written[number, policy]
        rival, rejected = max(
            ((place, written[number, place][0]) for place in others), key=lambda one: overlap(reference, one[1])
        )
        if (why := why_left_out(reference, chosen, rejected)) is not None:
            found.left_out[why] += 1
            continue
        found.triples.append(Triple(prompts.prompts[prompt], reference, chosen, rejected, policy, rival))
