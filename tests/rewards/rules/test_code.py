import math

import pytest

from plaudit.engines.sandbox import Limits
from plaudit.rewards.rules.code import CodeTests, Printed, read_tests
from plaudit.types import Batch, Status

PROGRAM = "```python\ndef twice(x):\n    return 2 * x\n```"
ECHO = "Here:\n```python\nprint(int(input()) * 2)\n```\nand a text block\n```text\nnot this\n```"


@pytest.fixture(scope="module")
def rule():
    made = CodeTests(limits=Limits(cpu_seconds=1, wall_seconds=3), strict=False)
    yield made
    made.sandbox.close()


CASES = [
    (PROGRAM, ["assert twice(2) == 4", "assert twice(0) == 0"], 1.0),
    (PROGRAM, ["assert twice(2) == 4", "assert twice(2) == 5", "assert twice('a') == 'aa'", "twice()"], 0.5),
    (PROGRAM, "assert twice(2) == 4\nassert twice(3) == 6", 1.0),
    (PROGRAM, "assert twice(2) == 4\nassert twice(3) == 7", 0.0),
    (ECHO, [("2", "4"), ("3", "7")], 0.5),
    (ECHO, {"inputs": ["2\n", 5], "outputs": ["4", "10\n"]}, 1.0),
    (ECHO, {"tests": [{"input": "2", "output": "4"}]}, 1.0),
    ("```python\n1 / 0\n```", ["pass"], 0.0),
    ("```python\nwhile True: pass\n```", [("", "")], 0.0),
    ("```python\nimport sys\ndef f(): sys.exit(0)\n```", ["f()\nassert False"], 0.0),
    ("```python\nimport os\ndef f(): os._exit(0)\n```", ["f()\nassert False"], 0.0),
    ("```python\nimport os; os._exit(0)\n```", ["assert False"], 0.0),
    ("```python\nx = 1\n```\n```python\nx = 2\n```", ["assert x == 2"], 1.0),
    ("```\nx = 2\n```", ["assert x == 2"], 1.0),
    ("x = 2", ["assert x == 2"], Status.UNPARSABLE),
    ("```python\nx = 2", ["assert x == 2"], Status.UNPARSABLE),
    (PROGRAM, None, Status.MISSING_REFERENCE),
    (PROGRAM, [], Status.MISSING_REFERENCE),
    (PROGRAM, [3], Status.MISSING_REFERENCE),
    (7, ["pass"], Status.NOT_APPLICABLE),
]


def test_cases(rule):
    batch = Batch(["write it"] * len(CASES), [case[0] for case in CASES], references=[case[1] for case in CASES])
    scores = rule.score(batch)
    for row, (response, tests, expected) in enumerate(CASES):
        outcome = float(scores.values[row]) if scores.ok[row] else Status(int(scores.status[row]))
        assert outcome == expected, (response, tests, scores.verdicts[row])


def test_tests_do_not_see_one_another(rule):
    found = rule.score(Batch(["p"], ["```python\nx = []\n```"], references=[["x.append(1)", "assert x == []"]]))
    assert found.values[0] == 1.0


def test_all_or_nothing_and_what_failed():
    whole = CodeTests(whole=True, strict=False)
    scores = whole.score(Batch(["p"], [PROGRAM], references=[["assert twice(1) == 2", "assert twice(1) == 3"]]))
    assert scores.values[0] == 0.0
    assert scores.verdicts[0][0].detail == "1 of 2 tests passed; test 2: error: AssertionError: "
    assert not math.isnan(scores.values[0])


def test_it_proves_itself(rule):
    rule.check()
    assert rule.fingerprint() != CodeTests(whole=True, strict=False).fingerprint()


@pytest.mark.parametrize(
    ("reference", "tests"),
    [
        ("assert x", ["assert x"]),
        ([("1", 2), {"input": "a", "output": "b"}, "assert x"], [Printed("1", "2"), Printed("a", "b"), "assert x"]),
        ({"inputs": ["1"], "outputs": []}, None),
        ({"a": 1}, None),
        ("  ", None),
        ([""], None),
        (5, None),
    ],
)
def test_reading_of_tests(reference, tests):
    assert read_tests(reference) == tests
