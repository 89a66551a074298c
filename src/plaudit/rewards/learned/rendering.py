"""What a learned reward reads: prompt and response as one chat or text, control tokens broken up, as tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plaudit.engines.control import neutralise
from plaudit.types import Message, Prompt, SpecError, Status, Verdict, prompt_text
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from plaudit.engines.encoding import Codec

NAMED_TEMPLATES = ("chat", "plain")
POOLINGS = ("last", "mean", "position")
MOST_KNOWN = 100_000
"""Rows whose tokens are kept, so that training tokenises a row once and not in every epoch."""


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


@dataclass(frozen=True)
class Reading:
    """One prompt with its response as tokens. places: the tokens whose states are averaged. broken: control tokens broken up."""

    ids: tuple[int, ...]
    places: tuple[int, ...]
    broken: int = 0


class TextReader:
    """Turns (prompt, response) into what a causal language model reads, and says at which tokens it is read.

    codec: the tokenizer. template: "chat" for the model's own (without one: prompt, blank line, response), "plain" for the
    latter, or a text that holds {prompt} and then {response}. pooling: "last" reads the state after everything, the template's
    closing tokens included; "mean" averages over the response's tokens (an empty response: the last token); "position" reads
    the state after so many characters of the response, all of them where no position is given.
    longest: the most tokens of a row; None: any number. vocabulary: ids that the model knows.
    Raises SpecError for a template or pooling that cannot be used.
    """

    def __init__(self, codec: Codec, template: str, pooling: str, longest: int | None, vocabulary: int) -> None:
        check_reading(template, pooling)
        self.codec, self.template, self.pooling = codec, template, pooling
        self.longest, self.vocabulary = longest, vocabulary
        self._known: dict[Any, Reading | Verdict] = {}

    def read(self, prompt: Prompt, response: Any, position: int | None = None) -> Reading | Verdict:
        """The row as tokens; or why it cannot be read: NOT_APPLICABLE (no text), TOO_LONG, FAILED (template, Unicode)."""
        plain = isinstance(prompt, str) and isinstance(response, str)
        key = (prompt if plain else content_key(prompt), response if plain else content_key(response), position)
        if key not in self._known:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[key] = self._read(prompt, response, position)
        return self._known[key]

    def _read(self, prompt: Prompt, response: Any, position: int | None) -> Reading | Verdict:
        try:
            messages, broken = judged_messages(prompt, response, self.codec.control_strings)
        except (TypeError, KeyError) as error:
            return Verdict(status=Status.NOT_APPLICABLE, detail=f"not a text or a chat: {error}")
        try:
            text, start, templated = self._text(messages)
            ids, places = self._tokens(text, start, messages[-1]["content"], position, templated)
        except Exception as error:  # a template refuses these roles, or the text is not valid Unicode
            return Verdict(status=Status.FAILED, detail=f"{type(error).__name__}: {error}"[:500])
        if self.longest is not None and len(ids) > self.longest:
            return Verdict(status=Status.TOO_LONG, detail=f"{len(ids)} tokens, the model reads {self.longest}")
        if not ids or max(ids) >= self.vocabulary:
            problem = "no token" if not ids else f"token {max(ids)}, which is not in the model's vocabulary"
            return Verdict(status=Status.FAILED, detail=f"the text has {problem}")
        return Reading(ids, places, broken)

    def _text(self, messages: Sequence[Message]) -> tuple[str, int, bool]:
        """The text, where the response begins in it, and whether a chat template made it."""
        tokenizer = self.codec.tokenizer
        if self.template == "chat" and tokenizer.chat_template is not None:
            text = str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=False))
            if self.pooling == "last":
                return text, 0, True
            opened = str(tokenizer.apply_chat_template(list(messages[:-1]), tokenize=False, add_generation_prompt=True))
            begin = len(opened) if text.startswith(opened) else max(0, text.rfind(messages[-1]["content"]))
            return text, begin, True
        question, answer = joined(messages)
        if self.template in NAMED_TEMPLATES:
            before = f"{question}\n\n"
            return before + answer, len(before), False
        head, _, rest = self.template.partition("{prompt}")
        between, _, tail = rest.partition("{response}")
        before = head + question + between
        return before + answer + tail, len(before), False

    def _tokens(
        self, text: str, start: int, answer: str, position: int | None, templated: bool
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Token ids, and the places that are read."""
        begin = () if templated else self.codec.begin
        if self.pooling == "last":
            ids = (*begin, *self.codec.tokenizer.encode(text, add_special_tokens=False))
            return ids, (len(ids) - 1,)
        found = self.codec.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids, spans = (*begin, *found["input_ids"]), found["offset_mapping"]
        if not text.startswith(answer, start):  # some templates strip what people wrote
            position = None if position is None else max(0, position - (len(answer) - len(answer.lstrip())))
            answer = answer.strip()
        end = start + len(answer) if text.startswith(answer, start) else len(text)
        if self.pooling == "mean":
            inside = [place for place, (left, right) in enumerate(spans) if left < end and right > start]
            places = inside or [len(spans) - 1]
        else:
            stop = end if position is None else min(end, start + position)
            places = [max((place for place, (left, _) in enumerate(spans) if left < stop), default=0)]
        return ids, tuple(len(begin) + place for place in places)


def check_reading(template: str, pooling: str) -> None:
    """Raise SpecError for a template or a pooling that cannot be used."""
    if pooling not in POOLINGS:
        raise SpecError(f"pooling must be {', '.join(POOLINGS)}, not '{pooling}'")
    if template in NAMED_TEMPLATES:
        return
    if template.count("{prompt}") != 1 or "{response}" not in template.partition("{prompt}")[2]:
        raise SpecError(
            f"template must be {', '.join(NAMED_TEMPLATES)}, or a text with {{prompt}} before {{response}}, not '{template}'"
        )
