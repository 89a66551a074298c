"""34 · VPL: the kind of user is a latent, inferred from a few comparisons, that a reward and a policy are told.

New parts: `rewards.learned.variational`, `rewards.learned.active`, `rewards.shaping.self_play`. Worlds: `corners`, `pets`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from plaudit.fitting import FitConfig, derive_seed
from plaudit.recipes.base import Arm, Check, Figures, Recipe, RecipeConfig, as_premise, check_mean, figure_over_seeds
from plaudit.recipes.people import Asking, accuracy, all_epochs, asked, of_the_next
from plaudit.recipes.updates import Updates, improve
from plaudit.rewards.learned.base import LearnedReward
from plaudit.rewards.learned.data import FitData
from plaudit.rewards.learned.fit import fit
from plaudit.rewards.learned.variational import VariationalReward
from plaudit.types import Batch, Budget
from plaudit.worlds.corners import CellPolicy, CornerWorld, KindScaled
from plaudit.worlds.pets import PetsWorld

POOLED = ("Bradley-Terry", "mean and variance")
SCALED = ("raw", "SPO")


@dataclass(frozen=True)
class Config(RecipeConfig):
    """users, answers: of the training data, all reconstructed from 8. new: users tested on test_pairs. candidates: sets of
    questions to choose from, for `new / choices` users. spread: of scales in the policy's training. pets: texts too?"""

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
    pets: bool = True


def rewards(config: Config, seed: int, width: int = 2) -> dict[str, LearnedReward]:
    """VPL, and two rewards that are the same for everybody."""
    from plaudit.rewards.learned.distributional import MeanVarianceReward
    from plaudit.rewards.learned.heads import BradleyTerryReward
    from plaudit.rewards.learned.vectors import VectorBackbone

    read, given = VectorBackbone(width), derive_seed(seed, "weights")
    period = max(1, config.epochs * -(-config.users // config.batch) // 4)
    vpl = VariationalReward(
        read, latent=config.latent, hidden=config.hidden, encoder="mlp", context=(config.context, config.context),
        targets="all", beta=config.beta, period=period, draws=0, seed=given,
    )  # fmt: skip
    hidden = (config.hidden, config.hidden)
    pooled = (kind(read, hidden=hidden, standardise=False, seed=given) for kind in (BradleyTerryReward, MeanVarianceReward))
    return {"VPL": vpl, **dict(zip(POOLED, pooled, strict=True))}


def arms(config: Config, reward: VariationalReward, world: CornerWorld, seed: int) -> dict[str, Arm]:
    """One policy for all latents, trained on rewards whose scale differs between kinds of users: as they are, and by SPO."""
    from plaudit.objectives.policy_gradient import rloo
    from plaudit.rewards.shaping.self_play import SelfPlayScale

    raw = KindScaled(reward, world, config.spread)
    shaped = raw.shaped(SelfPlayScale(raw, world.data(config.anchors, derive_seed(seed, "anchors"))))
    both = zip(SCALED, (raw, shaped), strict=True)
    return {name: Arm(CellPolicy(world.cells, config.latent), one, rloo()) for name, one in both}


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


def compared(
    config: Config, world: Asking, users: Sequence[str], count: int, seed: int
) -> tuple[dict[str, Any], FitData, FitData]:
    """(rewards fitted on `count` users, which know new users by their contexts, those contexts, test pairs)."""
    told = asked(world, [f"user {number}" for number in range(count)], config.answers, derive_seed(seed, "training"))
    known = asked(world, users, config.context, derive_seed(seed, "context"))
    found = rewards(config, seed, len(told.batch.require_responses()[0]))
    for one in found.values():  # an update is a batch of users, or as many pairs as these have
        fit(one, told, all_epochs(config.epochs, config.batch * (1 if one.units == "users" else config.answers), seed))
    found["VPL"].remember(known)  # type: ignore[attr-defined]
    return found, known, asked(world, users, config.test_pairs, derive_seed(seed, "test"), noisy=False)


def run(config: Config, seed: int) -> Figures:
    """Four kinds of users in a grid, the control with one, and two kinds who read texts about pets."""
    users, values, budget = [f"new {number}" for number in range(config.new)], dict[str, float | None](), Budget()
    worlds: dict[str, Any] = {"": CornerWorld(seed=seed), "one kind/": CornerWorld(kinds=1, seed=seed)}
    worlds |= {"pets/": PetsWorld(seed=seed)} if config.pets else {}
    for prefix, world in worlds.items():
        count = config.users // 8 if prefix == "pets/" else config.users
        found, known, test = compared(config, world, users, count, seed)
        values |= {f"{prefix}{name}/accuracy": accuracy(one, test) for name, one in found.items()}
        if not prefix:
            vpl = found["VPL"]
            values |= {f"{name}/success": world.success(one, users) for name, one in found.items()}
            values["VPL/KL"] = float(vpl.latents(users).divergence().mean())
            values["VPL/scale, largest over smallest"] = world.scale_ratio(vpl, users)
            values |= policies(config, vpl, world, users, seed, budget)
            chosen = world.best_questions(vpl, users, config.asked, seed, config.candidates, config.choices)
            contexts = {"shuffled": of_the_next(known, users)}
            contexts["active questions"] = FitData(*world.answers(users, chosen, derive_seed(seed, "active")))
            contexts["random questions"] = asked(world, users, config.asked, derive_seed(seed, "random"))
            for name, context in contexts.items():
                vpl.remember(context)
                values[f"VPL/{name}"] = accuracy(vpl, test)
    return Figures(seed, dict.fromkeys(f"pets/{name}/accuracy" for name in found) | values, budget=dict(budget.spent))


def check(figures: Sequence[Figures]) -> list[Check]:
    """A latent pays where people differ, costs little where they do not, is used, is asked for well, and wants one scale."""
    names = ("VPL", *POOLED)
    accuracies = {name: figure_over_seeds(figures, f"{name}/accuracy") for name in names}
    successes = {name: figure_over_seeds(figures, f"{name}/success") for name in names}
    questions = {name: figure_over_seeds(figures, f"VPL/{name} questions") for name in ("active", "random")}
    alike = {name: figure_over_seeds(figures, f"one kind/{name}/accuracy") for name in ("VPL", POOLED[0])}
    used = {"KL": figure_over_seeds(figures, "VPL/KL"), "shuffled contexts": figure_over_seeds(figures, "VPL/shuffled")}
    pets = {name: figure_over_seeds(figures, f"pets/{name}/accuracy") for name in names}
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
        check_mean("texts", "accuracy on disputed pairs of held-out texts about pets, VPL",
                   [one["pets/VPL/accuracy"] for one in figures], ">=", 0.95, beside=pets, decides=False),
        check_mean("texts, one reward", "the same by Bradley-Terry",
                   [one["pets/Bradley-Terry/accuracy"] for one in figures], "<=", 0.6, decides=False),
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
        "40 epochs, not 100. The KL has its factor 1/2; its weight rises as a cosine over the first half of each of four cycles.",
        "All users of a draw are asked the same questions, by information gain of total variance. "
        "The policy's rewards are multiplied by 1 to 10, by kind of user; it is linear in the latent and tabular in the cell.",
        "Texts: an eighth of the users; the embedded model's mean state, each number standardised over all texts.",
        "The threshold 0.1 of own against shuffled contexts was set before it ran. No figure of the paper (robots) is quoted.",
        "One scale: a softmax policy settles on cells that are fair for several kinds and stays there, with exact gradients "
        "as well. With an entropy term (tried on other seeds) rewards by SPO serve the kinds alike, but no better on average "
        "than raw ones.",
    ),
    arms=arms,
)
