"""What all compositions share: names, missing parts, spreads, verdicts, and the `Composition` base class."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from plaudit.rewards import adapters
from plaudit.rewards.base import BaseReward, Native
from plaudit.types import Batch, Context, Preferences, Reward, Scores, SpecError, Status, Verdict
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from torch import Tensor

OnMissing = Literal["row", "drop_for_group"] | float
"""What a part without a number does to a row: the row takes the part's status ("row"); the part is left out for every row
of the group, the other weights unchanged ("drop_for_group"); or this value stands in for it (a number).
UNREACHABLE is no such abstention: the row takes it under every policy, so that it is judged again later."""


class Composition(BaseReward):
    """A reward made of named parts. Subclasses implement `combine`, and `combine_pairs` if `compares` can be true."""

    parts: dict[str, BaseReward]
    needs_whole_batch: bool
    """Whether the numbers depend on which rows are given at once: such a reward serves training, not a store."""

    def __init__(self, name: str, parts: Mapping[str, Reward]) -> None:
        if not parts:
            raise ValueError(f"{type(self).__name__} needs at least one part")
        for label, part in parts.items():
            if not isinstance(part, BaseReward):
                raise TypeError(f"part '{label}' is a {type(part).__name__}, expected a reward")
        self.name = name
        self.parts = dict(parts)  # type: ignore[arg-type]  # checked above
        members = list(self.parts.values())
        self.batch_size = min(member.batch_size for member in members)
        self.uses_seed = any(getattr(member, "uses_seed", True) for member in members)
        self.needs_whole_batch = any(getattr(member, "needs_whole_batch", False) for member in members)
        self.higher_is_better = any(member.higher_is_better for member in members)
        self.settings = {}

    @abstractmethod
    def combine(self, batch: Batch, ctx: Context | None) -> Scores:
        """[B] scores from the parts' scores, in whole groups."""

    def combine_pairs(self, batch: Batch, first: Tensor, second: Tensor, ctx: Context | None) -> Preferences:
        """[P] probabilities from the parts' probabilities."""
        raise NotImplementedError

    @property
    def compares(self) -> bool:
        """Whether pairs are combined rather than scores: only where all parts compare and combining pairs means something."""
        return False

    @property
    def relative(self) -> bool:
        """Whether a row's number can depend on its group although all parts judge rows alone."""
        return False

    @property
    def native(self) -> Native:
        """`score` if every part scores rows alone; `compare` if the composition is purely pairwise; else `score_group`."""
        if self.compares:
            return "compare"
        alone = all(part.native == "score" for part in self.parts.values()) and not self.relative
        return "score" if alone else "score_group"

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:
        """[B] scores. Raises ValueError if a part only compares and the batch has no groups."""
        return adapters.score_from_native(self, batch, ctx) if self.compares else self.combine(batch, ctx)

    def score_group(self, batch: Batch, ctx: Context | None = None) -> Scores:
        """[B] scores within groups."""
        return adapters.score_group_from_native(self, batch, ctx) if self.compares else self.combine(batch, ctx)

    def compare(self, batch: Batch, first: Tensor, second: Tensor, ctx: Context | None = None) -> Preferences:
        """[P] probabilities."""
        if self.compares:
            return self.combine_pairs(batch, first, second, ctx)
        return adapters.compare_from_native(self, batch, first, second, ctx)

    def fingerprint(self) -> str:
        """Class, settings (weights, policies) and the fingerprints of the named parts; not the composition's own name."""
        parts = {name: part.fingerprint() for name, part in self.parts.items()}
        return content_key(type(self).__module__, type(self).__qualname__, self.settings, list(parts.items()))

    def check(self) -> None:
        """Forwarded to every part. Raises SpecError if parts point in opposite directions."""
        for part in self.parts.values():
            part.check()
        self.check_direction()

    def check_direction(self) -> None:
        """Raise SpecError if lower is better for some parts and higher for others."""
        directions = {part.higher_is_better for part in self.parts.values()}
        if len(directions) > 1:
            lower = ", ".join(name for name, part in self.parts.items() if not part.higher_is_better)
            raise SpecError(f"{self.name}: lower is better for {lower}, higher for the rest; multiply it by -1")


def judge(part: BaseReward, batch: Batch, ctx: Context | None) -> Scores:
    """A part's own scores, within groups where that is how it judges."""
    return part.score(batch, ctx) if part.native == "score" else part.score_group(batch, ctx)


def judge_rows(part: BaseReward, batch: Batch, wanted: Tensor, ctx: Context | None) -> Scores:
    """A part's scores for the wanted rows only, NOT_APPLICABLE elsewhere; parts that judge groups see the wanted groups whole."""
    import torch

    needed = wanted
    if part.native != "score":
        needed = torch.zeros_like(wanted)
        for rows in batch.group_rows():
            needed[rows] = wanted[rows].any()
    rows = torch.nonzero(needed).flatten().tolist()
    if not rows:
        return nothing(len(batch))
    return scatter(judge(part, batch.select(rows), ctx), rows, len(batch), wanted)


def nothing(size: int) -> Scores:
    """NOT_APPLICABLE for every row."""
    import torch

    return Scores(torch.full((size,), torch.nan), torch.full((size,), int(Status.NOT_APPLICABLE), dtype=torch.int8))


def scatter(scores: Scores, rows: Sequence[int], size: int, wanted: Tensor) -> Scores:
    """Scores of some rows as a column of all rows; rows that were not wanted have NOT_APPLICABLE."""
    import torch

    index = torch.tensor(rows, dtype=torch.int64)

    def column(values: Tensor) -> Tensor:
        return torch.where(wanted, torch.full((size,), torch.nan).index_put((index,), values.float()), torch.nan)

    status = torch.full((size,), int(Status.NOT_APPLICABLE), dtype=torch.int8)
    status[index] = scores.status
    status[~wanted] = Status.NOT_APPLICABLE
    verdicts: list[list[Verdict]] | None = None
    if scores.verdicts is not None:
        verdicts = [[] for _ in range(size)]
        for row, said in zip(rows, scores.verdicts, strict=True):
            verdicts[row] = said if wanted[row] else []
    parts = {name: column(part) for name, part in scores.parts.items()}
    spread = None if scores.spread is None else column(scores.spread)
    return Scores(column(scores.values), status, parts, spread=spread, verdicts=verdicts)


def unique_names(names: Iterable[str]) -> list[str]:
    """The names, the second of the same name as `NAME#2`."""
    unique: list[str] = []
    for name in names:
        count, candidate = 1, name
        while candidate in unique:
            count += 1
            candidate = f"{name}#{count}"
        unique.append(candidate)
    return unique


def as_parts(rewards: Mapping[str, Reward] | Sequence[Reward]) -> dict[str, Reward]:
    """Named parts from a mapping, or from a sequence by the rewards' own names."""
    if isinstance(rewards, Mapping):
        return dict(rewards)
    return dict(zip(unique_names(reward.name for reward in rewards), rewards, strict=True))


@dataclass
class Gathered:
    """The parts' numbers, ready to be combined.

    values: [K, B] float64, 0 where not used. used: [K, B] bool. spread: [K, B] float64 or None if no part says it; a part
    that says none counts as certain. status: [B]. parts, verdicts: as they go into the composition's Scores.
    """

    values: Tensor
    used: Tensor
    spread: Tensor | None
    status: Tensor
    parts: dict[str, Tensor]
    verdicts: list[list[Verdict]] | None


def gather(results: Mapping[str, Scores], on_missing: OnMissing, batch: Batch, counted: Sequence[bool] | None = None) -> Gathered:
    """Apply the missing-part policy.

    counted: which parts count; the others are shown, but never decide a status. Raises ValueError if a part is to be dropped
    for a group and the batch has no groups.
    """
    import torch

    scores = list(results.values())
    counts = torch.tensor([True] * len(scores) if counted is None else list(counted))[:, None]
    ok = torch.stack([score.ok for score in scores])
    values = torch.stack([torch.where(score.ok, score.values, 0.0).double() for score in scores])
    missing = ~ok & counts
    notes: list[list[Verdict]] = [[] for _ in range(len(batch))]
    status, used = torch.zeros(len(batch), dtype=torch.int8), ok & counts
    if on_missing == "row":
        status = _first_status(scores, missing)
    elif on_missing == "drop_for_group":
        used = used & ~_spread_over_groups(missing, batch)
        status = torch.where(used.any(dim=0) | ~counts.any(), status, _first_status(scores, missing, int(Status.ABSTAINED)))
        _note_dropped(notes, results, ok & counts & ~used, missing)
    else:
        values = torch.where(missing, float(on_missing), values)
        used = used | missing
        _note(notes, results, missing, f"{on_missing:g} stands in for it")
    gone = torch.stack([score.status == Status.UNREACHABLE for score in scores]) & counts
    status = torch.where(gone.any(dim=0), int(Status.UNREACHABLE), status).to(torch.int8)
    if on_missing == "row":
        _note(notes, results, missing, "the row takes this status")
    shown = torch.where(used | (ok & ~counts), values, torch.nan)
    spread = None
    if any(score.spread is not None for score in scores):
        zero = torch.zeros(len(batch), dtype=torch.float64)
        known = torch.stack([zero if score.spread is None else score.spread.double() for score in scores])
        spread = torch.where(used & ok, known, 0.0)
    return Gathered(values, used, spread, status, name_parts(results, shown), name_verdicts(results, notes))


def _first_status(scores: Sequence[Scores], missing: Tensor, otherwise: int = int(Status.OK)) -> Tensor:
    """[B] status of the first counted part that has no number."""
    import torch

    status = torch.full((missing.shape[1],), otherwise, dtype=torch.int8)
    for score, gone in zip(reversed(scores), missing.flip(0), strict=True):
        status = torch.where(gone, score.status, status)
    return status


def _spread_over_groups(missing: Tensor, batch: Batch) -> Tensor:
    """[K, B] whether any row of the row's group misses the part."""
    import torch

    if batch.groups is None:
        raise ValueError("on_missing 'drop_for_group' needs groups: without them rows would be re-weighted one by one")
    group = torch.unique(batch.groups, return_inverse=True)[1]
    size = int(group.max()) + 1 if len(group) else 0
    per_group = torch.zeros(missing.shape[0], size).index_add(1, group, missing.float())
    return per_group[:, group] > 0


def _note(notes: list[list[Verdict]], results: Mapping[str, Scores], where: Tensor, detail: str) -> None:
    for place, (name, score) in enumerate(results.items()):
        for row in where[place].nonzero().flatten().tolist():
            status = Status(int(score.status[row]))
            notes[row].append(Verdict(name=name, status=status, detail=f"{name} ({status.label}): {detail}"))


def _note_dropped(notes: list[list[Verdict]], results: Mapping[str, Scores], bystander: Tensor, missing: Tensor) -> None:
    _note(notes, results, missing, "left out for the whole group")
    for place, (name, score) in enumerate(results.items()):
        for row in bystander[place].nonzero().flatten().tolist():
            detail = f"{name} is left out for the whole group: another row has none"
            notes[row].append(Verdict(name=name, value=float(score.values[row]), detail=detail))


def name_parts(results: Mapping[str, Scores], shown: Iterable[Tensor]) -> dict[str, Tensor]:
    """Every part under its name, and a part's own parts as `NAME/INNER`. Raises ValueError if two collide."""
    parts = {name: column.detach().float() for name, column in zip(results, shown, strict=True)}
    for name, score in results.items():
        for inner, column in score.parts.items():
            if f"{name}/{inner}" in parts:
                raise ValueError(f"two parts are called '{name}/{inner}': rename one")
            parts[f"{name}/{inner}"] = column
    return parts


def name_verdicts(
    results: Mapping[str, Scores | Preferences], notes: Sequence[Sequence[Verdict]] | None = None
) -> list[list[Verdict]] | None:
    """All verdicts, each named by the part that it comes from; None if nobody said anything."""
    size = len(next(iter(results.values())))
    told: list[list[Verdict]] = [list(notes[row]) if notes is not None else [] for row in range(size)]
    for name, result in results.items():
        for row, verdicts in enumerate(result.verdicts or ()):
            told[row] += [replace(verdict, name=f"{name}/{verdict.name}" if verdict.name else name) for verdict in verdicts]
    return told if any(told) else None


def check_policy(on_missing: OnMissing) -> OnMissing:
    """The policy. Raises ValueError unless it is one that exists."""
    if on_missing in ("row", "drop_for_group"):
        return on_missing
    if isinstance(on_missing, bool) or not isinstance(on_missing, int | float) or not math.isfinite(on_missing):
        raise ValueError(f"on_missing is {on_missing!r}; expected row, drop_for_group, or a number that stands in")
    return float(on_missing)
