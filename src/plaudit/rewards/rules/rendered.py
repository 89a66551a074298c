"""`RenderedRule`: rules of form that see what the prompt's template has already printed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from plaudit.rewards.rules.base import Judged, RuleReward, failure
from plaudit.types import Batch, Engine, Message, Prompt, Request, Status, prompt_text

# A run of XML-like tags at the very end. Control tokens such as <|assistant|> are not of that form; <s> and </s> are left out.
_TAIL = re.compile(r"(?:<(?!/?s>)/?[A-Za-z][\w.:-]*>\s*)+\Z")


def forced_tail(rendered: str) -> str:
    """The tags that end a rendered prompt: what the model was made to begin its answer with, such as an opening <think>."""
    found = _TAIL.search(rendered[-2000:])
    return found.group() if found else ""


class RenderedRule(RuleReward):
    """A rule of form on the forced beginning of the answer plus the response.

    Some templates print an opening tag at the end of the prompt, so that no response holds it and a rule that looks at the
    response alone gives 0 everywhere. The beginning is taken, in this order, from: `forced`, the text itself; the batch's
    extra column `rendered`, the prompts as the model saw them; `engine.render`. Without any of them it is empty. A plain text
    prompt is rendered as one user turn. A response that repeats the beginning is not given it twice.
    """

    abstract = True

    def __init__(self, *, forced: str | None = None, engine: Engine | None = None) -> None:
        self.forced, self.engine = forced, engine
        self.settings = {"forced": forced, "engine": engine.version if engine is not None else None}

    def judge_text(self, text: str, forced_length: int) -> Judged:
        """One answer with its forced beginning, which is its first `forced_length` characters."""
        raise NotImplementedError

    def judge_one(self, prompt: Prompt, response: str, reference: Any) -> Judged:  # noqa: ARG002
        """One row, without a `rendered` column."""
        return self._judge_with(self._beginning(prompt, None), response)

    def judge_rows(self, batch: Batch) -> list[Judged]:
        """[B] what is said about each row."""
        rendered = batch.extras.get("rendered", [None] * len(batch))
        judged: list[Judged] = []
        for (prompt, response, _), seen in zip(self.text_rows(batch), rendered, strict=True):
            if isinstance(response, Status):
                judged.append(response)
                continue
            try:
                judged.append(self._judge_with(self._beginning(prompt, seen), response))
            except Exception as error:
                judged.append(failure(error))
        return judged

    def _beginning(self, prompt: Prompt, rendered: str | None) -> str:
        if self.forced is not None:
            return self.forced
        if rendered is None and self.engine is not None:
            rendered = self.engine.render(Request(_messages(prompt)))
        return forced_tail(rendered) if rendered else ""

    def _judge_with(self, beginning: str, response: str) -> Judged:
        if beginning.strip() and response.lstrip().startswith(beginning.strip()):
            beginning = ""
        return self.judge_text(beginning + response, len(beginning))


def _messages(prompt: Prompt) -> tuple[Message, ...]:
    if isinstance(prompt, (str, Mapping)):
        return ({"role": "user", "content": prompt_text(prompt)},)
    return tuple(prompt)
