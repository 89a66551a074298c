"""`@plaudit.reward`: options, coroutines, and functions of whole batches."""

import asyncio

import pytest

import plaudit
from plaudit.rewards.rules.waiting import await_all
from plaudit.rewards.scoring import score_batch
from plaudit.types import Batch, Context, SpecError, Status


def batch(*responses, **columns):
    return Batch(["p"] * len(responses), list(responses), **columns)


def test_options_of_the_decorator():
    @plaudit.reward(name="errors", higher_is_better=False)
    def count_errors(response):
        return response.count("x")

    assert (count_errors.name, count_errors.higher_is_better) == ("errors", False)
    assert count_errors("axx") == 2
    assert count_errors.score(batch("x", "")).values.tolist() == [1, 0]
    assert score_batch(count_errors, batch("x", ""), Context()).scores.values.tolist() == [-1, 0]
    assert count_errors.compare(batch("x", ""), rows(0), rows(1)).prob.item() < 0.5


def rows(*numbers):
    import torch

    return torch.tensor(numbers)


def test_coroutines_wait_together_but_not_too_many():
    under_way, most = 0, 0

    @plaudit.reward(at_once=3, settings={})
    async def ask(response, reference=None):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001)
        under_way -= 1
        if response == "bad":
            raise ValueError("no")
        return None if response == "silent" else len(response) + (reference or 0)

    scores = ask.score(batch("a", "bad", "silent", "bbbb", "cc", "dd", "ee", references=[1, 1, 1, None, 0, 0, 0]))
    assert most == 3
    assert scores.values[[0, 3, 4, 5, 6]].tolist() == [2, 4, 2, 2, 2]
    assert [Status(code) for code in scores.status[1:3].tolist()] == [Status.FAILED, Status.ABSTAINED]
    assert scores.verdicts[1][0].detail == "ValueError: no"


def test_coroutines_below_a_running_loop():
    @plaudit.reward
    async def length(response):
        return len(response)

    async def notebook():
        return length.score(batch("abc")).values.tolist()

    assert asyncio.run(notebook()) == [3]


def test_nothing_to_wait_for():
    assert await_all(None, [], 1) == []
    with pytest.raises(SpecError, match="at least one row"):
        plaudit.as_reward(len, at_once=0, settings={})


def test_a_function_of_whole_batches():
    asked = []

    @plaudit.reward(batched=True, settings={})
    def lengths(response, prompt, reference=None):
        asked.append((response, prompt, reference))
        return [len(text) if text else None for text in response]

    scores = lengths.score(batch("ab", 7, "", "abcd", references=[1, 2, 3, None]))
    assert asked == [(["ab", "", "abcd"], ["p"] * 3, [1, 3, None])]
    assert scores.values[[0, 3]].tolist() == [2, 4]
    assert [Status(code) for code in scores.status[1:3].tolist()] == [Status.NOT_APPLICABLE, Status.ABSTAINED]


def test_an_error_in_a_batch_costs_only_the_rows_that_raise_alone():
    @plaudit.reward(batched=True, settings={})
    def inverse(response):
        return [1 / len(text) for text in response]

    scored = score_batch(inverse, batch("ab", "", "abcd"), Context())
    assert scored.scores.values[[0, 2]].tolist() == [0.5, 0.25]
    assert scored.scores.counts() == {Status.OK: 2, Status.FAILED: 1}
    assert "ZeroDivisionError" in scored.errors[0]


def test_a_batch_answered_for_too_few_rows():
    short = plaudit.as_reward(lambda response: [1.0], name="short", batched=True, settings={})
    with pytest.raises(ValueError, match="given 2 responses and answered about 1"):
        short.score(batch("a", "b"))


def test_an_asynchronous_function_of_whole_batches():
    @plaudit.reward(batched=True)
    async def lengths(response):
        await asyncio.sleep(0)
        return [len(text) for text in response]

    assert lengths.score(batch("a", "bb")).values.tolist() == [1, 2]
    assert lengths.score(Batch([], [])).values.tolist() == []
