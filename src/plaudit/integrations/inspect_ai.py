"""inspect: a plaudit reward as a scorer, and a plaudit judge in place of inspect's model-graded one.

Needs inspect-ai when it is imported: a scorer is known to inspect by its decorator.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from plaudit.integrations.one_by_one import OneByOne, Sample
from plaudit.integrations.plug import Judged, Plug, open_reward
from plaudit.types import Message, Prompt, Status, UserError

try:
    from inspect_ai.scorer import CORRECT, INCORRECT, Score, Scorer, Target, accuracy, mean, scorer, stderr
    from inspect_ai.solver import TaskState
except ImportError as error:  # pragma: no cover  # tested in an environment without it
    raise UserError("plaudit.integrations.inspect_ai needs inspect: pip install inspect-ai") from error

if TYPE_CHECKING:
    from plaudit.rewards.base import BaseReward


@scorer(metrics={"*": [mean(), stderr()]})  # type: ignore[untyped-decorator]  # inspect is not there when types are checked
def plaudit_scorer(
    reward: str | BaseReward | Callable[..., Any], engine: str | None = None, seed: int = 0, reference: bool = True
) -> Scorer:
    """Scores by any plaudit reward that scores responses one by one.

    reward: a plaudit reward, a plain function, or what `--reward` takes; inspect's log keeps a text as it is, and of others the
    name. engine: as `--engine`. reference: whether the sample's target is the reference.

    The value is {"reward": number, part: number ...}, in the reward's own direction, each with mean and standard error. A
    sample that could not be judged is unscored (inspect counts it and leaves it out), with the status and the reason.
    Metadata are extra columns. Raises UserError if the reward compares responses.
    """
    single = _single(reward, engine, seed)

    async def score(state: TaskState, target: Target) -> Score:
        judged = await _ask(single, state, target if reference else None)
        parts = {name: column[0] for name, column in judged.parts().items()}
        if judged.values[0] is None and not parts:
            return _unscored(judged, state)
        value = math.nan if judged.values[0] is None else judged.values[0]
        return Score(value={"reward": value, **parts}, **_about(judged, state))

    return score


@scorer(metrics=[accuracy(), stderr()])  # type: ignore[untyped-decorator]
def plaudit_graded_qa(
    reward: str | BaseReward | Callable[..., Any] = "judge",
    engine: str | None = None,
    threshold: float = 0.5,
    seed: int = 0,
    reference: bool = True,
) -> Scorer:
    """In place of `model_graded_qa`: correct where the reward is at least `threshold` (at most, where less is better).

    reward: by default plaudit's judge, whose value is P(yes), read off the model's next token instead of parsed out of its
    text. The value itself is in the score's metadata. Where there is no verdict, the sample is unscored. The other arguments
    are those of `plaudit_scorer`.
    """
    single = _single(reward, engine, seed)
    sign = 1.0 if single.plug.reward.higher_is_better else -1.0

    async def score(state: TaskState, target: Target) -> Score:
        judged = await _ask(single, state, target if reference else None)
        value = judged.values[0]
        if value is None:
            return _unscored(judged, state)
        return Score(value=CORRECT if sign * value >= sign * threshold else INCORRECT, **_about(judged, state))

    return score


def _single(reward: str | BaseReward | Callable[..., Any], engine: str | None, seed: int) -> OneByOne:
    return OneByOne(Plug(open_reward(reward, engine=engine), maximise=False, seed=seed), "inspect")


async def _ask(single: OneByOne, state: Any, target: Any) -> Judged:
    """Judge a sample's completion, together with those of other samples that wait at the same time."""
    asked = state.input
    prompt: Prompt = asked if isinstance(asked, str) else [Message(role=one.role, content=one.text) for one in asked]
    columns: Mapping[str, Any] = {name: value for name, value in (state.metadata or {}).items() if name != "reference"}
    truth = None if target is None else (target[0] if len(target) == 1 else list(target))
    sample = Sample(prompt, state.output.completion, truth or None, columns)
    return await asyncio.wrap_future(single.submit(sample))


def _unscored(judged: Judged, state: Any) -> Any:
    return Score.unscored(**_about(judged, state))


def _about(judged: Judged, state: Any) -> dict[str, Any]:
    """What is said besides the value: the status, which is also inspect's reason where there is no number, and why."""
    (status,), (value,), (detail,) = judged.status, judged.values, judged.details
    reason = None if status == Status.OK else status.label
    metadata = {"status": status.label} | ({} if value is None else {"plaudit": value})
    return {
        "answer": state.output.completion,
        "explanation": detail or None,
        "reason": reason,
        "metadata": metadata,
    }
