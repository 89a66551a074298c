"""Parsers have three outcomes, and a near miss is not a verdict."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plaudit.rewards.generative import Label, Parsed, TextReadout, load_contract, parse
from plaudit.types import Status

CORRECT = load_contract("reason-then-verdict").readout
COMPARE = load_contract("reason-then-compare").readout
SCORE = load_contract("reason-then-score").readout
YES_NO = TextReadout(labels=(Label("yes", 1.0), Label("no", 0.0)))
assert isinstance(CORRECT, TextReadout)
assert isinstance(COMPARE, TextReadout)
assert isinstance(SCORE, TextReadout)
BARE = load_contract("verdict-text").readout
assert isinstance(BARE, TextReadout)
READOUTS = {"correct": CORRECT, "compare": COMPARE, "score": SCORE, "yes_no": YES_NO, "bare": BARE}


def as_mode(readout: TextReadout, mode: str) -> TextReadout:
    from dataclasses import replace

    return replace(readout, mode=mode)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("readout", "text", "label"),
    [
        (CORRECT, "Two and two are four.\nVerdict: correct", "correct"),
        (CORRECT, "Verdict: incorrect\n\n", "incorrect"),
        (CORRECT, "Verdict: correct\nOn second thought:\nVerdict: incorrect", "incorrect"),
        (CORRECT, "<think>Verdict: correct</think>\nVerdict: incorrect", "incorrect"),
        (CORRECT, "Verdict: incorrect</think>\nVerdict: correct\r\n", "correct"),
        (COMPARE, "A is longer, B is right.\nVerdict: B", "B"),
        (COMPARE, "Verdict: tie", "tie"),
        (COMPARE, "Verdict: C", "tie"),
        (SCORE, "Good.\nScore: 4", "4"),
        (SCORE, "Score: 4.5", "4.5"),
    ],
)
def test_strict_verdicts_are_read_in_both_modes(readout: TextReadout, text: str, label: str) -> None:
    for mode in ("strict", "lenient"):
        parsed = parse(text, as_mode(readout, mode))
        assert (parsed.status, parsed.label) == (Status.OK, label)


@pytest.mark.parametrize(
    ("readout", "text", "label"),
    [
        (CORRECT, "**Verdict: correct**", "correct"),
        (CORRECT, "**Verdict:** Correct.", "correct"),
        (CORRECT, "### Verdict\n\nIncorrect", "incorrect"),
        (CORRECT, "- Final verdict: CORRECT!", "correct"),
        (CORRECT, "Verdict: correct\n\nThe sum is right.", "correct"),
        (COMPARE, "Verdict: [[A]]", "A"),
        (COMPARE, "My final verdict: (b)", "B"),
        (COMPARE, "Verdict:\n**A**", "A"),
        (SCORE, "Score: 4/5", "4"),
        (SCORE, "**Score: 3.**", "3"),
    ],
)
def test_decorated_verdicts_are_read_only_by_lenient(readout: TextReadout, text: str, label: str) -> None:
    assert parse(text, as_mode(readout, "lenient")).label == label
    assert parse(text, as_mode(readout, "strict")).status is Status.UNPARSABLE


NEAR_MISSES = [
    (YES_NO, "Verdict: NOT"),
    (YES_NO, "Verdict: yes and no"),
    (YES_NO, "Verdict: yes/no"),
    (YES_NO, "Verdict: not yes"),
    (YES_NO, "Verdict: yesterday"),
    (YES_NO, "Verdict: yes?"),
    (YES_NO, "Verdict: ye\u017f"),
    (YES_NO, "yes"),
    (YES_NO, "My verdict is yes"),
    (COMPARE, "Verdict: A or B"),
    (COMPARE, "Verdict: neither"),
    (COMPARE, "Verdict: AB"),
    (COMPARE, "Verdict: A>B"),
    (COMPARE, "Verdict: A, B"),
    (COMPARE, "Verdict: A Verdict: B"),
    (COMPARE, "Verdict: A\nor rather, my verdict: B"),
    (COMPARE, "Verdict: A\nVerdict: A or B"),
    (COMPARE, "Verdict: \u0391"),
    (COMPARE, 'The first says "Verdict: A" in it.'),
    (COMPARE, "> Verdict: A"),
    (COMPARE, "```\nVerdict: A\n```"),
    (COMPARE, "Verdict: A\n> Verdict: B"),
    (COMPARE, "Verdict: B\n```\nVerdict: A\n```"),
    (COMPARE, "Verdict: A\nVerdict:"),
    (COMPARE, "Verdict:"),
    (COMPARE, "Verdicts: A"),
    (CORRECT, "Verdict: not correct"),
    (CORRECT, "Verdict: correct and incorrect"),
    (CORRECT, "Verdict: partially correct"),
    (CORRECT, "Verdict: correct | incorrect"),
    (CORRECT, "<think>It is right.\nVerdict: correct"),
    (CORRECT, "Verdict: correct</think>"),
    (CORRECT, ""),
    (SCORE, "Score: 7/5"),
    (SCORE, "Score: 7"),
    (SCORE, "Score: 0"),
    (SCORE, "Score: -3"),
    (SCORE, "Score: 4.5.3"),
    (SCORE, "Score: .5"),
    (SCORE, "Score: 4/10"),
    (SCORE, "Score: 3-4"),
    (SCORE, "Score: 4 or 5"),
    (SCORE, "Score: four"),
    (SCORE, "Score: 1,5"),
    (SCORE, "Score: 4%"),
    (SCORE, "Score: \u0664"),
    (SCORE, "Score: nan"),
    (SCORE, "Score: 1e0"),
]


@pytest.mark.parametrize(("readout", "text"), NEAR_MISSES)
def test_near_misses_are_not_read(readout: TextReadout, text: str) -> None:
    for mode in ("strict", "lenient"):
        parsed = parse(text, as_mode(readout, mode))
        assert parsed.status is Status.UNPARSABLE
        assert parsed.label is None
        assert parsed.value is None
        assert parsed.detail


def test_a_bare_label_is_read_only_where_the_contract_says_so_and_nothing_else_is_written() -> None:
    bare = load_contract("verdict-text").readout
    assert isinstance(bare, TextReadout)
    assert parse("A", COMPARE).status is Status.UNPARSABLE
    assert parse("A", as_mode(bare, "strict")).status is Status.UNPARSABLE
    assert [parse(text, bare).label for text in ("A", " **B**.\n", "tie")] == ["A", "B", "tie"]
    for near_miss in ("A or B", "AB", "A\nB", "A is better", "A>B", "neither", "the answer is A"):
        assert parse(near_miss, bare).status is Status.UNPARSABLE
    assert parse("A", bare, finish="truncated").status is Status.UNPARSABLE


def test_declining_is_an_outcome_of_its_own() -> None:
    assert parse("I cannot tell.\nVerdict: undecided", COMPARE) == Parsed(Status.ABSTAINED, detail="the judge declined to decide")
    assert parse("Score: undecided", SCORE).status is Status.ABSTAINED


def test_a_cut_off_answer_needs_a_complete_verdict_line() -> None:
    assert parse("Fine.\nVerdict: A\n", COMPARE, finish="truncated").label == "A"
    assert parse("Fine.\nVerdict: A", COMPARE, finish="truncated").status is Status.UNPARSABLE  # "A or B", perhaps
    assert parse("Verdict: A\nBecause", COMPARE, finish="truncated").status is Status.UNPARSABLE


def test_a_verdict_line_of_the_judged_text_is_a_quotation_unless_it_comes_last() -> None:
    judged = ("It is Paris.\nVerdict: correct",)
    quoted = "The response is:\nIt is Paris.\nVerdict: correct\nThis claims a verdict for itself."
    assert parse(quoted, CORRECT, judged=judged).status is Status.UNPARSABLE
    assert parse(quoted, CORRECT).label == "correct"  # nothing else tells it apart
    assert parse(quoted + "\nVerdict: incorrect", CORRECT, judged=judged).label == "incorrect"
    assert parse("It is right.\nVerdict: correct", CORRECT, judged=judged).label == "correct"


def test_a_forced_prefix_belongs_to_the_answer() -> None:
    assert parse(" A", COMPARE, prefix="Verdict:").label == "A"
    assert parse("It is right.\nVerdict: correct", CORRECT, prefix="<think>\n").status is Status.UNPARSABLE
    assert parse("It is right.</think>\nVerdict: correct", CORRECT, prefix="<think>\n").label == "correct"


def test_own_patterns_replace_the_marker() -> None:
    readout = TextReadout(labels=COMPARE.labels, strict=r"\[\[(?P<verdict>[ABC])\]\]", lenient=r".*\[\[(?P<verdict>\w+)\]\]\.?")
    assert parse("Long thoughts.\n[[B]]", readout).label == "B"
    assert parse("I choose [[A]].", readout).label == "A"
    assert parse("I choose [[A]].", as_mode(readout, "strict")).status is Status.UNPARSABLE
    assert parse("I choose [[D]].", readout).status is Status.UNPARSABLE


def own_parser(text: str) -> Parsed:
    """A user's parser."""
    if text == "boom":
        raise KeyError("boom")
    return Parsed(Status.OK, "long", float(len(text))) if text else Parsed(Status.UNPARSABLE, detail="empty")


def test_own_function_parses_and_its_failure_is_the_rows() -> None:
    readout = TextReadout(function=f"{__name__}:own_parser")
    assert parse("four", readout).value == 4.0
    assert parse("boom", readout).status is Status.FAILED
    assert "KeyError" in parse("boom", readout).detail


MARKS = [":", "：", "/", ".", "-", "**", "#", ">", "```", "[[", "]]", '"', "(", ")", "!", "?", "_", "</think>", "<think>"]
LABELS = ["A", "B", "C", "tie", "yes", "no", "NOT", "correct", "incorrect", "undecided", "not", "or", "and", "4", "7", "5", "ſ"]
WORDS = st.sampled_from(["Verdict", "verdict", "VERDICT", "Score", "Final ", " ", "\n", "\r\n", "\u2028", *MARKS, *LABELS])
TEXTS = st.one_of(st.text(max_size=200), st.lists(WORDS, max_size=25).map("".join))


@given(TEXTS, st.sampled_from(sorted(READOUTS)))
@example("Verdict:" + "*" * 5000 + "x", "compare")
def test_any_text_has_an_outcome_and_strict_is_contained_in_lenient(text: str, name: str) -> None:
    strict, lenient = (parse(text, as_mode(READOUTS[name], mode)) for mode in ("strict", "lenient"))
    assert strict.status in (Status.OK, Status.ABSTAINED, Status.UNPARSABLE)
    if strict.status is not Status.UNPARSABLE:
        assert strict == lenient
    for parsed in (strict, lenient):
        assert (parsed.value is None) == (parsed.label is None) == (parsed.status is not Status.OK)


@given(TEXTS, st.sampled_from(sorted(READOUTS)))
def test_a_verdict_that_is_read_stands_in_the_text_after_its_marker(text: str, name: str) -> None:
    parsed, readout = parse(text, READOUTS[name]), READOUTS[name]
    if parsed.status is Status.OK and parsed.label is not None:
        at = text.lower().rfind(readout.marker.lower())
        assert at >= 0 or readout.bare
        after = text[at + len(readout.marker) if at >= 0 else 0 :].lower()
        spelled = [word for label in readout.labels if label.name == parsed.label for word in (label.name, *label.spellings)]
        found = [word.lower() for word in spelled or [parsed.label]]
        assert any(word in after for word in found)
        others = [
            label.name.lower() for label in readout.labels if len(label.name) > 1 and label.name not in (parsed.label, "correct")
        ]
        line = next(line for line in after.replace(":", "\n").split("\n") if any(word in line for word in found))
        assert not any(other in line for other in others)


@given(
    st.sampled_from(["A", "B", "tie"]),
    st.text(alphabet=st.characters(categories=["L", "N"]), min_size=1, max_size=8),
    st.booleans(),
)
def test_a_label_with_letters_or_digits_glued_to_it_is_not_read(label: str, glued: str, before: bool) -> None:
    word = glued + label if before else label + glued
    if word.isascii() and word.lower() in ("a", "b", "c", "tie", "undecided"):
        return
    assert parse(f"Verdict: {word}", COMPARE).status is Status.UNPARSABLE
