"""37 · Tree RM: preference pairs out of prefix trees instead of independent samples, at the same number of labels.

New parts: `plaudit.curation.trees`, `plaudit.curation.topology`. World: `plaudit.worlds.motifs`. Many trees give one pair
each, so that all arms pay for as many labels of one annotator; the reward models, their loss and steps are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from plaudit.fitting import derive_seed
from plaudit.recipes.base import Arm, Check, Figures, Published, Recipe, RecipeConfig, check_mean, figure_over_seeds
from plaudit.recipes.bounds import check_bound
from plaudit.trust.agreement import Measured
from plaudit.types import Batch, Budget, Context, Preferences

if TYPE_CHECKING:
    from torch import Tensor

    from plaudit.data.row import Row
    from plaudit.rewards.learned.vectors import VectorReward
    from plaudit.worlds.motifs import MotifWorld

CHAIN, LEAVES, LEVEL, PREFIXES = "chain", "tree, leaves", "tree, level", "tree, half prefixes"
WHOLE = (CHAIN, LEAVES, LEVEL)
MODELS = ("linear", "network")


@dataclass(frozen=True)
class Config(RecipeConfig):
    """pairs: budgets of labels. betas: of the annotator, P = sigmoid(beta (r_a - r_b)), r of standard deviation 1.

    rates: learning rate of the linear model and of the network, chosen on chain pairs of seeds 1000 to 1003.
    tests: pairs behind an accuracy. best_of: prompts and candidates. beam: width and draws. graphs: of the theory check.
    counted: pairs whose uncertainty is computed.
    """

    seeds: tuple[int, ...] = tuple(range(12))
    depth: int = 4
    symbols: int = 8
    branch: int = 2
    pairs: tuple[int, ...] = (100, 300, 1000)
    betas: tuple[float, ...] = (2.0, 8.0)
    steps: int = 200
    rates: tuple[float, float] = (3e-2, 1e-2)
    tests: int = 4000
    best_of: tuple[int, int] = (500, 16)
    beam: tuple[int, int] = (2, 3)
    graphs: int = 20
    counted: int = 300


def arms(config: Config, world: MotifWorld, seed: int) -> dict[str, Arm]:
    """The unlabelled pairs of each arm (`source`), as many as the largest budget; smaller budgets are their first pairs."""
    from plaudit.curation.trees import Steps, chain_pairs, grow_trees, tree_pairs

    generator, prompts = world.base(), world.prompts("train", max(config.pairs), seed)
    sizes = {"depth": config.depth, "branch": config.branch}
    grown = grow_trees(generator, prompts, **sizes, segment=Steps("token"), seed=derive_seed(seed, "trees"))

    def one_each(**how: Any) -> list[Row]:
        numbered = enumerate(grown)
        return [row for at, tree in numbered for row in tree_pairs(tree, 1, seed=derive_seed(seed, at), name=f"tree{at}", **how)]

    sources = {
        CHAIN: chain_pairs(generator, prompts, seed=derive_seed(seed, "chain")),
        LEAVES: one_each(by="leaves"),
        LEVEL: one_each(by="level"),
        PREFIXES: one_each(by="level", incomplete=0.5),
    }
    return {name: Arm(generator, source=source) for name, source in sources.items()}


def fitted(config: Config, encode: Callable[[list[str]], Tensor], model: str, rows: Sequence[Row], seed: int) -> VectorReward:
    """A linear reward on the true features, or a small network on the letters alone, after Bradley-Terry training."""
    import torch

    from plaudit.rewards.learned.vectors import VectorReward

    texts = [str(text) for row in rows for text in row.responses]
    vectors, first = encode(texts), torch.arange(0, len(texts), 2)
    prob = torch.tensor([row.gold[0] for row in rows if row.gold is not None])
    hidden = (1,) if model == "linear" else (64, 32)
    rate = config.rates[MODELS.index(model)]
    reward = VectorReward((vectors.shape[1], *hidden), steps=config.steps, learning_rate=rate, seed=derive_seed(seed, "weights"))
    reward.fit(Batch(texts, vectors), Preferences(first, first + 1, prob), Context(seed=derive_seed(seed, "fit")))
    return reward


def run(config: Config, seed: int) -> Figures:
    """All arms at all budgets, annotators and models; the figures are means over the settings of a model."""
    from plaudit.curation.topology import bound_violations
    from plaudit.worlds.motif_measures import uncertainties
    from plaudit.worlds.motifs import MotifWorld

    world = MotifWorld(depth=config.depth, symbols=config.symbols, seed=seed)
    sources = {name: arm.source for name, arm in arms(config, world, seed).items()}
    values: dict[str, float | None] = {"violations": bound_violations(config.graphs, seed)}
    curves: dict[str, list[tuple[float, float]]] = {}
    budget = Budget()
    for model in MODELS:
        settings, chosen = [], sources if model == "linear" else {name: sources[name] for name in WHOLE}
        for beta in config.betas:
            for pairs in config.pairs:
                found = one_setting(config, world, chosen, model, beta, pairs, seed)
                settings.append(found)
                budget.spend(labels=pairs * len(chosen))
                for name in WHOLE:
                    panel = f"{model}, accuracy on shared prefixes by labels, beta {beta:g}"
                    curves.setdefault(f"{panel}: {name}", []).append((pairs, found[f"{name}/shared prefix"]))
        values |= {f"{model}/{name}": sum(one[name] for one in settings) / len(settings) for name in settings[0]}
    values |= uncertainties(world, {name: sources[name][: config.counted] for name in WHOLE}, beta=4.0, seed=seed)
    return Figures(seed, values, curves=curves, budget=dict(budget.spent))


def one_setting(
    config: Config, world: MotifWorld, sources: Mapping[str, list[Row]], model: str, beta: float, pairs: int, seed: int
) -> dict[str, float]:
    """Every measure of the models that are fitted on the first `pairs` of each arm."""
    from plaudit.curation.factory import label_pairs
    from plaudit.worlds.motif_measures import measure, win_rate
    from plaudit.worlds.motifs import MotifReward

    encode = world.features if model == "linear" else world.places
    found: dict[str, float] = {}
    picks: dict[str, Tensor] = {}
    for name, rows in sources.items():
        labelled, _ = label_pairs(rows[:pairs], MotifReward(world, beta), draw=derive_seed(seed, name, beta))
        reward = fitted(config, encode, model, labelled, seed)
        says = partial(lambda reward, texts: reward.score(Batch(texts, encode(texts))).values, reward)
        measured, picks[name] = measure(world, says, tests=config.tests, best_of=config.best_of, beam=config.beam, seed=seed)
        found |= {f"{name}/{what}": value for what, value in measured.items()}
        found[f"{name}/wins"] = win_rate(picks[name], picks[CHAIN])
    return found


def check(figures: Sequence[Figures]) -> list[Check]:
    """(A) decides on the linear model and the paper's way of pairing (leaves); (B) and the network are reported."""

    def gains(model: str, measure: str, arm: str = LEAVES) -> list[float | None]:
        return [one.difference(f"{model}/{arm}/{measure}", f"{model}/{CHAIN}/{measure}") for one in figures]

    def beside(model: str, measure: str) -> dict[str, Measured]:
        return {name: figure_over_seeds(figures, f"{model}/{name}/{measure}") for name in WHOLE}

    golds = [(one[f"linear/{LEAVES}/best of n"], one[f"linear/{CHAIN}/best of n"]) for one in figures]
    ratios = [None if a is None or not b else a / b - 1 for a, b in golds]
    shared = "accuracy on pairs that share a beginning, tree (leaves) minus chain"
    certain = [one.difference(f"uncertainty/{LEAVES}", f"uncertainty/{CHAIN}") for one in figures]
    return [
        check_mean("(A) shared prefixes", shared, gains("linear", "shared prefix"), ">=", 0.015,
                   beside=beside("linear", "shared prefix")),
        check_bound("(A) shared prefixes, bound", f"lower 90 % bootstrap end of: {shared}", gains("linear", "shared prefix"),
                    0.0),
        check_mean("(A) best of n", "true reward of the best of 16, tree (leaves) over chain, less 1", ratios, ">=", -0.02,
                   beside=beside("linear", "best of n")),
        check_mean("(A) independent pairs", "accuracy on independent pairs, tree (leaves) minus chain",
                   gains("linear", "independent"), ">=", -0.025, beside=beside("linear", "independent")),
        check_mean("theory", "violations of: shortest path >= resistance; one more edge raises neither",
                   [one["violations"] for one in figures], "<=", 0.0),
        check_mean("(A) level-uniform", f"{shared.replace('leaves', 'level')}", gains("linear", "shared prefix", LEVEL),
                   ">=", 0.015, decides=False),
        check_mean("(A) network", f"{shared}, small network", gains("network", "shared prefix"), ">=", 0.015,
                   beside=beside("network", "shared prefix"), decides=False),
        check_bound("(B) head to head", "lower 90 % end of the win rate of best-of-16 picks, tree (leaves) against chain, linear",
                    [one[f"linear/{LEAVES}/wins"] for one in figures], 0.5, decides=False),
        check_bound("(B) head to head, network", "the same, small network",
                    [one[f"network/{LEAVES}/wins"] for one in figures], 0.5, decides=False),
        check_bound("(B) beam search", "lower 90 % end of true reward after beam search, tree with half prefixes minus chain",
                    gains("linear", "beam", PREFIXES), 0.0, decides=False),
        check_mean("uncertainty", "mean variance of random differences, tree (leaves) minus chain", certain, "<=", 0.0,
                   beside={name: figure_over_seeds(figures, f"uncertainty/{name}") for name in WHOLE}, decides=False),
    ]  # fmt: skip


PUBLISHED = (
    Published("tree against chain", "PPO win rate, mean of HH-RLHF, GSM8K, DialogSum", 65.0, "%", ours=f"linear/{LEAVES}/wins"),
)
RECIPE = Recipe(
    37,
    "tree-rm",
    "Preference pairs out of prefix trees instead of independent samples.",
    Config,
    run,
    check,
    PUBLISHED,
    source="Qiu et al. 2024, Reward Generalization in RLHF: A Topological Perspective (arXiv 2402.10184)",
    needs={"accelerate": "train"},
    notes=(
        "Ours are shares of 1; the paper's win rates are per cent, of PPO policies of 7B models judged by GPT-4.",
        "Decided before the run: the linear model decides check (A), pairs of leaves are the method, 90 % bound = 5 % quantile.",
        "A failing check (B) reads: not reproduced at this scale. The policy is best-of-16; no PPO was run.",
        "Why (A) fails: pairs that part late confound fewer things, but their rewards are closer, so noisy labels say less.",
    ),
    arms=arms,
)
