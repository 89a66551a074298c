"""`PolicyGradient`: advantage x surrogate x normalisation x KL. GRPO, PPO, RLOO and the rest are settings of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from plaudit.objectives.filtering import extremes, select_by_group
from plaudit.objectives.policy_gradient.advantages import Advantages
from plaudit.objectives.policy_gradient.credit import subsample_steps
from plaudit.objectives.policy_gradient.critic import Critic
from plaudit.objectives.policy_gradient.kl import AdaptiveCoefficient, KLPenalty, kl_estimate
from plaudit.objectives.policy_gradient.stepwise import StepAdvantage
from plaudit.objectives.policy_gradient.surrogates import Surrogate
from plaudit.objectives.steps import (
    Normalisation,
    check_normalisation,
    count_units,
    distinct,
    empty_groups,
    evaluate_without_gradient,
    group_numbers,
    kept_rows,
    masked,
    row_sums,
    seed_for,
    step_log_probs,
    step_weights,
    zero_loss,
)
from plaudit.types import (
    Context,
    Generator,
    Lesson,
    Loss,
    Objective,
    Scores,
    Status,
    StepStats,
    Trajectories,
    UserError,
    status_counts,
)

if TYPE_CHECKING:
    from torch import Tensor

TRAINED = "trained_steps"
"""Column of a lesson: [B, T] bool, the steps that have an advantage and are trained on."""


@dataclass
class PolicyGradient(Objective):
    """Learn from samples in proportion to how much better they were than others.

    advantage: an advantage for each step (`ByRow`, `BySegment`, `GAE`, `ToGo`, or one's own). surrogate: the cost of a step.
    normalisation, length: how steps are averaged (`Normalisation`; length is the constant of "constant").
    kl: distance to the reference policy; None: no reference is evaluated. entropy: coefficient of an entropy bonus.
    clip_advantage: largest absolute advantage. critic_warmup: in that many first steps only the critic learns.
    on_equal: what a group without a difference does: "drop": its rows leave the update, the denominator included; "zero": they
    stay with advantage 0, so that KL and entropy act on them and they count as units. They are counted either way.
    keep_extremes: of each group only the best and worst half of this many rows by advantage (best-of-N sub-selection,
    DanceGRPO, Xue et al. 2025). step_fraction: share of each row's steps that is trained on, drawn anew each time.
    train_on_truncated=False leaves rows that did not end by themselves out of the loss, not out of the group's statistics
    (DAPO's overlong filtering). reference_rows: rows of the draw that the reference policy evaluates at once (None: all).

    Stats of a lesson: rows, rows_kept, rows_invalid (no usable score, by status as rows_STATUS), rows_truncated,
    rows_bad_log_probs, groups, groups_equal, groups_empty (nothing to compare), reward_mean, reward_std, advantage_mean,
    advantage_std, kl_reference (nats a row), kl_coefficient, and what the advantage counts. Rows are never dropped in silence.
    """

    advantage: StepAdvantage
    surrogate: Surrogate
    normalisation: Normalisation = "rows"
    length: float = 1.0
    kl: KLPenalty | None = None
    entropy: float = 0.0
    clip_advantage: float | None = None
    on_equal: Literal["drop", "zero"] = "drop"
    keep_extremes: int | None = None
    step_fraction: float = 1.0
    train_on_truncated: bool = True
    critic_warmup: int = 0
    reference_rows: int | None = None

    def __post_init__(self) -> None:
        check_normalisation(self.normalisation, self.length)
        if self.on_equal not in ("drop", "zero"):
            raise ValueError(f"on_equal is '{self.on_equal}'; expected drop or zero")
        if not 0 < self.step_fraction <= 1:
            raise ValueError(f"step_fraction must lie in (0, 1], not {self.step_fraction}")

    @property
    def critic(self) -> Critic | None:
        """The advantage's critic, if it has one."""
        critic: Critic | None = getattr(self.advantage, "critic", None)
        return critic

    def prepare(self, t: Trajectories, scores: Scores, ctx: Context) -> Lesson:
        """Advantages, old and reference log-probabilities of a whole draw. Raises UserError if a KL is asked for and the
        context has no reference policy."""
        import torch

        with torch.no_grad():
            reference = self._reference(t, ctx)
            stats = self._kl_stats(t, scores, reference, ctx)
            penalty = None
            if reference is not None and self.kl is not None and self.kl.place == "reward":
                estimate = kl_estimate(masked(t.log_probs, t.mask), reference, self.kl.estimator)
                penalty = stats["kl_coefficient"] * masked(estimate, t.mask).cpu().double()
            found = self.advantage(t, scores, ctx, penalty)
            keep, values = self._taking_part(t, found)
            chosen = torch.isfinite(values) & t.mask.cpu()
            if self.step_fraction < 1:
                chosen = subsample_steps(chosen, self.step_fraction, seed=seed_for(ctx, "steps"))
            finite = torch.isfinite(masked(t.log_probs, t.mask)).all(dim=1).cpu()
            if reference is not None:
                finite &= torch.isfinite(reference).all(dim=1).cpu()
            stats |= self._stats(t, scores, found) | {"rows_bad_log_probs": float((keep & ~finite).sum())}
            keep &= finite & chosen.any(dim=1)
            if self.keep_extremes is not None:
                keep &= self._extremes(values, chosen, keep, t, ctx)
            weights = torch.where(chosen, values, 0.0).to(t.log_probs)
            used = weights[keep][chosen[keep]]
            if used.numel():
                stats |= {"advantage_mean": float(used.mean()), "advantage_std": float(used.std(correction=0))}
            return Lesson(
                t,
                scores,
                weights,
                keep,
                old_log_probs=t.log_probs.detach(),
                reference_log_probs=reference,
                columns={name: column.to(t.log_probs) for name, column in found.columns.items()}
                | {TRAINED: chosen.to(t.mask.device)},
                stats=stats | found.stats | {"rows_kept": float(keep.sum())},
            )

    def loss(self, generator: Generator, lesson: Lesson, ctx: Context) -> Loss:
        """Sum over the counted steps of weight x (surrogate + KL + critic - entropy). Only rows that take part are evaluated."""
        lesson = kept_rows(lesson)
        if not len(lesson):
            return zero_loss(generator)
        advantages, old_log_probs = lesson.weights, lesson.old_log_probs
        if advantages is None or old_log_probs is None:
            raise ValueError("this lesson has no advantages or no old log-probabilities: it was not prepared by this objective")
        # Generators compute only the steps of the mask; the lesson's own stays whole for those who watch the run.
        lesson = replace(lesson, trajectories=replace(lesson.trajectories, mask=lesson.columns[TRAINED]))
        t, critic = lesson.trajectories, self.critic
        need = ("log_prob", *(("entropy",) if self.entropy else ()), *(critic.needs if critic else ()))
        stats = generator.evaluate(t, need=need)
        log_probs = step_log_probs(stats, t.mask)
        weights = step_weights(t.mask, self.normalisation, length=self.length, like=log_probs)
        cost, figures = self.surrogate(log_probs, masked(old_log_probs, t.mask), advantages, t.mask)
        parts = {"policy": (cost * weights).sum()} | self._other_parts(lesson, stats, log_probs, weights, figures, ctx)
        if critic is not None and ctx.step < self.critic_warmup:
            parts = {"value": parts["value"]}
        total = sum(parts.values(), log_probs.new_zeros(()))
        return Loss(total, {name: part.detach() for name, part in parts.items()}, figures)

    def _other_parts(
        self, lesson: Lesson, stats: StepStats, log_probs: Tensor, weights: Tensor, figures: dict[str, float], ctx: Context
    ) -> dict[str, Tensor]:
        """KL, critic and entropy, each summed over the counted steps."""
        t, parts = lesson.trajectories, {}
        counted = float(t.mask.sum())
        if self.kl is not None and lesson.reference_log_probs is not None:
            reference = masked(lesson.reference_log_probs, t.mask)
            cost = masked(self.kl.cost(log_probs, reference), t.mask)
            figures["kl"] = float(cost.detach().sum()) / counted
            if self.kl.place == "loss":
                parts["kl"] = lesson.stats.get("kl_coefficient", self.kl.current(ctx)) * (cost * weights).sum()
        if self.critic is not None:
            columns = lesson.columns
            parts["value"] = (self.critic.cost(t, stats, columns["old_values"], columns["returns"]) * weights).sum()
        if self.entropy:
            if stats.entropy is None:
                raise ValueError("the generator gave no entropy: it cannot have an entropy bonus")
            entropy = masked(stats.entropy, t.mask)
            figures["entropy"] = float(entropy.detach().sum()) / counted
            parts["entropy"] = -self.entropy * (entropy * weights).sum()
        return parts

    def units(self, lesson: Lesson) -> float:
        """Counted steps where steps are averaged, else rows that take part."""
        return count_units(lesson, self.normalisation, lesson.columns[TRAINED])

    def modules(self) -> dict[str, Any]:
        """The critic, if it is a module of its own."""
        return self.critic.modules() if self.critic is not None else {}

    def state_dict(self) -> dict[str, Any]:
        """The adaptive coefficient of the KL."""
        return {"kl": self.kl.state_dict()} if self.kl is not None else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        if self.kl is not None and state.get("kl"):
            self.kl.load_state_dict(state["kl"])

    def _reference(self, t: Trajectories, ctx: Context) -> Tensor | None:
        """[B, T] log-probabilities of the reference policy, 0 outside the mask."""
        if self.kl is None:
            return None
        if ctx.reference_policy is None:
            raise UserError("this objective keeps near a reference policy, and the run has none: give one, or set kl to None")
        found = evaluate_without_gradient(ctx.reference_policy, t, ("log_prob",), rows_at_once=self.reference_rows)
        return step_log_probs(found, t.mask).to(t.log_probs)

    def _kl_stats(self, t: Trajectories, scores: Scores, reference: Tensor | None, ctx: Context) -> dict[str, float]:
        """Mean KL a row by k1, and the coefficient that this lesson uses; an adaptive one is updated afterwards."""
        if self.kl is None or reference is None or not len(t):
            return {}
        measured = float(row_sums(t.log_probs - reference, t.mask).mean())
        stats = {"kl_reference": measured, "kl_coefficient": self.kl.current(ctx)}
        if isinstance(self.kl.coefficient, AdaptiveCoefficient) and measured == measured:
            self.kl.coefficient.update(measured, len(scores))
        return stats

    def _taking_part(self, t: Trajectories, found: Advantages) -> tuple[Tensor, Tensor]:
        """(keep [B], advantages [B, T] with equal groups at 0 where they stay, clipped)."""
        import torch

        keep, values = found.ok, found.values
        if self.on_equal == "zero":
            equal = found.status == Status.EQUAL_GROUP
            keep, values = keep | equal, torch.where(equal[:, None], 0.0, values)
        if not self.train_on_truncated and t.done is not None:
            keep = keep & torch.tensor([end == "terminal" for end in t.done], dtype=torch.bool)
        if self.clip_advantage is not None:
            values = values.clamp(-self.clip_advantage, self.clip_advantage)
        return keep, values

    def _extremes(self, values: Tensor, chosen: Tensor, keep: Tensor, t: Trajectories, ctx: Context) -> Tensor:
        """[B] bool: the best and the worst of each group, by mean advantage of the row."""
        import torch

        assert self.keep_extremes is not None
        mean = torch.where(chosen, values, 0.0).sum(dim=1) / chosen.sum(dim=1).clamp_min(1)
        candidates = torch.where(keep, mean, torch.nan)
        return select_by_group(extremes(self.keep_extremes), candidates, group_numbers(t.batch), seed=seed_for(ctx, "extremes"))

    def _stats(self, t: Trajectories, scores: Scores, found: Advantages) -> dict[str, float]:
        """What happened to rows and groups, counted."""
        groups = group_numbers(t.batch)
        stats = {"rows": float(len(t)), "groups": float(len(distinct(groups)))}
        equal = found.status == Status.EQUAL_GROUP
        stats["groups_equal"] = float(len(distinct(groups[equal])))
        stats["groups_empty"] = float(empty_groups(groups, found.ok | equal))
        degenerate = (Status.OK, Status.EQUAL_GROUP, Status.EMPTY_GROUP)
        invalid = {status: count for status, count in status_counts(found.status).items() if status not in degenerate}
        stats["rows_invalid"] = float(sum(invalid.values()))
        stats |= {f"rows_{status.label}": float(count) for status, count in invalid.items()}
        stats["rows_truncated"] = float(sum(end != "terminal" for end in t.done)) if t.done is not None else 0.0
        usable = scores.values[scores.ok].double()
        if usable.numel():
            stats |= {"reward_mean": float(usable.mean()), "reward_std": float(usable.std(correction=0))}
        return stats
