"""13 · RAFT: sample K, keep the best by reward, fine-tune on it, repeat.

New part: `plaudit.objectives.filtering`. World: `plaudit.worlds.arithmetic`, sums that a small decoder learned from data with
wrong answers; the reward is 1 for a right answer less 0.01 a character.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from plaudit.fitting import FitConfig, derive_seed
from plaudit.recipes.base import Arm, Check, Figures, Published, Recipe, RecipeConfig, check_mean, check_seeds, figure_over_seeds
from plaudit.recipes.updates import Updates, improve
from plaudit.rewards.base import BaseReward
from plaudit.types import Batch, Budget, Generator, Lesson, Scores

if TYPE_CHECKING:
    from plaudit.worlds.arithmetic import ArithmeticWorld

Points = list[tuple[float, float]]
SOURCE = "Dong et al. 2023, RAFT"


@dataclass(frozen=True)
class Config(RecipeConfig):
    """prompts: of a stage. epochs, batch: of fine-tuning a stage (rows kept). grpo_batch: prompts of a GRPO update."""

    level: str = "start"
    kept: tuple[int, ...] = (1, 4, 16)
    stages: int = 6
    prompts: int = 256
    epochs: int = 2
    batch: int = 32
    learning_rate: float = 3e-4
    grpo_batch: int = 16
    held_out: int = 300
    length_cost: float = 0.01


def world_of(config: Config) -> ArithmeticWorld:  # noqa: ARG001
    """Sums and differences of two numbers of one digit."""
    from plaudit.worlds.arithmetic import ArithmeticWorld

    return ArithmeticWorld("chain_sum", terms=(2, 2), digits=(1, 1), wrong=0.3)


def reward_of(config: Config, world: ArithmeticWorld) -> BaseReward:
    """Right or wrong, less the cost of length."""
    from plaudit.rewards.algebra import WeightedSum
    from plaudit.rewards.rules import as_reward

    def characters(response: str) -> float:
        return float(len(response))

    return WeightedSum({"right": (1.0, world.truth), "length": (-config.length_cost, as_reward(characters))})


def arms(config: Config, world: ArithmeticWorld, seed: int) -> dict[str, tuple[Arm, Updates]]:
    """RAFT with each K, best-of-K once instead of in stages, and GRPO, the last three with equally many samples."""
    from plaudit.objectives.filtering import FilteredFit
    from plaudit.objectives.policy_gradient import grpo

    most, reward = max(config.kept), reward_of(config, world)

    def prompts(count: int) -> Callable[[int], Batch]:
        return lambda drawn: world.prompts("train", count, drawn)

    def updates(count: int, each: int, samples: int, epochs: int, batch: int) -> Updates:
        fit = FitConfig(learning_rate=config.learning_rate)
        return Updates(count, prompts(each), samples, world.sampling, fit, epochs, per_draw=-(-each // batch))

    def start(objective: object) -> Arm:
        return Arm(world.base(config.level, seed), reward, objective)

    found = {
        f"raft K={k}": (start(FilteredFit()), updates(config.stages, config.prompts, k, config.epochs, config.batch))
        for k in config.kept
    }
    all_prompts = config.stages * config.prompts
    found["one shot"] = (start(FilteredFit()), updates(1, all_prompts, most, config.epochs, config.batch))
    found["grpo"] = (start(grpo()), updates(all_prompts // config.grpo_batch, config.grpo_batch, most, 1, config.grpo_batch))
    return found


def measure(config: Config, world: ArithmeticWorld, reward: BaseReward, policy: Generator, seed: int) -> dict[str, float]:
    """On held-out prompts: mean reward of a sample each, perplexity of the right answers, distinct-2 of the samples."""
    import torch

    prompts = world.prompts("test", config.held_out, seed)
    drawn = policy.rollout(prompts, 1, how=world.sampling, seed=derive_seed(seed, "held out"))
    right = Batch(prompts.prompts, responses=list(prompts.references or ()))
    with torch.no_grad():
        taught = policy.encode(right, seed=0)
    texts = [str(response) for response in drawn.batch.responses or ()]
    pairs = [text[place : place + 2] for text in texts for place in range(len(text) - 1)]
    cost = -float(taught.log_probs[taught.mask].mean())
    return {
        "reward": mean_score(reward.score(drawn.batch)),
        "perplexity": math.exp(cost),
        "distinct-2": len(set(pairs)) / len(pairs) if pairs else math.nan,
    }


def mean_score(scores: Scores) -> float:
    """Mean over usable rows; NaN without any."""
    return float(scores.values[scores.ok].mean()) if bool(scores.ok.any()) else math.nan


def at_level(reward: Points, other: Points, level: float) -> float | None:
    """`other` where the reward's curve first reaches the level, linear between points; None where it never does."""
    if reward[0][1] >= level:
        return other[0][1]
    for ((_, low), (_, high)), ((_, before), (_, after)) in zip(pairwise(reward), pairwise(other), strict=True):
        if high >= level:
            return before + (level - low) / (high - low) * (after - before)
    return None


def run(config: Config, seed: int) -> Figures:
    """All arms from one start model, measured after each stage (GRPO: after equally many samples)."""
    world, budget = world_of(config), Budget()
    reward = reward_of(config, world)
    values: dict[str, float | None] = {}
    curves: dict[str, Points] = {}
    for name, (arm, updates) in arms(config, world, seed).items():
        every = max(1, updates.count // config.stages)
        seen: dict[str, Points] = {"reward": [], "perplexity": [], "distinct-2": []}

        def watch(number: int, lesson: Lesson | None, arm: Arm = arm, every: int = every, seen: dict[str, Points] = seen) -> None:  # noqa: ARG001
            if number % every == 0:
                for figure, value in measure(config, world, reward, arm.generator, seed).items():
                    seen[figure].append((number / every, value))

        improve(arm, updates, seed, budget=budget, on_update=watch)
        for figure, points in seen.items():
            values[f"{name}/{figure}"] = points[-1][1]
            curves[f"held-out {figure}, by stage: {name}"] = points
    best = f"raft K={max(config.kept)}"
    values["start/reward"] = curves[f"held-out reward, by stage: {best}"][0][1]
    rewards, costs = ({n: curves[f"held-out {f}, by stage: {n}"] for n in (best, "grpo")} for f in ("reward", "perplexity"))
    level = min(max(y for _, y in curve) for curve in rewards.values())
    values |= {f"matched/{n.split()[0]}": at_level(rewards[n], costs[n], level) for n in rewards}
    return Figures(seed, values, curves=curves, budget=dict(budget.spent))


def check(figures: Sequence[Figures]) -> list[Check]:
    """Reward rises, more candidates are better, stages beat one shot; perplexity beside that of GRPO is expected to be close."""
    names = [f"raft K={k}" for k in Config.kept]
    ends = {name: figure_over_seeds(figures, f"{name}/reward") for name in (*names, "one shot", "grpo")}
    steps = [[one.difference(f"{b}/reward", f"{a}/reward") for a, b in pairwise(names)] for one in figures]
    smallest = [None if None in pair else min(pair) for pair in steps]  # type: ignore[type-var]
    best = names[-1]
    matched = {name: figure_over_seeds(figures, f"matched/{name}") for name in ("raft", "grpo")}
    return [
        check_seeds("(a) reward rises", f"held-out reward of {best}, end minus start",
                    [one.difference(f"{best}/reward", "start/reward") for one in figures], ">", 0.0, share=1.0, beside=ends),
        check_mean("(b) more candidates", "the smaller of the two steps K = 1 to 4 and 4 to 16 in held-out reward",
                   smallest, ">", 0.0),
        check_mean("(c) stages", f"held-out reward of {best} minus one shot with as many samples",
                   [one.difference(f"{best}/reward", "one shot/reward") for one in figures], ">", 0.0),
        check_seeds("(d) perplexity", "perplexity of right answers at matched reward, RAFT minus GRPO (the card: may fail)",
                    [one.difference("matched/raft", "matched/grpo") for one in figures], "<=", 0.0, share=2 / 3, beside=matched),
    ]  # fmt: skip


RECIPE = Recipe(
    13,
    "raft",
    "Sample K, keep the best by reward, fine-tune on it, repeat.",
    Config,
    run,
    check,
    (
        Published("LLaMA-7B after SFT, HH-RLHF", "reward", 0.772, ours="start/reward"),
        Published("RAFT, K = 32, HH-RLHF", "reward", 2.294, ours="raft K=16/reward"),
        Published("PPO, HH-RLHF", "reward", 2.077, ours="grpo/reward"),
        Published("RAFT, K = 32, HH-RLHF", "perplexity", 4.031, ours="raft K=16/perplexity"),
        Published("PPO, HH-RLHF", "perplexity", 4.156, ours="grpo/perplexity"),
    ),
    source=SOURCE,
    needs={"accelerate": "train", "reasoning_gym": "worlds"},
    notes=(
        "The reinforcement learning baseline is GRPO with as many samples as RAFT with the largest K.",
        "Held-out questions are a tenth of the 200 sums there are: figures differ much between seeds.",
    ),
)
