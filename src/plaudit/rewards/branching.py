"""Rewards that choose between rewards, or change one: gates, fallbacks, routes, constants, shaping, normalisation."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from plaudit.rewards.base import BaseReward, Native, Shaper
from plaudit.rewards.composition_parts import Composition, judge, judge_rows, name_parts, name_verdicts, nothing, scatter
from plaudit.rewards.normalise import Normalisation
from plaudit.types import Batch, Context, Preferences, Reward, Scores, Status
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from torch import Tensor


class Constant(BaseReward):
    """The same number for every row. Raises ValueError unless it is finite."""

    def __init__(self, value: float, name: str | None = None) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"a constant reward is a finite number, not {value!r}")
        self.value = float(value)
        self.name = name or f"constant {value:g}"
        self.uses_seed = False
        self.settings = {"value": self.value}

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:  # noqa: ARG002
        """[B] the constant."""
        import torch

        return Scores(torch.full((len(batch),), self.value))


class Gate(Composition):
    """The reward where the gate is open (gate >= threshold), `otherwise` elsewhere.

    The reward is judged only where the gate is open; its part is NaN elsewhere. otherwise: the value of a closed row; mind
    the scale of the reward (0 is better than a reward model's -3); None gives closed rows NOT_APPLICABLE. A row without a
    gate value takes the gate's status. For a soft gate multiply: `gate * reward`.
    """

    def __init__(
        self, gate: Reward, reward: Reward, threshold: float = 0.5, otherwise: float | None = 0.0, name: str | None = None
    ) -> None:
        if not math.isfinite(threshold) or (otherwise is not None and not math.isfinite(otherwise)):
            raise ValueError("threshold and otherwise must be finite numbers")
        label = reward.name if reward.name != gate.name else f"{reward.name}#2"
        super().__init__(name or f"{gate.name} gates {reward.name}", {gate.name: gate, label: reward})
        self.threshold, self.otherwise_value = threshold, otherwise
        self.settings = {"threshold": threshold, "otherwise": otherwise}

    def combine(self, batch: Batch, ctx: Context | None) -> Scores:
        """[B] gated scores."""
        import torch

        (gate_name, gate), (name, reward) = self.parts.items()
        opened = judge(gate, batch, ctx)
        is_open = opened.ok & (opened.values >= self.threshold)
        closed = opened.ok & ~is_open
        judged = judge_rows(reward, batch, is_open, ctx)
        results = {gate_name: opened, name: judged}
        status = torch.where(is_open, judged.status, opened.status)
        if self.otherwise_value is None:
            status = torch.where(closed, int(Status.NOT_APPLICABLE), status).to(torch.int8)
        values = torch.where(closed, math.nan if self.otherwise_value is None else self.otherwise_value, judged.values)
        spread = None if judged.spread is None else torch.where(closed, 0.0, judged.spread)
        parts = name_parts(results, [result.values for result in results.values()])
        return Scores(values, status, parts, spread=spread, verdicts=name_verdicts(results))


class Otherwise(Composition):
    """The first reward, and the fallback for the rows (pairs) where the first has no number.

    The fallback's scale must match: nothing is rescaled. Which one decided is seen in the parts: a row that the first did
    not judge is NaN there. UNREACHABLE does not fall back, so that the row is judged again later.
    """

    def __init__(self, reward: Reward, fallback: Reward, name: str | None = None) -> None:
        label = fallback.name if fallback.name != reward.name else f"{fallback.name}#2"
        super().__init__(name or f"{reward.name} otherwise {fallback.name}", {reward.name: reward, label: fallback})

    @property
    def compares(self) -> bool:
        """Both compare."""
        return all(part.native == "compare" for part in self.parts.values())

    def combine(self, batch: Batch, ctx: Context | None) -> Scores:
        """[B] scores of the first, or of the fallback."""
        import torch

        (name, reward), (label, fallback) = self.parts.items()
        first = judge(reward, batch, ctx)
        wanted = ~first.ok & (first.status != Status.UNREACHABLE)
        second = judge_rows(fallback, batch, wanted, ctx)
        results = {name: first, label: second}
        spreads = [torch.zeros(len(batch)) if result.spread is None else result.spread for result in results.values()]
        spread = torch.where(wanted, spreads[1], spreads[0]) if any(r.spread is not None for r in results.values()) else None
        return Scores(
            torch.where(wanted, second.values, first.values),
            torch.where(wanted, second.status, first.status),
            name_parts(results, [result.values for result in results.values()]),
            spread=spread,
            verdicts=name_verdicts(results),
        )

    def combine_pairs(self, batch: Batch, first: Tensor, second: Tensor, ctx: Context | None) -> Preferences:
        """[P] of the first, or of the fallback, which is asked only about the pairs that need it."""
        (name, reward), (label, fallback) = self.parts.items()
        judged = reward.compare(batch, first, second, ctx)
        wanted = (~judged.ok & (judged.status != Status.UNREACHABLE)).nonzero().flatten()
        if len(wanted) == 0:
            return judged
        again = fallback.compare(batch, first[wanted], second[wanted], ctx)
        prob, status = judged.prob.clone(), judged.status.clone()
        prob[wanted], status[wanted] = again.prob, again.status
        verdicts = name_verdicts({name: judged}) or [[] for _ in range(len(judged))]
        for pair, told in zip(wanted.tolist(), name_verdicts({label: again}) or (), strict=False):
            verdicts[pair] = verdicts[pair] + told
        return Preferences(first, second, prob, status=status, verdicts=verdicts)


class Route(Composition):
    """One reward per kind of row: the value of a column of the batch chooses.

    column: a name in `batch.extras`, or one of the batch's own columns ("users", "finish" ...). rewards: column value ->
    reward. default: for values without a reward; without a default such rows have NOT_APPLICABLE. Each reward sees only its
    own rows; a part is NaN elsewhere. Raises ValueError if the batch has no such column.
    """

    def __init__(
        self, column: str, rewards: Mapping[Hashable, Reward], default: Reward | None = None, name: str | None = None
    ) -> None:
        parts = {str(key): reward for key, reward in rewards.items()}
        if len(parts) != len(rewards) or (default is not None and "default" in parts):
            raise ValueError("two routes have the same name")
        super().__init__(name or f"route by {column}", parts if default is None else {**parts, "default": default})
        self.column, self.keys = column, dict(zip(rewards, parts, strict=True))
        self.settings = {"column": column, "keys": [[repr(key), part] for key, part in self.keys.items()]}

    def combine(self, batch: Batch, ctx: Context | None) -> Scores:
        """[B] scores, each row by its own reward."""
        import torch

        fallback = "default" if "default" in self.parts else None
        chosen = [self.keys.get(value, fallback) for value in self._column(batch)]
        values = torch.full((len(batch),), torch.nan)
        status = torch.full((len(batch),), int(Status.NOT_APPLICABLE), dtype=torch.int8)
        spread, known = torch.zeros(len(batch)), False
        results = {}
        for name, part in self.parts.items():
            mine = torch.tensor([choice == name for choice in chosen], dtype=torch.bool)
            rows = mine.nonzero().flatten().tolist()
            given = judge(part, batch.select(rows), ctx) if rows else None
            results[name] = nothing(len(batch)) if given is None else scatter(given, rows, len(batch), mine)
            values = torch.where(mine, results[name].values, values)
            status = torch.where(mine, results[name].status, status)
            own = results[name].spread
            known = known or own is not None
            spread = spread if own is None else torch.where(mine, own, spread)
        parts = name_parts(results, [result.values for result in results.values()])
        return Scores(values, status, parts, spread=spread if known else None, verdicts=name_verdicts(results))

    def _column(self, batch: Batch) -> Sequence[Any]:
        column = batch.extras.get(self.column)
        if column is None:
            column = dict(batch.columns()).get(self.column)
        if column is None:
            raise ValueError(f"'{self.name}' needs the column '{self.column}', which the batch does not have")
        return column.tolist() if hasattr(column, "tolist") else list(column)


class Shaped(Composition):
    """A reward with its scores passed through `shaper(scores, batch) -> Scores`, a Scores-to-Scores function.

    The reward keeps its name; the values before shaping are the part of that name. The shaper says by an attribute
    `native = "score_group"` that it looks at groups. Its content is part of the fingerprint: `shaper.fingerprint()` if it has
    one, else its source, defaults and closed-over values. Raises SpecError, when the fingerprint is asked for, if a
    closed-over object has no stable content.
    """

    def __init__(self, reward: Reward, shaper: Shaper) -> None:
        super().__init__(reward.name, {reward.name: reward})
        self.shaper = shaper

    @property
    def relative(self) -> bool:
        """What the shaper says."""
        return getattr(self.shaper, "native", "score") != "score"

    def combine(self, batch: Batch, ctx: Context | None) -> Scores:
        """[B] shaped scores."""
        ((name, reward),) = self.parts.items()
        plain = judge(reward, batch, ctx)
        shaped = self.shaper(plain, batch)
        if len(shaped) != len(plain):
            raise ValueError(f"the shaper of '{name}' gave {len(shaped)} rows for {len(plain)}")
        extra = {label: part for label, part in shaped.parts.items() if label not in plain.parts}
        parts = {**name_parts({name: plain}, [plain.values]), **extra}
        verdicts = name_verdicts({name: plain})
        return Scores(shaped.values, shaped.status, parts, shaped.segments, shaped.spread, verdicts)

    def fingerprint(self) -> str:
        """The reward's fingerprint and the shaper's content."""
        from plaudit.rewards.rules.source import function_key

        own = getattr(self.shaper, "fingerprint", None)
        return content_key(super().fingerprint(), own() if callable(own) else function_key(self.shaper))


class Normalised(Composition):
    """A reward brought onto a common scale (`Normalisation`, or its name with the same settings as keywords).

    The values before are the part of the reward's name. Pairs are judged by the reward itself: a rising function of the
    scores does not change who wins, and in a group of two every z-score is 1 or -1. Only "fixed" rescales its pairs.
    """

    def __init__(self, reward: Reward, how: str | Normalisation = "group_zscore", **settings: Any) -> None:
        super().__init__(reward.name, {reward.name: reward})
        if settings and isinstance(how, Normalisation):
            raise ValueError("give a Normalisation or its settings, not both")
        self.how = how if isinstance(how, Normalisation) else Normalisation(how, **settings)  # type: ignore[arg-type]
        self.needs_whole_batch = self.needs_whole_batch or self.how.how == "batch_zscore"
        self.settings = self.how.settings()

    @property
    def native(self) -> Native:
        """`score` only for fixed numbers on a pointwise reward."""
        return "score_group" if self.how.relative else super().native

    def combine(self, batch: Batch, ctx: Context | None) -> Scores:
        """[B] normalised scores."""
        ((name, reward),) = self.parts.items()
        plain = judge(reward, batch, ctx)
        scores = self.how.apply(plain, batch)
        scores.parts = name_parts({name: plain}, [plain.values])
        scores.verdicts = name_verdicts({name: plain})
        return scores

    def compare(self, batch: Batch, first: Tensor, second: Tensor, ctx: Context | None = None) -> Preferences:
        """[P] the reward's own probabilities; "fixed": by the link on the rescaled scores."""
        if not self.how.relative:
            return super().compare(batch, first, second, ctx)
        (reward,) = self.parts.values()
        return reward.compare(batch, first, second, ctx)
