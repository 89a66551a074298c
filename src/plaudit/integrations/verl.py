"""verl: a plaudit reward as `compute_score`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from plaudit.integrations.one_by_one import OneByOne, Sample
from plaudit.integrations.plug import Judged, Plug, batch_of, open_reward
from plaudit.types import UserError

if TYPE_CHECKING:
    from plaudit.engines.catalogue import EngineOptions
    from plaudit.rewards.base import BaseReward

Answer = dict[str, float]
"""`score`, `judged` (1 or 0), and a number for each part (NaN where a part has none), which verl logs by these names."""


class VerlReward:
    """The ways in which verl asks for rewards; made by `verl_reward`."""

    def __init__(self, plug: Plug, prompt: str | None) -> None:
        self.plug = plug
        self._prompt = prompt
        self._single: OneByOne | None = None

    @property
    def single(self) -> OneByOne:
        """For calls with one sample. Raises UserError if the reward compares samples."""
        if self._single is None:
            self._single = OneByOne(self.plug, "verl")
        return self._single

    def sample(self, data_source: str, solution_str: str, ground_truth: Any, extra_info: Mapping[str, Any] | None) -> Sample:
        """One call as a sample. Raises UserError if extra_info does not have the prompt."""
        columns = {**(extra_info or {}), "data_source": data_source}
        if self._prompt is not None and self._prompt not in columns:
            raise UserError(
                f"verl's extra_info has no '{self._prompt}' (it has {', '.join(columns)}): name the field that holds the prompt "
                "with prompt=NAME, or say prompt=None for a reward that reads no prompts"
            )
        return Sample("" if self._prompt is None else columns[self._prompt], solution_str, ground_truth, columns)

    def compute_score(self, sample: Sample) -> Answer:
        """One sample; calls from several threads at once are judged together."""
        return self._answer(self.single.submit(sample).result())

    async def compute_score_async(self, sample: Sample) -> Answer:
        """One sample; coroutines that wait at once are judged together."""
        return self._answer(await asyncio.wrap_future(self.single.submit(sample)))

    def compute_scores(self, samples: Sequence[Sample]) -> list[Answer]:
        """A batch; samples of equal prompts are a group."""
        judged = self.plug.judge(
            batch_of(
                [sample.prompt for sample in samples],
                [sample.response for sample in samples],
                {"reference": [sample.reference for sample in samples]},
                reference="reference",
            )
        )
        return [self._answer(judged.rows([row])) for row in range(len(judged))]

    def _answer(self, judged: Judged) -> Answer:
        (value,) = self.plug.insist(judged).values
        assert value is not None  # `unjudged` is a number here, or `insist` has raised
        return {"score": value, **self.plug.figures(judged)}


def verl_reward(
    reward: str | BaseReward | Callable[..., Any],
    *,
    prompt: str | None = "question",
    unjudged: float | Literal["raise"] = "raise",
    call: Literal["sync", "async", "batch"] = "sync",
    seed: int = 0,
    engine: str | None = None,
    options: EngineOptions | None = None,
) -> Callable[..., Answer] | Callable[..., Awaitable[Answer]] | Callable[..., list[Answer]]:
    """A reward function for verl: a file with `compute_score = verl_reward("math")`, named in
    `reward.custom_reward_function.path` (`custom_reward_function.path` in older releases).

    reward: a plaudit reward, a plain function, or what `--reward` takes (with `engine` and `options`, as `--engine`).
    prompt: the field of extra_info that holds what was asked; verl itself does not hand it over. None: the reward reads no
    prompts. unjudged: what a sample is worth that could not be judged; verl knows no "no score", so by default the run stops.
    call: "sync" works with every reward manager; "async" lets the reward loop wait for any number of samples at once, which are
    judged together; "batch" is for the batch reward manager, and the only one for rewards that compare samples.

    The answer is {"score", "judged", part: number ...}. Raises SpecError if no reward is named, UserError if it cannot be used.
    """
    if unjudged is None:
        raise UserError('verl needs a number for every sample: give unjudged=NUMBER, or "raise" to stop the run')
    asked = VerlReward(Plug(open_reward(reward, engine=engine, options=options), unjudged, seed=seed), prompt)
    if call == "batch":
        return _batched(asked)
    _ = asked.single  # a reward that cannot be asked this way is refused now, not in the middle of a run
    # verl looks at the function itself to see whether it is asynchronous, so that these are functions and not objects
    if call == "async":

        async def compute_score_async(
            data_source: str, solution_str: str, ground_truth: Any, extra_info: Mapping[str, Any] | None = None, **_: Any
        ) -> Answer:
            return await asked.compute_score_async(asked.sample(data_source, solution_str, ground_truth, extra_info))

        return compute_score_async

    def compute_score(
        data_source: str, solution_str: str, ground_truth: Any, extra_info: Mapping[str, Any] | None = None, **_: Any
    ) -> Answer:
        return asked.compute_score(asked.sample(data_source, solution_str, ground_truth, extra_info))

    return compute_score


def _batched(asked: VerlReward) -> Callable[..., list[Answer]]:
    def compute_scores(
        data_sources: Sequence[str],
        solution_strs: Sequence[str],
        ground_truths: Sequence[Any],
        extra_infos: Sequence[Mapping[str, Any] | None] | None = None,
        **_: Any,
    ) -> list[Answer]:
        infos = extra_infos if extra_infos is not None else [None] * len(solution_strs)
        rows = zip(data_sources, solution_strs, ground_truths, infos, strict=True)
        return asked.compute_scores([asked.sample(*row) for row in rows])

    return compute_scores
