"""An engine that answers from functions: for what parsing and rendering do, never for what a model believes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from plaudit.types import Budget, ContinuationLogProbs, Engine, Generation, NextToken, Request, Sampling, Status

if TYPE_CHECKING:
    from torch import Tensor

Odds = Callable[[Request], Mapping[str, float] | Status]
"""Request -> probability by spelling, or the status of a request that fails."""


class ScriptedEngine(Engine):
    """answer: what `generate` returns. odds: what `next_token` sums over spellings. Keeps every request it was sent."""

    def __init__(
        self,
        answer: Callable[[Request], str | Generation] | None = None,
        odds: Odds | None = None,
        *,
        control: Sequence[str] = (),
        floor: float | None = None,
    ) -> None:
        self.name = "scripted"
        self.answer = answer or (lambda _: "")
        self.odds = odds or (lambda _: {})
        self.control = tuple(control)
        self.floor = floor
        self.sent: list[Request] = []

    @property
    def version(self) -> str:
        return "scripted-1"

    @property
    def control_strings(self) -> tuple[str, ...]:
        return self.control

    def render(self, request: Request) -> str:
        assert not isinstance(request.messages, str)
        turns = "".join(f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in request.messages)
        return f"{turns}<|im_start|>assistant\n{request.prefix}"

    def generate(self, requests: Sequence[Request], how: Sampling, *, budget: Budget | None = None) -> list[Generation]:
        self.sent += requests
        answers = [self.answer(request) for request in requests]
        return [answer if isinstance(answer, Generation) else Generation(answer) for answer in answers]

    def next_token(
        self, requests: Sequence[Request], options: Sequence[Sequence[str]], *, grad: bool = False, budget: Budget | None = None
    ) -> NextToken:
        import torch

        self.sent += requests
        rows: list[list[float]] = []
        status: list[Status] = []
        for request in requests:
            odds = self.odds(request)
            status.append(odds if isinstance(odds, Status) else Status.OK)
            masses = [math.nan if isinstance(odds, Status) else sum(odds.get(word, 0.0) for word in option) for option in options]
            low = -math.inf if self.floor is None else self.floor
            rows.append([mass if math.isnan(mass) else max(math.log(mass) if mass > 0 else -math.inf, low) for mass in masses])
        detail = ["" if code is Status.OK else f"engine says {code.label}" for code in status]
        floors = None if self.floor is None else torch.full((len(requests),), self.floor)
        return NextToken(torch.tensor(rows).reshape(len(requests), len(options)), status, detail, floors)

    def log_probs(
        self, requests: Sequence[Request], continuations: Sequence[str], *, grad: bool = False, budget: Budget | None = None
    ) -> ContinuationLogProbs:
        raise NotImplementedError

    def hidden(self, requests: Sequence[Request]) -> Tensor:
        raise NotImplementedError


def user_text(request: Request) -> str:
    """The user turn of a request."""
    assert not isinstance(request.messages, str)
    return request.messages[-1]["content"]
