"""40 · Goal-conditioned reward representations: a contrastive loss lets a reward model's states say where a response is heading.

New parts: `rewards.learned.goal_contrastive`, `rewards.learned.goal_reward`, `curation.filtered_vote`. World: `worlds.chains`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from plaudit.fitting import derive_seed
from plaudit.recipes.base import Arm, Check, Figures, Published, Recipe, RecipeConfig, check_mean, figure_over_seeds
from plaudit.recipes.pairs import fit_pairs
from plaudit.types import Batch, Budget

if TYPE_CHECKING:
    from torch import Tensor

    from plaudit.rewards.learned.goal_contrastive import GoalState
    from plaudit.rewards.learned.goal_reward import GoalReward
    from plaudit.worlds.chains import ChainWorld

ARMS = ("bradley-terry", "contrastive", "no shared prefix", "shuffled labels")
PLAIN, OURS, APART, SHUFFLED = ARMS
SPLITS = ("in distribution", "longer")
Q = f"{SPLITS[0]}/partial q"
Questions = tuple[list[tuple[list[str | None], "Tensor"]], list[str]]


@dataclass(frozen=True)
class Config(RecipeConfig):
    """pairs: to fit on, `control_epochs` with shuffled labels. tests: pairs of each split. voted: questions, `samples` of each.

    early: share of a solution that the partial Q reads. level: of the model that rewards start from. writer: of the sampler.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    pairs: int = 12000
    epochs: int = 2
    control_epochs: int = 1
    batch: int = 32
    learning_rate: float = 1e-3
    tests: int = 500
    voted: int = 100
    samples: int = 16
    early: float = 0.6
    level: str = "strong"
    writer: str = "start"


def arms(config: Config, world: ChainWorld, seed: int) -> dict[str, Arm]:
    """Bradley-Terry alone, with the published loss, with one that leaves shared prefixes alone, and with labels by a coin."""
    from plaudit.rewards.learned.goal_contrastive import GoalContrastive
    from plaudit.rewards.learned.goal_reward import GoalReward
    from plaudit.worlds.chain_reading import chain_reader

    published, apart = GoalContrastive(), GoalContrastive(skip_shared=True)
    contrasts = {PLAIN: None, OURS: published, APART: apart, SHUFFLED: published}
    start = partial(chain_reader, world, config.level)
    return {name: Arm(reward=GoalReward(start(), contrast=contrast, seed=seed)) for name, contrast in contrasts.items()}


def fit_arm(config: Config, name: str, reward: GoalReward, seed: int) -> tuple[Batch, float]:
    """Fit on pairs of two to four terms; gives the training rows and the tokens that went through the model."""
    from plaudit.rewards.learned.data import FitData
    from plaudit.worlds.chain_reading import shuffled_labels
    from plaudit.worlds.chains import ChainWorld

    batch, preferences = ChainWorld(terms=(2, 4)).pairs("train", config.pairs, seed)
    if name == SHUFFLED:
        preferences = shuffled_labels(preferences, derive_seed(seed, "shuffled"))
    epochs = config.control_epochs if name == SHUFFLED else config.epochs
    fit_pairs(reward, FitData(batch, preferences), epochs=epochs, batch=config.batch, rate=config.learning_rate, seed=seed)
    return batch, float(epochs * sum(map(len, reward.decoder.rows(batch)[0])))


def questions(config: Config, world: ChainWorld, split: str, seed: int) -> tuple[Batch, list[str]]:
    """Samples of the writer, rows of a question together, and the right answers."""
    asked = world.prompts(split, config.voted, derive_seed(seed, "vote", split))
    drawn = world.base(config.writer, 0).rollout(
        asked, config.samples, how=world.sampling, seed=derive_seed(seed, "drawn", split)
    )
    return drawn.batch, [str(answer) for answer in asked.references or ()]


def votes(config: Config, reward: GoalReward, goal: GoalState, asked: tuple[Batch, list[str]]) -> Questions:
    """(answers, Q of each token) of each question, and the right answers. What has no last number has no answer."""
    from plaudit.worlds.chain_reading import final_answer

    (batch, gold), size = asked, config.samples
    q, answers = reward.q(batch, goal), [final_answer(str(text)) for text in batch.require_responses()]
    return [(answers[at : at + size], q[at : at + size]) for at in range(0, len(batch), size)], gold


def run(config: Config, seed: int) -> Figures:
    """All arms on the same pairs from the same start; the vote with the threshold of the validation questions."""
    from plaudit.curation.filtered_vote import tune_theta, vote_figures
    from plaudit.worlds.chain_reading import auroc, partial_auroc
    from plaudit.worlds.chains import ChainWorld

    world, budget = ChainWorld(), Budget()
    tests = dict(
        zip(SPLITS, (one.pairs("test", config.tests, seed)[0] for one in (world, ChainWorld(terms=(5, 5)))), strict=True)
    )
    tuned, asked = (questions(config, world, split, seed) for split in ("validation", "test"))
    values: dict[str, float | None] = {"writer/accuracy": float(world.truth.score(asked[0]).values.mean())}
    for name, arm in arms(config, world, seed).items():
        reward = arm.reward
        batch, tokens = fit_arm(config, name, reward, seed)
        budget.spend(training_tokens=tokens, reward_calls=2 * config.tests * len(SPLITS))
        goal, bad = reward.goal(batch.select(range(0, len(batch), 2))), reward.goal(batch.select(range(1, len(batch), 2)))
        for split, test in tests.items():
            labels = [at < 0 for at in test.extras["wrong_from"]]
            values[f"{name}/{split}/auroc"] = auroc(reward.score(test).values.tolist(), labels)
            values[f"{name}/{split}/partial q"] = partial_auroc(reward.q(test, goal), test, config.early)
            values[f"{name}/{split}/leaked"] = float(goal.leaked(test.prompts))
        values[f"{name}/q of rejected ends"] = partial_auroc(reward.q(tests[SPLITS[0]], bad), tests[SPLITS[0]], config.early)
        theta = tune_theta(*votes(config, reward, goal, tuned))
        known = votes(config, reward, goal, asked)
        plain, filtered = vote_figures(*known, -math.inf), vote_figures(*known, theta)
        values |= {f"{name}/vote": filtered.accuracy, f"{name}/saved": filtered.saved, f"{name}/all stopped": filtered.fallback}
        values["plain vote"] = plain.accuracy
    return Figures(seed, values, budget=dict(budget.spent))


def check(figures: Sequence[Figures]) -> list[Check]:
    """Gain of r, partial Q, the filtered vote, and the two controls of the card."""

    def gains(split: str) -> list[float | None]:
        return [one.difference(f"{OURS}/{split}/auroc", f"{PLAIN}/{split}/auroc") for one in figures]

    def mean(values: Sequence[float | None]) -> float:
        return -math.inf if None in values else math.fsum(value for value in values if value is not None) / len(values)

    ranked = sorted(SPLITS, key=lambda split: mean(gains(split)))
    beside = {f"{name}, {split}": figure_over_seeds(figures, f"{name}/{split}/auroc") for name in ARMS for split in SPLITS}
    parts = {f"{name}, {split}": figure_over_seeds(figures, f"{name}/{split}/partial q") for name in ARMS for split in SPLITS}
    inside = [None if (a := one["writer/accuracy"]) is None else min(a - 0.4, 0.7 - a) for one in figures]
    off = [None if (a := one[f"{SHUFFLED}/{SPLITS[0]}/auroc"]) is None else abs(a - 0.5) for one in figures]
    saved = {name: figure_over_seeds(figures, f"{name}/saved") for name in ARMS}
    voted = {"all samples": figure_over_seeds(figures, "plain vote")}
    voted |= {name: figure_over_seeds(figures, f"{name}/vote") for name in ARMS}
    return [
        check_mean("(a) gain of r", f"AUROC of r with the contrastive loss minus without, {ranked[-1]}", gains(ranked[-1]),
                   ">=", 0.01, beside=beside),
        check_mean("(a) no split is worse", f"the same on the split with the least gain, {ranked[0]}", gains(ranked[0]),
                   ">=", -0.01),
        check_mean("(b) partial Q", "AUROC of the mean Q over the first 60 %, contrastive",
                   [one[f"{OURS}/{Q}"] for one in figures], ">=", 0.65, beside=parts),
        check_mean("(b) partial Q, gain", "the same minus that of Bradley-Terry alone",
                   [one.difference(f"{OURS}/{Q}", f"{PLAIN}/{Q}") for one in figures], ">=", 0.05),
        check_mean("(c) tokens saved", "share of tokens that the filtered vote saves, contrastive",
                   [one[f"{OURS}/saved"] for one in figures], ">=", 0.2, beside=saved),
        check_mean("(c) vote", "accuracy of the filtered vote minus that of all samples",
                   [one.difference(f"{OURS}/vote", "plain vote") for one in figures], ">=", -0.01, beside=voted),
        check_mean("control: rejected ends", "AUROC of the partial Q with a goal from rejected ends",
                   [one[f"{OURS}/q of rejected ends"] for one in figures], "<", 0.5),
        check_mean("control: shuffled labels", "distance of the AUROC of r from 0.5", off, "<=", 0.05),
        check_mean("no shared prefix: partial Q", "AUROC of the partial Q where S- draws only from where two responses differ",
                   [one[f"{APART}/{Q}"] for one in figures], ">=", 0.65, decides=False),
        check_mean("no shared prefix: gain", "AUROC of r with that loss minus Bradley-Terry, in distribution",
                   [one.difference(f"{APART}/{SPLITS[0]}/auroc", f"{PLAIN}/{SPLITS[0]}/auroc") for one in figures],
                   ">=", 0.01, decides=False),
        check_mean("samples", "how far inside 40 to 70 % the accuracy of a sample lies", inside, ">=", 0.0, decides=False),
    ]  # fmt: skip


RECIPE = Recipe(
    40,
    "gcrl-rm",
    "A contrastive loss that lets hidden states of a reward model predict where a response is heading.",
    Config,
    run,
    check,
    (
        Published("OpenMath-CodeLlama-7B, GSM8K and MATH", "AUROC of the reward, gain (up to)", 0.09),
        Published(
            "the same, filtered majority vote", "tokens saved without losing accuracy (up to)", 0.55, ours="contrastive/saved"
        ),
        Published("Llama-3-8B-Instruct, HH-RLHF", "accuracy, gain", 0.023),
    ),
    source="Nath et al. 2024, arXiv 2407.13887",
    needs={"accelerate": "train", "reasoning_gym": "worlds"},
    notes=(
        "Rewards start from a decoder that imitates right solutions, as the paper's start from a model of mathematics; the card "
        "asks for one from nothing, which Bradley-Terry leaves at chance. 12,000 pairs, not 4,000: of these both losses learn "
        "more by heart (0.7 of training pairs in order after four epochs) than they carry over (AUROC 0.60).",
        "One sampler and one start model serve all seeds; the vote has 100 questions for the threshold and 100 for the test.",
        "Steps are written out (`7-4=3;3+9=12`): with partial sums alone a solution would hardly be longer than the 5 tokens "
        "that the vote always skips. A corrupted result is off by 1 to 9. Longer problems have five terms, others three or four; "
        "a third of the pairs that are fitted on have two, without which two epochs leave Bradley-Terry near chance.",
        "Corrupted solutions begin like the right ones: there the published S- pushes a state away from itself. The arm without "
        "a shared prefix draws S- from where the two differ; it is reported and does not decide.",
    ),
    arms=arms,
)
