"""Ten formats: what is written in one is read again, nothing is guessed, and a label never moves to another nugget."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.rewards.generative.formats.nuggets import (
    FORMATS,
    LABELS,
    label_f1,
    nugget_labels,
    obeys_format,
    parse_labels,
    verdict_reward,
    write_labels,
)
from plaudit.types import Status

S, P, N = LABELS
LISTS = st.lists(st.sampled_from(LABELS), min_size=1, max_size=10)


def test_there_are_ten_formats() -> None:
    assert len(FORMATS) == 10


@given(LISTS, st.sampled_from(sorted(FORMATS)), st.sampled_from([None, "It says so.", ""]))
def test_what_is_written_in_a_format_is_read_and_obeys_it(labels: list[str], name: str, reasoning: str | None) -> None:
    text = write_labels(labels, name, reasoning=reasoning)
    assert parse_labels(text, len(labels), strict=True) == labels
    assert parse_labels(text, len(labels)) == labels
    assert obeys_format(text, name)
    assert parse_labels(text, len(labels) + 1, strict=True) is None


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_single_label_is_well_formed_without_a_separator(name: str) -> None:
    """The released check pays nothing here, since it looks for the separator."""
    assert obeys_format(write_labels([S], name), name)
    assert verdict_reward(write_labels([S], name, reasoning="r"), [S], name) == pytest.approx(1.0)


def test_formats_are_told_apart() -> None:
    labels = [S, N, P]
    same = [(a, b) for a, b in itertools.permutations(FORMATS, 2) if obeys_format(write_labels(labels, a), b)]
    assert same == [("json", "python_list")], "a JSON list of texts is a Python list"
    for name in FORMATS:
        assert not obeys_format("Here: " + write_labels(labels, name), name)
        assert not obeys_format(write_labels(labels, name).replace(N, "unclear"), name)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ('```json\n["support", "not_support"]\n```', [S, N]),
        ('{"labels": ["Support", "Not Support"]}', [S, N]),
        ("- support\n- not-support", [S, N]),
        ("Labels:\n1) support\n2) not_support", [S, N]),
        ("<item id='1'>support</item> <item id='2'>not_support</item>", [S, N]),
        ("| support | not_support |", [S, N]),
        ("[support, not_support]", [S, N]),
        ('["support", "not_su', [S, None]),
        ("support\tunclear", [S, None]),
        ("unclear, support", [None, S]),
        ('["support", 3]', [S, None]),
        ("- support", [S, None]),
    ],
)
def test_lenient_reads_decoration_and_keeps_every_label_at_its_place(text: str, labels: list[str | None]) -> None:
    assert parse_labels(text, 2) == labels
    assert parse_labels("<reasoning>- support</reasoning>\n" + text, 2) == labels


@pytest.mark.parametrize(
    "text",
    [
        "",
        "support and not_support",
        "support, support, support",
        '["support"]',
        '{"labels": ["support"]}',
        "<labels><label>support</label></labels>",
        "2. support\n1. not_support",
        "1. support\n3. not_support",
        "The first: support\nThe second: not_support",
        "<reasoning>a</reasoning><reasoning>b</reasoning>support, not_support",
        "<reasoning>support, not_support",
        "unclear, unclear",
        "\uff53upport, not_support x",
        "[" * 3000,
    ],
)
def test_what_does_not_say_whose_label_is_whose_is_no_verdict(text: str) -> None:
    assert parse_labels(text, 2) is None
    found = nugget_labels(text, 2)
    assert found.status is Status.UNPARSABLE
    assert found.detail


def test_readout_has_values_and_counts_what_is_missing() -> None:
    found = nugget_labels("support, unclear, partial_support", 3)
    assert (found.values, found.labels) == ((1.0, None, 0.5), (S, None, P))
    assert "1 of 3" in found.detail
    assert nugget_labels("support, unclear, partial_support", 3, strict=True).status is Status.UNPARSABLE


def slow_f1(predicted: list[str], gold: list[str]) -> float:
    total = 0.0
    for label in LABELS:
        tp = sum(1 for p, g in zip(predicted, gold, strict=True) if p == label and g == label)
        fp = sum(1 for p, g in zip(predicted, gold, strict=True) if p == label and g != label)
        fn = sum(1 for p, g in zip(predicted, gold, strict=True) if p != label and g == label)
        if tp + fp + fn == 0:
            total += 1.0
        elif tp:
            precision, recall = tp / (tp + fp), tp / (tp + fn)
            total += 2 * precision * recall / (precision + recall)
    return total / 3


@given(st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=10))
def test_f1_is_the_obvious_one_and_symmetric(pairs: list[tuple[str, str]]) -> None:
    predicted, gold = [p for p, _ in pairs], [g for _, g in pairs]
    assert label_f1(predicted, gold) == pytest.approx(slow_f1(predicted, gold))
    assert label_f1(gold, predicted) == pytest.approx(label_f1(predicted, gold))


@given(LISTS, st.sampled_from(sorted(FORMATS)), st.data())
def test_a_verdict_with_a_swapped_label_earns_less_than_the_right_one(gold: list[str], name: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(gold) - 1))
    wrong = list(gold)
    wrong[place] = data.draw(st.sampled_from([label for label in LABELS if label != gold[place]]))
    right = verdict_reward(write_labels(gold, name, reasoning="r"), gold, name)
    assert right == pytest.approx(1.0)
    assert verdict_reward(write_labels(wrong, name, reasoning="r"), gold, name) <= 0.65


def test_the_parts_of_the_reward() -> None:
    gold = [S, S, N, P]
    text = write_labels(gold, "csv", reasoning="r")
    assert verdict_reward(text, gold, "json") == pytest.approx(0.9), "another format than asked for"
    assert verdict_reward(write_labels(gold, "csv"), gold, "csv") == pytest.approx(0.8), "no reasoning"
    assert verdict_reward(write_labels(gold, "csv"), gold, "csv", reasoning=False) == pytest.approx(1.0)
    assert verdict_reward(text, gold, "csv", reasoning=False) == pytest.approx(0.8)
    assert verdict_reward(write_labels(gold, "csv", reasoning=""), gold, "csv") == pytest.approx(0.9), "an empty block"
    assert verdict_reward(text.replace(P, N), gold, "csv") == pytest.approx(0.35 * (1 + 2 / 3 + 0) / 3 + 0.3)
    for nothing in (text + ",support", "<reasoning>" + text, "", text.replace(P, "unclear"), "support"):
        assert verdict_reward(nothing, gold, "csv") == 0.0
    assert verdict_reward("not_support,partial_support,support", [S, N, P], "csv") == 0.0, "F1 is 0"


WORDS = st.sampled_from([*LABELS, "unclear", "1.", "2.", "- ", "* ", "[", "]", "{", "}", '"', "'", ",", "|", "\t", "\n", " ", ":",
                         "<label>", "</label>", "<reasoning>", "</reasoning>", "labels", "```"])  # fmt: skip


@given(st.one_of(st.text(max_size=120), st.lists(WORDS, max_size=24).map("".join)), st.integers(1, 4), st.booleans())
def test_any_text_has_an_outcome_and_labels_stand_in_it_in_order(text: str, count: int, strict: bool) -> None:
    labels = parse_labels(text, count, strict=strict)
    if labels is None:
        return
    assert len(labels) == count
    at, flat = 0, text.lower().replace(" ", "_").replace("-", "_")
    for label in labels:
        if label is not None:
            at = flat.index(label, at) + len(label)
    if strict:
        assert parse_labels(text, count) == labels
