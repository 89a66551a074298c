"""inspect evaluates with plaudit's scorers; what could not be judged is unscored in its log."""

import subprocess
import sys

import pytest

from tests.integrations.programs import answer

UNREAD = "4+4=?"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Four evaluations in one process, which has loaded its packages only once."""
    folder = tmp_path_factory.mktemp("inspect")
    return answer("inspect-ai", "inspect_runs", "parts", "name", "lower", "graded", folder=folder)


def test_a_scorer_with_parts(runs):
    found = runs["parts"]
    assert found["samples"]["1+1=?"]["value"] == pytest.approx({"reward": 1.125, "math": 1.0, "short": 0.125})
    assert found["samples"]["3+3=?"]["value"]["math"] == 0
    unread = found["samples"][UNREAD]
    assert unread["value"]["reward"] is None
    assert unread["reason"] == unread["status"] == "unparsable"
    assert found["unscored"] == {"reward": 1, "math": 1, "short": 0}
    assert found["metrics"]["reward"]["mean"] == pytest.approx((1.125 + 1 + 1 / 15 + 1) / 3)
    assert found["metrics"]["reward"]["stderr"] > 0


def test_a_scorer_by_name(runs):
    found = runs["name"]
    assert found["params"]["reward"] == "math"
    assert found["metrics"]["reward"]["mean"] == pytest.approx(2 / 3)
    assert found["unscored"] == {"reward": 1}
    assert found["samples"][UNREAD]["value"] is None


def test_less_is_better_is_reported_as_it_is(runs):
    found = runs["lower"]
    assert found["metrics"]["reward"]["mean"] >= 0
    assert found["unscored"] == {"reward": 2}  # too short to say


def test_grading_in_place_of_a_model_graded_scorer(runs):
    found = runs["graded"]
    assert [found["samples"][question]["value"] for question in ("1+1=?", "2+2=?", "3+3=?", UNREAD)] == ["I", "C", "I", None]
    assert found["samples"]["2+2=?"]["plaudit"] == pytest.approx(0.9)
    assert found["unscored"] == {"plaudit_graded_qa": 1}
    assert found["metrics"]["plaudit_graded_qa"]["accuracy"] == pytest.approx(1 / 3)


@pytest.mark.model
def test_grading_by_the_embedded_judge(tmp_path):
    found = answer("inspect-ai", "inspect_runs", "embedded", folder=tmp_path)["embedded"]
    values = {question: sample["plaudit"] for question, sample in found["samples"].items()}
    assert all(0 < value < 1 for value in values.values())
    assert {question: sample["value"] for question, sample in found["samples"].items()} == {
        question: "C" if value >= 0.5 else "I" for question, value in values.items()
    }


def test_without_inspect_one_sentence_says_what_to_install():
    code = "import plaudit.integrations.inspect_ai"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith("plaudit.integrations.inspect_ai needs inspect: pip install inspect-ai")
