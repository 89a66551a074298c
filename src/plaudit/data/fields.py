"""`FieldMap`: which column is what, given by the user or recognised by the columns' names."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from plaudit.data.cells import BadRow, listed

ALIASES: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt", "question", "instruction", "query", "problem", "input"),
    "response": ("response", "completion", "output", "generation", "model_output", "answer"),
    "messages": ("messages", "conversations", "conversation"),
    "reference": ("reference", "reference_answer", "ground_truth", "gold_answer", "solution", "target", "answer"),
    "label": ("label", "score", "correct", "is_correct"),
    "labels": ("labels", "gold", "scores", "best", "original_label", "winner", "preference", "label"),
    "id": ("id", "uid", "uuid", "unique_id", "idx"),
    "section": ("section", "subset", "category"),
    "user": ("user", "user_id"),
}
"""Column names by field. The first name wins; two of the others at once are ambiguous, an error that asks for a mapping.

`label` is the label of one response, `labels` of several. `answer` is a response only where no other response column is
there, otherwise a reference. `id`, `section` and `user` take the first name that a row has.
"""

PAIRS: tuple[tuple[str, str], ...] = (
    ("response_a", "response_b"),
    ("response_A", "response_B"),
    ("response_1", "response_2"),
    ("response1", "response2"),
    ("response 1", "response 2"),
    ("output_1", "output_2"),
    ("answer_a", "answer_b"),
    ("completion_a", "completion_b"),
)
"""Pairs of columns that hold two responses."""

COUNTED_FROM_0 = ("best", "original_label")
"""Label columns whose number is, by convention, the 0-based index of the best response."""

SHAPES = "a prompt with a response, with chosen and rejected, with responses, or chat messages"


@dataclass(frozen=True)
class FieldMap:
    """Column names. None: recognise it; "" : leave it unread, even if a column has the usual name.

    prompt: one column, or several parted by commas (joined by a blank line). response: one column, or several parted by
    commas (several responses). responses: a column with a list. chosen, rejected: texts, chats, or lists of equal standing.
    messages: a chat whose last assistant turn is the response. label: a number for one response; for several a list of
    numbers, a letter (A, B, tie, A>B) or the index of the best, counted from `index_from` (None: a number is refused).
    """

    prompt: str | None = None
    response: str | None = None
    responses: str | None = None
    chosen: str | None = None
    rejected: str | None = None
    messages: str | None = None
    reference: str | None = None
    label: str | None = None
    id: str | None = None
    section: str | None = None
    user: str | None = None
    index_from: int | None = 0

    def named(self) -> dict[str, str]:
        """Field -> column(s), for the fields that name one."""
        fields = (name for name in self.__dataclass_fields__ if name != "index_from")
        return {name: getattr(self, name) for name in fields if getattr(self, name)}

    def is_empty(self) -> bool:
        """Whether the user said nothing about any column."""
        return replace(self, index_from=0) == FieldMap()

    def columns(self, present: Collection[str]) -> tuple[str, ...]:
        """Every column that is named; a comma parts several, unless a column has that very name."""
        found: list[str] = []
        for names in self.named().values():
            found += [names] if names in present else [name.strip() for name in names.split(",")]
        return tuple(dict.fromkeys(found))

    @property
    def shape(self) -> str:
        """The generic layout's name."""
        named = self.named()
        answers = ("responses", "chosen", "messages", "response")
        answer = next(name for name in answers if name in named)
        parts = [answer] if answer == "messages" else ["prompt"] * ("prompt" in named) + [answer]
        parts += ["rejected"] * (answer == "chosen") + ["label"] * ("label" in named)
        return "_".join(parts)


def bind(columns: Collection[str], given: FieldMap) -> FieldMap:
    """Fill what the user left open by the columns' names; id, section and user may differ by row and stay as they are.

    Raises BadRow if a named column is missing, no prompt or response is found, or two columns may be the same thing.
    """
    missing = [name for name in given.columns(columns) if name not in columns]
    if missing:
        raise BadRow(f"column '{missing[0]}' is missing (the row has {listed(columns)})")
    bound = _bind_answers(columns, given)
    several = not bound.response or bound.response not in columns
    bound = _bind_prompt(columns, bound)
    fill: dict[str, str | int | None] = {}
    if bound.reference is None:
        fill["reference"] = _pick("reference", columns, set(bound.columns(columns)))
    if bound.label is None and not bound.chosen:
        label = _pick("labels" if several and not bound.messages else "label", columns, set(bound.columns(columns)))
        fill["label"], fill["index_from"] = label, 0 if label in COUNTED_FROM_0 else None
    return replace(bound, **fill)  # type: ignore[arg-type]  # each value has its field's type


def _bind_answers(columns: Collection[str], given: FieldMap) -> FieldMap:
    if given.chosen or given.rejected:
        return replace(given, chosen=given.chosen or "chosen", rejected=given.rejected or "rejected")
    if given.response or given.responses or given.messages:
        return given
    if {"chosen", "rejected"} <= set(columns):
        return replace(given, chosen="chosen", rejected="rejected")
    if "responses" in columns:
        return replace(given, responses="responses")
    pairs = [",".join(pair) for pair in PAIRS if set(pair) <= set(columns)]
    if len(pairs) == 1:
        return replace(given, response=pairs[0])
    chat = _pick("messages", columns, set())
    if chat:
        return replace(given, messages=chat)
    response = _pick("response", columns, set(given.columns(columns)))
    if response is None:
        raise BadRow(f"no response was found among the columns {listed(columns)}", SHAPES)
    return replace(given, response=response)


def _bind_prompt(columns: Collection[str], bound: FieldMap) -> FieldMap:
    if bound.prompt is not None or bound.messages:
        return bound
    used = set(bound.columns(columns))
    if "prompt" not in columns and {"instruction", "input"} <= set(columns) - used:
        return replace(bound, prompt="instruction,input")
    prompt = _pick("prompt", columns, used)
    if prompt is None and not bound.chosen:
        raise BadRow(f"no prompt was found among the columns {listed(columns)}", SHAPES)
    return replace(bound, prompt=prompt)


def _pick(field: str, columns: Collection[str], used: set[str]) -> str | None:
    """The one column that may be the field; `answer` only where nothing else may be, since it means two things."""
    found = [name for name in ALIASES[field] if name in columns and name not in used]
    if len(found) > 1 and found[-1] == "answer" and field == "response":
        found = found[:-1]
    if len(found) < 2 or found[0] == ALIASES[field][0]:
        return found[0] if found else None
    option = "label" if field == "labels" else field
    raise BadRow(f"columns {listed(found)} may each be the {option}", f"one of them, or a mapping that names the {option}")
