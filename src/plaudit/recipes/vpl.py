"""34 · VPL: the kind of user is a latent, inferred from a few comparisons, that a reward and a policy are told.

New parts: `rewards.learned.variational`, `rewards.learned.active`, `rewards.shaping.self_play`. World: `worlds.corners`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from plaudit.fitting import FitConfig, derive_seed
from plaudit.recipes.base import Arm, Check, Figures, Recipe, RecipeConfig, as_premise, check_mean, figure_over_seeds
from plaudit.recipes.people import accuracy, all_epochs, asked, of_the_next
from plaudit.recipes.updates import Updates, improve
from plaudit.rewards.learned.base import LearnedReward
from plaudit.rewards.learned.data import FitData
from plaudit.rewards.learned.fit import fit
from plaudit.rewards.learned.variational import VariationalReward
from plaudit.types import Batch, Budget
from plaudit.worlds.corners import CellPolicy, CornerWorld, KindScaled

POOLED = ("Bradley-Terry", "mean and variance")
SCALED = ("raw", "SPO")


@dataclass(frozen=True)
class Config(RecipeConfig):
    """users, answers: of the training data, all answers reconstructed from 8 of them. new: users who are tested on test_pairs.

    candidates: sets of `asked` questions that the active ones are chosen from, anew for every `new / choices` users.
    spread: largest over smallest scale of the rewards in the policy's training. updates, prompts, samples: of that.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    users: int = 4000
    answers: int = 9
    new: int = 200
    context: int = 8
    test_pairs: int = 50
    latent: int = 8
    hidden: int = 64
    beta: float = 0.1
    epochs: int = 40
    batch: int = 128
    candidates: int = 1000
    asked: int = 3
    choices: int = 20
    spread: float = 10.0
    anchors: int = 200
    updates: int = 300
    prompts: int = 64
    samples: int = 8


def rewards(config: Config, seed: int) -> dict[str, LearnedReward]:
    """VPL, and two rewards that are the same for everybody."""
    from plaudit.rewards.learned.distributional import MeanVarianceReward
    from plaudit.rewards.learned.heads import BradleyTerryReward
    from plaudit.rewards.learned.vectors import VectorBackbone

    cells, given = VectorBackbone(2), derive_seed(seed, "weights")
    period = max(1, config.epochs * -(-config.users // config.batch) // 4)
    vpl = VariationalReward(
        cells, latent=config.latent, hidden=config.hidden, encoder="mlp", context=(config.context, config.context),
        targets="all", beta=config.beta, period=period, draws=0, seed=given,
    )  # fmt: skip
    hidden = (config.hidden, config.hidden)
    pooled = (kind(cells, hidden=hidden, standardise=False, seed=given) for kind in (BradleyTerryReward, MeanVarianceReward))
    return {"VPL": vpl, **dict(zip(POOLED, pooled, strict=True))}


def chosen(config: Config, reward: VariationalReward, world: CornerWorld, users: Sequence[str], seed: int) -> FitData:
    """The users' answers to the most informative questions of a draw of candidates, anew for every few users."""
    import torch

    from plaudit.rewards.learned.active import rank_questions

    draws = [world.candidates(config.candidates, config.asked, derive_seed(seed, number)) for number in range(config.choices)]
    best = [world.cells_of(batch)[sets[rank_questions(reward, batch, sets, seed=seed)[0]]] for batch, sets in draws]
    questions = torch.stack(best).repeat_interleave(-(-len(users) // config.choices), dim=0)[: len(users)]
    return FitData(*world.answers(users, questions, derive_seed(seed, "active")))


def arms(config: Config, reward: VariationalReward, world: CornerWorld, seed: int) -> dict[str, Arm]:
    """One policy for all latents, trained on rewards whose scale differs between kinds of users: as they are, and by SPO."""
    from plaudit.objectives.policy_gradient import rloo
    from plaudit.rewards.shaping.self_play import SelfPlayScale

    raw = KindScaled(reward, world, config.spread)
    shaped = raw.shaped(SelfPlayScale(raw, world.data(config.anchors, derive_seed(seed, "anchors"))))
    return {
        name: Arm(CellPolicy(world.cells, config.latent), one, rloo()) for name, one in zip(SCALED, (raw, shaped), strict=True)
    }


def policies(
    config: Config, reward: VariationalReward, world: CornerWorld, users: Sequence[str], seed: int, budget: Budget
) -> dict[str, float]:
    """Chance that a policy ends near the user's corner, mean over new users, by arm. It is trained on the latents of others."""
    pool = [f"policy {number}" for number in range(2 * config.new)]
    reward.remember(asked(world, pool, config.context, derive_seed(seed, "pool")))

    def prompts(drawn: int) -> Batch:
        names = random.Random(drawn).choices(pool, k=config.prompts)
        return Batch([{"z": z} for z in reward.latents(names).mean.tolist()], users=names)

    found = {}
    for name, arm in arms(config, reward, world, seed).items():
        plan = Updates(config.updates, prompts, config.samples, fit=FitConfig(learning_rate=1e-2, max_grad_norm=None))
        improve(arm, plan, seed, budget=budget)
        found[f"policy/{name}"] = world.chance_near(arm.generator.probabilities(reward.latents(users).mean), users)
    return found


def run(config: Config, seed: int) -> Figures:
    """Four kinds of users, and the control with one."""
    values: dict[str, float | None] = {}
    budget = Budget()
    users = [f"new {number}" for number in range(config.new)]
    for prefix, kinds in (("", 4), ("one kind/", 1)):
        world = CornerWorld(kinds=kinds, seed=seed)
        told = asked(world, [f"user {number}" for number in range(config.users)], config.answers, derive_seed(seed, "training"))
        test = asked(world, users, config.test_pairs, derive_seed(seed, "test"), noisy=False)
        known = asked(world, users, config.context, derive_seed(seed, "context"))
        found = rewards(config, seed)
        for one in found.values():  # an update is a batch of users, or as many pairs as these have
            batch = config.batch * (1 if one.units == "users" else config.answers)
            fit(one, told, all_epochs(config.epochs, batch, seed))
        vpl = found["VPL"]
        assert isinstance(vpl, VariationalReward)
        vpl.remember(known)
        for name, one in found.items():
            values[f"{prefix}{name}/accuracy"] = accuracy(one, test)
            values[f"{prefix}{name}/success"] = world.success(one, users)
        if not prefix:
            values["VPL/KL"] = float(vpl.latents(users).divergence().mean())
            values["VPL/scale, largest over smallest"] = world.scale_ratio(vpl, users)
            values |= policies(config, vpl, world, users, seed, budget)
            contexts = {"shuffled": of_the_next(known, users), "active questions": chosen(config, vpl, world, users, seed)}
            contexts["random questions"] = asked(world, users, config.asked, derive_seed(seed, "random"))
            for name, context in contexts.items():
                vpl.remember(context)
                values[f"VPL/{name}"] = accuracy(vpl, test)
    return Figures(seed, values, budget=dict(budget.spent))


def check(figures: Sequence[Figures]) -> list[Check]:
    """A latent pays where people differ, costs little where they do not, is used, is asked for well, and wants one scale."""
    names = ("VPL", *POOLED)
    accuracies = {name: figure_over_seeds(figures, f"{name}/accuracy") for name in names}
    successes = {name: figure_over_seeds(figures, f"{name}/success") for name in names}
    questions = {name: figure_over_seeds(figures, f"VPL/{name} questions") for name in ("active", "random")}
    alike = {name: figure_over_seeds(figures, f"one kind/{name}/accuracy") for name in ("VPL", POOLED[0])}
    used = {"KL": figure_over_seeds(figures, "VPL/KL"), "shuffled contexts": figure_over_seeds(figures, "VPL/shuffled")}
    scaled = {name: figure_over_seeds(figures, f"policy/{name}") for name in SCALED}
    scaled["scale of rewards, largest over smallest user"] = figure_over_seeds(figures, "VPL/scale, largest over smallest")

    def gain(first: str, second: str) -> list[float | None]:
        return [one.difference(first, second) for one in figures]

    return [
        as_premise(check_mean("no collapse", "accuracy with a user's own context minus with another user's",
                              gain("VPL/accuracy", "VPL/shuffled"), ">=", 0.1, beside=used)),
        check_mean("accuracy", "accuracy on new users' pairs, VPL minus Bradley-Terry",
                   gain("VPL/accuracy", "Bradley-Terry/accuracy"), ">=", 0.2, beside=accuracies),
        check_mean("success", "share of new users whose best cell by VPL is near their corner",
                   [one["VPL/success"] for one in figures], ">=", 0.65, beside=successes),
        check_mean("success of one reward", "the same by Bradley-Terry",
                   [one["Bradley-Terry/success"] for one in figures], "<=", 0.15),
        check_mean("active questions", "accuracy after three chosen questions minus after three random ones",
                   gain("VPL/active questions", "VPL/random questions"), ">=", 0.03, beside=questions),
        check_mean("one kind of user", "accuracy where everybody is alike, VPL minus Bradley-Terry",
                   gain("one kind/VPL/accuracy", "one kind/Bradley-Terry/accuracy"), ">=", -0.1, beside=alike),
        check_mean("one scale", "chance that a shared policy ends near the user's corner, rewards by SPO minus raw ones",
                   gain("policy/SPO", "policy/raw"), ">=", 0.05, beside=scaled),
    ]  # fmt: skip


RECIPE = Recipe(
    34,
    "vpl",
    "Variational preference learning: a latent kind of user from a few comparisons.",
    Config,
    run,
    check,
    source="Poddar et al. 2024, Personalizing RLHF with variational preference learning, arXiv 2408.10075",
    needs={"accelerate": "train"},
    notes=(
        "Distances are Euclidean: with Manhattan ones the four rewards add up to a constant. Success counts Manhattan cells.",
        "40 epochs where the card has 100: accuracy has levelled off by then.",
        "The KL has its factor 1/2, and its weight rises as a cosine over the first half of each of four cycles.",
        "All users of a draw are asked the same three questions; information gain is of total variance.",
        "The policy's rewards are multiplied by 1 to 10, by kind of user; it is linear in the latent and tabular in the cell.",
        "The threshold 0.1 of own against shuffled contexts was set before it ran; the card names no number.",
        "The paper states success rates of simulated robots: no figure of it is quoted.",
    ),
    arms=arms,
)
