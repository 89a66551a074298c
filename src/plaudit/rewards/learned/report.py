"""`FitReport`: how a fit went, in raw numbers, and the model card that is written beside a reward."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from plaudit.rewards.learned.base import LearnedReward

if TYPE_CHECKING:
    from torch import Tensor

REPORT_FILE = "fit.json"


@dataclass
class HeldOut:
    """gaps: [P] what the reward says about each held-out pair, at temperature 1. prob: [P] its label."""

    gaps: Tensor
    prob: Tensor

    def __len__(self) -> int:
        return len(self.gaps)

    @property
    def decided(self) -> int:
        """Pairs that are not labelled ties."""
        return int((self.prob != 0.5).sum())

    @property
    def accuracy(self) -> float | None:
        """Share of decided pairs that are ordered as labelled; equal scores count half. None without decided pairs."""
        from plaudit.rewards.learned.losses import pair_accuracy

        found = pair_accuracy(self.gaps, self.prob)
        return None if math.isnan(found) else found

    def log_loss(self, temperature: float = 1.0) -> float | None:
        """Mean negative log-likelihood of the labels; log 2 = 0.693 is what knowing nothing costs. None without pairs."""
        from plaudit.rewards.learned.losses import pair_losses

        return float(pair_losses(self.gaps / temperature, self.prob).mean()) if len(self) else None


@dataclass
class FitReport:
    """losses: mean loss a unit of each epoch. validation: that of the held-out part after each epoch; empty without one.

    best_epoch: whose weights were kept (0-based). stopped: why it ended early. skipped: updates without a step.
    fitted, held_out: units. left_out: units that could not be learned from, by reason. contradictory: pairs labelled both ways.
    held: the held-out pairs. held_units: the numbers of held-out units, in the same order, where a part of the data was held out.
    notes: what a reader must know. Intervals are the caller's: rewards know nothing of them (`plaudit.judging.intervals`).
    """

    kind: str
    losses: list[float]
    validation: list[float]
    best_epoch: int | None
    stopped: str | None
    skipped: int
    fitted: int
    held_out: int
    left_out: dict[str, int]
    contradictory: int
    temperature: float
    held: HeldOut | None = None
    held_units: Tensor | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def accuracy(self) -> float | None:
        """On decided held-out pairs; None where there are none."""
        return None if self.held is None else self.held.accuracy

    def figures(self) -> dict[str, float]:
        """Numbers for a log: those that there are."""
        found: dict[str, float | None] = {
            "loss": self.losses[-1] if self.losses else None,
            "validation": None if self.best_epoch is None else self.validation[self.best_epoch],
            "accuracy": self.accuracy,
            "temperature": self.temperature,
            "units": float(self.fitted),
            "held_out": float(self.held_out),
            "left_out": float(sum(self.left_out.values())),
        }
        return {name: value for name, value in found.items() if value is not None}

    def to_json(self) -> dict[str, Any]:
        """JSON-able; a loss that is not finite is None."""

        def finite(values: list[float]) -> list[float | None]:
            return [value if math.isfinite(value) else None for value in values]

        plain = ("kind", "best_epoch", "stopped", "skipped", "fitted", "held_out", "left_out", "contradictory", "temperature")
        held = self.held
        pairs = None if held is None else {
            "pairs": len(held), "decided": held.decided, "accuracy": held.accuracy,
            "log_loss": held.log_loss(), "log_loss_calibrated": held.log_loss(self.temperature),
        }  # fmt: skip
        curves = {"losses": finite(self.losses), "validation": finite(self.validation)}
        return {**{name: getattr(self, name) for name in plain}, **curves, "held_out_pairs": pairs, "notes": self.notes}


def model_card(reward: LearnedReward, report: FitReport) -> str:
    """README.md of a fitted reward: what it is, how it was fitted, what is known about it, how to use it."""
    rows = [
        f"| epoch {number + 1} | {loss:.4f} | {_or_dash(report.validation, number)} |"
        for number, loss in enumerate(report.losses)
    ]
    left_out = ", ".join(f"{count} {reason}" for reason, count in report.left_out.items()) or "none"
    lines = [
        f"# {reward.name}", "",
        f"A learned reward of the kind `{reward.kind}`, fitted with plaudit. Its settings are in `reward.json`.", "",
        "Use it with `plaudit judge FILE --reward FOLDER`, or `plaudit.rewards.learned.checkpoint.load_reward(FOLDER)`.", "",
        "## Data", "",
        f"Fitted on {report.fitted} labels, {report.held_out} held out; left out: {left_out}; "
        f"labelled both ways: {report.contradictory}.",
        "", "## Fit", "", "| | loss | held-out loss |", "|---|---|---|", *rows, "",
        *([f"Weights of epoch {report.best_epoch + 1}."] if report.best_epoch is not None else []),
        *([f"Stopped: {report.stopped}."] if report.stopped else []), "",
        "## Held-out pairs", "", *_held_lines(report), "",
        *([*(["## Notes", ""]), *(f"- {note}" for note in report.notes), ""] if report.notes else []),
    ]  # fmt: skip
    return "\n".join(lines)


def _or_dash(values: list[float], number: int) -> str:
    return f"{values[number]:.4f}" if number < len(values) else "-"


def _held_lines(report: FitReport) -> list[str]:
    held = report.held
    if held is None or not len(held) or held.accuracy is None:
        return ["Not measured: no decided pair was held out."]
    return [
        f"Accuracy {held.accuracy:.3f} on {held.decided} decided pairs of {len(held)}.",
        f"Log loss {held.log_loss():.4f} as fitted, {held.log_loss(report.temperature):.4f} at the temperature "
        f"{report.temperature:.4g} (knowing nothing: 0.6931). The temperature was chosen on these pairs.",
    ]
