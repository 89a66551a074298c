"""Layouts: how a record's columns become the pieces of a `Row`. A layout is recognised by its columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from plaudit.data.cells import FIRST, SECOND, TIE, BadRow, Cells, Pieces, Record, split_answer
from plaudit.data.dialogues import is_dialogue, split_dialogues
from plaudit.data.fields import ALIASES, FieldMap, bind
from plaudit.types import Message, Prompt

EXTRA_TEXT = 200
"""Columns that a generic layout does not read are kept as extras: numbers, booleans, texts up to this many characters ..."""
EXTRA_ITEMS = 16
"""... and lists of at most so many of these, or of null."""

_LETTERS = {
    FIRST: ("a", "a>b", "a>>b", "model_a", "response_a", "first"),
    SECOND: ("b", "b>a", "b>>a", "model_b", "response_b", "second"),
    TIE: ("tie", "a=b", "b=a", "c", "both", "tie (bothbad)", "equal"),
}
_PAIR_WORDS = {word: gold for gold, words in _LETTERS.items() for word in words}


@dataclass(frozen=True)
class Layout:
    """One way of writing rows down.

    columns: what a record must have. build: record -> pieces, raising BadRow. when: a further look at the first record.
    given: the user's mapping, for generic layouts.
    """

    name: str
    columns: tuple[str, ...]
    build: Callable[[Cells], Pieces]
    when: Callable[[Record], bool] | None = None
    given: FieldMap | None = None

    def matches(self, record: Record) -> bool:
        """Whether the first record of a file is in this layout."""
        return all(name in record for name in self.columns) and (self.when is None or self.when(record))

    def check(self, columns: Collection[str]) -> None:
        """Raise BadRow if a later record's columns differ from the first one's in what is read."""
        missing = [name for name in self.columns if name not in columns]
        if missing:
            raise BadRow(f"column '{missing[0]}' is missing", f"the columns of the first row: {', '.join(self.columns)}")
        if self.given is not None:
            new = [name for name in bind(columns, self.given).columns(columns) if name not in self.columns]
            if new:
                raise BadRow(f"column '{new[0]}' is not in the first row", f"the same columns: {', '.join(self.columns)}")


def recognise(record: Record, given: FieldMap | None = None) -> Layout:
    """The layout of a file's first record: a known data set's if no mapping is given, else a generic one.

    Raises BadRow if it cannot be told.
    """
    from plaudit.data.known import KNOWN

    if given is None or given.is_empty():
        for layout in KNOWN:
            if layout.matches(record):
                return layout
    given = given or FieldMap()
    fields = bind(record, given)
    used = fields.columns(record)
    return Layout(fields.shape, used, partial(build_generic, fields, frozenset(used)), given=given)


def build_generic(fields: FieldMap, used: Collection[str], row: Cells) -> Pieces:
    """Pieces of a record by a complete field map."""
    gold: tuple[float, ...] | None
    if fields.chosen and fields.rejected:
        prompt, responses, gold = _preferred(row, fields)
    else:
        prompt, responses = _answers(row, fields)
        gold = gold_values(row, fields.label, len(responses), fields.index_from) if fields.label else None
    own, section, user = (
        _optional(row, "id", fields.id),
        _optional(row, "section", fields.section),
        _optional(row, "user", fields.user),
    )
    read = (own, section, user)
    return Pieces(
        prompt,
        responses,
        gold,
        row.reference(fields.reference) if fields.reference else None,
        id=row.key(own),
        section=row.key(section),
        user=row.key(user),
        extras={name: value for name, value in row.record.items() if name not in used and name not in read and _small(value)},
    )


def _optional(row: Cells, field: str, given: str | None) -> str | None:
    if given is not None:
        return given
    for name in ALIASES[field]:
        if name in row.record:
            return name
    return None


def _small(value: Any) -> bool:
    if isinstance(value, list):  # such as one remark a response
        return len(value) <= EXTRA_ITEMS and all(item is None or (not isinstance(item, list) and _small(item)) for item in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, bool | int) or (isinstance(value, str) and len(value) <= EXTRA_TEXT)


def _answers(row: Cells, fields: FieldMap) -> tuple[Prompt, tuple[str, ...]]:
    if fields.messages:
        before, answer = split_answer(row.messages(row.get(fields.messages), fields.messages), fields.messages)
        if not before:
            raise BadRow(f"column '{fields.messages}' has only one turn", "a turn before the assistant's answer")
        return before, (row.as_response(answer, fields.messages),)
    prompt = row.prompt(fields.prompt or "prompt")
    if fields.responses:
        return prompt, tuple(row.as_response(value, fields.responses) for value in row.items(fields.responses))
    name = fields.response or "response"
    if name in row.record or "," not in name:
        return prompt, (row.response(name),)
    return prompt, tuple(row.response(part.strip()) for part in name.split(","))


def _preferred(row: Cells, fields: FieldMap) -> tuple[Prompt, tuple[str, ...], tuple[float, ...]]:
    """A preference: texts, whole dialogues, chats, or lists of chosen and of rejected texts (all of gold 1 and 0)."""
    names = fields.chosen or "chosen", fields.rejected or "rejected"
    cells = [row.get(name) for name in names]
    prompt = row.prompt(fields.prompt) if fields.prompt else None
    if all(_is_list(cell, str) for cell in cells):
        responses = tuple(row.as_response(value, name) for name, cell in zip(names, cells, strict=True) for value in cell)
        gold = (1.0,) * len(cells[0]) + (0.0,) * len(cells[1])
    elif all(_is_list(cell, Mapping) for cell in cells):
        prompt, responses = _preferred_chats(row, names, prompt)
        gold = FIRST
    elif prompt is None and all(is_dialogue(cell) for cell in cells):
        return preferred_dialogues(row, *names)
    else:
        responses, gold = tuple(row.as_response(cell, name) for name, cell in zip(names, cells, strict=True)), FIRST
    if prompt is None:
        raise BadRow("there is no prompt", "a prompt column, chats, or dialogues that start with 'Human:'")
    return prompt, responses, gold


def preferred_dialogues(row: Cells, chosen: str, rejected: str) -> tuple[tuple[Message, ...], tuple[str, ...], tuple[float, ...]]:
    """(prompt, responses, gold) of two whole dialogues with the same beginning."""
    first, second = row.get(chosen), row.get(rejected)
    if not is_dialogue(first) or not is_dialogue(second):
        raise BadRow(f"column '{rejected if is_dialogue(first) else chosen}' is not a dialogue", "text that starts with 'Human:'")
    shared, best, worst, long = split_dialogues(first, second)
    if long:
        row.note("response with several turns")
    return shared, (row.as_response(best, chosen), row.as_response(worst, rejected)), FIRST


def _preferred_chats(row: Cells, names: tuple[str, str], prompt: Prompt | None) -> tuple[Prompt | None, tuple[str, ...]]:
    (before, best), (other, worst) = (split_answer(row.messages(row.get(name), name), name) for name in names)
    if before != other:
        problem = f"'{names[0]}' and '{names[1]}' do not share the turns before the last"
        raise BadRow(problem, "chats that differ in their last turn")
    if before:
        turns = list(prompt) if prompt is not None and not isinstance(prompt, str | Mapping) else []
        # A prompt column beside whole chats repeats their beginning: it is only put in front where it does not.
        prompt = before if not turns or list(before[: len(turns)]) == turns else (*turns, *before)
    return prompt, (row.as_response(best, names[0]), row.as_response(worst, names[1]))


def _is_list(value: Any, of: type) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0 and isinstance(value[0], of)


def gold_values(row: Cells, column: str, count: int, index_from: int | None) -> tuple[float, ...] | None:
    """The label as one number a response; a null or empty cell is "no label" (noted).

    count: how many responses. index_from: what the first response's index is, None where a bare number is not clear.
    Raises BadRow on NaN, infinity, a null within a list, a wrong length, an index out of range, or a word without meaning.
    """
    value = row.get(column)
    if value is None or value == "":
        row.note("no label")
        return None
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = row.items(column)
    if not isinstance(value, str | int | float) and isinstance(value, Sequence):
        if len(value) != count:
            raise BadRow(f"column '{column}' has {len(value)} labels for {count} responses", "one a response")
        return tuple(row.number(item, column) for item in value)
    if count == 1:
        return (row.number(value, column),)
    if isinstance(value, str) and not value.strip().isdigit():
        return _from_word(value, column, count)
    number = row.number(value, column)
    if index_from is None:
        raise BadRow(
            f"column '{column}' is {value!r}, which may count the responses from 0 or from 1",
            "a list of values, a letter (A, B, tie), or a mapping that says what to count from",
        )
    place = number - index_from
    if place not in range(count):
        problem = f"column '{column}' is {value!r}, but there are {count} responses"
        raise BadRow(problem, f"{index_from} to {index_from + count - 1}")
    return tuple(float(place == index) for index in range(count))


def _from_word(value: str, column: str, count: int) -> tuple[float, ...]:
    word = value.strip().strip("[]").lower()
    if count == 2 and word in _PAIR_WORDS:
        return _PAIR_WORDS[word]
    if len(word) == 1 and 0 <= ord(word) - ord("a") < count:
        return tuple(float(index == ord(word) - ord("a")) for index in range(count))
    raise BadRow(f"column '{column}' is {value[:40]!r}", "a list of values, a letter (A, B), A>B, or tie")
