"""33 · FLR: an answer is good if a happy reply of the user is likelier than an unhappy one; no labels, nothing generated.

New parts: `rewards.generative.follow_up`, `rewards.generative.follow_ups`, `curation.mining`. World: `worlds.short_answers`.
The scorer is the embedded SmolLM2, as it comes and fitted on feedback with swapped roles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from plaudit.engines.precision import reduce_where_faster
from plaudit.fitting import FitConfig, derive_seed
from plaudit.recipes.base import Arm, Check, Figures, Published, Recipe, RecipeConfig, check_mean, figure_over_seeds
from plaudit.trust.agreement import Measured
from plaudit.types import Batch, Budget, Context, Engine, Request

if TYPE_CHECKING:
    from torch import Tensor

CATEGORIES = ("relevance", "correctness", "informativeness", "instruction_following")
SETS = {"a": "elsewhere", "b": "incomplete", "c": "wrong"}
"""What a right answer is compared with: one to another question, one that breaks off or declines, one with a wrong number."""
LINEAR = tuple(f"self_attn.{side}_proj" for side in "qkvo") + tuple(f"mlp.{part}_proj" for part in ("gate", "up", "down"))


@dataclass(frozen=True)
class Config(RecipeConfig):
    """cases: questions, each in all three sets. tuned_cases: the first of them, on which fitted scorers are compared.

    each: happy and unhappy follow-ups of each category. records, epochs, batch, learning_rate, layers: of the fit on feedback.
    model: a folder or hub id; None is the embedded model.
    """

    cases: int = 40
    tuned_cases: int = 20
    each: int = 5
    records: int = 240
    epochs: int = 2
    batch: int = 8
    learning_rate: float = 5e-4
    layers: tuple[int, ...] = (26, 27, 28, 29)
    model: str | None = None


def arms(config: Config, engine: Engine) -> dict[str, Arm]:
    """The reward of a model in both roles."""
    from plaudit.rewards.generative.follow_up import FollowUpReward
    from plaudit.rewards.generative.follow_ups import FollowUps

    bank = FollowUps.default().only(CATEGORIES, config.each)
    return {"user": Arm(reward=FollowUpReward(engine, bank)), "swapped": Arm(reward=FollowUpReward(engine, bank, role="swapped"))}


def untuned_engine(config: Config) -> Engine:
    """The model as it comes."""
    from plaudit.engines.default_model import ensure_default_model
    from plaudit.engines.local import LocalEngine

    engine = LocalEngine(config.model or ensure_default_model())
    reduce_where_faster(engine.causal_model)
    return engine


def tuned_engine(config: Config, seed: int) -> Engine:
    """The model fitted on feedback, by adapters in its top layers."""
    from plaudit.engines.lora import LoRA
    from plaudit.generators.language import LanguageGenerator
    from plaudit.generators.language.engine import LiveEngine
    from plaudit.rewards.generative.fit_follow_up import fit_follow_up_scorer
    from plaudit.worlds.short_answers import feedback_records

    adapter = LoRA(targets=tuple(f"layers.{layer}.{name}" for layer in config.layers for name in LINEAR))
    generator = LanguageGenerator(config.model or "smollm2", lora=adapter, seed=derive_seed(seed, "adapter"))
    records = feedback_records(config.records, "train", derive_seed(seed, "records"))
    fit = FitConfig(learning_rate=config.learning_rate, schedule="cosine", warmup_steps=5)
    fit_follow_up_scorer(generator, records, fit, batch_rows=config.batch, epochs=config.epochs, seed=seed)
    reduce_where_faster(generator.causal_model)
    return LiveEngine(generator)


def measured(name: str, values: Tensor | Sequence[float]) -> dict[str, float | None]:
    """Accuracy in each set."""
    from plaudit.worlds.short_answers import accuracy

    listed = [float(value) for value in values]
    return {f"{name}/{letter}": accuracy(listed, kind) for letter, kind in SETS.items()}


def examined(count: int) -> Batch:
    """Four answers to each of the test questions, which are the same for all seeds."""
    from plaudit.worlds.short_answers import answered, cases

    return answered(cases(count, "test", 0))


@cache
def untuned(config: Config) -> tuple[dict[str, float | None], dict[str, float]]:
    """What does not depend on a seed: the scorer as it comes with its ablations and baselines, computed once in a process."""
    from scipy.stats import binomtest

    batch, context, engine = examined(config.cases), Context(budget=Budget()), untuned_engine(config)
    reward = arms(config, engine)["user"].reward
    table, bank = reward.table(batch, context), reward.bank
    scores, first = table.scores(bank), range(4 * config.tuned_cases)
    texts = [str(text) for text in batch.require_responses()]
    chats = [Request(({"role": "user", "content": str(prompt)},)) for prompt in batch.prompts]
    answered = engine.log_probs(chats, texts, budget=context.budget)
    columns = {
        "untuned": scores.values,
        "untuned, first cases": scores.values[list(first)],
        "reversed bank": table.scores(bank.reversed()).values,
        "positive only": scores.parts["positive"],
        "negative only": -scores.parts["negative"],
        "one positive": table.values[:, table.sentences.index(bank.positive["correctness"][0])],
        "length": [float(len(text)) for text in texts],
        "answer's likelihood": [float(tokens.mean()) for tokens in answered.tokens],
        "untuned, swapped": arms(config, engine)["swapped"].reward.score(batch.select(first), context).values,
    }
    columns |= {f"only {name}": scores.parts[name] for name in CATEGORIES}
    values = {name: value for column, numbers in columns.items() for name, value in measured(column, numbers).items()}
    for letter in SETS:
        share = values[f"untuned/{letter}"]
        won = None if share is None else int(share * config.cases + 1e-9)  # a tie is no success
        values[f"untuned/{letter}/p"] = None if won is None else binomtest(won, config.cases, alternative="greater").pvalue
    return values, {name: float(count) for name, count in context.budget.spent.items()}


def run(config: Config, seed: int) -> Figures:
    """The untuned scorer on all cases (the same for every seed), and this seed's fitted one on the first of them."""
    values, spent = untuned(config)
    context = Context(budget=Budget())
    reward = arms(config, tuned_engine(config, seed))["swapped"].reward
    tuned = measured("tuned", reward.score(examined(config.tuned_cases), context).values)
    context.budget.spend(**(spent if seed == config.seeds[0] else {}))
    return Figures(seed, values | tuned, budget=dict(context.budget.spent))


def check(figures: Sequence[Figures]) -> list[Check]:
    """The scorer as it comes on (a) and (b), the worth of the unhappy follow-ups, and what fitting on feedback adds."""

    def column(name: str) -> list[float | None]:
        return [one[name] for one in figures]

    def gain(name: str, rival: str, sets: str) -> list[float | None]:
        pairs = [[one.difference(f"{name}/{letter}", f"{rival}/{letter}") for letter in sets] for one in figures]
        return [None if None in pair else sum(pair) / len(pair) for pair in pairs]  # type: ignore[arg-type]  # all are there

    def beside(letter: str, *names: str) -> dict[str, Measured]:
        return {name: figure_over_seeds(figures, f"{name}/{letter}") for name in names}

    found = []
    rivals = ("positive only", "negative only", "one positive", "length", "answer's likelihood", "reversed bank")
    for letter, what in (("a", "relevant or to another question"), ("b", "complete or not")):
        found.append(check_mean(f"({letter}) {what}", "accuracy of the untuned scorer", column(f"untuned/{letter}"), ">=", 0.65,
                                beside=beside(letter, *rivals)))  # fmt: skip
        found.append(check_mean(f"({letter}) by chance", "one-sided binomial p-value of that accuracy",
                                column(f"untuned/{letter}/p"), "<", 0.01))  # fmt: skip
    found.append(check_mean("difference", "mean accuracy on (a) and (b), minus that of happy follow-ups only",
                            gain("untuned", "positive only", "ab"), ">=", 0.0))  # fmt: skip
    found.append(check_mean("(c) right or wrong number", "accuracy of the untuned scorer", column("untuned/c"), ">", 0.5,
                            beside=beside("c", *rivals), decides=False))  # fmt: skip
    told = "accuracy after fitting on feedback minus before, on the same cases"
    for letter, threshold in (("c", 0.1), ("a", -0.03), ("b", -0.03)):
        found.append(check_mean(f"tuning, ({letter})", told, gain("tuned", "untuned, first cases", letter), ">=", threshold,
                                beside=beside(letter, "untuned, first cases", "untuned, swapped", "tuned")))  # fmt: skip
    found.append(check_mean("tuning, not the role", "(c) after fitting minus the unfitted model in the same role",
                            gain("tuned", "untuned, swapped", "c"), ">=", 0.1, decides=False))  # fmt: skip
    return found


PUBLISHED = (Published("Llama-3-8B-Instruct, untuned", "pairwise accuracy over 8 sets (about)", 65.0, "%", ours="untuned/a"),)
RECIPE = Recipe(
    33,
    "flr",
    "An answer is good if a happy follow-up is likelier than an unhappy one.",
    Config,
    run,
    check,
    PUBLISHED,
    source="Zhang et al. 2024, Aligning Language Models Using Follow-up Likelihood as Reward Signal, arXiv 2409.13948",
    needs={"accelerate": "train", "peft": "train"},
    notes=(
        "40 test questions instead of 120 pairs a set, a right answer of each against three others; fitted scorers on the first "
        "20, after 240 records instead of 400: sizes for two shared cores. Seeds have the same test cases, so the interval of "
        "what is not fitted has no width; 40 cases give about 15 points to either side.",
        "Questions are counts, sums in words, times and ages; with plain sums only, (a) was 9 of 16 in a trial.",
        "Adapters of rank 16, learning rate 5e-4: 60 updates at the card's 1e-4 would hardly move them. Trunk in bfloat16 while "
        "scoring where the processor has it; probabilities in float32.",
        "Mining and DPO, optional on the card, are not run. The published figure is the card's estimate (63 to 70 per cent).",
    ),
    arms=arms,
)
