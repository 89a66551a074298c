"""When a critique that scores several responses at once is right, and the reward that trains its writer (card 17, steps 3 and 6).

Liu et al. 2025, Inference-Time Scaling for Generalist Reward Modeling, equation 10: with labels r and scores S, a critique of two
responses or more is right where the best labelled one scores highest, strictly; of one response, where the score is the label.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from plaudit.rewards.rules.base import Judged, RuleReward
from plaudit.types import Prompt, Verdict

Read = Callable[[str, int], Sequence[float] | None]
"""(text, number of responses) -> their scores in the order shown, None where they cannot be read."""


def critique_correct(scores: Sequence[float] | None, labels: Sequence[float], *, strict: bool = True) -> bool:
    """Whether scores agree with labels about which response is best.

    None (nothing could be read), a score that is no finite number, and another number of scores are never correct. Of several
    best labels any may top. strict: a tie between a best response and another one is wrong; else it passes.
    Raises ValueError for labels that are not finite, and for two or more labels that are all equal: nothing can be right then.
    """
    if not labels or not all(math.isfinite(label) for label in labels):
        raise ValueError(f"labels are one or more finite numbers, not {list(labels)}")
    if scores is None or len(scores) != len(labels) or not all(math.isfinite(score) for score in scores):
        return False
    if len(labels) == 1:
        return scores[0] == labels[0]
    best = max(labels)
    rest = [score for score, label in zip(scores, labels, strict=True) if label < best]
    if not rest:
        raise ValueError("all labels are equal, so no response is the best")
    top = max(score for score, label in zip(scores, labels, strict=True) if label == best)
    return top > max(rest) if strict else top >= max(rest)


class CritiqueReward(RuleReward):
    """`right` for a correct critique, else `wrong`, for one that cannot be read `invalid` (the paper: 1, -1, -1).

    read: takes the scores from what was written. References are the labels of the responses in the order shown.
    The verdict of an unreadable critique says so: its share is the first thing to watch where KL is small.
    """

    name = "critique-correct"
    needs_reference = True

    def __init__(
        self, read: Read, *, right: float = 1.0, wrong: float = -1.0, invalid: float = -1.0, strict: bool = True
    ) -> None:
        self.read, self.right, self.wrong, self.invalid, self.strict = read, float(right), float(wrong), float(invalid), strict
        named = f"{getattr(read, '__module__', '')}:{getattr(read, '__qualname__', type(read).__name__)}"
        self.settings = {"read": named, "right": right, "wrong": wrong, "invalid": invalid, "strict": strict}

    def judge_one(self, prompt: Prompt, response: str, reference: Any) -> Judged:  # noqa: ARG002
        """One critique."""
        labels = [float(label) for label in reference]
        scores = self.read(response, len(labels))
        if scores is None:
            return Verdict(value=self.invalid, detail="no scores could be read")
        return Verdict(value=self.right if critique_correct(scores, labels, strict=self.strict) else self.wrong)
