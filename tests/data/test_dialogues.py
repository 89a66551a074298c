"""Dialogues written as one text."""

from __future__ import annotations

import pytest

from plaudit.data.cells import BadRow
from plaudit.data.dialogues import is_dialogue, parse_dialogue, split_dialogues


def test_turns_become_messages() -> None:
    assert parse_dialogue("\n\nHuman: a\n\nb\n\nAssistant: c ") == (
        {"role": "user", "content": "a\n\nb"},
        {"role": "assistant", "content": "c"},
    )


def test_neighbouring_turns_of_one_speaker_are_joined() -> None:
    assert parse_dialogue("Human: a\n\nHuman: b") == ({"role": "user", "content": "a\n\nb"},)


def test_text_before_the_first_turn_is_refused() -> None:
    with pytest.raises(BadRow):
        parse_dialogue("hello\n\nHuman: a")
    assert not is_dialogue("hello\n\nHuman: a")
    assert not is_dialogue(None)


def test_split_at_the_last_turn() -> None:
    start = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
    shared, best, worst, long = split_dialogues(start + " d", start + " ")
    assert [message["content"] for message in shared] == ["a", "b", "c"]
    assert (best, worst, long) == ("d", "", False)


def test_split_where_the_dialogues_part_earlier() -> None:
    start = "\n\nHuman: a\n\nAssistant:"
    shared, best, worst, long = split_dialogues(start + " b\n\nHuman: c\n\nAssistant: d", start + " e")
    assert [message["content"] for message in shared] == ["a"]
    assert (best, worst, long) == ("b\n\nHuman: c\n\nAssistant: d", "e", True)


def test_shared_turns_end_with_the_human() -> None:
    start = "\n\nHuman: a\n\nAssistant: b\n\nAssistant:"
    shared, best, worst, long = split_dialogues(start + " c", start + " d")
    assert [message["role"] for message in shared] == ["user"]
    assert (best, worst, long) == ("b\n\nAssistant: c", "b\n\nAssistant: d", True)


def test_split_without_a_shared_beginning() -> None:
    with pytest.raises(BadRow):
        split_dialogues("\n\nHuman: a\n\nAssistant: b", "\n\nHuman: x\n\nAssistant: b")
