"""`OneByOne`: a reward for programs that ask about one response at a time; calls at the same time are judged as one batch."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from plaudit.integrations.gathering import Gathering
from plaudit.integrations.plug import Judged, Plug, batch_of
from plaudit.types import Prompt, UserError


@dataclass(frozen=True)
class Sample:
    """One response to be judged. reference: the right answer, None where there is none. columns: anything else by name."""

    prompt: Prompt
    response: Any
    reference: Any = None
    columns: Mapping[str, Any] = field(default_factory=dict)


class OneByOne:
    """plug: the reward. program: who asks, for messages.

    Rewards that draw by the seed judge each sample by itself, so that their numbers do not depend on who asked meanwhile.
    Raises UserError if the reward compares responses with one another, or needs the whole batch.
    """

    def __init__(self, plug: Plug, program: str) -> None:
        from plaudit.rewards.rules import FunctionReward

        reward = plug.reward
        if reward.native != "score" or getattr(reward, "needs_whole_batch", False):
            raise UserError(
                f"the reward '{reward.name}' compares responses with one another, but {program} asks about one at a time: use a "
                "reward that scores each response on its own"
            )
        self.plug = plug
        # what a judge draws depends on who shares its call; a plain function sees no seed and one row at a time
        draws = reward.uses_seed and not isinstance(reward, FunctionReward)
        self._gathering: Gathering[Sample, Judged] = Gathering(self.judge, 1 if draws else max(1, reward.batch_size))

    def submit(self, sample: Sample) -> Future[Judged]:
        """Judge one sample, with others that come meanwhile. The future raises what a reward raises that cannot work at all."""
        return self._gathering.submit(sample)

    def judge(self, samples: list[Sample]) -> list[Judged]:
        """Several samples at once: one answer each."""
        names = dict.fromkeys(name for sample in samples for name in sample.columns)
        columns: dict[str, list[Any]] = {name: [sample.columns.get(name) for sample in samples] for name in names}
        referenced = any(sample.reference is not None for sample in samples)
        columns["reference"] = [sample.reference for sample in samples]
        judged = self.plug.judge(
            batch_of(
                [sample.prompt for sample in samples],
                [sample.response for sample in samples],
                columns,
                reference="reference" if referenced else "",
            )
        )
        return [judged.rows([row]) for row in range(len(samples))]
