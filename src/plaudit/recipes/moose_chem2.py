"""32 · MOOSE-Chem2: hierarchical local search on a pairwise judgement, level by level, with recombination of local optima.

New parts: `plaudit.search.hierarchy` (and `knockout`, `lockstep`, `restarts`). World: `plaudit.worlds.landscape`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from plaudit.recipes.base import Arm, Check, Figures, Published, Recipe, RecipeConfig, check_mean, check_seeds, figure_over_seeds

PLAIN, SHUFFLED, REVERSED = "HHS", "HHS, slots shuffled", "HHS, levels reversed"
GREEDY, CONSISTENT, VOTES = "greedy", "greedy + self-consistency", "HHS, 3 votes"
EQUAL = ("restarts", "iterated self-consistency", "one patient line")
OWN_BUDGET = (PLAIN, REVERSED, SHUFFLED, GREEDY, CONSISTENT)


@dataclass(frozen=True)
class Config(RecipeConfig):
    """landscapes: of each seed, the same ones for all arms. noise: of the judge. lean: its liking for the current state.

    voted_noise: at which three votes are tried. The rest is the search's, as released.
    """

    seeds: tuple[int, ...] = (0, 1)
    landscapes: int = 120
    noise: tuple[float, ...] = (0.0, 1.0, 2.0)
    voted_noise: float = 1.0
    lean: float = 0.1
    levels: int = 5
    slots: int = 4
    options: int = 6
    beam: int = 3
    lines: int = 3
    patience: int = 2


def arms(config: Config, world: Any, noise: float) -> dict[str, Arm]:
    """The search, two that take the levels away from it, greedy ones, and those that get as many judged pairs as the first."""
    import random

    from plaudit.rewards.algebra import Ensemble
    from plaudit.search.hierarchy import HierarchicalSearch
    from plaudit.search.restarts import ENDLESS, Restarts, flat
    from plaudit.worlds.landscape import LandscapeJudge, SlotProposer

    levels = [world.level(number) for number in range(config.levels)]
    mixed = random.Random(world.seed).sample(world.all_slots, len(world.all_slots))
    shuffled = [tuple(mixed[slot] for slot in level) for level in levels]
    size: dict[str, Any] = {"beam": config.beam, "lines": config.lines, "patience": config.patience}
    everything = world.all_slots
    searches = {
        PLAIN: HierarchicalSearch(levels, **size),
        REVERSED: HierarchicalSearch(levels[::-1], **size),
        SHUFFLED: HierarchicalSearch(shuffled, **size),
        GREEDY: flat(everything, patience=config.patience),
        CONSISTENT: flat(everything, lines=config.lines, patience=config.patience),
        EQUAL[0]: Restarts((everything,), patience=config.patience),
        EQUAL[1]: flat(everything, rounds=1000, lines=config.lines, patience=config.patience),
        EQUAL[2]: flat(everything, patience=ENDLESS),
    }
    judges = [LandscapeJudge(world, noise, config.lean, voter) for voter in range(3)]
    found = {name: Arm(SlotProposer(world), judges[0], search=search) for name, search in searches.items()}
    if noise == config.voted_noise:
        found[VOTES] = Arm(SlotProposer(world), Ensemble(judges, reduce="median"), search=searches[PLAIN])
    return found


def run(config: Config, seed: int) -> Figures:
    """Every arm on the same landscapes from the same states, at each noise; differences with their paired intervals."""
    from plaudit.search.proposing import Limits
    from plaudit.worlds.landscape import Landscapes

    world = Landscapes(config.landscapes, config.levels, config.slots, config.options, seed=seed)
    tasks, starts = range(config.landscapes), world.starts()
    values: dict[str, float | None] = {"start": float(world.scores(tasks, starts).mean())}
    spent = {"reward_calls": 0, "proposals": 0}
    for noise in config.noise:
        scores: dict[str, list[float]] = {}
        limits: dict[str, list[Limits]] = {}
        for name, arm in arms(config, world, noise).items():
            most = limits["calls"] if name in EQUAL else limits["proposals"] if name == VOTES else None
            trees = arm.search.trees(arm.generator, arm.reward, tasks, starts, seed=seed, limits=most)
            if name == PLAIN:
                limits = {"calls": [Limits(reward_calls=tree.calls) for tree in trees]}
                limits["proposals"] = [Limits(proposals=tree.counts["proposals"]) for tree in trees]
            scores[name] = world.scores(tasks, [tree.best.candidate for tree in trees]).tolist()
            counts = {kind: sum(tree.counts[kind] for tree in trees) for kind in spent}
            spent = {kind: spent[kind] + (3 if name == VOTES and kind == "reward_calls" else 1) * counts[kind] for kind in spent}
            values[f"noise {noise:g}/{name}"] = sum(scores[name]) / len(trees)
            values |= {f"noise {noise:g}/{name}/{kind}": count / len(trees) for kind, count in counts.items()}
        for name, other in scores.items():
            if name != PLAIN:
                values |= paired(f"noise {noise:g}/{name}", scores[PLAIN], other, seed)
    return Figures(seed, values, budget={name: float(count) for name, count in spent.items()})


def paired(name: str, plain: Sequence[float], other: Sequence[float], seed: int) -> dict[str, float | None]:
    """The plain search minus another over the same landscapes: mean and both ends of the paired bootstrap's 95 % interval."""
    from plaudit.trust.bootstrap import paired_difference

    found = paired_difference(other, plain, range(len(plain)), seed=seed).measured.estimate
    ends = {"lead": None, "lead low": None, "lead high": None}
    return {f"{name}/{end}": None for end in ends} if found is None else {
        f"{name}/lead": found.mean, f"{name}/lead low": found.low, f"{name}/lead high": found.high
    }  # fmt: skip


def check(figures: Sequence[Figures]) -> list[Check]:
    """The claim as published at each noise, the worth of the right order, and of three votes; equal budgets beside them."""
    names = list(figures[0].values)
    levels = list(dict.fromkeys(name.split("/")[0] for name in names if name.startswith("noise ")))

    def shown(noise: str, arms: Sequence[str]) -> dict[str, Any]:
        found = {arm: figure_over_seeds(figures, f"{noise}/{arm}") for arm in arms}
        calls = {f"{arm}: judged pairs": figure_over_seeds(figures, f"{noise}/{arm}/reward_calls") for arm in arms}
        return found | {label: calls[label] for label in calls if label.split(":")[0] in (PLAIN, GREEDY, CONSISTENT)}

    found = [
        check_seeds(f"{noise}: over greedy + self-consistency",
                    "lower end of the paired interval of HHS minus greedy + self-consistency, each at its own budget",
                    [one[f"{noise}/{CONSISTENT}/lead low"] for one in figures], ">", 0.0, share=1.0,
                    beside=shown(noise, (*OWN_BUDGET, *EQUAL)))
        for noise in levels
    ]  # fmt: skip
    found.append(
        check_seeds("hierarchy", "lower end of the paired interval of the right order minus the reversed one, no noise",
                    [one[f"{levels[0]}/{REVERSED}/lead low"] for one in figures], ">", 0.0, share=1.0,
                    beside=shown(levels[0], (PLAIN, REVERSED, SHUFFLED)))
    )  # fmt: skip
    voted = [noise for noise in levels if f"{noise}/{VOTES}" in names]
    for noise in voted:
        ends = [one[f"{noise}/{VOTES}/lead high"] for one in figures]
        found.append(
            check_seeds(f"{noise}: three votes", "lower end of the paired interval of three votes minus one, as many proposals",
                        [None if end is None else -end for end in ends], ">", 0.0, share=1.0,
                        beside=shown(noise, (PLAIN, VOTES)))
        )  # fmt: skip
    for noise in levels:
        for arm in EQUAL:
            leads = [one[f"{noise}/{arm}/lead"] for one in figures]
            found.append(
                check_mean(f"{noise}: against {arm}", "HHS minus it at as many judged pairs", leads, ">", 0.0, decides=False)
            )
    return found


PUBLISHED = (
    Published("HHS, 3 identical judges", "recall, soft", 40.35, "%", ours="noise 1/HHS, 3 votes"),
    Published("HHS, 3 identical judges", "recall, hard", 23.04, "%"),
    Published("greedy", "recall, soft", 19.99, "%", ours="noise 1/greedy"),
    Published("greedy", "recall, hard", 11.98, "%"),
    Published("HHS", "win rate over greedy by a language model", 73.5, "%"),
    Published("HHS", "win rate over greedy + self-consistency by a language model", 53.4, "%"),
    Published("HHS", "judged steps (about)", 282, ours="noise 0/HHS/reward_calls"),
    Published("greedy", "judged steps (about)", 10, ours="noise 0/greedy/reward_calls"),
)
RECIPE = Recipe(
    32,
    "moose-chem2",
    "Hierarchical search guided by pairwise judgements: level by level, local optima recombined.",
    Config,
    run,
    check,
    PUBLISHED,
    source="Yang et al. 2025, MOOSE-Chem2, arXiv 2505.19209",
    notes=(
        "Ours are true scores of made-up landscapes; the paper's are recalls of chemistry hypotheses written by GPT-4o-mini.",
        "A check on an interval must be met in every seed, each with 120 landscapes of its own.",
        "A line that does not improve on its base takes no part in the knock-out, as in the released code, so a search costs "
        "fewer judged pairs (about 310) than the card's trial (502).",
        "Three votes: the median of three judges whose noise is independent, limited to the one judge's proposals.",
        "Neither chemistry nor the judgement of a language model is shown, where flat proposals are worse than random edits.",
    ),
    arms=arms,
)
