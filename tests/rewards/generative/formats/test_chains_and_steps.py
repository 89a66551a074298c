"""Tags: chains of rubrics, checked steps, boxed scores. Parts are found, near misses are not read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.rewards.generative.formats.boxed import boxed_scores
from plaudit.rewards.generative.formats.chain_of_rubrics import chain_verdict, parse_chain, tail_reward
from plaudit.rewards.generative.formats.steps import code_blocks, parse_step, step_verdict
from plaudit.types import Status

CHAT = (
    "<type>Chat</type>\n<rubric>short: 100 % <justify>it was asked for</justify></rubric>\n<eval>B is short.</eval>\n"
    "<answer>[[B]]</answer>"
)
SOLVED = "<type>Reasoning</type>\n<solution>2 + 2 = 4</solution>\n<eval>A says 4.</eval>\n<answer>[[A]]</answer>"


def test_chains_have_parts_and_a_winner() -> None:
    chat, solved = parse_chain(CHAT), parse_chain(SOLVED)
    assert (chat.kind, chat.winner, chat.solution, chat.evaluation) == ("Chat", "B", None, "B is short.")
    assert chat.rubric is not None
    assert chat.rubric.startswith("short")
    assert (solved.kind, solved.winner, solved.solution, solved.rubric) == ("Reasoning", "A", "2 + 2 = 4", None)
    assert chat.well_formed
    assert solved.well_formed
    for strict in (False, True):
        assert chain_verdict(CHAT, strict).value == 0.0
        assert chain_verdict(SOLVED, strict).label == "A"


@pytest.mark.parametrize(
    "text",
    [
        SOLVED + "\nOr not.",
        SOLVED.replace("<solution>", "<rubric>").replace("</solution>", "</rubric>"),
        SOLVED.replace("<type>Reasoning</type>", ""),
        SOLVED.replace("A says 4.", " "),
        "<eval>x</eval>" + SOLVED,
        "<answer>[[A]]</answer>",
        "All told: [[A]].",
        "<think>[[B]]</think> [[A]]",
    ],
)
def test_a_broken_chain_is_read_only_by_lenient(text: str) -> None:
    assert not parse_chain(text).well_formed
    assert chain_verdict(text).label == "A"
    assert chain_verdict(text, strict=True).status is Status.UNPARSABLE


@pytest.mark.parametrize(
    "text",
    ["", "[[A]] or [[B]]", "<answer>[[A]] [[B]]</answer>", "<answer>[[A/B]]</answer>", "[[C]]", "[A]", "A", "<think>[[A]]",
     "<answer>both</answer> [[A]]"],
)  # fmt: skip
def test_a_chain_without_one_winner_has_none(text: str) -> None:
    assert chain_verdict(text).status is Status.UNPARSABLE


def test_the_reward_looks_at_the_tail_alone_and_hedging_does_not_pay() -> None:
    assert tail_reward(CHAT, "B") == 1.0
    assert tail_reward(CHAT, "A") == -1.0
    late = CHAT + "x" * 58
    assert tail_reward(late, "B") == 1.0, "22 characters of tag and 58 after it are 80"
    assert tail_reward(late + "x", "B") == -1.0, "one character more pushes the tag out"
    assert tail_reward(late + "x", "B", tail=81) == 1.0
    for text in ("", "[[B]]", "<answer>[[A]]</answer><answer>[[B]]</answer>", "<answer>[[A/B]]</answer>", "<answer>[[B]]"):
        assert tail_reward(text, "B") == -1.0
    assert tail_reward("<answer>[[A]]</answer>" + "x" * 80 + "<answer>[[B]]</answer>", "B") == 1.0
    with pytest.raises(ValueError, match="expected A or B"):
        tail_reward(CHAT, "C")  # type: ignore[arg-type]


STEP = """<analyze>
The sum is right.
</analyze>
<verify>
```python
print(2 + 2)
```
[Code Output]
4
</verify>
<output>
**Judgement**: $\\boxed{Yes}$
</output>"""


def test_a_checked_step_has_code_and_a_verdict() -> None:
    check = parse_step(STEP)
    assert check.analysis == "The sum is right."
    assert check.code == ("print(2 + 2)\n",)
    assert check.correct is True
    assert check.well_formed
    no = STEP.replace("{Yes}", "{\\text no.}")
    assert (step_verdict(no).label, step_verdict(no, strict=True).value) == ("No", 0.0)
    changed = STEP.replace("$\\boxed{Yes}$", "\\boxed{Yes}, no: \\boxed{No}")
    assert step_verdict(changed).label == "No"
    assert step_verdict(changed, strict=True).status is Status.UNPARSABLE
    forced = STEP[: STEP.rindex("\n</output>")]
    assert step_verdict(forced).label == "Yes"
    assert step_verdict(forced, strict=True).status is Status.UNPARSABLE


@pytest.mark.parametrize(
    "text",
    ["", "\\boxed{Yes}", "<output>Yes</output>", "<output>\\boxed{Yes or No}</output>", "<output>\\boxed{Yes",
     "<output>\\boxed{Yes} and \\boxed{", "\\boxed{Yes}<output></output>", "<output>\\boxed{Yesterday}</output>"],
)  # fmt: skip
def test_a_step_without_a_boxed_verdict_in_its_output_has_none(text: str) -> None:
    assert step_verdict(text).status is Status.UNPARSABLE


def test_code_blocks_are_closed_python_fences() -> None:
    text = "```python\na\n```\n```\nb\n```\n```json\n{}\n```\n```py\nopen"
    assert code_blocks(text) == ("a\n", "b\n")


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ("Good.\n\\boxed{7, 4, 10}", (7.0, 4.0, 10.0)),
        ("\\boxed{1,2,3} no:\n$\\boxed{3,2,1}$", (3.0, 2.0, 1.0)),
        ("<think>\\boxed{1, 1, 1}</think>\\boxed{9, 9, 2}.", (9.0, 9.0, 2.0)),
    ],
)
def test_boxed_scores_are_read_in_both_modes(text: str, scores: tuple[float, ...]) -> None:
    for strict in (False, True):
        assert boxed_scores(text, 3, strict=strict).values == scores


def test_boxed_scores_lenient_only() -> None:
    for text in ("\\boxed{[7; 4; 10]}", "\\boxed{7, 4.0, 10} in all", "\\boxed { 7,4,10 }, I think"):
        assert boxed_scores(text, 3).values == (7.0, 4.0, 10.0)
        assert boxed_scores(text, 3, strict=True).status is Status.UNPARSABLE
    assert boxed_scores("\\boxed{7}", 1, strict=True).values == (7.0,)


@pytest.mark.parametrize(
    "text",
    ["7, 4, 10", "\\boxed{7, 4}", "\\boxed{7, 4, 10, 1}", "\\boxed{7, 4, 11}", "\\boxed{7, 4, 0}", "\\boxed{7, -4, 1}",
     "\\boxed{7, 4.5, 1}", "\\boxed{7, 4, 10} then \\boxed{7,", "\\boxed{a, b, c}", "\\boxed{7 4 10}", "\\boxed{7, 4, \u0663}",
     "<think>\\boxed{7, 4, 10}", "\\boxed{\\boxed{7, 4, 10}"],
)  # fmt: skip
def test_boxes_that_are_no_scores(text: str) -> None:
    if text.endswith("\\boxed{7, 4, 10}") and text.startswith("\\boxed{\\boxed"):
        assert boxed_scores(text, 3).values == (7.0, 4.0, 10.0), "the last mark is a whole box"
        return
    assert boxed_scores(text, 3).status is Status.UNPARSABLE


TAGS = [f"<{slash}{tag}>" for tag in ("type", "eval", "answer", "output", "rubric", "think") for slash in ("", "/")]
WORDS = ["Chat", "Reasoning", "[[A]]", "[[B]]", "\\boxed{", "}", "Yes", "No", "7", ", ", "4", "\n", "```", " "]
PIECES = st.sampled_from([*TAGS, *WORDS])
TEXTS = st.one_of(st.text(max_size=100), st.lists(PIECES, max_size=20).map("".join))


@given(TEXTS)
def test_any_text_has_an_outcome_and_strict_is_contained_in_lenient(text: str) -> None:
    for read in (chain_verdict, step_verdict):
        strict, lenient = read(text, True), read(text)
        assert strict.status is Status.UNPARSABLE or strict == lenient
        if lenient.label is not None:
            assert lenient.label.lower() in text.lower()
    strict_scores, scores = boxed_scores(text, 2, strict=True), boxed_scores(text, 2)
    assert strict_scores.status is Status.UNPARSABLE or strict_scores == scores
    assert all(label in text for label in scores.labels if label)
    if tail_reward(text, "A") > 0:
        assert "[[A]]" in text[-80:]
