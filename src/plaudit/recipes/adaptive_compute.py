"""16 · Adaptive inference-time compute: the model predicts whether starting over would help; samples go only where it would.

New parts: `rewards.generative.self_evaluation`, `search.adaptive`. World: `worlds.self_judged`, digits to be sorted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from plaudit.fitting import FitConfig, derive_seed
from plaudit.recipes.base import Arm, Check, Figures, Published, Recipe, RecipeConfig, check_mean, check_seeds
from plaudit.recipes.frames import differences, figures_beside
from plaudit.types import Budget, SearchResult

if TYPE_CHECKING:
    from plaudit.generators.language import LanguageGenerator
    from plaudit.rewards.base import BaseReward
    from plaudit.search.pools import Pool
    from plaudit.worlds.self_judged import SelfJudgedSorting

PANEL = "accuracy by samples a prompt:"
JUDGES = ("self-evaluation", "win only", "untaught", "log-probability")
FIGURES = ("samples", "accuracy", "fixed", "random stops", "tau")
PRUNED = ("pruned/accuracy", "pruned at random/accuracy", "tokens/pruned", "tokens/pruned at random", "tokens/fixed")
NEVER = 2.0  # a tau that no probability reaches: all samples are drawn, and every tau can be read off them


@dataclass(frozen=True)
class Config(RecipeConfig):
    """train: prompts and samples of each for a lesson of whole samples; begun: rows of these that a second one repeats, with a
    beginning each. n: samples at most. taus: of the sweep. most: mean samples at comparison. keep: share that pruning keeps."""

    train: tuple[int, int] = (12000, 4)
    begun: int = 12000
    prompts: int = 300
    n: int = 16
    taus: tuple[float, ...] = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.93, 0.96, 0.98, 0.99)
    most: float = 3.0
    keep: float = 0.5
    rank: int = 16
    batch: int = 32
    learning_rates: tuple[float, float] = (2e-3, 1e-3)


def judges(config: Config, world: SelfJudgedSorting, generator: LanguageGenerator, seed: int) -> dict[str, BaseReward]:
    """Self-evaluation taught on win-or-tie and on win-only labels of the same samples, untaught, and the log-probability."""
    from plaudit.engines.lora import LoRA
    from plaudit.generators.language.engine import LiveEngine
    from plaudit.rewards.generative.likelihood import ResponseLogProbability
    from plaudit.rewards.generative.self_evaluation import SelfEvaluation, labelled_samples, with_beginnings

    engine, prompts = LiveEngine(generator), world.prompts("train", config.train[0], derive_seed(seed, "taught"))
    drawn = generator.rollout(prompts, config.train[1], how=world.sampling, seed=derive_seed(seed, "own samples")).batch
    found: dict[str, BaseReward] = {}
    for name, labels in (("self-evaluation", "win_or_tie"), ("win only", "win_only")):
        whole = labelled_samples(drawn, world.truth.score(drawn), labels=labels)
        judge = SelfEvaluation(engine, LoRA(config.rank, 2.0 * config.rank), contract=world.contract(), batch_size=512, seed=seed)
        begun = with_beginnings(whole.select(range(min(config.begun, len(whole)))), 1, seed, engine)
        for data, rate in zip((whole, begun), config.learning_rates, strict=True):
            fit = FitConfig(rate, schedule="cosine", warmup_steps=50, total_steps=-(-len(data) // config.batch))
            judge.learn(data, fit, batch_rows=config.batch, seed=derive_seed(seed, "lesson", len(data)))
        found[name] = judge
    found["untaught"] = SelfEvaluation(engine, contract=world.contract(), batch_size=512)
    found["log-probability"] = ResponseLogProbability(engine, chat=False, batch_size=512)
    return found


def arms(config: Config, generator: LanguageGenerator, judge: BaseReward, at: int = 1) -> dict[str, Arm]:
    """The searches. at: tokens after which pruning looks."""
    from plaudit.search.adaptive import AdaptiveBestOfN, Annealing, PrunedBestOfN
    from plaudit.search.best_of_n import BestOfN

    pruned = PrunedBestOfN(n=config.n, at=at, keep=config.keep)
    return {
        "fixed": Arm(generator, judge, search=BestOfN(n=config.n)),
        "annealed": Arm(generator, judge, search=AdaptiveBestOfN(tau=NEVER, n_max=config.n)),
        "reversed": Arm(generator, judge, search=AdaptiveBestOfN(NEVER, config.n, Annealing(0.2, 1.0, 0.7))),
        "pruned": Arm(generator, judge, search=pruned),
        "pruned at random": Arm(generator, judge, search=replace(pruned, by="random")),
    }


def believed(world: SelfJudgedSorting, pool: Pool, judge: BaseReward, name: str) -> dict[str, float | None]:
    """AUROC and ECE of p against win-or-tie of two held-out samples a prompt, whole and cut off."""
    from plaudit.rewards.generative.self_evaluation import labelled_samples
    from plaudit.trust.beginnings import known_by_share

    two = pool.batch.select([row for row in range(len(pool.batch)) if row % pool.each < 2])
    told = {f"at {one.share:.0%}": one for one in known_by_share(judge, labelled_samples(two, world.truth.score(two)))}
    measured = {f"{name}/AUROC {share}": one.auroc for share, one in told.items()}
    return measured | {f"{name}/ECE {share}": one.calibration.ece for share, one in told.items()}


def adaptive(config: Config, pool: Pool, fixed: Pool, name: str, seed: int) -> dict[str, float | None]:
    """At the largest tau with at most so many samples a prompt: accuracy, and that of what costs the same."""
    values: dict[str, float | None] = dict.fromkeys((f"{name}/{figure}" for figure in FIGURES), None)
    for stop in pool.curve(config.taus):
        if stop.samples <= config.most:
            by_chance = pool.stopped_at_random(stop.counts, seed=seed)
            found = (stop.samples, stop.worth, fixed.expected(stop.samples), by_chance, stop.tau)
            values = dict(zip(values, found, strict=True))
    return values | {f"{name}/all": pool.best()}


def run(config: Config, seed: int) -> Figures:
    """One start model, its judges, and every search on the same held-out prompts."""
    from plaudit.search.pools import Pool
    from plaudit.worlds.self_judged import SelfJudgedSorting

    world, budget = SelfJudgedSorting(), Budget()
    generator = world.base("half", seed)
    known, prompts = judges(config, world, generator, seed), world.prompts("test", config.prompts, seed)
    judge = known["self-evaluation"]

    def searched(name: str, at: int = 1) -> SearchResult:
        arm = arms(config, generator, judge, at)[name]
        found: SearchResult = arm.search.run(generator, judge, prompts, budget=budget, seed=derive_seed(seed, name))
        return found

    first = searched("fixed")
    fixed = Pool.of(first, prompts, world.truth)
    values: dict[str, float | None] = {"one sample": fixed.mean(), "self-evaluation/best": fixed.best()}
    for name in ("win only", "untaught", "log-probability"):
        values[f"{name}/best"] = fixed.best(values=fixed.judged(known[name].score(fixed.batch)))
    values["any right"] = sum(max(row) for row in fixed.worth) / len(prompts)
    for name in ("self-evaluation", "win only", "untaught"):
        values |= believed(world, fixed, known[name], name)
    curves = {f"{PANEL} fixed": [(float(n), fixed.expected(n)) for n in range(1, config.n + 1)]}
    for name in ("one temperature", "annealed", "reversed"):
        pool = fixed if name == "one temperature" else Pool.of(searched(name), prompts, world.truth)
        values |= adaptive(config, pool, fixed, name, seed)
        curves[f"{PANEL} {name}"] = [(stop.samples, stop.worth) for stop in pool.curve(config.taus)]
    values["tokens/fixed"] = tokens = first.spent["sampled_tokens"] / len(prompts)
    for name in ("pruned", "pruned at random"):
        result = searched(name, max(1, round(tokens / config.n / 2)))
        values[f"{name}/accuracy"] = float(world.truth.score(result.batch).values.nan_to_num(0.0).mean())
        values[f"tokens/{name}"] = result.spent["sampled_tokens"] / len(prompts)
    return Figures(seed, values, curves=curves, budget={name: float(amount) for name, amount in budget.spent.items()})


def share(one: Figures, of: str) -> float | None:
    """Which share of the gain of the best of all samples over one sample something keeps; None where there is no gain."""
    part, gain = one.difference(of, "one sample"), one.difference("self-evaluation/best", "one sample")
    return None if part is None or gain is None or gain <= 0 else part / gain


def check(figures: Sequence[Figures]) -> list[Check]:
    """(i) to (iii) of the card."""

    gain, shown = partial(differences, figures), partial(figures_beside, figures)
    lost = [None if (kept := share(one, "pruned/accuracy")) is None else 1.0 - kept for one in figures]
    best = shown(("one sample", *(f"{name}/best" for name in JUDGES), "any right"))
    stops = shown(f"{name}/{figure}" for name in ("annealed", "reversed", "one temperature") for figure in FIGURES)
    return [
        check_mean("(i) best of 16", "accuracy of best-of-16 by self-evaluation less that of one sample",
                   gain("self-evaluation/best", "one sample"), ">=", 0.05, beside=best),
        check_mean("(ii) gain kept", "share of that gain that the adaptive search keeps with at most 3 samples a prompt",
                   [share(one, "annealed/accuracy") for one in figures], ">=", 0.5, beside=stops),
        check_seeds("(ii) equal cost", "adaptive search less fixed best-of-n with the same mean number of samples",
                    gain("annealed/accuracy", "annealed/fixed"), ">=", 0.01, share=2 / 3),
        check_mean("(iii) pruning", "share of the gain that is lost by dropping half of the samples at half length",
                   lost, "<=", 0.2, beside=shown(PRUNED)),
        check_mean("(iii) at random", "accuracy with pruning by self-evaluation less that with pruning at random",
                   gain("pruned/accuracy", "pruned at random/accuracy"), ">", 0.0),
    ]  # fmt: skip


PUBLISHED = (
    Published("Llama-3.1-8B, AlpacaEval", "win rate, best of 16 by self-evaluation", 34.0, "%"),
    Published("Llama-3.1-8B, GSM8K", "accuracy, one sample", 84.0, "%", ours="one sample"),
    Published("Llama-3.1-8B, GSM8K", "accuracy, best of 16 by self-evaluation", 91.0, "%", ours="self-evaluation/best"),
    Published("Llama-3.1-8B", "share of the gain kept at 1.2 samples a prompt", 0.74),
)
RECIPE = Recipe(
    16,
    "adaptive-compute",
    "The model predicts whether starting over would help; samples go only where it would.",
    Config,
    run,
    check,
    PUBLISHED,
    source="Manvi, Singh and Ermon 2024, arXiv 2410.02725",
    needs={"accelerate": "train"},
    arms=arms,
    notes=(
        "The card's other task, sorting (3 to 8 digits), with 3 layers of width 96. On its first, chains of sums, a start model "
        "right 46 times in 100 learned no self-evaluation: AUROC 0.53 after 12000 rows. It was left before any search had run.",
        "A run with 3 to 12 digits, 8000 rows failed: AUROC 0.54 held out, 0.56 on its own rows (under-fitted). Seed 0: 0.80 "
        "by 48000 rows, 0.87 on shorter ones; the card's 4000 prompts of 2 samples stayed at 0.58. Hence 12000 prompts of 4.",
        "Its loss leaves a plateau late (near update 850 of 1500 in that trial), not equally far each time: the same size with "
        "another order of rows, and beginnings taught after it, came to 0.70 on seed 0 of the recipe itself.",
        "Ties at |R1 - R2| <= eps: the card's strict R1 > R2 - eps would call equal rewards lost by both at eps = 0.",
        "Fixed best-of-n: expectation over all draws of n of 16 samples. tau: the largest with at most 3 samples a test prompt.",
        "A finished response without text has no score and is never chosen (card: p = 0). The adapted model reads it all anew.",
    ),
)
