"""Sums of digits, and those who judge them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.curation.judging_items import JudgingItem
from plaudit.rewards.base import BaseReward
from plaudit.rewards.generative.judging_prompts import VerdictReward, judging_prompts
from plaudit.rewards.generative.parsing import parse
from plaudit.types import Batch, Scores, Status
from plaudit.worlds.digit_judges import final_scores, right_above_wrong, untrained_scalar
from plaudit.worlds.digit_sums import Checker, DigitSums, LastDigit, final_digit, right_share, running_sums, solver_series

WORLD = DigitSums()


@given(st.text("0123456789", min_size=1, max_size=9))
def test_running_sums(digits):
    found = running_sums(digits)
    assert [int(one) for one in found] == [sum(map(int, digits[: place + 1])) % 10 for place in range(len(digits))]


def test_errors_are_carried_on():
    assert running_sums("1111") == "1234"
    assert running_sums("1111", [0, 5, 0]) == "1289"


def test_prompts_of_splits_share_nothing():
    splits = {split: set(WORLD.prompts(split, 50, 1).prompts) for split in ("train", "test", "validation")}
    assert not splits["train"] & splits["test"]
    assert WORLD.prompts("test", 5, 1).prompts == WORLD.prompts("test", 5, 1).prompts != WORLD.prompts("test", 5, 2).prompts


def test_demonstrations_are_right_and_fit_the_decoder():
    batch = WORLD.demonstrations(20, 0)
    assert WORLD.truth.score(batch).values.tolist() == [1.0] * 20
    assert WORLD.exact()(batch.prompts[0]) == batch.responses[0]
    asked = judging_prompts(WORLD.contract, Batch(batch.prompts, ["7"] * 20), [1.0] * 20)
    longest = max(len(WORLD.untrained(0).encode_prompt(prompt)) for prompt in asked.prompts)
    assert longest + WORLD.judging.max_tokens <= WORLD.decoder.context


def test_the_last_digit_counts():
    batch = Batch(["1+"] * 4, ["123", "12 3", "12x", ""], references=["3"] * 4)
    assert LastDigit().score(batch).values.tolist() == [1.0, 1.0, 0.0, 0.0]
    assert LastDigit(unparsable=True).score(batch).status.tolist() == [0, 0, Status.UNPARSABLE, Status.UNPARSABLE]
    assert final_digit("²") is None


ITEMS = Batch(["123456="] * 2, ["9", "2"])


def test_a_checker_without_errors_is_always_right():
    asked = judging_prompts(WORLD.contract, ITEMS, [1.0, 0.0])
    said = Checker(wrong=0.0)(asked, 20, seed=3)
    assert VerdictReward(WORLD.contract).score(said).values.tolist() == [1.0] * 40
    assert {text.count(",") for text in said.responses} == {0, 1}
    assert said.responses[0].startswith("9025940")
    assert said.responses[20].startswith("2358273")
    assert said.groups.tolist() == [0] * 20 + [1] * 20
    with pytest.raises(ValueError, match="no question"):
        Checker()(Batch(["what?"]), 1, seed=0)


def test_errors_of_a_checker_cost_right_answers_more_than_wrong_ones():
    asked = judging_prompts(WORLD.contract, ITEMS, [1.0, 0.0])
    values = (
        VerdictReward(WORLD.contract).score(Checker(wrong=0.05, twice=0.0)(asked, 2000, seed=0)).values.reshape(2, -1).mean(1)
    )
    # six sums are right with 0.95 ** 6; errors add up to nothing in less than one in ten of the rest
    assert 0.95**6 - 0.03 < values[0] < 0.95**6 + 0.1 * (1 - 0.95**6) + 0.03
    assert values[1] > 0.95


@given(st.text("0123456789,>+- \n", max_size=12))
def test_the_contract_reads_nothing_that_is_not_there(text):
    parsed = parse(text, WORLD.contract.readout)
    if parsed.status is Status.OK:
        assert text.rstrip().endswith({"correct": ">+", "incorrect": ">-"}[parsed.label])


class Parity(BaseReward):
    """Even digits are right; 9 cannot be judged."""

    name, settings = "parity", {}

    def score(self, batch, ctx=None):
        digits = [int(text) for text in batch.responses]
        status = torch.tensor([Status.UNPARSABLE if digit == 9 else Status.OK for digit in digits])
        return Scores(torch.tensor([float(digit % 2 == 0) for digit in digits]), status)


def test_a_judge_of_final_digits_judges_whole_answers():
    scores = final_scores(Parity(), Batch(["1="] * 4, ["12", "no", "13", "19"]))
    assert scores.values[[0, 2]].tolist() == [1.0, 0.0]
    assert scores.status.tolist() == [Status.OK, Status.NOT_APPLICABLE, Status.OK, Status.UNPARSABLE]


def test_pairs_and_the_scalar_reward_on_a_solver():
    items = [JudgingItem("a", "12=", "3", 1, "s"), JudgingItem("a", "12=", "4", 0, "s"), JudgingItem("b", "11=", "2", 1, "s")]
    data = right_above_wrong(items, 4, seed=0)
    assert (data.preferences.first.tolist(), data.preferences.second.tolist()) == ([0], [1])
    base = WORLD.untrained(1)
    reward = untrained_scalar(WORLD, base, seed=0)
    mine = reward.decoder.causal_model.trunk.state_dict()
    assert all(torch.equal(value, mine[name]) for name, value in base.causal_model.trunk.state_dict().items())
    assert reward.score(data.batch).ok.all()


def test_a_series_keeps_a_copy_a_level():
    series = solver_series(WORLD, (0.0,), steps=8, every=4, rows=16, rate=3e-3, seed=0)
    assert set(series) == {0.0, 1.0}
    early, late = (series[level].causal_model.model.state_dict() for level in (0.0, 1.0))
    assert not all(torch.equal(value, late[name]) for name, value in early.items())
    assert 0.0 <= right_share(WORLD, series[1.0], WORLD.prompts("test", 20, 0), 1, 0) <= 1.0
