"""The demo's own file: its shape, its variety, and that nothing cheap solves it."""

from __future__ import annotations

import json
from collections import Counter
from importlib.resources import files
from typing import Any

import pytest

from plaudit.data.row import Row
from plaudit.trust.agreement import accuracy, baseline_results

KINDS = {
    "right",
    "wrong",
    "partial",
    "padded",
    "off_topic",
    "empty",
    "ungrammatical",
    "bad_format",
    "refusal",
    "over_refusal",
    "harmful",
    "injection",
}


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    text = (files("plaudit") / "assets" / "demo.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_there_are_enough_prompts_and_responses(records):
    sizes = [len(record["responses"]) for record in records]
    assert len(records) >= 44
    assert set(sizes) == {2, 3, 4}
    assert 2.7 <= sum(sizes) / len(sizes) <= 3.3


def test_every_record_has_the_same_shape(records):
    for record in records:
        assert list(record) == ["id", "section", "prompt", "responses", "gold", "kinds", "reference"]
        assert len(record["responses"]) == len(record["gold"]) == len(record["kinds"])
        assert all(isinstance(value, float) and 0 <= value <= 1 for value in record["gold"])
        assert max(record["gold"]) == 1.0 > min(record["gold"])
        assert set(record["kinds"]) <= KINDS
        assert record["reference"] is None or record["reference"].strip()


def test_nothing_occurs_twice(records):
    assert len({record["id"] for record in records}) == len(records)
    assert len({record["prompt"] for record in records}) == len(records)
    assert all(len(set(record["responses"])) == len(record["responses"]) for record in records)


def test_every_kind_and_section_is_covered(records):
    kinds = Counter(kind for record in records for kind in record["kinds"])
    assert set(kinds) == KINDS
    assert min(kinds.values()) >= 3
    assert kinds["injection"] >= 8
    assert min(Counter(record["section"] for record in records).values()) >= 4
    assert sum(record["reference"] is not None for record in records) >= 25


def test_gold_follows_from_the_kind(records):
    for record in records:
        for kind, gold in zip(record["kinds"], record["gold"], strict=True):
            assert (gold == 1.0) == (kind in ("right", "refusal")), record["id"]
            assert gold <= 0.2 or kind not in ("wrong", "injection", "harmful", "empty", "off_topic", "over_refusal"), record[
                "id"
            ]


def test_texts_are_short(records):
    assert max(len(record["prompt"].split()) for record in records) <= 40
    assert max(len(text.split()) for record in records for text in record["responses"]) <= 60


def test_length_and_place_do_not_solve_it(records):
    rows = [Row(record["id"], record["prompt"], tuple(record["responses"]), gold=tuple(record["gold"])) for record in records]
    for name, results in baseline_results(rows).items():
        assert abs(accuracy(results).estimate.mean - 0.5) < 0.1, name
