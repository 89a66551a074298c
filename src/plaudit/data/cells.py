"""Cells of one record, turned into texts, numbers and messages by stated rules.

Oddities that a rule handles are noted; what no rule handles is a `BadRow`, never a guess.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from plaudit.types import Message, Prompt

Record = dict[str, Any]

FIRST, SECOND, TIE = (1.0, 0.0), (0.0, 1.0), (0.5, 0.5)
"""Gold values of a pair."""

_WORDS = {"true": 1.0, "yes": 1.0, "correct": 1.0, "right": 1.0, "false": 0.0, "no": 0.0, "incorrect": 0.0, "wrong": 0.0}
_ROLES = {"human": "user", "prompter": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}
_KINDS = {"str": "text", "list": "a list", "tuple": "a list", "dict": "an object", "bool": "a boolean", "NoneType": "null"}


class BadRow(Exception):
    """What is wrong with one record, and what was expected; the reader adds file and row."""

    def __init__(self, problem: str, expected: str = "") -> None:
        super().__init__(problem)
        self.problem, self.expected = problem, expected


@dataclass(slots=True)
class Pieces:
    """What a layout takes from one record; fields as in `Row`."""

    prompt: Prompt
    responses: tuple[str, ...]
    gold: tuple[float, ...] | None = None
    reference: Any = None
    """One for all responses."""
    id: str | None = None
    section: str | None = None
    user: Any = None
    extras: dict[str, Any] = field(default_factory=dict)


def kind(value: Any) -> str:
    """What a cell holds, in words."""
    name = type(value).__name__
    return _KINDS.get(name, f"a number ({value})" if isinstance(value, int | float) else f"a {name}")


def listed(names: Collection[str]) -> str:
    """Column names for a message, shortened."""
    shown = [repr(name[:40]) for name in list(names)[:20]]
    return ", ".join(shown) + (" ..." if len(names) > 20 else "") if shown else "no columns"


class Cells:
    """One record while it is read. stem: name of its file without folder and suffix. notes: oddities met so far."""

    __slots__ = ("notes", "record", "stem")

    def __init__(self, record: Record, stem: str) -> None:
        self.record, self.stem = record, stem
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Say, once a row, that a stated rule was used."""
        if text not in self.notes:
            self.notes.append(text)

    def get(self, column: str) -> Any:
        """The cell as it is. Raises BadRow if the record has no such column."""
        try:
            return self.record[column]
        except KeyError:
            raise BadRow(f"column '{column}' is missing (the row has {listed(self.record)})") from None

    def key(self, column: str | None) -> str | None:
        """An id, a section or a user: text and whole numbers as text; everything else, and a missing column, is None."""
        value = self.record.get(column) if column else None
        return str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else None

    def response(self, column: str) -> str:
        """The cell as a judged text (see `as_response`)."""
        return self.as_response(self.get(column), column)

    def as_response(self, value: Any, column: str) -> str:
        """Text as it is (empty is kept and noted), booleans and numbers as text (noted), a chat's last assistant turn.

        Raises BadRow on null, NaN, and anything else.
        """
        if isinstance(value, str):
            pass
        elif isinstance(value, Mapping) and "content" in value:
            value = content(value)
        elif isinstance(value, Sequence) and not isinstance(value, str) and value and isinstance(value[0], Mapping):
            value = split_answer(self.messages(value, column), column)[1]
        if isinstance(value, str):
            if not value.strip():
                self.note("empty response")
            return value
        return self._plain(value, column, "response")

    def prompt(self, column: str) -> Prompt:
        """Text or a chat; several columns, parted by commas, are joined by a blank line where they are not empty."""
        if "," in column and column not in self.record:
            texts = [self.prompt(part.strip()) for part in column.split(",")]
            if not all(isinstance(text, str) for text in texts):
                raise BadRow(f"columns '{column}' cannot be joined", "text in each of them")
            return "\n\n".join(str(text) for text in texts if text)
        value = self.get(column)
        if isinstance(value, str):
            return value
        if isinstance(value, Sequence) and value and not isinstance(value, bytes):
            return self.messages(value, column)
        if isinstance(value, Mapping) and value:
            return dict(value)
        return self._plain(value, column, "prompt")

    def messages(self, value: Any, column: str) -> tuple[Message, ...]:
        """A chat: a list of {role, content} or {from, value}; `human` is read as user, `gpt` as assistant."""
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            raise BadRow(f"column '{column}' is {kind(value)}", "a list of messages with role and content")
        return tuple(_message(item, column) for item in value)

    def reference(self, column: str) -> Any:
        """Text, numbers and booleans as text, other values as they are; null is no reference. Raises BadRow on NaN."""
        value = self.get(column)
        if isinstance(value, bool | int | float):
            if isinstance(value, float) and not math.isfinite(value):
                raise BadRow(f"column '{column}' is {value}", "a reference answer, or null")
            return str(value)
        return value

    def items(self, column: str) -> Sequence[Any]:
        """A list with at least one element; a text that holds a JSON list is read as one (CSV has no lists)."""
        value = self.get(column)
        if isinstance(value, str) and value.lstrip().startswith("["):
            try:
                value = json.loads(value)
            except ValueError:
                raise BadRow(f"column '{column}' is text that is not valid JSON", "a list") from None
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            raise BadRow(f"column '{column}' is {kind(value)}", "a list")
        if not value:
            raise BadRow(f"column '{column}' is an empty list", "at least one element")
        return value

    def number(self, value: Any, column: str) -> float:
        """A finite number; true is 1, false 0, so are the usual words. Raises BadRow on null, NaN, infinity and other text."""
        if isinstance(value, str):
            word = value.strip().lower()
            if word in _WORDS:
                return _WORDS[word]
            try:
                value = float(word)
            except ValueError:
                raise BadRow(f"label in column '{column}' is the text {value[:40]!r}", "a number, or true or false") from None
        if not isinstance(value, bool | int | float):
            raise BadRow(f"label in column '{column}' is {kind(value)}", "a number, or true or false")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise BadRow(f"label in column '{column}' is {'NaN' if math.isnan(number) else 'infinite'}", "a finite number")
        return number

    def choice(self, column: str, outcomes: Mapping[Any, tuple[float, float]]) -> tuple[float, float]:
        """Gold values of a pair, by what the cell says. Raises BadRow on anything that `outcomes` does not name."""
        value = self.get(column)
        if isinstance(value, str | int | float) and not isinstance(value, bool) and value in outcomes:
            return outcomes[value]
        raise BadRow(f"column '{column}' is {value!r}", " or ".join(repr(key) for key in outcomes))

    def _plain(self, value: Any, column: str, what: str) -> str:
        if value is None:
            raise BadRow(f"the {what} in column '{column}' is null", "text")
        if isinstance(value, float) and not math.isfinite(value):
            raise BadRow(f"the {what} in column '{column}' is {value}", "text")
        if not isinstance(value, bool | int | float):
            raise BadRow(f"the {what} in column '{column}' is {kind(value)}", "text")
        self.note(f"{'boolean' if isinstance(value, bool) else 'number'} as {what}")
        return str(value)


def content(message: Mapping[str, Any]) -> Any:
    """A message's content; a list of text parts is joined."""
    value = message.get("content", message.get("value"))
    if isinstance(value, Sequence) and not isinstance(value, str):
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in value]
        if not all(isinstance(part, str) for part in parts):
            raise BadRow("a message has a part that is not text", "text parts only")
        return "".join(str(part) for part in parts)
    return value


def _message(item: Any, column: str) -> Message:
    if not isinstance(item, Mapping):
        raise BadRow(f"column '{column}' has an element that is {kind(item)}", "messages with role and content")
    role, text = item.get("role", item.get("from")), content(item)
    if not isinstance(role, str) or not isinstance(text, str):
        raise BadRow(f"column '{column}' has a message without a role or a text", "role and content, both text")
    return {"role": _ROLES.get(role, role), "content": text}


def split_answer(messages: tuple[Message, ...], column: str) -> tuple[tuple[Message, ...], str]:
    """(what came before, the last turn's text). Raises BadRow if the last turn is not the assistant's."""
    if messages[-1]["role"] != "assistant":
        raise BadRow(f"column '{column}' ends with a turn of '{messages[-1]['role']}'", "a last turn of the assistant")
    return messages[:-1], messages[-1]["content"]
