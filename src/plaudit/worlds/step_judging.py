"""How a tiny decoder judges the steps of `large_chains` (card 08): at once, or with a line of code whose output it reads.

The step `1205+7863=9068` is shown as `1205+7863=9068?`. A judge that reasons answers with the operation (`+;`), the step as a
question to Python between backticks, what came of it (`>1`) and its verdict (`!Y.`); one that does not, with the verdict.
"""

from __future__ import annotations

from collections.abc import Sequence

from plaudit.rewards.generative.step_form import StepForm
from plaudit.types import Batch

CHARACTERS = "0123456789+-=;`>!YN.?\n"


def shown_step(problem: str, steps: Sequence[str], written: Sequence[str]) -> str:  # noqa: ARG001  # a form's signature
    """The step alone: whether its sum is right does not depend on the others."""
    return f"{steps[-1]}?"


FORM = StepForm(
    analyze=("", ";"),
    verify="",
    code=("`", "`"),
    program="print(int({code}))",
    ran=(">", ";"),
    verdict=("!", "."),
    tag="!",
    mark="!",
    done=".",
    right=("Y",),
    wrong=("N",),
    ask=shown_step,
)


def step_traces(steps: Sequence[str], truth: Sequence[bool], *, generative: bool) -> Batch:
    """Whole answers about steps of known truth, to be learned; `extras["environment"]` says what the executed code wrote."""
    answers = []
    for step, right in zip(steps, truth, strict=True):
        if generative:
            answers.append(FORM.trace("+" if "+" in step else "-", step.replace("=", "=="), f"{int(right)}\n", right))
        else:
            answers.append(FORM.trace(None, None, None, right))
    return Batch(
        [shown_step("", [step], ()) for step in steps],
        [text for text, _ in answers],
        extras={"environment": [spans for _, spans in answers]},
    )
