"""45 · POLAR: a reward model that is pre-trained to tell whether two answers come from one policy, then aligned by few triples.

New parts: `rewards.learned.discriminator`, `curation.policy_triples`. World: `worlds.habits`, policies that write by habit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from plaudit.fitting import FitConfig, derive_seed
from plaudit.recipes.base import Arm, Check, Figures, Published, Recipe, RecipeConfig, check_mean, check_seeds, figure_over_seeds
from plaudit.recipes.pairs import fit_pairs, label_accuracy
from plaudit.recipes.updates import Updates, improve
from plaudit.types import Budget, Lesson

if TYPE_CHECKING:
    from plaudit.rewards.learned.base import LearnedReward
    from plaudit.rewards.learned.data import FitData
    from plaudit.rewards.learned.discriminator import PolicyDiscriminator
    from plaudit.worlds.habits import HabitFamily

Points = list[tuple[float, float]]
Values = dict[str, float | None]
Rewards = dict[str, "LearnedReward"]
ARMS = ("two stages", "no stage 1", "no reference")
OURS, SCRATCH, CLASSIC = ARMS


@dataclass(frozen=True)
class Config(RecipeConfig):
    """pools: policies to pre-train on. triples: of stage 1. preferences: triples of stage 2, of which `middle` decides. held:
    policies of the tests. targets: policies that stage 2 prefers. rate, later_rate: of stage 1 and, after it, of stage 2.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    pools: tuple[int, ...] = (5, 15, 40)
    triples: int = 16000
    epochs: int = 1
    batch: int = 64
    rate: float = 2e-3
    preferences: tuple[int, ...] = (25, 100, 400)
    middle: int = 100
    later_epochs: int = 4
    later_batch: int = 16
    later_rate: float = 3e-4
    targets: int = 8
    held: int = 8
    tests: int = 600
    updates: int = 150
    prompts: int = 12
    samples: int = 8
    policy_rate: float = 0.02


def stage_one(config: Config, family: HabitFamily, seed: int, test: FitData) -> tuple[PolicyDiscriminator, Values]:
    """The discriminator of the largest pool, and what each pool's knows about policies that nobody has seen."""
    import torch

    from plaudit.curation.policy_triples import Overlap, policy_triples
    from plaudit.rewards.learned.discriminator import PolicyDiscriminator
    from plaudit.worlds.habit_texts import base_model

    pool = family.pool(max(config.pools), f"pool {seed}")
    values: Values = {"copy/unseen": label_accuracy(Overlap(), test)}
    prompts = family.prompts(4000, derive_seed(seed, "prompts"))
    for size in sorted(config.pools):
        reward = PolicyDiscriminator(base_model(family), seed=seed)
        triples = policy_triples(pool[:size], prompts, config.triples, derive_seed(seed, "triples", size))
        own = derive_seed(seed, "stage 1", size)
        fit_pairs(reward, triples.data(), epochs=config.epochs, batch=config.batch, rate=config.rate, seed=own)
        values[f"{size} policies/unseen"] = label_accuracy(reward, test)
    lengths = torch.tensor([float(len(str(text))) for text in test.batch.require_responses()])
    values["length correlation"] = float(torch.corrcoef(torch.stack([reward.score(test.batch).values, lengths]))[0, 1])
    return reward, values


def arms(family: HabitFamily, known: PolicyDiscriminator, seed: int) -> Rewards:
    """Before stage 2: the pre-trained discriminator, one that was not, and a reward that reads no reference."""
    from plaudit.rewards.learned.discriminator import PolicyDiscriminator
    from plaudit.rewards.learned.goal_reward import GoalReward
    from plaudit.worlds.habit_texts import base_model

    trained, new = PolicyDiscriminator(**known.settings), PolicyDiscriminator(base_model(family), seed=seed)
    trained.load_state_dict(known.state_dict())
    return {OURS: trained, SCRATCH: new, CLASSIC: GoalReward(base_model(family), seed=seed)}


def stage_two(config: Config, family: HabitFamily, known: PolicyDiscriminator, seed: int) -> tuple[Rewards, Values]:
    """Every arm on every number of preferences; gives the rewards of the middle number."""
    from plaudit.curation.policy_triples import triples_data
    from plaudit.worlds.habit_texts import preference_triples

    told = preference_triples(family, f"targets {seed}", config.targets, max(config.preferences), derive_seed(seed, "told"))
    data = triples_data(told)
    test = triples_data(preference_triples(family, f"held {seed}", config.held, config.tests, derive_seed(seed, "asked")))
    values: Values = {"stage 1 alone/aligned": label_accuracy(known, test)}
    kept: Rewards = {}
    for n in config.preferences:
        for name, reward in arms(family, known, seed).items():
            rate, own = config.later_rate if name == OURS else config.rate, derive_seed(seed, "stage 2", n)
            some = data.select(range(n))
            fit_pairs(reward, some, epochs=config.later_epochs, batch=config.later_batch, rate=rate, seed=own)
            values[f"{name}/{n}"] = label_accuracy(reward, test)
            if n == config.middle:
                kept[name] = reward
    return kept, values


def align(config: Config, family: HabitFamily, reward: LearnedReward, seed: int, budget: Budget) -> Points:
    """(update, KL(target || policy)) of a fresh policy; references are answers of one held-out target to the same prompts."""
    from plaudit.objectives.policy_gradient import grpo
    from plaudit.worlds.habit_texts import shown_prompts
    from plaudit.worlds.habits import bigram_divergence

    target = family.pool(config.held, f"held {seed}")[0]
    arm, points = Arm(family.fresh(), reward, grpo()), []

    def watch(number: int, lesson: Lesson | None) -> None:  # noqa: ARG001
        if number % max(1, config.updates // 10) == 0:
            points.append((float(number), bigram_divergence(target, arm.generator)))

    prompts, fit = partial(shown_prompts, family, target, config.prompts), FitConfig(learning_rate=config.policy_rate)
    updates = Updates(config.updates, prompts, config.samples, fit=fit)
    improve(arm, updates, seed, budget=budget, on_update=watch)
    return points


def run(config: Config, seed: int) -> Figures:
    """Stage 1 with each pool, stage 2 with each number of preferences, and GRPO against the rewards of the middle number."""
    from plaudit.curation.policy_triples import policy_triples
    from plaudit.worlds.habits import HabitFamily

    family, budget = HabitFamily(), Budget()
    held, prompts = family.pool(config.held, f"held {seed}"), family.prompts(1000, derive_seed(seed, "test"))
    test = policy_triples(held, prompts, config.tests, derive_seed(seed, "test triples")).data()
    known, values = stage_one(config, family, seed, test)
    rewards, more = stage_two(config, family, known, seed)
    values |= more
    curves: dict[str, Points] = {}
    for name in (OURS, SCRATCH):
        points = align(config, family, rewards[name], derive_seed(seed, "align"), budget)
        curves[f"KL(target || policy), by update: {name}"] = points
        values[f"{name}/kl"], values["start/kl"] = points[-1][1], points[0][1]
        values[f"{name}/lowered"] = points[0][1] - points[-1][1]
    return Figures(seed, values, curves=curves, budget=dict(budget.spent))


def check(figures: Sequence[Figures]) -> list[Check]:
    """Unseen policies, more policies, both baselines of stage 2, GRPO against references, and the guard against copying."""
    pools, n = Config.pools, Config.middle
    largest = f"{max(pools)} policies/unseen"
    unseen = {name: figure_over_seeds(figures, f"{name}/unseen") for name in (*(f"{size} policies" for size in pools), "copy")}
    means = [found.estimate.mean if found.estimate else None for found in unseen.values()][: len(pools)]
    steps = [None if a is None or b is None else b - a for a, b in pairwise(means)]
    counted = [("stage 1 alone", "aligned"), *((name, count) for count in Config.preferences for name in ARMS)]
    aligned = {f"{name}, {count}": figure_over_seeds(figures, f"{name}/{count}") for name, count in counted}
    lowered = [(one[f"{OURS}/lowered"], one[f"{SCRATCH}/lowered"]) for one in figures]
    more = [None if ours is None or other is None else min(ours, ours - 1.3 * other) for ours, other in lowered]
    kl = {f"KL, {name}": figure_over_seeds(figures, f"{name}/kl") for name in ("start", OURS, SCRATCH)}
    return [
        check_mean("(a) unseen policies", f"accuracy on policies nobody has seen, {max(pools)} to learn from",
                   [one[largest] for one in figures], ">=", 0.75, beside=unseen),
        check_seeds("(a) more policies", "steps of the mean accuracy from 5 to 15 to 40 policies", steps, ">", 0.0, share=1.0,
                    cases="steps"),
        check_mean("copying", "the same accuracy minus that of the overlap with the reference",
                   [one.difference(largest, "copy/unseen") for one in figures], ">=", 0.05),
        check_mean("(b) stage 1", f"accuracy on held-out targets after {n} preferences, with stage 1 minus without",
                   [one.difference(f"{OURS}/{n}", f"{SCRATCH}/{n}") for one in figures], ">=", 0.1, beside=aligned),
        check_mean("(b) reference", f"the same minus Bradley-Terry without a reference, {n} preferences",
                   [one.difference(f"{OURS}/{n}", f"{CLASSIC}/{n}") for one in figures], ">=", 0.1),
        check_mean("(c) GRPO", "fall of KL(target || policy), and what it has beyond 1.3 times that without stage 1: the smaller",
                   more, ">=", 0.0, beside=kl),
        check_mean("length", "size of the correlation of a score with the answer's length",
                   [None if (r := one["length correlation"]) is None else abs(r) for one in figures], "<=", 0.3, decides=False),
    ]  # fmt: skip


RECIPE = Recipe(
    45,
    "polar",
    "A reward model trained to tell policies apart, then aligned by few preferences; it scores against a reference.",
    Config,
    run,
    check,
    (
        Published("POLAR-7B", "preference accuracy, STEM", 0.81, ours="two stages/100"),
        Published("best other reward model", "preference accuracy, STEM", 0.548, ours="no reference/100"),
        Published("Llama-3.1-8B after RFT with POLAR", "mean of 20 benchmarks, from 47.36", 56.33, "%"),
    ),
    source="POLAR, arXiv 2507.05197",
    needs={"accelerate": "train"},
    notes=(
        "Discriminators start from a decoder that has read documents of 120 other authors, as POLAR starts from language models; "
        "from random weights 8,000 draws of triples leave the loss at log 2. All arms of stage 2 start from it too.",
        "16,000 triples a pool, each read once, instead of 20,000 read once or twice. A family has six habits.",
        "Baselines of stage 2 learn at the rate of stage 1, ours at a lower one; all take equally many steps.",
        "The smoke test on texts of SmolLM2 is left out.",
    ),
)
