import random

import pytest

from plaudit.types import UserError
from plaudit.worlds.arithmetic import solve
from plaudit.worlds.faulty_chains import FaultyChains, each_step, large_chains, step_spans, step_truth


@pytest.mark.parametrize(
    ("response", "truth"),
    [
        ("7-4=3;3+9=12;12-1=11", [True, True, True]),
        ("7-4=2;2+9=11;11-1=10", [False, False, False]),  # carried on: no step states the true partial result
        ("7-4=2;7-4=3;3+9=12;12-1=11", [False, True, True, True]),  # done again
        ("7-4=3;3+9=13;3+9=12;12-1=11", [True, False, True, True]),
        ("7-4=2;2+9=12;12-1=11", [False, False, True]),  # the right number from a wrong one, and what is true after it
        ("7-4=3;3-9=-6", [True, False]),  # the wrong term
        ("7-4=3;nonsense;3+9=12", [True, False, True]),
        ("7-4=3;;3+9=12", [True, True]),
        ("7-4=3;3+9=12;12-1=11;11-1=10", [True, True, True, False]),  # one step too many
        ("", []),
        ("7-4", [False]),
    ],
)
def test_truth_of_steps(response, truth):
    assert step_truth("7-4+9-1", response) == truth


def test_spans_leave_the_marks_out():
    text = "a=1;;b=2;"
    assert [text[start:end] for start, end in step_spans(text)] == ["a=1", "b=2"]


def test_demonstrations_have_the_planted_errors():
    world = FaultyChains(wrong=0.2, corrected=0.5)
    batch = world.demonstrations(400, 0)
    steps = sum(len(own) for own in batch.extras["true"])
    flawed = [own for own in batch.extras["true"] if False in own]
    recovered = [own for own in flawed if own[-1]]
    assert 0.1 < sum(own.count(False) for own in batch.extras["true"]) / steps < 0.6
    assert 0.2 < len(recovered) / len(flawed) < 0.6
    for prompt, response, own in zip(batch.prompts, batch.responses, batch.extras["true"], strict=True):
        last = int(response.rsplit("=", 1)[1])
        assert not own[-1] or last == solve(prompt[:-1])[-1]  # two errors may cancel: a right number, by luck
    assert world.demonstrations(5, 0).responses == world.demonstrations(5, 0).responses
    sound = FaultyChains(wrong=0.0).demonstrations(50, 0)
    assert all(all(own) for own in sound.extras["true"])


def test_questions_have_five_to_eight_steps():
    lengths = {len(own) for own in FaultyChains(wrong=0.0).demonstrations(100, 1).extras["true"]}
    assert lengths == {5, 6, 7, 8}


@pytest.mark.parametrize("settings", [{"wrong": 1.5}, {"corrected": -0.1}])
def test_shares_are_shares(settings):
    with pytest.raises(UserError):
        FaultyChains(**settings)


def test_large_chains_have_one_wrong_step_at_most():
    batch = large_chains(200, 3)
    errors = batch.extras["first_error"]
    assert sum(error >= 0 for error in errors) == 100
    texts, truth = each_step(batch)
    place = 0
    for error, spans in zip(errors, batch.segments, strict=True):
        assert 5 <= len(spans) <= 8
        total = None
        for number in range(len(spans)):
            left, result = texts[place].split("=")
            assert truth[place] == (sum(solve(left)[-1:]) == int(result)) == (number != error)
            assert 1 <= int(result) <= 99999
            if total is not None:
                assert left.startswith(total)
            total = result
            place += 1
    assert large_chains(3, 3).responses == large_chains(3, 3).responses != large_chains(3, 4).responses


def test_an_error_keeps_the_number_of_digits():
    draw = random.Random(0)
    steps, truth = each_step(large_chains(100, draw.randrange(100), flawed=1.0))
    for step, right in zip(steps, truth, strict=True):
        left, result = step.split("=")
        if not right:
            true = str(solve(left)[-1])
            assert len(true) == len(result)
            assert sum(a != b for a, b in zip(true, result, strict=True)) == 1
