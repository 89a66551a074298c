"""Items for judges: labelled by rule, balanced, and apart from the test."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.curation.judging_items import (
    V2V,
    JudgingItem,
    decontaminated,
    items_to_batch,
    items_to_rows,
    pairs_from_judge,
)
from plaudit.rewards.rules import rule
from plaudit.types import Batch, Scores, Status


@rule(settings={})
def exact(response: str, reference: str) -> float | None:
    """Right, wrong, or unknown for a question mark."""
    return None if "?" in response else float(response.split()[-1] == reference)


@rule(settings={})
def lenient(response: str) -> float | None:
    """Knows what the rule does not, but for two question marks."""
    return None if "??" in response else 1.0


def writer(*answers, finish="complete"):
    """The same answers to every question."""

    def write(prompts, n, seed):
        places = [row for row in range(len(prompts)) for _ in range(n)]
        batch = prompts.select(places)
        batch.responses = [answers[number % n % len(answers)] for number in range(len(places))]
        batch.groups, batch.finish = torch.tensor(places), [finish] * len(places)
        return batch

    return write


QUESTIONS = Batch(["one?", "two?"], references=["1", "2"], ids=["a", "b"])


def test_labels_and_balance():
    solvers = {"good": writer("so 1", "1", "2", "3"), "poor": writer("1", "4", "5", "6")}
    items, report = V2V(exact).build(QUESTIONS, solvers, 4, seed=1)
    labels = [(item.question_id, item.generator, item.label) for item in items]
    assert labels.count(("a", "good", 1)) == labels.count(("a", "good", 0)) == 2
    assert labels.count(("a", "poor", 1)) == labels.count(("a", "poor", 0)) == 1
    assert ("b", "poor", 1) not in labels, "the poor solver is never right about b: none of its answers is an item"
    assert labels.count(("b", "good", 1)) == labels.count(("b", "good", 0)) == 1
    assert (report.questions, report.answers, report.items) == (2, 16, len(items))
    assert report.surplus == 16 - len(items)
    together, _ = V2V(exact).build(QUESTIONS, solvers, 4, balance="question", per_cell=1)
    assert [item.label for item in together] == [1, 0, 1, 0]


def test_one_class_questions_are_counted_and_left_out():
    items, report = V2V(exact).build(QUESTIONS, {"one": writer("1", "7")}, 2)
    assert {item.question_id for item in items} == {"a"}
    assert report.one_class == 1


def test_the_checker_decides_what_the_rule_does_not():
    solver = {"s": writer("1?", "??", "3", "1")}
    items, report = V2V(exact, lenient).build(QUESTIONS.select([0]), solver, 4)
    assert (report.checked, report.unlabelled) == (1, 1)
    assert sum(item.label for item in items) == 1
    _, report = V2V(exact).build(QUESTIONS.select([0]), solver, 4)
    assert (report.checked, report.unlabelled) == (0, 2)


def test_malformed_truncated_and_repeated():
    final = V2V(exact, final_part=lambda text: text.split("</think>")[1].strip() if "</think>" in text else None)
    thinking = {"s": writer("a</think> 1", "b</think> 1", "never ends", "c</think> 2")}
    items, report = final.build(QUESTIONS.select([0]), thinking, 4)
    assert [item.response for item in items] == ["1", "2"]
    assert (report.malformed, report.repeated) == (1, 1)
    cut = V2V(exact).build(QUESTIONS, {"s": writer("1", "2", finish="truncated")}, 2)[1]
    assert (cut.truncated, cut.items) == (4, 0)
    with pytest.raises(ValueError, match="balance"):
        V2V(exact).build(QUESTIONS, {}, 2, balance="none")


@given(st.lists(st.lists(st.sampled_from("1234?"), min_size=3, max_size=3), min_size=1, max_size=3), st.booleans())
def test_always_correct_scores_one_half(answers, distinct):
    solvers = {str(number): writer(*group) for number, group in enumerate(answers)}
    items, report = V2V(exact, distinct=distinct).build(QUESTIONS, solvers, 3)
    assert sum(item.label for item in items) * 2 == len(items)
    known = (report.items, report.truncated, report.malformed, report.unlabelled, report.repeated, report.surplus)
    assert sum(known) == report.answers


ITEMS = [JudgingItem("a", "one?", "1", 1, "good", "easy"), JudgingItem("a", "one?", "2", 0, "poor", "easy"),
         JudgingItem("b", "quite another question", "2", 1, "good", "hard")]  # fmt: skip


def test_rows_and_batch():
    rows = items_to_rows(ITEMS)
    assert [row.responses for row in rows] == [("1", "2"), ("2",)]
    assert rows[0].gold == (1.0, 0.0)
    assert rows[0].extras["models"] == ("good", "poor")
    assert [row.section for row in rows] == ["easy", "hard"]
    batch, gold = items_to_batch(ITEMS)
    assert (list(batch.responses), gold) == (["1", "2", "2"], [1.0, 0.0, 1.0])


def test_decontamination_is_by_question():
    train = [JudgingItem("x", "one?", "9", 0, "s"), JudgingItem("y", "nothing like it at all", "9", 0, "s"),
             JudgingItem("z", "quite another  Question", "9", 0, "s")]  # fmt: skip
    kept, report = decontaminated(train, ITEMS)
    assert [item.question_id for item in kept] == ["y"]
    assert report.leaked == {"x", "z"}
    assert [item.question_id for item in decontaminated(train, ITEMS, near=None)[0]] == ["y"]


def test_pairs_from_a_judge():
    samples = Batch(["q"] * 4 + ["r"] * 2 + ["s"] * 2, ["."] * 8, groups=torch.tensor([0, 0, 0, 0, 1, 1, 2, 2]))
    values = torch.tensor([0.9, 0.1, 0.5, float("nan"), 1.0, 1.0, 0.2, 0.8])
    scores = Scores(values, torch.where(values.isnan(), int(Status.UNPARSABLE), 0))
    edges, counts = pairs_from_judge(samples, scores)
    assert list(zip(edges.first.tolist(), edges.second.tolist(), strict=True)) == [(0, 1), (7, 6)]
    assert counts == {"groups": 3.0, "groups_used": 2.0, "rows_invalid": 1.0}
    assert len(pairs_from_judge(samples, scores, 0.85, 0.15)[0]) == 1
    same = Scores(torch.ones(8))
    assert len(pairs_from_judge(samples, same)[0]) == 0, "a judge that says the same of all gives no pair"
    with pytest.raises(ValueError, match="lo <= hi"):
        pairs_from_judge(samples, scores, 0.1, 0.5)
