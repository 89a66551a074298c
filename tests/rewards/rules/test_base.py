"""Plain functions as rewards."""

import functools
import importlib.util
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.rewards.rules import RuleReward, as_reward, response_text, rule
from plaudit.rewards.rules.source import function_key
from plaudit.types import Batch, SpecError, Status, Verdict


def statuses(scores):
    return [Status(code) for code in scores.status.tolist()]


def test_every_kind_of_answer_has_its_outcome():
    def judge(response):
        return {"half": 0.5, "true": True, "none": None, "nan": math.nan, "inf": math.inf, "status": Status.UNPARSABLE}.get(
            response, Verdict(value=0.25, detail="because")
        )

    scores = as_reward(judge).score(Batch(["p"] * 7, ["half", "true", "none", "nan", "inf", "status", "verdict"]))
    assert statuses(scores) == [
        Status.OK,
        Status.OK,
        Status.ABSTAINED,
        Status.NOT_A_NUMBER,
        Status.NOT_A_NUMBER,
        Status.UNPARSABLE,
        Status.OK,
    ]
    assert scores.values[[0, 1, 6]].tolist() == [0.5, 1.0, 0.25]
    assert scores.values[2:6].isnan().all()
    assert scores.verdicts[6][0].detail == "because"


def test_an_error_fails_its_row_only_and_says_why():
    scores = as_reward(lambda response: 1 / len(response)).score(Batch(["p", "p"], ["", "ab"]))
    assert statuses(scores) == [Status.FAILED, Status.OK]
    assert scores.verdicts[0][0].detail == "ZeroDivisionError: division by zero"
    assert statuses(as_reward(lambda response: "much").score(Batch(["p"], ["r"]))) == [Status.FAILED]


def test_arguments_are_given_by_name():
    @rule(name="all of them")
    def everything(reference, response, prompt, topic, user):
        return float(f"{reference}{response}{prompt}{topic}{user}")

    batch = Batch(["3"], ["2"], references=["1"], users=["5"], extras={"topic": ["4"], "unused": [9]})
    assert everything.name == "all of them"
    assert everything.score(batch).values.tolist() == [12345.0]
    assert everything(reference=1, response=2, prompt=3, topic=4, user=5) == 12345.0
    with pytest.raises(SpecError, match="asks for 'topic'.*unused"):
        everything.score(Batch(["3"], ["2"], references=["1"], users=["5"], extras={"unused": [9]}))
    with pytest.raises(SpecError, match="called 'response'"):
        as_reward(lambda prompt, answer: 1.0)


def test_a_needed_reference_that_is_missing_is_said_and_an_optional_one_is_not():
    batch = Batch(["p", "p"], ["a", "b"], references=["a", None])
    assert statuses(as_reward(lambda response, reference: response == reference).score(batch)) == [
        Status.OK,
        Status.MISSING_REFERENCE,
    ]
    optional = as_reward(lambda response, reference="b": response == reference).score(batch)
    assert optional.values.tolist() == [1.0, 1.0]
    assert statuses(as_reward(lambda text, n=3: len(text) < n).score(batch)) == [Status.OK, Status.OK]


@pytest.mark.parametrize(
    ("response", "text"),
    [
        ("plain", "plain"),
        ({"role": "assistant", "content": "message"}, "message"),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "last"}], "last"),
        ([{"role": "assistant", "content": [{"type": "text", "text": "in "}, {"type": "text", "text": "parts"}]}], "in parts"),
        ([], None),
        (None, None),
        (7, None),
        ([1, 2], None),
        ({"role": "assistant", "content": None}, None),
    ],
)
def test_the_text_of_a_response(response, text):
    assert response_text(response) == text
    outcome = as_reward(lambda response: 1.0).score(Batch(["p"], [response]))
    assert statuses(outcome) == [Status.OK if text is not None else Status.NOT_APPLICABLE]


@given(st.lists(st.one_of(st.text(), st.none(), st.integers(), st.lists(st.dictionaries(st.text(), st.text())))))
def test_bad_responses_never_become_numbers(responses):
    scores = as_reward(lambda response: float(len(response))).score(Batch(["p"] * len(responses), responses))
    assert (scores.ok == ~scores.values.isnan()).all()
    assert all(not ok or isinstance(r, (str, list)) for ok, r in zip(scores.ok.tolist(), responses, strict=True))


def shorter_than(limit):
    return lambda response: len(response) < limit


def test_fingerprints_follow_what_decides_the_numbers(tmp_path):
    assert function_key(shorter_than(3)) == function_key(shorter_than(3)) != function_key(shorter_than(4))
    first, second = (lambda response: 1.0), (lambda response: 2.0)
    assert function_key(first) != function_key(second)
    assert function_key(functools.partial(pow, 2)) != function_key(functools.partial(pow, 3))
    by_pattern = [function_key((lambda p: lambda response: bool(p.match(response)))(re.compile(text))) for text in ("a", "b")]
    assert by_pattern[0] != by_pattern[1]

    keys = []
    for limit in (1, 2, 1):  # a helper in the same file is edited, and edited back
        file = tmp_path / "mine.py"
        file.write_text(f"def helper():\n    return {limit}\n\ndef judge(response):\n    return helper()\n")
        spec = importlib.util.spec_from_file_location("mine", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        keys.append(as_reward(module.judge).fingerprint())
    assert keys[0] == keys[2] != keys[1]


def test_an_object_without_stable_content_needs_settings():
    thing = object()
    with pytest.raises(SpecError, match="'thing'"):
        as_reward(lambda response: float(response is thing))
    a, b = (as_reward(lambda response: float(response is thing), settings={"version": n}) for n in (1, 2))
    assert a.fingerprint() != b.fingerprint()


def test_a_rule_class_needs_only_judge_one():
    class Shouts(RuleReward):
        name = "shouts"

        def judge_one(self, prompt, response, reference):
            return None if not response else response.isupper()

    scores = Shouts().score(Batch(["p"] * 3, ["HEY", "hey", ""]))
    assert statuses(scores) == [Status.OK, Status.OK, Status.ABSTAINED]
    assert scores.values[:2].tolist() == [1.0, 0.0]
    assert len(Shouts().fingerprint()) == 32
