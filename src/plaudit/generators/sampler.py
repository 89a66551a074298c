"""`EngineSampler`: any engine as a generator that only samples (an API, a model of this machine): it has no log-probabilities."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from plaudit.types import (
    Batch,
    Engine,
    EngineError,
    Generator,
    Message,
    Prompt,
    Request,
    Sampling,
    States,
    Status,
    StepStats,
    Trajectories,
    prompt_text,
)


class EngineSampler(Generator):
    """Responses of an engine. sampling: how it writes where nobody says otherwise.

    A prompt that is no chat becomes a user's message. A row on which the engine fails has the response None, so that no reward
    takes it for an empty answer. Raises EngineError where the engine cannot be reached.
    """

    def __init__(self, engine: Engine, sampling: Sampling | None = None) -> None:
        self.engine = engine
        self.sampling = sampling or Sampling(temperature=1.0)

    def modules(self) -> dict[str, Any]:
        """None: nothing of it is trained."""
        return {}

    def rollout(self, prompts: Batch, n: int, *, how: Any = None, start: States | None = None, seed: int) -> Trajectories:
        """n responses a prompt; log-probabilities are NaN, and no step has a density."""
        import torch

        if start is not None:
            raise ValueError("an engine continues prompts: put what is there already into the prompt")
        rows = [row for row in range(len(prompts)) for _ in range(n)]
        settings = replace(how or self.sampling, seed=seed)
        made = self.engine.generate([_request(prompts.prompts[row]) for row in rows], settings)
        if any(one.status == Status.UNREACHABLE for one in made):
            raise EngineError(next(one.detail for one in made if one.status == Status.UNREACHABLE))
        batch = replace(
            prompts.select(rows),
            responses=[one.text if one.status == Status.OK else None for one in made],
            groups=torch.tensor(rows, dtype=torch.int64),
            lengths=[one.completion_tokens for one in made],
            finish=[one.finish for one in made],
        )
        done = ["terminal" if one.finish == "complete" else "truncated" for one in made]
        unknown = torch.full((len(rows), 1), torch.nan)
        return Trajectories(batch, unknown, torch.zeros(len(rows), 1, dtype=torch.bool), done=done, how=settings)

    def encode(self, batch: Batch, *, seed: int) -> Trajectories:
        """Raises NotImplementedError: an engine that only samples evaluates nothing."""
        raise NotImplementedError(f"the engine '{self.engine.name}' samples and gives no log-probabilities")

    def evaluate(self, t: Trajectories, *, need: Any = ("log_prob",), steps: Any = None, part: Any = None) -> StepStats:
        """Raises NotImplementedError: an engine that only samples evaluates nothing."""
        raise NotImplementedError(f"the engine '{self.engine.name}' samples and gives no log-probabilities")


def _request(prompt: Prompt) -> Request:
    if isinstance(prompt, list | tuple):
        return Request(tuple(prompt))
    message: Message = {"role": "user", "content": prompt_text(prompt)}
    return Request((message,))
