"""What a learned reward reads: prompt and response as one chat or text, control tokens broken up, as tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from plaudit.engines.control import neutralise
from plaudit.types import Message, Prompt, prompt_text


def judged_messages(prompt: Prompt, response: Any, control_strings: Sequence[str]) -> tuple[list[Message], int]:
    """The chat that ends with the response, control tokens broken up, and how many of them there were.

    Raises TypeError if the response is no text and no chat, KeyError for a message without role or content.
    """
    given: Sequence[Mapping[str, Any]]
    given = [{"role": "user", "content": prompt_text(prompt)}] if isinstance(prompt, (str, Mapping)) else prompt
    turns = list(given)
    if isinstance(response, str):
        turns.append({"role": "assistant", "content": response})
    elif isinstance(response, (list, tuple)) and response and all(isinstance(turn, Mapping) for turn in response):
        turns += response
    else:
        raise TypeError(f"a {type(response).__name__}")
    broken = 0
    messages: list[Message] = []
    for turn in turns:
        if not isinstance(turn["content"], str):
            raise TypeError(f"a message holds a {type(turn['content']).__name__}")
        text, count = neutralise(turn["content"], control_strings)
        broken += count
        messages.append({"role": turn["role"], "content": text})
    return messages, broken


def joined(messages: Sequence[Message]) -> tuple[str, str]:
    """(question, answer) for models without a chat template: all turns before the last as one text, and the last."""
    return prompt_text(messages[:-1]), messages[-1]["content"]
