"""What text goes into a model and what comes out of it.

Vocabulary: a `Prompt` is what the *judged* system was given. A `Request` is what a *judge's* engine is given. `Sampling`
says how an engine continues a request, and a `Generation` is the continuation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from plaudit.types.status import Status

if TYPE_CHECKING:
    from torch import Tensor


class Message(TypedDict):
    """One chat turn in the OpenAI convention."""

    role: str
    content: str


Prompt = str | Sequence[Message] | Mapping[str, Any]
"""Plain text, a chat, or named conditions (goal, user, style ...)."""

Finish = Literal["complete", "truncated", "time_limit"]


def prompt_text(prompt: Prompt) -> str:
    """Flatten a prompt into readable text: chats become `role: content` blocks, conditions become `name: value` lines."""
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, Mapping):
        return "\n".join(f"{name}: {value}" for name, value in prompt.items())
    if len(prompt) == 1:
        return prompt[0]["content"]
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in prompt)


@dataclass(frozen=True)
class Request:
    """One input of an engine: chat messages, and the forced first characters of the answer.

    `messages` may be a plain string: it is then continued as it is, without a chat template.
    """

    messages: str | tuple[Message, ...]
    prefix: str = ""

    def __hash__(self) -> int:
        text = self.messages if isinstance(self.messages, str) else repr(self.messages)
        return hash((text, self.prefix))


@dataclass(frozen=True)
class Sampling:
    """How a text is continued. Temperature 0 is greedy; a seed makes sampling repeatable where the engine can."""

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0


@dataclass
class Generation:
    """A continuation: its text without the forced prefix, and why it ended. A failed row has a status and empty text."""

    text: str
    finish: Finish = "complete"
    status: Status = Status.OK
    detail: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass
class NextToken:
    """Log-probabilities of given answers right after each request.

    log_probs: [B, K] natural log of the summed probability of all spellings of option k; NaN where status is not OK.
    status: one per request. detail: a sentence per request, empty where OK.
    floor: [B] or None. Where an engine shows only its top tokens, the log-probability below which a token was not shown
    (an option that was not shown is set to it: an upper bound, never a made-up zero).
    """

    log_probs: Tensor
    status: list[Status]
    detail: list[str] = field(default_factory=list)
    floor: Tensor | None = None


@dataclass
class ContinuationLogProbs:
    """Log-probability of each given continuation.

    total: [B] summed over the continuation's tokens, NaN where not scored. tokens: one 1-D tensor per request.
    """

    total: Tensor
    tokens: list[Tensor]
    status: list[Status]
    detail: list[str] = field(default_factory=list)
