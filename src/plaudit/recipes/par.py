"""55 · PAR: reward shaped into the probability of beating a reference answer, so that a policy hacks it less.

New part: `plaudit.rewards.shaping`. World: `plaudit.worlds.strings`, whose learned reward mistakes exclamation marks for quality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plaudit.fitting import FitConfig, derive_seed
from plaudit.recipes.base import (
    Arm,
    Check,
    Figures,
    Published,
    Recipe,
    RecipeConfig,
    as_premise,
    check_mean,
    check_seeds,
    figure_over_seeds,
)
from plaudit.recipes.updates import Updates, improve
from plaudit.types import Budget, Generator, Lesson, Reward

if TYPE_CHECKING:
    from plaudit.rewards.base import Shaper
    from plaudit.worlds.proxy import ProxyReward
    from plaudit.worlds.strings import StringWorld

Points = list[tuple[float, float]]
ARMS = ("none", "meanstd", "minmax", "par, 1 reference", "par, 10 references", "slow growth")
ONE, TEN = ARMS[3:5]


@dataclass(frozen=True)
class Config(RecipeConfig):
    """pairs: that the learned reward is fitted to. batch: strings of an update, one a prompt. kl: coefficient, in the reward."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    pairs: int = 600
    updates: int = 150
    batch: int = 64
    kl: float = 0.005
    learning_rate: float = 3e-4
    critic_rate: float = 1e-3
    references: int = 10
    held_out: int = 256
    measured: int = 15


def shapers(config: Config, world: StringWorld, proxy: ProxyReward, start: Generator, seed: int) -> dict[str, Shaper]:
    """The compared shapers, by the names of the arms; none has a length guard, as all strings are of one length."""
    from plaudit.rewards.shaping import ReferenceRewards, meanstd, minmax, no_shaping, par, slow_growth

    drawn = derive_seed(seed, "references")
    one = ReferenceRewards(proxy, start, m=1, how=world.sampling, seed=drawn)
    ten = ReferenceRewards(proxy, start, m=config.references, how=world.sampling, seed=drawn)
    return dict(zip(ARMS, (no_shaping(), meanstd(), minmax(), par(one), par(ten), slow_growth(one)), strict=True))


def arms(config: Config, world: StringWorld, seed: int) -> dict[str, Arm]:
    """PPO with a critic of its own against the learned reward, shaped in each way; all from the same start."""
    from plaudit.objectives.policy_gradient import build_critic, ppo

    proxy = world.proxy(seed, pairs=config.pairs)
    found = {}
    for name, shaper in shapers(config, world, proxy, world.base(seed=seed), seed).items():
        start = world.base(seed=seed)
        objective = ppo(build_critic(start), kl=config.kl, advantage={"returns": "reward_to_go"})
        found[name] = Arm(start, proxy.shaped(shaper), objective)
    return found


def train_arm(config: Config, world: StringWorld, arm: Arm, proxy: Reward, seed: int, budget: Budget) -> dict[str, Points]:
    """(update, mean on held-out prompts) of the truth, of the raw learned reward, and of exclamation marks."""
    prompts = world.prompts("test", config.held_out, seed)
    curves: dict[str, Points] = {"gold reward": [], "raw learned reward": [], "exclamation marks": []}
    every = max(1, config.updates // config.measured)

    def watch(number: int, lesson: Lesson | None) -> None:  # noqa: ARG001
        if number % every == 0 or number == config.updates:
            drawn = arm.generator.rollout(prompts, 1, how=world.sampling, seed=derive_seed(seed, "held out")).batch
            marks = sum(str(text).count("!") for text in drawn.responses or ()) / len(drawn)
            seen = (float(world.truth.score(drawn).values.mean()), float(proxy.score(drawn).values.mean()), marks)
            for points, value in zip(curves.values(), seen, strict=True):
                points.append((number, value))

    fit = FitConfig(learning_rate=config.learning_rate, learning_rates={"critic": config.critic_rate})
    updates = Updates(config.updates, lambda drawn: world.prompts("train", config.batch, drawn), how=world.sampling, fit=fit)
    improve(arm, updates, seed, budget=budget, reference=world.base(seed=seed), on_update=watch)
    return curves


def run(config: Config, seed: int) -> Figures:
    """Every shaper with the same start model, learned reward, prompts and seeds."""
    from plaudit.worlds.strings import StringWorld

    world, budget = StringWorld(secret_seed=seed), Budget()
    proxy = world.proxy(seed, pairs=config.pairs)
    values: dict[str, float | None] = {}
    curves: dict[str, Points] = {}
    for name, arm in arms(config, world, seed).items():
        found = train_arm(config, world, arm, proxy, seed, budget)
        gold = [y for _, y in found["gold reward"]]
        values |= {f"{name}/end": gold[-1], f"{name}/drop": max(gold) - gold[-1], f"{name}/rise": max(gold) - gold[0]}
        values[f"{name}/raw"] = found["raw learned reward"][-1][1]
        curves |= {f"{panel}: {name}": points for panel, points in found.items()}
    return Figures(seed, values, curves=curves, budget=dict(budget.spent))


def check(figures: Sequence[Figures]) -> list[Check]:
    """The premise (the raw reward is hacked), then (a) to (c) of the card, with (b) and (c) on means over seeds."""
    ends = {name: figure_over_seeds(figures, f"{name}/end") for name in ARMS}
    drops = {name: figure_over_seeds(figures, f"{name}/drop") for name in ARMS}

    def margin(one: Figures, factor: float, of: str, *, less: float | None) -> float | None:
        value = one[of]
        return None if value is None or less is None else factor * value - less

    hacked = [margin(one, 1.0, "none/drop", less=_times(0.1, one["none/rise"])) for one in figures]
    halved = [margin(one, 0.5, "none/drop", less=one[f"{ONE}/drop"]) for one in figures]
    gap = [_size(one.difference(f"{ONE}/end", f"{TEN}/end")) for one in figures]
    room = [_times(0.5, _size(one.difference(f"{TEN}/end", "none/end"))) for one in figures]
    alike = [None if a is None or b is None else b - a for a, b in zip(gap, room, strict=True)]
    gains = [one.difference(f"{ONE}/end", "none/end") for one in figures]
    return [
        as_premise(check_mean("premise", "drop of the gold reward without shaping, less 10 % of its rise", hacked, ">=", 0.0,
                              beside=drops)),
        check_seeds("(a) end", "gold reward at the end, PAR with one reference minus no shaping", gains, ">", 0.0,
                    share=4 / 5, beside=ends),
        check_mean("(b) drop", "half of the drop without shaping, less the drop with PAR", halved, ">=", 0.0),
        check_mean("(c) one reference", "half of the gap between PAR with ten and none, less that between PAR with one and ten",
                   alike, ">=", 0.0),
    ]  # fmt: skip


def _times(factor: float, value: float | None) -> float | None:
    return None if value is None else factor * value


def _size(value: float | None) -> float | None:
    return None if value is None else abs(value)


RECIPE = Recipe(
    55,
    "par",
    "Reward shaped into the probability of beating a reference answer.",
    Config,
    run,
    check,
    (Published("PAR against the best other shaper, Gemma2-2B", "AlpacaEval 2.0 win rate, margin (at least)", 5.0, "points"),),
    source="Fu et al. 2025, arXiv 2502.18770",
    needs={"accelerate": "train", "reasoning_gym": "worlds"},
    notes=(
        "PPO with a critic of its own; returns are plain rewards to go, as in the released code.",
        "150 updates instead of the 400 that the card estimates, so that five seeds of six arms fit into half an hour.",
        "The world was chosen by the arm without shaping and the learned reward alone, before any shaper ran. Head on the "
        "mean of the states, 4 epochs: gold rises from 4.4 to 8.7, nothing is hacked (a mean is bounded: more of a sign "
        "gains little). Head on the sum, trunk frozen: the policy repeats one letter from update 40 on, after a rise of 0.5."
        " Head on the sum, pairs drawn freely: letters of many pairs are hacked (gold 8.0, then 0.8, and 5.7 after 200 "
        "updates). Taken: head on the sum, one epoch of batches of 32 pairs (the card's step 1), no letter begins or ends "
        "two secret pairs, at most one mark in a good string. There marks are hacked, in both seeds that were looked at "
        "(gold 6.3 to -3.0, and 6.4 to -15.5).",
        "Half of the data is good, where the card has random strings: those hold 0.35 secret pairs each, too few to learn from.",
    ),
    arms=arms,
)
