"""Requests as text and as tokens: chat templates, forced prefixes, and the boundary between prompt and continuation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from plaudit.engines.gguf_files import load_gguf_tokenizer
from plaudit.engines.weights import weight_files
from plaudit.types import EngineError, Message, Request

PLAIN_TEMPLATE_END = "assistant:"


def plain_chat(messages: Sequence[Message]) -> str:
    """A chat for models without a chat template: `role: content` blocks with a blank line between, then `assistant:`."""
    blocks = [f"{message['role']}: {message['content']}" for message in messages]
    return "\n\n".join([*blocks, PLAIN_TEMPLATE_END])


def merge_system(messages: Sequence[Message]) -> list[Message]:
    """The chat with its system message put in front of the first user turn, for templates that know no system role."""
    system, rest = messages[0], list(messages[1:])
    for place, message in enumerate(rest):
        if message["role"] == "user":
            rest[place] = {"role": "user", "content": f"{system['content']}\n\n{message['content']}"}
            return rest
    return [{"role": "user", "content": system["content"]}, *rest]


def read_control_strings(folder: Path) -> tuple[str, ...] | None:
    """Special tokens as text, read from `tokenizer.json` without loading a tokenizer; None if there is no such file."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    try:
        tokens = json.loads(path.read_text(encoding="utf-8")).get("added_tokens", [])
        return tuple(sorted({token["content"] for token in tokens if token.get("special")}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(f"'{path}' cannot be read as a tokenizer: {error}") from error


class Codec:
    """The tokenizer of a model folder, loaded when it is first needed.

    A chat is rendered by the model's own template, with the turn opened for the assistant, and tokenised as it is (the
    template holds every special token). Plain text, and chats of a model without a template, get the beginning-of-text
    token in front if the tokenizer is configured to add one. A forced prefix belongs to the prompt.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def tokenizer(self) -> Any:
        """The transformers tokenizer. Raises EngineError if it cannot be loaded."""
        from transformers import AutoTokenizer

        weights = weight_files(self.folder)
        try:
            if weights[0].suffix == ".gguf" and not (self.folder / "tokenizer_config.json").is_file():
                return load_gguf_tokenizer(weights[0])
            return AutoTokenizer.from_pretrained(str(self.folder), local_files_only=True, trust_remote_code=False)
        except Exception as error:  # tokenizers raises bare exceptions for files that it cannot read
            raise EngineError(f"the tokenizer of '{self.folder}' cannot be loaded: {error}") from error

    @cached_property
    def control_strings(self) -> tuple[str, ...]:
        """The texts of all special tokens, sorted."""
        found = read_control_strings(self.folder)
        if found is None:
            added = self.tokenizer.added_tokens_decoder.values()
            found = tuple(sorted({*self.tokenizer.all_special_tokens, *(token.content for token in added if token.special)}))
        return found

    @cached_property
    def begin(self) -> tuple[int, ...]:
        """The beginning-of-text token, if the tokenizer is configured to put one in front; else nothing."""
        bos = self.tokenizer.bos_token_id
        return (bos,) if bos is not None and self.tokenizer.encode("x")[:1] == [bos] else ()

    @property
    def pad(self) -> int:
        """Any valid id: padded places are never read."""
        pad = self.tokenizer.pad_token_id
        return 0 if pad is None else int(pad)

    def render(self, request: Request) -> str:
        """The text that the model sees, without the beginning-of-text token. Raises ValueError if the template refuses it."""
        if isinstance(request.messages, str):
            return request.messages + request.prefix
        if not request.messages:
            raise ValueError("a request needs at least one message")
        if self.tokenizer.chat_template is None:
            opened = plain_chat(request.messages)
            return f"{opened} {request.prefix}" if request.prefix else opened
        return self._templated(request.messages) + request.prefix

    def _templated(self, messages: Sequence[Message]) -> str:
        """The chat through the model's template; a system message that it refuses or drops goes into the first user turn."""
        from jinja2 import TemplateError

        def apply(chat: Sequence[Message]) -> str:
            return str(self.tokenizer.apply_chat_template(list(chat), tokenize=False, add_generation_prompt=True))

        has_system = messages[0]["role"] == "system"
        try:
            text = apply(messages)
            if not has_system or messages[0]["content"].strip() in text:
                return text
        except TemplateError as error:
            if not has_system:
                raise ValueError(f"the chat template refuses these messages: {error}") from error
        try:
            return apply(merge_system(messages))
        except TemplateError as error:
            raise ValueError(f"the chat template refuses these messages: {error}") from error

    def encode_prompt(self, request: Request) -> list[int]:
        """Token ids of the rendered request, at least one. Raises ValueError if there are none."""
        text = self.render(request)
        ids: list[int] = self._ids(text)
        templated = not isinstance(request.messages, str) and self.tokenizer.chat_template is not None
        if not templated and ids[: len(self.begin)] != list(self.begin):
            ids = [*self.begin, *ids]
        if not ids:
            raise ValueError("the rendered request is empty")
        return ids

    def encode_continuation(self, text: str) -> list[int]:
        """Token ids of `text` as it continues a prompt: no special tokens, and no space that some tokenizers put first.

        Prompt and continuation are tokenised apart and joined, so no token spans the boundary.
        """
        # a line break in front stands for the prompt; where it melts into the text, the text's own tokens are right
        anchor, joined = self._ids("\n"), self._ids("\n" + text)
        return joined[len(anchor) :] if joined[: len(anchor)] == anchor else self._ids(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Generated tokens as text, special tokens left out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _ids(self, text: str) -> list[int]:
        try:
            ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        except (UnicodeEncodeError, TypeError) as error:
            raise ValueError(f"the text is not valid Unicode: {error}") from error
        return ids
