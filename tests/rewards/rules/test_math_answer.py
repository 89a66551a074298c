"""The math rule: equality, outcomes, and agreement with recorded verdicts."""

import gzip
import json
import pickle
import threading

import pytest

from plaudit.rewards.rules import MathAnswer
from plaudit.rewards.rules.math_answer import decide_plainly, gold_answers
from plaudit.types import Batch, SpecError, Status


@pytest.fixture(scope="module")
def math_rule():
    rule = MathAnswer(workers=2, timeout=30)
    yield rule
    rule.close()


def outcomes(rule, rows):
    scores = rule.score(Batch([""] * len(rows), [row[0] for row in rows], [row[1] for row in rows]))
    return [
        value if status == Status.OK else Status(status)
        for value, status in zip(scores.values.tolist(), scores.status.tolist(), strict=True)
    ]


RIGHT = [
    (r"\boxed{0.5}", r"\frac{1}{2}"),
    (r"\boxed{\dfrac{1}{2}}", "1/2"),
    (r"\boxed{12\%}", "12"),
    (r"\boxed{12\%}", "0.12"),
    (r"\boxed{50}", r"50\%"),
    (r"\boxed{\$1,234.50}", "1234.5"),
    (r"\boxed{x = 5}", "5"),
    (r"\boxed{5}", "x=5"),
    (r"\boxed{(x-1)(x+1)}", "x^2-1"),
    (r"\boxed{\frac{\sqrt{3}}{3}}", r"\frac{1}{\sqrt{3}}"),
    (r"\boxed{2, 1}", "1, 2"),
    (r"$\boxed{1}$ and $\boxed{-2}$", "1,-2"),
    (r"\boxed{\{3, 1, 2\}}", r"\{1,2,3\}"),
    (r"\boxed{(3, \pi/2)}", r"\left( 3, \frac{\pi}{2} \right)"),
    (r"\boxed{(-\infty, 0]}", r"(-\infty,0]"),
    (r"\boxed{[-2,7]}", r"x \in [-2,7]"),
    (r"\boxed{\begin{bmatrix} 1 \\ 2 \end{bmatrix}}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
    (r"\boxed{1 + \sqrt{19}, 1 - \sqrt{19}}", r"1 \pm \sqrt{19}"),
    (r"\boxed{137.5}", r"137 \frac{1}{2}"),
    (r"\boxed{90}", r"90^\circ"),
    (r"\boxed{15}", r"15\mbox{ cm}^2"),
    (r"\boxed{C}", r"\text{(C)}"),
    (r"\boxed{\text{evelyn}}", r"\text{Evelyn}"),
    ("The answer is 2√5.", r"2\sqrt{5}"),
    ("The answer is 2*sqrt(5).", r"2\sqrt{5}"),
    ("The answer is 3π/2.", r"\frac{3\pi}{2}"),
    ("A: 18.00", "18"),
    ("The answer is 1 or -2.", "1,-2"),
    ("0.333333", "1/3"),
    ("It is 70,000 dollars.", "A: 70000\nA: 70000"),
    ("#### 3", "3 + 0 = 3\n#### 3"),
    (r"\boxed{7}", ["6", "7"]),
    (r"\boxed{7}", 7),
]
WRONG = [
    (r"\boxed{0.51}", r"\frac{1}{2}"),
    (r"\boxed{1200}", "12"),
    (r"\boxed{x+1}", "x-1"),
    (r"\boxed{10000001}", "10000000"),
    (r"\boxed{0.33}", "1/3"),
    (r"\boxed{0.0000668}", "0.0000672"),
    (r"\boxed{1}", "1,-2"),
    (r"\boxed{(1,2)}", "(2,1)"),
    (r"\boxed{(0,1)}", "[0,1]"),
    (r"\boxed{D}", r"\text{(C)}"),
    (r"\boxed{-5}", "5"),
    (r"\boxed{3 million}", "3"),
    (r"\boxed{2\pi}", "2"),
    (r"The answer is 5. No: the answer is 6.", "5"),
    (r"\boxed{8}", ["6", "7"]),
]


@pytest.mark.parametrize(("rows", "value"), [(RIGHT, 1.0), (WRONG, 0.0)], ids=["right", "wrong"])
def test_equal_answers_are_right_and_different_ones_wrong(math_rule, rows, value):
    said = outcomes(math_rule, rows)
    assert [(row, outcome) for row, outcome in zip(rows, said, strict=True) if outcome != value] == []


def test_what_cannot_be_decided_has_a_status(math_rule):
    rows = [
        ("I do not know", "4"),
        ("", "4"),
        ("4", None),
        ("4", ""),
        ("4", []),
        (r"\boxed{\frac{}{}}", "4"),
        (7, "7"),
        (r"\boxed{4}", "\\frac{"),
    ]
    assert outcomes(math_rule, rows) == [
        Status.UNPARSABLE,
        Status.UNPARSABLE,
        Status.MISSING_REFERENCE,
        Status.MISSING_REFERENCE,
        Status.MISSING_REFERENCE,
        Status.UNPARSABLE,
        Status.NOT_APPLICABLE,
        Status.MISSING_REFERENCE,
    ]


def test_no_answer_can_be_called_wrong():
    rule = MathAnswer(on_no_answer="wrong")
    assert outcomes(rule, [("I do not know", "4"), ("4", None)]) == [0.0, Status.MISSING_REFERENCE]
    assert rule.fingerprint() != MathAnswer().fingerprint()
    with pytest.raises(SpecError, match="on_no_answer"):
        MathAnswer(on_no_answer="zero")


def test_an_endless_calculation_times_out_and_the_others_are_judged():
    rule = MathAnswer(timeout=2.0, workers=2)
    rows = [(r"\boxed{\sqrt{x^2}}", r"|x|")] + [(r"\boxed{10^{10^{10^{10}}} + x}", "x+1"), (r"\boxed{\frac{x}{2}}", "0.5x")] * 2
    try:
        rule.check()
        said = outcomes(rule, rows)
        assert said[2] == said[4] == 1.0
        assert said[1] in (Status.TIMED_OUT, Status.FAILED, 0.0)
        assert outcomes(rule, rows[2:3]) == [1.0]
    finally:
        rule.close()


def test_it_works_off_the_main_thread(math_rule):
    found = {}

    def judge(name):
        found[name] = outcomes(math_rule, RIGHT[8:12] + WRONG[2:3])

    threads = [threading.Thread(target=judge, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[name] for name in range(3)] == [[1.0] * 4 + [0.0]] * 3


def test_a_pickled_copy_judges_alike(math_rule):
    copy = pickle.loads(pickle.dumps(math_rule))
    try:
        assert copy.fingerprint() == math_rule.fingerprint()
        assert outcomes(copy, RIGHT[8:9]) == [1.0]
    finally:
        copy.close()


def test_plain_decisions_leave_algebra_open():
    assert decide_plainly("5", "5.0") is True
    assert decide_plainly("5", "6") is False
    assert decide_plainly("5", "2x") is None
    assert decide_plainly("x", "y") is None
    assert gold_answers("so 1 + 1 = 2\nA: 2") == ["2"]


def jsonl(path):
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.mark.public_data
def test_agrees_with_the_recorded_verdicts_of_gsm8k(public_data, math_rule):
    rows, recorded = [], []
    for record in jsonl(public_data("gsm8k") / "example_model_solutions.jsonl.gz"):
        for model in ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"):
            rows.append((record[model]["solution"], record["ground_truth"]))
            recorded.append(float(record[model]["is_correct"]))
    said = outcomes(math_rule, rows)
    assert len(rows) == 4 * 791
    assert sum(a != b for a, b in zip(said, recorded, strict=True)) == 0


TEMPLATES = [
    "We add 3 and 4.\n\\[\\boxed{%s}\\]",
    "We compute 17.\nThe answer is $%s$. I checked it twice.",
    "17 and 5\n#### %s",
    "Sum is 12.\nFinal Answer: $%s$\n\n" + "We can verify this by substituting 3 back. " * 8,
    "Therefore, we find $%s$.",
    "So the final answer is %s.",
    "%s",
]


@pytest.mark.public_data
def test_misses_no_gold_answer_of_math500_in_any_format(public_data, math_rule):
    records = jsonl(public_data("math500") / "test.jsonl.gz")
    solutions = [(record["solution"], record["answer"]) for record in records]
    assert outcomes(math_rule, solutions) == [1.0] * 500
    for template in TEMPLATES:
        rows = [(template % record["answer"], record["answer"]) for record in records]
        assert [row for row, said in zip(rows, outcomes(math_rule, rows), strict=True) if said != 1.0] == []


@pytest.mark.public_data
def test_tells_sampled_solutions_apart(public_data, math_rule):
    rows, recorded = [], []
    for record in jsonl(public_data("qwen_math_best_of_8") / "math_cot_100.jsonl.gz"):
        for solution, score in zip(record["code"], record["score"], strict=True):
            rows.append((solution, record["answer"]))
            recorded.append(float(score))
    said = outcomes(math_rule, rows)
    differing = [row for row, a, b in zip(rows, said, recorded, strict=True) if a != b]
    # the one difference is a recorded verdict that missed the thousands separator of the gold answer
    assert len(differing) <= 1
    assert all(decide_plainly(gold, "10000") for _, gold in differing)
