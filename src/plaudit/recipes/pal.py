"""24 · PAL: users as mixtures of a few learned prototypes; a new user is fitted from a few comparisons.

New part: `rewards.learned.ideal_point`. World: `worlds.personas`, real digits and made-up tastes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plaudit.fitting import derive_seed
from plaudit.recipes.base import Arm, Check, Figures, Published, Recipe, RecipeConfig, as_premise, check_mean, figure_over_seeds
from plaudit.recipes.people import accuracy, all_epochs, asked
from plaudit.rewards.learned.base import LearnedReward
from plaudit.rewards.learned.data import FitData
from plaudit.rewards.learned.fit import fit
from plaudit.worlds.personas import CLASSES, PIXELS, PersonaWorld

PROTOTYPES = (1, 2, 3, 5)
RATES = {"item": 1e-3, "prototypes": 5e-3, "scale": 5e-3, "users": 2e-2}
POOLED = "pooled Bradley-Terry"


@dataclass(frozen=True)
class Config(RecipeConfig):
    """seen, unseen: users. pairs: comparisons of each seen user. test_pairs: fresh ones a user. few: comparisons of a new user.

    width, hidden: of the item map 64-hidden-width. localize_steps, localize_rate: of the fit of a new user's weights.
    scratch_epochs: of the Bradley-Terry model of one user alone, one update each.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    truth: int = 3
    seen: int = 60
    unseen: int = 30
    pairs: int = 30
    test_pairs: int = 200
    few: tuple[int, ...] = (2, 5, 10, 20, 50)
    width: int = 16
    hidden: int = 64
    epochs: int = 60
    batch: int = 256
    localize_steps: int = 100
    localize_rate: float = 5e-2
    scratch_epochs: int = 60


def arms(config: Config, seed: int) -> dict[str, Arm]:
    """PAL-A with each number of prototypes, PAL-B with prompts that mean nothing, and one reward for everybody."""
    from plaudit.rewards.learned.ideal_point import MixtureIdealPoint
    from plaudit.rewards.learned.vectors import VectorBackbone

    backbone = VectorBackbone(PIXELS)
    size: dict[str, Any] = {"width": config.width, "hidden": config.hidden, "seed": derive_seed(seed, "weights")}
    found = {f"K={k}": Arm(reward=MixtureIdealPoint(backbone, k=k, **size)) for k in PROTOTYPES}
    classes = VectorBackbone(CLASSES, column="asked")
    found["PAL-B"] = Arm(reward=MixtureIdealPoint(backbone, k=config.truth, ideal="prompt", prompt_backbone=classes, **size))
    found[POOLED] = Arm(reward=alone(config, seed))
    return found


def alone(config: Config, seed: int) -> LearnedReward:
    """A Bradley-Terry perceptron with the item map's widths: it does not know users."""
    from plaudit.rewards.learned.heads import BradleyTerryReward
    from plaudit.rewards.learned.vectors import VectorBackbone

    hidden = (config.hidden, config.width)
    return BradleyTerryReward(VectorBackbone(PIXELS), hidden=hidden, standardise=False, seed=derive_seed(seed, "weights"))


def fitted(config: Config, reward: LearnedReward, data: FitData, seed: int, epochs: int) -> LearnedReward:
    """Fitted on all pairs, for a fixed number of epochs."""
    rates = {name: rate for name, rate in RATES.items() if name in reward.modules()}
    fit(reward, data, all_epochs(epochs, config.batch, seed, **rates))
    return reward


def unseen(config: Config, world: PersonaWorld, rewards: Mapping[str, Arm], seed: int) -> dict[str, float | None]:
    """Accuracy for new users by what is fitted on n of their comparisons: PAL's weights, or a whole model from scratch."""
    users = [f"unseen {number}" for number in range(config.unseen)]
    sums: dict[str, list[float]] = {}
    for user in users:
        told = asked(world, [user], max(config.few), derive_seed(seed, "unseen", user))
        test = asked(world, [user], config.test_pairs, derive_seed(seed, "unseen test", user), noisy=False)
        for n in config.few:
            few = told.select(range(n))
            model = rewards["K=3"].reward
            model.localize(user, few, steps=config.localize_steps, learning_rate=config.localize_rate)
            sums.setdefault(f"unseen/K=3/{n}", []).append(accuracy(model, test))
            scratch = fitted(config, alone(config, derive_seed(seed, user)), few, seed, config.scratch_epochs)
            sums.setdefault(f"unseen/from scratch/{n}", []).append(accuracy(scratch, test))
        sums.setdefault(f"unseen/{POOLED}", []).append(accuracy(rewards[POOLED].reward, test))
    return {name: sum(values) / len(values) for name, values in sums.items()}


def run(config: Config, seed: int) -> Figures:
    """The world of three prototypes with seen and unseen users, and the control in which everybody is alike."""
    values: dict[str, float | None] = {}
    seen = [f"seen {number}" for number in range(config.seen)]
    for prefix, prototypes in (("", config.truth), ("control/", 1)):
        world = PersonaWorld(prototypes, seed=seed)
        told = asked(world, seen, config.pairs, derive_seed(seed, "seen"))
        test = asked(world, seen, config.test_pairs, derive_seed(seed, "seen test"), noisy=False)
        rewards = arms(config, seed)
        chosen = rewards if not prefix else {name: rewards[name] for name in ("K=1", "K=3", POOLED)}
        for name, arm in chosen.items():
            values[f"{prefix}seen/{name}"] = accuracy(fitted(config, arm.reward, told, seed, config.epochs), test)
        if not prefix:
            values |= unseen(config, world, rewards, seed)
    curves = {
        f"accuracy for a new user by comparisons: {name}": [(n, values[f"unseen/{name}/{n}"]) for n in config.few]
        for name in ("K=3", "from scratch")
    }
    return Figures(seed, values, curves=curves)  # type: ignore[arg-type]  # means over users are there


def check(figures: Sequence[Figures]) -> list[Check]:
    """Prototypes pay for seen users, do no harm where there are too many, help new users, and find nothing where nothing is."""
    shown = ("K=1", "K=2", "K=3", "K=5", "PAL-B", POOLED)
    seen = {name: figure_over_seeds(figures, f"seen/{name}") for name in shown}
    new = {name: figure_over_seeds(figures, f"unseen/{name}") for name in ("K=3/5", "K=3/20", "from scratch/20", POOLED)}
    control = {name: figure_over_seeds(figures, f"control/seen/{name}") for name in ("K=1", "K=3", POOLED)}

    def gain(first: str, second: str) -> list[float | None]:
        return [one.difference(first, second) for one in figures]

    def apart(first: str, second: str) -> list[float | None]:
        return [None if value is None else abs(value) for value in gain(first, second)]

    return [
        as_premise(check_mean("control learns", "accuracy of pooled Bradley-Terry where everybody is alike",
                              [one[f"control/seen/{POOLED}"] for one in figures], ">=", 0.75, beside=control)),
        check_mean("seen users", "accuracy for seen users, three prototypes minus one",
                   gain("seen/K=3", "seen/K=1"), ">=", 0.08, beside=seen),
        check_mean("against one reward", "accuracy for seen users, three prototypes minus pooled Bradley-Terry",
                   gain("seen/K=3", f"seen/{POOLED}"), ">=", 0.05),
        check_mean("too many prototypes", "difference of accuracy between five prototypes and three",
                   apart("seen/K=5", "seen/K=3"), "<=", 0.02),
        check_mean("new users", "accuracy after 20 comparisons, fitted weights minus a model from scratch",
                   gain("unseen/K=3/20", "unseen/from scratch/20"), ">=", 0.08, beside=new),
        check_mean("homogeneous control", "difference of accuracy between three prototypes and one where everybody is alike",
                   apart("control/seen/K=3", "control/seen/K=1"), "<=", 0.03, beside=control),
    ]  # fmt: skip


PUBLISHED = (
    Published("PAL, OPT-350M on Reddit TL;DR", "accuracy on seen users, gain over the strongest baseline", 1.7, "points"),
    Published("PAL, OPT-350M on Reddit TL;DR", "accuracy on unseen users, gain over the strongest baseline", 36.0, "points"),
)
RECIPE = Recipe(
    24,
    "pal",
    "Users as mixtures of learned prototypes; a new user is fitted from a few comparisons.",
    Config,
    run,
    check,
    PUBLISHED,
    source="Chen et al. 2024, PAL: Pluralistic alignment framework, arXiv 2406.08469",
    needs={"accelerate": "train", "sklearn": "worlds"},
    notes=(
        "Loss: cross-entropy of distances times a learned scale; learning rates of the card's own trial (map 1e-3, prototypes "
        "5e-3, weights 2e-2, new weights 5e-2), 60 epochs, where the laptop check has 150: more fit label noise.",
        "Five prototypes against three: the difference of the two counts in either direction.",
        "PAL-B reads a random class as its prompt, which nobody's taste depends on.",
        "A new user's weights start from the mean of the seen users'.",
    ),
    arms=arms,
)
