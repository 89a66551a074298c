"""Generic layouts, aliases, labels and explicit mappings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plaudit.data import FieldMap, read_rows
from plaudit.types import DataError
from tests.data.helpers import one, write_jsonl

USER = {"role": "user", "content": "Hi"}
GOOD, BAD = {"role": "assistant", "content": "Hello!"}, {"role": "assistant", "content": "No."}


@pytest.mark.parametrize(
    ("record", "prompt", "responses", "gold", "reference"),
    [
        ({"prompt": "p", "response": "r"}, "p", ("r",), None, None),
        ({"prompt": "p", "response": "r", "label": 1}, "p", ("r",), (1.0,), None),
        ({"prompt": "p", "response": "r", "score": 0.25}, "p", ("r",), (0.25,), None),
        ({"question": "p", "answer": "r", "correct": True}, "p", ("r",), (1.0,), None),
        ({"question": "p", "answer": "gold", "response": "r"}, "p", ("r",), None, "gold"),
        ({"question": "p", "answer": "gold", "output": "r"}, "p", ("r",), None, "gold"),
        ({"instruction": "Do", "input": "this", "output": "r"}, "Do\n\nthis", ("r",), None, None),
        ({"instruction": "Do", "input": "", "output": "r"}, "Do", ("r",), None, None),
        ({"query": "p", "generation": "r", "ground_truth": 18}, "p", ("r",), None, "18"),
        ({"prompt": "p", "chosen": "good", "rejected": "bad"}, "p", ("good", "bad"), (1.0, 0.0), None),
        ({"prompt": "p", "chosen": ["a", "b"], "rejected": ["c"]}, "p", ("a", "b", "c"), (1.0, 1.0, 0.0), None),
        ({"chosen": [USER, GOOD], "rejected": [USER, BAD]}, (USER,), ("Hello!", "No."), (1.0, 0.0), None),
        ({"prompt": "Hi", "chosen": [USER, GOOD], "rejected": [USER, BAD]}, (USER,), ("Hello!", "No."), (1.0, 0.0), None),
        ({"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}, (USER,), ("Hello!", "No."), (1.0, 0.0), None),
        (
            {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello!", "rejected": "\n\nHuman: Hi\n\nAssistant: No."},
            (USER,), ("Hello!", "No."), (1.0, 0.0), None,
        ),
        ({"prompt": "p", "responses": ["a", "b", "c"]}, "p", ("a", "b", "c"), None, None),
        ({"prompt": "p", "responses": ["a", "b"], "labels": [1, 0]}, "p", ("a", "b"), (1.0, 0.0), None),
        ({"prompt": "p", "responses": ["a", "b"], "gold": [True, False]}, "p", ("a", "b"), (1.0, 0.0), None),
        ({"prompt": "p", "responses": ["a", "b"], "scores": [3, 4.5]}, "p", ("a", "b"), (3.0, 4.5), None),
        ({"prompt": "p", "responses": ["a", "b", "c"], "best": 2}, "p", ("a", "b", "c"), (0.0, 0.0, 1.0), None),
        ({"prompt": "p", "responses": ["a", "b"], "original_label": 0}, "p", ("a", "b"), (1.0, 0.0), None),
        ({"prompt": "p", "responses": ["a", "b", "c"], "label": "B"}, "p", ("a", "b", "c"), (0.0, 1.0, 0.0), None),
        ({"prompt": "p", "response_a": "a", "response_b": "b", "winner": "model_b"}, "p", ("a", "b"), (0.0, 1.0), None),
        ({"prompt": "p", "response_a": "a", "response_b": "b", "winner": "tie"}, "p", ("a", "b"), (0.5, 0.5), None),
        ({"messages": [USER, GOOD]}, (USER,), ("Hello!",), None, None),
        ({"messages": [USER, GOOD], "label": 0}, (USER,), ("Hello!",), (0.0,), None),
        (
            {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}]},
            (USER,), ("Hello!",), None, None,
        ),
    ],
)  # fmt: skip
def test_layout(tmp_path: Path, record: dict[str, Any], prompt: Any, responses: Any, gold: Any, reference: Any) -> None:
    row = one(tmp_path, record)
    assert row.prompt == prompt
    assert row.responses == responses
    assert row.gold == gold
    assert row.references == (None if reference is None else (reference,) * len(responses))
    assert row.notes == ()


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"text": "x"}, "no response was found"),
        ({"response": "x"}, "no prompt was found"),
        ({"prompt": "p", "completion": "a", "output": "b"}, "'completion', 'output' may each be the response"),
        ({"question": "p", "query": "q", "response": "r"}, "may each be the prompt"),
        ({"prompt": "p", "response": "r", "score": 1, "correct": True}, "may each be the label"),
        ({"prompt": "p", "responses": ["a", "b"], "label": 1}, "from 0 or from 1"),
        ({"prompt": "p", "responses": ["a", "b"], "labels": [1]}, "1 labels for 2 responses"),
        ({"prompt": "p", "responses": ["a", "b"], "labels": [1, None]}, "is null"),
        ({"prompt": "p", "responses": ["a", None]}, "is null"),
        ({"prompt": "p", "responses": []}, "empty list"),
        ({"prompt": "p", "responses": "a"}, "is text"),
        ({"prompt": "p", "responses": ["a", "b"], "best": 2}, "there are 2 responses"),
        ({"prompt": "p", "responses": ["a", "b"], "winner": "c?"}, "a letter"),
        ({"prompt": "p", "response": "r", "label": "toxic"}, "'toxic'"),
        ({"prompt": "p", "response": None}, "is null"),
        ({"prompt": None, "response": "r"}, "is null"),
        ({"prompt": "p", "response": {"a": 1}}, "an object"),
        ({"prompt": "p", "chosen": "a", "rejected": None}, "is null"),
        ({"chosen": "a", "rejected": "b"}, "there is no prompt"),
        ({"chosen": [USER, GOOD], "rejected": [GOOD, BAD]}, "do not share"),
        ({"messages": [USER]}, "ends with a turn of 'user'"),
        ({"messages": [GOOD]}, "only one turn"),
        ({"messages": ["Hi"]}, "messages with role and content"),
        ({"messages": "Hi"}, "list of messages"),
    ],
)
def test_unclear_rows_are_refused(tmp_path: Path, record: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=r"one\.jsonl, row 1: ") as caught:
        one(tmp_path, record)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_mapping_names_every_column(tmp_path: Path) -> None:
    record = {"p": "Q", "r1": "a", "r2": "b", "who": 2, "truth": "t", "key": 7, "part": "x", "by": "u1", "prompt": "not this"}
    fields = FieldMap(
        prompt="p", response="r1,r2", label="who", index_from=1, reference="truth", id="key", section="part", user="by"
    )
    row = one(tmp_path, record, fields)
    assert (row.prompt, row.responses, row.gold) == ("Q", ("a", "b"), (0.0, 1.0))
    assert (row.references, row.id, row.section, row.user) == (("t", "t"), "7", "x", "u1")


def test_mapping_may_name_only_what_is_unclear(tmp_path: Path) -> None:
    row = one(tmp_path, {"prompt": "p", "completion": "a", "output": "b", "label": "x"}, FieldMap(response="output", label=""))
    assert row.responses == ("b",)
    assert row.gold is None


def test_mapping_overrides_known_layouts(tmp_path: Path) -> None:
    record = {"input": "p", "output_1": "a", "output_2": "b", "label": 2}
    assert one(tmp_path, record).gold == (0.0, 1.0)
    assert one(tmp_path, record, FieldMap(label="")).gold is None


def test_mapping_to_a_missing_column(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 1: column 'nope' is missing \(the row has 'prompt', 'response'\)"):
        one(tmp_path, {"prompt": "p", "response": "r"}, FieldMap(prompt="nope"))


def test_responses_beside_a_worked_answer_are_the_ones_that_are_judged(tmp_path: Path) -> None:
    row = one(tmp_path, {"question": "1+1?", "answer": "2\n#### 2", "response": "3"})
    assert row.responses == ("3",)
    assert row.gold is None


def test_oddities_are_kept_and_counted(tmp_path: Path) -> None:
    records = [
        {"prompt": "p", "response": "", "label": None},
        {"prompt": "p", "response": True, "label": 1},
        {"prompt": 5, "response": 1.5, "label": 0},
    ]
    stream = read_rows(write_jsonl(tmp_path / "odd.jsonl", records))
    rows = list(stream)
    assert [row.responses for row in rows] == [("",), ("True",), ("1.5",)]
    assert [row.gold for row in rows] == [None, (1.0,), (0.0,)]
    assert stream.notes == {
        "empty response": 1, "no label": 1, "boolean as response": 1, "number as response": 1, "number as prompt": 1,
    }  # fmt: skip


def test_extras_hold_small_unread_columns(tmp_path: Path) -> None:
    record = {"prompt": "p", "response": "r", "model": "m", "tokens": 3, "log": "x" * 1000, "nested": {"a": 1}}
    assert one(tmp_path, record).extras == {"model": "m", "tokens": 3}
