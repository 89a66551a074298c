"""58 · MRMBench: linear probes of what a reward model reads, one a dimension, and a distance that says when to distrust it.

New parts: `plaudit.trust.probes`, `plaudit.rewards.gated`. World: `plaudit.worlds.dimensions`, at the level of features: eleven
reward models of different data are probed, used for best-of-n, and one of them trains a policy with and without the gate.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from plaudit.fitting import FitConfig, derive_seed
from plaudit.recipes.base import Arm, Check, Figures, Published, Recipe, RecipeConfig, check_mean, check_seeds, figure_over_seeds
from plaudit.recipes.updates import Updates, improve
from plaudit.rewards.base import BaseReward
from plaudit.rewards.features import read_features
from plaudit.rewards.gated import DistanceGate, GatedReward
from plaudit.rewards.learned.vectors import VectorReward
from plaudit.rewards.random_drop import RandomDrop
from plaudit.trust.probes import ProbeTask, probe_features
from plaudit.types import Budget, Context, Generator, Lesson
from plaudit.worlds.dimensions import OBSERVED, WEIGHTS, HiddenDimensions

GRADED = ((200, 0.3), (200, 0.0), (500, 0.15), (1000, 0.3), (1000, 0.15), (2000, 0.15), (4000, 0.1), (8000, 0.0))
"""(pairs, label noise) of the models that know all dimensions; the last one is the full model of check (b)."""
MID = GRADED.index((1000, 0.15))
ABLATED = (0, 2, 4)
"""Dimensions that one model each, with the data of the full one, is not told about."""
ARMS = ("plain", "gated", "random drop")
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Config(RecipeConfig):
    """bottleneck, wide: units of the representation in the first and in the control world. batch: prompts an update."""

    bottleneck: int = 6
    wide: int = 32
    steps: int = 500
    probe_train: int = 3000
    probe_test: int = 1500
    prompts: int = 400
    candidates: int = 16
    quantile: float = 0.9
    updates: int = 200
    group: int = 8
    batch: int = 16
    learning_rate: float = 3e-3


def reward_models(config: Config, world: HiddenDimensions, seed: int) -> list[VectorReward]:
    """The eleven: eight that differ in data, and three without a dimension."""
    told: list[tuple[int, float, tuple[float, ...]]] = [(pairs, noise, WEIGHTS) for pairs, noise in GRADED]
    told += [(*GRADED[-1], tuple(0.0 if k == j else w for k, w in enumerate(WEIGHTS))) for j in ABLATED]
    models = []
    for number, (pairs, noise, weights) in enumerate(told):
        model = untrained(config, world, seed)
        model.name = f"{pairs} pairs, {noise:.0%} noise" + ("" if number < len(GRADED) else f", blind to {weights.index(0.0)}")
        batch, labels = world.preferences(pairs, derive_seed(seed, "pairs", pairs, noise), weights=weights, label_noise=noise)
        model.fit(batch, labels, Context(seed=derive_seed(seed, "fit")))
        models.append(model)
    return models


def untrained(config: Config, world: HiddenDimensions, seed: int) -> VectorReward:
    """The backbone before preference training, from which all models of a seed start."""
    width = config.wide if world.linear else config.bottleneck
    return VectorReward((OBSERVED, 96, 64, width), steps=config.steps, seed=derive_seed(seed, "weights"))


def probed(model: VectorReward, asked: Sequence[ProbeTask]) -> list[float]:
    """Accuracy of each dimension's probe; the features are read once. NaN where nothing could be probed."""
    train, test = read_features(model, asked[0].train), read_features(model, asked[0].test)
    found = [probe_features(task, train, test).accuracy.estimate for task in asked]
    return [math.nan if one is None else one.mean for one in found]


def best_of_n(config: Config, world: HiddenDimensions, models: Sequence[VectorReward], seed: int) -> list[float]:
    """Mean true utility of what each model picks out of the same candidates."""
    batch = world.data(config.prompts * config.candidates, derive_seed(seed, "best of n"))
    truth = world.truth.score(batch).values.reshape(config.prompts, -1)
    picks = [model.score(batch).values.reshape(config.prompts, -1).argmax(1, keepdim=True) for model in models]
    return [float(truth.gather(1, pick).mean()) for pick in picks]


def arms(config: Config, world: HiddenDimensions, proxy: VectorReward, seed: int) -> dict[str, Arm]:
    """GRPO against one reward model: as it is, gated, and with as many rows dropped at random."""
    from plaudit.objectives.policy_gradient import grpo

    validation = world.probe_tasks(config.probe_train, 1, derive_seed(seed, "gate"))
    gate = DistanceGate(proxy, quantile=config.quantile).fit({one.name: (one.train, one.train_labels) for one in validation})
    rewards: list[BaseReward] = [proxy, GatedReward(proxy, gate), RandomDrop(proxy, gate)]
    return {name: Arm(world.base(seed=seed), reward, grpo()) for name, reward in zip(ARMS, rewards, strict=True)}


def align_arm(config: Config, world: HiddenDimensions, arm: Arm, seed: int, budget: Budget) -> dict[str, Points]:
    """Train the arm's policy; on the way (update, true utility on held-out prompts) and (update, share of rows trained on)."""
    curves: dict[str, Points] = {"true utility": [], "share of rows kept": []}

    def watch(number: int, lesson: Lesson | None) -> None:
        if number % max(1, config.updates // 20) == 0:
            curves["true utility"].append((number, utility(world, arm.generator, seed)))
            if lesson is not None:
                curves["share of rows kept"].append((number, arm.objective.units(lesson) / len(lesson)))

    fit = FitConfig(learning_rate=config.learning_rate)
    updates = Updates(config.updates, lambda drawn: world.prompts("train", config.batch, drawn), config.group, fit=fit)
    improve(arm, updates, seed, budget=budget, on_update=watch)
    return curves


def utility(world: HiddenDimensions, policy: Generator, seed: int) -> float:
    """Mean true utility of four responses to each of 200 held-out prompts."""
    drawn = policy.rollout(world.prompts("test", 200, seed), 4, how=None, seed=derive_seed(seed, "test"))
    return float(world.truth.score(drawn.batch).values.mean())


def run(config: Config, seed: int) -> Figures:
    """Both worlds, and the three arms in the first."""
    import numpy as np

    values: dict[str, float | None] = {}
    for linear in (False, True):
        world = HiddenDimensions(seed=seed, linear=linear)
        prefix = "control/" if linear else ""
        models, asked = reward_models(config, world, seed), world.probe_tasks(config.probe_train, config.probe_test, seed)
        accuracy, downstream = [probed(model, asked) for model in models], best_of_n(config, world, models, seed)
        means = [sum(row) / len(row) for row in accuracy]
        values[f"{prefix}correlation"] = float(np.corrcoef(means, downstream)[0, 1])
        before = probed(untrained(config, world, seed), asked)
        values |= {f"{prefix}untrained/probe": sum(before) / 6, f"{prefix}full/probe": means[len(GRADED) - 1]}
        values |= {f"{prefix}{model.name}/probe": mean for model, mean in zip(models, means, strict=True)}
        values |= {f"{prefix}{model.name}/best of n": mean for model, mean in zip(models, downstream, strict=True)}
        if not linear:
            full, blind = accuracy[len(GRADED) - 1], accuracy[len(GRADED) :]
            values |= {f"loss of {j}": full[j] - row[j] for j, row in zip(ABLATED, blind, strict=True)}
            first_world, proxy = world, models[MID]
    budget = Budget()
    curves: dict[str, Points] = {}
    for name, arm in arms(config, first_world, proxy, seed).items():
        with warnings.catch_warnings(action="ignore"):  # the gate says that it closes: that is a curve of the result
            found = align_arm(config, first_world, arm, seed, budget)
        curves |= {f"{panel}: {name}": points for panel, points in found.items()}
        utilities = [value for _, value in found["true utility"]]
        values |= {f"{name}/utility": utilities[-1], f"{name}/drop": max(utilities) - utilities[-1]}
    return Figures(seed, values, curves=curves, budget=dict(budget.spent))


def check(figures: Sequence[Figures]) -> list[Check]:
    """(a) probes follow what a model is worth, (b) they find what a model was not told, (c) the gate helps training."""
    named = {"first world": "correlation", "control world": "control/correlation"}
    named |= {"untrained probe, first world": "untrained/probe", "untrained probe, control": "control/untrained/probe"}
    beside = {label: figure_over_seeds(figures, name) for label, name in named.items()}
    cases = {f"dimension {j}": figure_over_seeds(figures, f"loss of {j}") for j in ABLATED}
    lost = [None if case.estimate is None or case.left_out else case.estimate.mean for case in cases.values()]
    utilities = {name: figure_over_seeds(figures, f"{name}/utility") for name in ARMS}
    gains = [[one.difference("gated/utility", f"{rival}/utility") for rival in ("plain", "random drop")] for one in figures]
    least = [None if None in pair else min(pair) for pair in gains]  # type: ignore[type-var]
    return [
        check_mean("(a) correlation", "r of mean probe accuracy and best-of-16 utility over 11 models",
                   [one["correlation"] for one in figures], ">=", 0.7, beside=beside),
        check_mean("(a) control", "the same r minus that of the world whose dimensions are readable before training",
                   [one.difference("correlation", "control/correlation") for one in figures], ">=", 0.3),
        check_seeds("(b) blind models", "probe accuracy on dimension j, full model minus the one not told of j, mean over seeds",
                    lost, ">=", 0.03, share=2 / 3, cases="dimensions", beside=cases),
        check_seeds("(c) gate", "true utility after GRPO, gated minus the better of plain and random drop",
                    least, ">=", 0.0, share=2 / 3, beside=utilities),
        check_mean("hacking", "fall of the true utility from its peak without a gate: what a gate could prevent",
                   [one["plain/drop"] for one in figures], ">", 1.0, decides=False),
    ]  # fmt: skip


PUBLISHED = (
    Published("11 reward models", "Pearson r of probe accuracy and win rate (above)", 0.8, ours="correlation"),
    Published("GPM-Llama-3.1-8B", "probe accuracy, easy, mean of six", 79.6, "%", ours="full/probe"),
    Published("Llama-3.1-8B-Instruct, untuned", "probe accuracy, easy, mean of six", 75.2, "%", ours="untrained/probe"),
    Published("GPM-Llama-3.1-8B", "probe accuracy, hard, mean of six", 67.0, "%"),
    Published("PPO", "AlpacaEval win rate", 57.3, "%", ours="plain/utility"),
    Published("PPO, distance gate", "AlpacaEval win rate", 62.5, "%", ours="gated/utility"),
    Published("PPO, random drop", "AlpacaEval win rate", 54.3, "%", ours="random drop/utility"),
)
RECIPE = Recipe(
    58,
    "mrmbench",
    "Linear probes of what a reward model reads, and a distance that says when to distrust it.",
    Config,
    run,
    check,
    PUBLISHED,
    source="MRMBench; the figures of the card",
    needs={"accelerate": "train"},
    notes=("Ours are shares of 1 and true utility in a world of vectors; the paper's are per cent, of models of 7B to 13B.",),
    arms=arms,
)
