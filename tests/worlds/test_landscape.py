"""Landscapes: scores by the slow obvious sum, a judge whose noise belongs to the comparison, edits of the asked slots only."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from plaudit.search.proposing import Ask
from plaudit.types import Batch, Budget
from plaudit.worlds.landscape import LandscapeJudge, Landscapes, SlotProposer, normal

WORLD = Landscapes(3, levels=3, slots=3, options=4, seed=5)


def slow_score(world, number, state):
    unary, up, inside = world.tables
    total = 0.0
    for level in range(world.levels):
        here = state[level * world.slots : (level + 1) * world.slots]
        above = state[(level - 1) * world.slots : level * world.slots]
        value = sum(0.5 * unary[number, level, slot, here[slot]] for slot in range(world.slots))
        if level:
            value += sum(up[number, level - 1, slot, above[slot], here[slot]] for slot in range(world.slots))
        for pair, (left, right) in enumerate(itertools.combinations(range(world.slots), 2)):
            value += 0.5 * inside[number, level, pair, here[left], here[right]]
        total += world.decay**level * value
    return total


def test_scores_are_the_obvious_sum():
    draw = np.random.default_rng(0)
    numbers = draw.integers(3, size=40).tolist()
    states = [tuple(row) for row in draw.integers(4, size=(40, 9)).tolist()]
    expected = [slow_score(WORLD, number, state) for number, state in zip(numbers, states, strict=True)]
    assert WORLD.scores(numbers, states) == pytest.approx(expected)


def test_the_seed_decides_tables_and_starts():
    assert Landscapes(3, levels=3, slots=3, options=4, seed=5).starts() == WORLD.starts()
    assert Landscapes(3, levels=3, slots=3, options=4, seed=6).starts() != WORLD.starts()
    assert np.array_equal(Landscapes(3, levels=3, slots=3, options=4, seed=5).tables[0], WORLD.tables[0])


def test_normal_numbers_are_normal_and_of_their_seed():
    numbers = normal(range(20_000))
    assert kstest(numbers, "norm").pvalue > 1e-3
    assert normal([7, 3])[1] == normal([3])[0] == numbers[3]
    assert abs(np.corrcoef(numbers, normal(range(20_000), salt=1))[0, 1]) < 0.03
    assert abs(np.corrcoef(numbers[1:], numbers[:-1])[0, 1]) < 0.03


def pair_batch(states, seeds):
    return Batch([{"landscape": 0}] * len(states), states, extras={"seed": seeds})


def test_the_judge_prefers_the_better_state_but_for_its_lean():
    states = WORLD.starts()[:1] * 2 + [tuple([0] * 9), tuple([1] * 9)]
    batch = pair_batch(states, [1, 1, 2, 2])
    better = WORLD.scores([0], [states[3]])[0] > WORLD.scores([0], [states[2]])[0] + 0.1
    judge, budget = LandscapeJudge(WORLD), Budget()
    prob = judge.compare(batch, torch.tensor([0, 2]), torch.tensor([1, 3])).prob
    assert prob[0] == 1.0  # equal states: the first shown
    assert (prob[1] == 0.0) == better
    assert not budget.spent


def test_noise_belongs_to_the_comparison_not_to_its_company():
    states = [tuple(row) for row in np.random.default_rng(1).integers(4, size=(200, 9)).tolist()]
    seeds = [row // 2 for row in range(200)]
    judge = LandscapeJudge(WORLD, noise=5.0)
    first = torch.arange(0, 200, 2)
    together = judge.compare(pair_batch(states, seeds), first, first + 1).prob
    alone = judge.compare(pair_batch(states[40:42], seeds[40:42]), torch.tensor([0]), torch.tensor([1])).prob
    assert alone[0] == together[20]
    other = LandscapeJudge(WORLD, noise=5.0, voter=1).compare(pair_batch(states, seeds), first, first + 1).prob
    assert 0.2 < (other != together).float().mean() < 0.8


@pytest.mark.parametrize("seed", range(20))
def test_proposals_change_one_slot_of_the_level_or_copy_half_of_them(seed):
    proposer, state = SlotProposer(WORLD), WORLD.starts()[0]
    draft = proposer.propose([Ask(0, state, WORLD.level(1), seed=seed)], budget=Budget())[0]
    changed = [slot for slot in range(9) if draft[slot] != state[slot]]
    assert len(changed) == 1
    assert changed[0] in WORLD.level(1)
    donor = tuple((option + 1) % 4 for option in state)
    mixed = proposer.propose([Ask(0, state, WORLD.all_slots, optima=(donor,), seed=seed)], budget=Budget())[0]
    assert sum(mixed[slot] == donor[slot] for slot in range(9)) == 4
