"""Written sums: right and corrupted steps, splits, what is read off solutions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.types import Batch
from plaudit.worlds.chain_reading import auroc, chain_reader, early_part, final_answer, partial_auroc, shuffled_labels
from plaudit.worlds.chains import ChainWorld, written_steps


@given(st.integers(0, 9), st.lists(st.tuples(st.sampled_from("+-"), st.integers(0, 9)), min_size=1, max_size=8), st.data())
def test_steps_are_those_of_python(first, rest, data):
    chain = f"{first}" + "".join(f"{sign}{digit}" for sign, digit in rest)
    steps = written_steps(chain)
    assert int(steps[-1].split("=")[1]) == eval(chain)
    assert all(holds(step) for step in steps)
    at, error = data.draw(st.integers(0, len(rest) - 1)), data.draw(st.sampled_from([-9, -1, 2]))
    wrong = written_steps(chain, wrong_step=at, error=error)
    assert wrong[:at] == steps[:at]
    assert int(wrong[-1].split("=")[1]) == eval(chain) + error, "the error is carried to the end"
    assert [holds(step) for step in wrong].count(False) == 1, "one step alone is wrong"


def holds(step):
    left, _, right = step.partition("=")
    return eval(left) == int(right)


@pytest.mark.parametrize("chain", ["", "4", "4+", "4*2", "4+-2", "4+2="])
def test_what_is_no_chain(chain):
    with pytest.raises(ValueError, match="no chain"):
        written_steps(chain)


def test_pairs_and_splits():
    world = ChainWorld()
    batch, preferences = world.pairs("test", 40, seed=1)
    assert len(batch) == 80
    assert preferences.prob.tolist() == [1.0] * 40
    right = world.truth.score(batch).values
    assert right[0::2].tolist() == [1.0] * 40
    assert right[1::2].tolist() == [0.0] * 40, "an error is never undone"
    solve = world.exact()
    for row in range(0, 80, 2):
        chosen, rejected, at = batch.responses[row], batch.responses[row + 1], batch.extras["wrong_from"][row + 1]
        assert chosen == solve(batch.prompts[row])
        assert chosen[:at] == rejected[:at]
        assert chosen != rejected
    assert not set(batch.prompts) & set(world.prompts("train", 200, 1).prompts)
    assert world.pairs("test", 40, seed=1)[0].responses == batch.responses != world.pairs("test", 40, seed=2)[0].responses


def test_the_first_part_holds_the_corrupted_result():
    batch, _ = ChainWorld().pairs("test", 30, seed=0)
    ends, inside = early_part(batch, 0.6)
    for row in range(0, 60, 2):
        assert inside[row] == inside[row + 1]
        assert ends[row] == int(0.6 * len(batch.responses[row]))
        at = batch.extras["wrong_from"][row + 1]
        assert inside[row] == (at < ends[row + 1])
        assert holds(batch.responses[row + 1].split(";")[0]) or at < 5, "a result is wrong from where it is said to be"


def test_partial_auroc_of_a_value_that_knows_what_is_wrong():
    batch, _ = ChainWorld().pairs("test", 30, seed=0)
    longest = max(map(len, batch.responses))
    known = torch.ones(60, longest)
    for row, at in enumerate(batch.extras["wrong_from"]):
        if at >= 0:
            known[row, at:] = 0.0
    assert partial_auroc(known, batch) == 1.0
    assert partial_auroc(1 - known, batch) == 0.0
    assert partial_auroc(torch.ones(60, longest), batch) == 0.5


def test_readings():
    assert final_answer("7-9=-2;-2+4=2") == "2"
    assert final_answer("7-9=-2") == "-2"
    assert final_answer("7-9=-2;-2+4=") is None
    assert final_answer("") is None
    assert auroc([3.0, 2.0, 1.0], [True, True, False]) == 1.0
    assert auroc([1.0, 1.0], [True, False]) == 0.5
    assert math.isnan(auroc([1.0], [True]))
    assert math.isnan(auroc([], []))
    batch, preferences = ChainWorld().pairs("train", 400, seed=0)
    mixed = shuffled_labels(preferences, 1)
    assert 0.4 < mixed.prob.mean().item() < 0.6
    assert torch.equal(mixed.first, preferences.first)
    reader = chain_reader(ChainWorld(), None)
    assert int(reader.status(batch).sum()) == 0
    assert reader.rows(Batch(["1+2="], ["1+2=3"]))[1] == [5]
