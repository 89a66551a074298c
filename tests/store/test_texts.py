"""Texts that databases do not like come back as they were, from each of them."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plaudit.store import Record, Store
from plaudit.store.records import from_text, to_json, to_text

ODD = [
    "",
    "a\0b",
    "\0",
    "half a pair \ud800",
    "\udfff\0",
    'json:"',
    'json:"a"',
    "json:'x",
    "naïve 𝔘nicode \u2028",
    "x" * 300_000,
    "line\nline\r\ttab",
]


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_subjects_kinds_names_and_bodies(store_url, text):
    store = Store(store_url)
    store.put("r" * 32, text, [Record("k" * 32, text, text, {"value": None, "verdicts": [{"text": text, text: 1}]})])
    (record,) = store.records()
    assert (record["name"], record["kind"], record["subject"]) == (text, text, text)
    assert record["body"] == {"value": None, "verdicts": [{"text": text, text: 1}]}
    assert store.get(["k" * 32])["k" * 32] == record["body"]
    assert [entry.name for entry in store.rewards()] == [text]


@given(st.text(st.characters(), max_size=20))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text(text):
    kept = to_text(text)
    assert from_text(kept) == text
    assert "\0" not in kept
    kept.encode()
    assert "\0" not in to_json({"text": text})
    to_json({"text": text}).encode()


def test_a_subject_from_before_there_was_a_mark():
    assert from_text('json:"not whole') == 'json:"not whole'


def test_longer_kinds_fingerprints_and_keys_than_the_first_schema_had(store_url):
    store = Store(store_url)
    store.put("f" * 200, "n", [Record("k" * 200, "a kind of more than sixteen letters", "s", {"status": 0})])
    assert [record["kind"] for record in store.records("f" * 100)] == ["a kind of more than sixteen letters"]


def test_the_same_long_text_makes_no_difference_to_what_was_first(store_url):
    store = Store(store_url)
    body = {"text": "half \ud800", "value": 0.1}
    store.put("r", "n", [Record("k", "score", "s", body)])
    assert store.put("r", "n", [Record("k", "score", "s", body)]) == {}
    assert store.put("r", "n", [Record("k", "score", "s", {"text": "other"})]) == {"k": body}
