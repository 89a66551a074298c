"""Short answers: right is right, wrong is wrong, splits share no question, and feedback shares no sentence with the bank."""

import math
import re

from plaudit.rewards.generative.follow_ups import FollowUps
from plaudit.worlds.short_answers import FEEDBACK, KINDS, accuracy, answered, cases, feedback_records

FOUND = cases(120, "test", 0)


def numbers(text):
    return [int(number) for number in re.findall(r"\d+", text)]


def test_kinds_are_what_they_say():
    for case in FOUND:
        assert case.result in numbers(case.answers["right"])
        right, wrong = (re.sub(r"\d+", "#", case.answers[kind]) for kind in ("right", "wrong"))
        assert right == wrong
        assert case.answers["right"] != case.answers["wrong"]
        assert case.answers["elsewhere"] not in (case.answers["right"], case.answers["wrong"])
        assert case.result not in numbers(case.answers["incomplete"]) or case.answers["incomplete"].endswith("...")
        assert min(numbers(case.answers["wrong"]), default=0) > 0


def test_sums_are_right():
    seen = 0
    for case in FOUND:
        if match := re.fullmatch(r"What is (\d+) (plus|minus) (\d+)\?", case.question):
            first, second = int(match[1]), int(match[3])
            assert case.result == (first + second if match[2] == "plus" else first - second)
            seen += 1
        if match := re.fullmatch(r"How many legs do (\d+) spiders have\?", case.question):
            assert case.result == 8 * int(match[1])
            seen += 1
    assert seen > 5


def test_same_seed_same_cases_and_no_question_in_two_splits():
    assert cases(30, "test", 7) == cases(30, "test", 7) != cases(30, "test", 8)
    train = {case.question for seed in range(3) for case in cases(100, "train", seed)}
    assert not train & {case.question for case in FOUND}
    assert len({case.question for case in FOUND}) == 120


def test_records_and_rows():
    records = feedback_records(10, "train", 1)
    assert len(records) == 10
    assert len({question for question, _, _ in records}) == 3
    assert "{" not in "".join(text for record in records for text in record)
    batch = answered(FOUND[:2])
    assert batch.prompts == [case.question for case in FOUND[:2] for _ in KINDS]
    assert batch.responses[4:] == [FOUND[1].answers[kind] for kind in KINDS]
    assert batch.groups.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_accuracy_counts_ties_a_half_and_no_missing_value():
    values = [3.0, 1.0, 3.0, 4.0, 2.0, 1.0, 0.0, math.nan]
    assert [accuracy(values, kind) for kind in KINDS[1:]] == [1.0, 0.75, None]
    assert accuracy([], "wrong") is None


def test_feedback_and_bank_have_no_sentence_in_common():
    bank = {re.sub(r"\W+", " ", text).lower().strip() for text in FollowUps.default().sentences}
    said = {re.sub(r"\W+", " ", text).lower().strip() for texts in FEEDBACK.values() for text in texts}
    assert not bank & said
