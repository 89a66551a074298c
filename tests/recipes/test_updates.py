"""`improve`: a policy that learns what is asked, the same twice, and counts what took no part."""

import torch

from plaudit.fitting import FitConfig
from plaudit.objectives.policy_gradient import grpo
from plaudit.recipes.base import Arm
from plaudit.recipes.updates import Updates, improve
from plaudit.rewards.base import BaseReward
from plaudit.types import Budget, Scores
from plaudit.worlds.dimensions import HiddenDimensions

WORLD = HiddenDimensions()


class FirstNumber(BaseReward):
    name = "first number"
    missing = 0

    def score(self, batch, ctx=None):
        values = batch.extras["latent"][:, 0].clone()
        values[: self.missing] = torch.nan
        return Scores(values)


def trained(missing=0, **settings):
    reward = FirstNumber()
    reward.missing = missing
    arm, budget, seen = Arm(WORLD.base(), reward, grpo()), Budget(), []
    plan = Updates(15, lambda seed: WORLD.prompts("train", 4, seed), 8, fit=FitConfig(learning_rate=1e-2), **settings)
    counted = improve(arm, plan, 7, budget=budget, on_update=lambda done, lesson: seen.append((done, lesson and len(lesson))))
    test = arm.generator.rollout(WORLD.prompts("test", 50, 0), 1, seed=0).batch.extras["latent"]
    return test, counted, budget, seen


def test_it_learns_repeats_and_counts():
    first, counted, budget, seen = trained()
    again, *_ = trained()
    assert torch.equal(first, again)
    assert float(first[:, 0].mean()) > 1.0
    assert float(first[:, 1].mean()) < 0.8
    assert seen == [(0, None), *((number, 32) for number in range(1, 16))]
    assert budget.spent["completion_tokens"] == 15 * 32
    assert budget.spent["reward_calls"] == 15 * 32
    assert counted["rows_invalid"] == 0


def test_rows_without_a_score_take_no_part():
    found, counted, _, _ = trained(missing=8)
    assert counted["rows_invalid"] == 15 * 8
    assert float(found[:, 0].mean()) > 0.5


def test_several_steps_a_draw():
    one, *_ = trained()
    more, *_ = trained(epochs=2, per_draw=2)
    assert float(more[:, 0].mean()) > float(one[:, 0].mean())


def test_a_draw_without_anything_to_learn_makes_no_step():
    start = WORLD.base().rollout(WORLD.prompts("test", 50, 0), 1, seed=0).batch.extras["latent"]
    found, counted, _, _ = trained(missing=32)
    assert torch.equal(found, start)
    assert counted["rows_invalid"] == 15 * 32


def test_calls_that_a_reward_counts_itself_are_not_counted_twice():
    class Counting(FirstNumber):
        def score(self, batch, ctx=None):
            ctx.budget.spend(reward_calls=2 * len(batch))
            return super().score(batch)

    budget, plan = Budget(), Updates(2, lambda seed: WORLD.prompts("train", 4, seed), 8)
    improve(Arm(WORLD.base(), Counting(), grpo()), plan, 7, budget=budget)
    assert budget.spent["reward_calls"] == 2 * 2 * 32
