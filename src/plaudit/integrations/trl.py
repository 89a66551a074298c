"""TRL: a plaudit reward as a reward function of GRPOTrainer, RLOOTrainer and OnlineDPOTrainer, and as a judge of pairs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from plaudit.integrations.plug import Judged, Plug, Unjudged, batch_of, open_reward
from plaudit.types import Prompt, UserError

if TYPE_CHECKING:
    from plaudit.engines.catalogue import EngineOptions
    from plaudit.rewards.base import BaseReward

NOT_COLUMNS = ("completion_ids", "trainer_state", "log_extra", "log_metric", "environments")
"""What TRL hands to reward functions besides the columns of the data."""


class TrlReward:
    """A reward function for TRL's trainers; made by `trl_reward`. `plug.counts` says how many rows had which status."""

    def __init__(self, plug: Plug, *, name: str | None, reference: str | None, group_size: int | None) -> None:
        self.plug = plug
        self.__name__ = name or plug.reward.name
        self._reference, self._group_size = reference, group_size

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[Any], **columns: Any) -> list[float | None]:
        """One number a completion; None ("does not apply") where it could not be judged."""
        judged = self._judge(prompts, completions, columns)
        self._log(judged, columns)
        return self.plug.insist(judged).values

    def _judge(self, prompts: Sequence[Prompt], completions: Sequence[Any], columns: Mapping[str, Any]) -> Judged:
        kept = {
            name: column
            for name, column in columns.items()
            if name not in NOT_COLUMNS and isinstance(column, (list, tuple)) and len(column) == len(prompts)
        }
        batch = batch_of(prompts, completions, kept, reference=self._reference, group_size=self._group_size)
        state = columns.get("trainer_state")
        step, total = getattr(state, "global_step", 0), getattr(state, "max_steps", 0)
        return self.plug.judge(batch, step=step, progress=min(1.0, step / total) if total > 0 else 0.0)

    def _log(self, judged: Judged, columns: Mapping[str, Any]) -> None:
        """Parts, statuses and counts, where the trainer's release takes them."""
        from plaudit.training.scoring import score_figures, status_figures

        log_metric, log_extra = columns.get("log_metric"), columns.get("log_extra")
        if log_metric is not None and judged.scores is not None:
            figures = score_figures(judged.scores, self.__name__)
            figures |= {f"{self.__name__}/{name}": value for name, value in status_figures(judged.scores).items()}
            for name, value in figures.items():
                log_metric(name, value)
        if log_extra is not None:
            log_extra(f"{self.__name__}/status", [status.label for status in judged.status])
            for name, values in judged.parts().items():
                log_extra(f"{self.__name__}/{name}", [value if value == value else None for value in values])


class AsyncTrlReward(TrlReward):
    """The same as a coroutine: TRL waits for several such rewards at once."""

    async def __call__(  # type: ignore[override]  # TRL tells the two kinds apart by `async`
        self, prompts: Sequence[Prompt], completions: Sequence[Any], **columns: Any
    ) -> list[float | None]:
        """One number a completion; None ("does not apply") where it could not be judged."""
        judged = await asyncio.to_thread(self._judge, prompts, completions, columns)
        self._log(judged, columns)
        return self.plug.insist(judged).values


@overload
def trl_reward(
    reward: str | BaseReward | Callable[..., Any], *, asynchronous: Literal[True], name: str | None = None,
    reference: str | None = None, unjudged: Unjudged = None, group_size: int | None = None, seed: int = 0,
    engine: str | None = None, options: EngineOptions | None = None,
) -> AsyncTrlReward: ...  # fmt: skip
@overload
def trl_reward(
    reward: str | BaseReward | Callable[..., Any], *, asynchronous: bool = False, name: str | None = None,
    reference: str | None = None, unjudged: Unjudged = None, group_size: int | None = None, seed: int = 0,
    engine: str | None = None, options: EngineOptions | None = None,
) -> TrlReward: ...  # fmt: skip
def trl_reward(
    reward: str | BaseReward | Callable[..., Any],
    *,
    asynchronous: bool = False,
    name: str | None = None,
    reference: str | None = None,
    unjudged: Unjudged = None,
    group_size: int | None = None,
    seed: int = 0,
    engine: str | None = None,
    options: EngineOptions | None = None,
) -> TrlReward | AsyncTrlReward:
    """A reward function for TRL: `GRPOTrainer(reward_funcs=trl_reward("math"), ...)`.

    reward: a plaudit reward, a plain function, or what `--reward` takes (with `engine` and `options`, as `--engine`).
    name: under which TRL logs it; None: the reward's own. reference: the data's column with right answers (None: by its name).
    unjudged: what a completion is worth that could not be judged. None is TRL's "does not apply": the completion has no
    advantage. OnlineDPOTrainer knows no None (it would take the second of two): use `trl_judge`, a number, or "raise" there.
    group_size: `num_generations`, for rewards that compare the completions of a prompt: a group that is split over processes is
    then refused. Rows of equal prompts are a group. asynchronous: TRL waits for several asynchronous rewards at once.
    Raises SpecError if no reward is named; the function raises UserError where the columns do not fit.
    """
    plug = Plug(open_reward(reward, engine=engine, options=options), unjudged, seed=seed)
    kind = AsyncTrlReward if asynchronous else TrlReward
    return kind(plug, name=name, reference=reference, group_size=group_size)


class TrlJudge:
    """Judges pairs for online DPO; made by `trl_judge`."""

    def __init__(self, plug: Plug) -> None:
        self.plug = plug
        self.__name__ = plug.reward.name

    def judge(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[Sequence[Any]],
        shuffle_order: bool = True,  # noqa: ARG002  # part of TRL's interface
    ) -> list[int]:
        """0 or 1 for each prompt: the place of the better of its two completions; -1 where that could not be said.

        shuffle_order is not needed: plaudit's judges of pairs see both orders. An exact tie goes to the first.
        """
        return [-1 if prob is None else int(prob < 0.5) for prob in self._probabilities(prompts, completions)]

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[Any], **_: Any) -> list[float | None]:
        """[2P] the probability that a completion beats the other one of its prompt; the two halves are the two completions."""
        half = len(prompts) // 2
        if len(prompts) % 2 or list(prompts[:half]) != list(prompts[half:]):
            raise UserError("a judge of pairs needs two completions a prompt, all first ones before all second ones")
        pairs = list(zip(completions[:half], completions[half:], strict=True))
        first = self._probabilities(prompts[:half], pairs)
        return [*first, *(None if prob is None else 1.0 - prob for prob in first)]

    def _probabilities(self, prompts: Sequence[Prompt], pairs: Sequence[Sequence[Any]]) -> list[float | None]:
        """P(first beats second) of each pair."""
        import torch

        if any(len(pair) != 2 for pair in pairs):
            raise UserError("a judge of pairs needs exactly two completions a prompt")
        batch = batch_of([prompt for prompt in prompts for _ in range(2)], [completion for pair in pairs for completion in pair])
        first = torch.arange(0, len(batch), 2)
        return self.plug.insist(self.plug.compare(batch, first, first + 1)).values


def trl_judge(
    reward: str | BaseReward | Callable[..., Any],
    *,
    unjudged: Unjudged = "raise",
    seed: int = 0,
    engine: str | None = None,
    options: EngineOptions | None = None,
) -> TrlJudge:
    """A judge of pairs for TRL's OnlineDPOTrainer out of any reward: one that scores, too (by the Bradley-Terry link).

    TRL 1.x takes it as `reward_funcs=trl_judge("verdict")`; releases that still have judges (to 0.29) take it as `judge=`, too.
    unjudged: P(first beats second) for pairs that could not be judged. TRL's trainers of pairs know no "no verdict": they take
    the second completion. Hence "raise" is the default; None hands on TRL's -1 or None all the same.
    """
    return TrlJudge(Plug(open_reward(reward, engine=engine, options=options), unjudged, seed=seed))
