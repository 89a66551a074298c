"""`ResponseLogProbability`: how likely a model finds a response, the baseline of every judge that is its own model."""

from __future__ import annotations

from plaudit.rewards.base import BaseReward
from plaudit.rewards.rules.base import response_text
from plaudit.types import Batch, Context, Engine, Message, Prompt, Request, Scores, Status, prompt_text
from plaudit.types.keys import content_key


class ResponseLogProbability(BaseReward):
    """Mean log-probability (nats) of a response's tokens after its prompt, under an engine's model; without the end token.

    chat: whether a prompt that is plain text is put as a user's message; False continues it as it is. mean: False gives the sum.
    A response without tokens has no mean: ABSTAINED. NOT_APPLICABLE where the response is no text.
    """

    uses_seed = False

    def __init__(self, engine: Engine, *, chat: bool = True, mean: bool = True, batch_size: int | None = None) -> None:
        self.engine, self.name = engine, "mean-log-probability" if mean else "log-probability"
        self.settings = {"chat": chat, "mean": mean}
        self.batch_size = batch_size or engine.rows_at_once

    def fingerprint(self) -> str:
        """The engine's version and the settings."""
        return content_key("log-probability", self.engine.version, self.settings)

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:
        """[B] nats a token (or in all)."""
        import torch

        ctx = ctx or Context()
        ctx.budget.spend(reward_calls=len(batch))
        texts = [response_text(response) for response in batch.require_responses()]
        values = torch.full((len(batch),), torch.nan)
        status = torch.tensor([int(Status.NOT_APPLICABLE if text is None else Status.ABSTAINED) for text in texts])
        rows = [row for row, text in enumerate(texts) if text]
        if not rows:
            return Scores(values, status)
        requests = [self._request(batch.prompts[row]) for row in rows]
        found = self.engine.log_probs(requests, [texts[row] or "" for row in rows], budget=ctx.budget)
        for place, row in enumerate(rows):
            count = len(found.tokens[place])
            status[row] = int(found.status[place])
            if found.status[place] is Status.OK and count:
                values[row] = found.total[place] / (count if self.settings["mean"] else 1)
        return Scores(values, status)

    def _request(self, prompt: Prompt) -> Request:
        if isinstance(prompt, list | tuple):
            return Request(tuple(prompt))
        message: Message = {"role": "user", "content": prompt_text(prompt)}
        return Request((message,) if self.settings["chat"] else prompt_text(prompt))
