"""28 · Libra: a balanced bench of right and wrong answers, judges that think or do not, and what each is worth to its user.

New parts: `curation.judging_items` (V2V), `curation.traces`, `trust.benchmarks.judging_bench`, `rewards.rules.length.Overlong`,
`trust.downstream.usefulness_correlation`. World: `worlds.digit_sums`, sums modulo 10; judges see the final digit alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from plaudit.fitting import derive_seed
from plaudit.recipes.base import Arm, Check, Figures, Published, Recipe, RecipeConfig, as_premise, check_mean
from plaudit.recipes.frames import differences, figures_beside
from plaudit.recipes.judges import Judged, Use, bench_figures, fitted, reinforced
from plaudit.types import Budget, Context

if TYPE_CHECKING:
    from plaudit.curation.judging_items import JudgingItem
    from plaudit.worlds.digit_sums import DigitSums

ARMS = ("no thinking", "thinking", "rl", "rl without penalty", "scalar")
PLAIN, THINK, RL, LONG, SCALAR = ARMS
VERIFIER = "verifier"


@dataclass(frozen=True)
class Config(RecipeConfig):
    """levels: shares of right samples at which copies of the solver are kept. bench, training: (questions, samples of each).

    steps, rows: of every supervised fit. updates, prompts, group: of GRPO. expected, longest: tokens of the length penalty.
    unlabelled, answers, votes: questions of DPO, samples of each, verdicts a sample; dpo_steps: updates.
    """

    levels: tuple[float, float, float] = (0.25, 0.5, 0.8)
    solver_steps: int = 180
    bench: tuple[int, int] = (200, 8)
    training: tuple[int, int] = (1200, 6)
    steps: int = 200
    rows: int = 64
    learning_rate: float = 3e-3
    traces: int = 2
    updates: int = 120
    prompts: int = 8
    group: int = 8
    rl_rate: float = 3e-4
    expected: int = 9
    longest: int = 22
    unlabelled: int = 1000
    answers: int = 4
    votes: int = 3
    dpo_steps: int = 32
    dpo_rate: float = 1e-4
    held_out: int = 300


def arms(config: Config, world: DigitSums, items: Sequence[JudgingItem], seed: int, budget: Budget) -> dict[str, Arm]:
    """The five judges, all from the same random weights, on the same items and for as many supervised steps."""
    from plaudit.curation.judging_items import items_to_batch
    from plaudit.curation.traces import build_traces
    from plaudit.generators.language.engine import LiveEngine
    from plaudit.recipes.pairs import fit_pairs
    from plaudit.rewards.generative import Judge
    from plaudit.rewards.generative.judging_prompts import VerdictReward, judging_prompts
    from plaudit.rewards.rules import Overlong
    from plaudit.worlds.digit_judges import right_above_wrong, untrained_scalar
    from plaudit.worlds.digit_sums import Checker

    base = world.untrained(derive_seed(seed, "judges"))
    batch, gold = items_to_batch(items)
    asked = judging_prompts(world.contract, batch, gold)
    verdict = VerdictReward(world.contract)
    supervised: dict[str, Any] = {"steps": config.steps, "rows": config.rows, "rate": config.learning_rate, "seed": seed}
    bare = replace(asked, responses=[">+" if label else ">-" for label in gold])
    traces, _ = build_traces(Checker(), asked, verdict, samples=config.traces, per_item=None, drop_always_right=False, seed=seed)
    beside = world.demonstrations(config.steps * config.rows, derive_seed(seed, "beside"))
    plan: dict[str, Any] = {"updates": config.updates, "prompts": config.prompts, "group": config.group, "rate": config.rl_rate}
    thinking = fitted(base, traces, beside, **supervised)
    models = {PLAIN: fitted(base, bare, **supervised), THINK: thinking}
    for name, reward in ((RL, verdict + Overlong(config.expected, config.longest)), (LONG, verdict)):
        models[name] = reinforced(thinking, reward, asked, world.judging, **plan, seed=seed, budget=budget)
    found = {name: Arm(model, Judge(LiveEngine(model), world.contract, name=name, batch_size=4096,
                                    sampling=None if name == PLAIN else world.judging))
             for name, model in models.items()}  # fmt: skip
    scalar, pairs = untrained_scalar(world, base, seed), right_above_wrong(items, 4, seed)
    assert pairs.preferences is not None
    epochs = max(1, round(config.steps * config.rows / 2 / len(pairs.preferences)))
    fit_pairs(scalar, pairs, epochs=epochs, batch=config.rows // 2, rate=config.learning_rate / 2, seed=seed)
    return {**found, SCALAR: Arm(reward=scalar)}


def run(config: Config, seed: int) -> Figures:
    """Solvers, items, five judges, the bench, and DPO with each."""
    from plaudit.curation.judging_items import decontaminated, items_to_batch
    from plaudit.rewards.generative.voting import Votes
    from plaudit.trust.benchmarks.judging_bench import judging_bench
    from plaudit.trust.downstream import usefulness_correlation
    from plaudit.worlds.digit_judges import SEEN, UNSEEN, final_scores, items_of, solvers_of
    from plaudit.worlds.digit_sums import DigitSums, right_share

    world, budget, context = DigitSums(), Budget(), Context(seed=seed)
    solvers = solvers_of(world, config.levels, steps=config.solver_steps, rows=config.rows, seed=seed)
    bench, report = items_of(world, solvers, "test", config.bench, seed)
    learned, _ = items_of(world, {name: solvers[name] for name in SEEN}, "train", config.training, seed)
    learned, leaks = decontaminated(learned, bench, near=None)
    values: dict[str, float | None] = {"bench/items": float(report.items), "bench/one class": float(report.one_class)}
    values |= {"training/items": float(len(learned)), "training/leaked": float(len(leaks.leaked))}
    judges: dict[str, Judged] = {VERIFIER: (world.truth.score, 0.5)}
    for name, arm in arms(config, world, learned, seed, budget).items():
        told = judging_bench(arm.reward, bench, threshold=None if name == SCALAR else 0.5, context=context)
        values |= bench_figures(name, told, SEEN, UNSEEN)
        reward = arm.reward
        if name in (THINK, RL, LONG):
            said = reward.score(items_to_batch(bench)[0], context).verdicts or []
            values[f"{name}/length"] = sum(len(one[0].text or "") for one in said) / len(said)
            reward = Votes(reward, config.votes)
        judges[name] = (partial(final_scores, reward), told.threshold)
    held_out = world.prompts("test", config.held_out, derive_seed(seed, "held out"))
    use = Use(
        world.prompts("train", config.unlabelled, derive_seed(seed, "unlabelled")), config.answers, world.sampling,
        config.dpo_steps, config.dpo_rate, lambda solver: 100 * right_share(world, solver, held_out, 4, seed),
    )  # fmt: skip
    values |= use.gains(solvers["weak"], judges, seed, budget)
    budget.spend(**context.budget.spent)
    names = [{name: values[f"{name}/{what}"] for name in ARMS} for what in ("accuracy", "gain")]
    values["spearman"] = usefulness_correlation(*names).r
    return Figures(seed, values, budget=dict(budget.spent))


def check(figures: Sequence[Figures]) -> list[Check]:
    """Thinking pays, the penalty shortens without loss, the judge is of use, the bench says who is, and no writer is needed."""
    accuracy = figures_beside(figures, ARMS, "{}/accuracy")
    lengths = figures_beside(figures, (THINK, RL, LONG), "{}/length")
    gains = figures_beside(figures, (VERIFIER, *ARMS), "{}/gain")

    def margin(one: Figures) -> float | None:
        both = [one.difference(f"{name}/accuracy", f"{PLAIN}/accuracy") for name in (THINK, RL)]
        return None if None in both else min(both)  # type: ignore[type-var]

    def ratio(one: Figures, over: str, under: str) -> float | None:
        a, b = one[over], one[under]
        return None if a is None or b is None or b <= 0 else a / b

    return [
        as_premise(check_mean("premise", "points that DPO with the true verifier gains the weak solver",
                              [one[f"{VERIFIER}/gain"] for one in figures], ">", 0.0, beside=gains)),
        check_mean("(a) thinking", "bench accuracy, the smaller of thinking and rl, minus no thinking, points",
                   [margin(one) for one in figures], ">=", 5.0, beside=accuracy),
        check_mean("(b) shorter", "mean length of rl's verdicts over that without the penalty",
                   [ratio(one, f"{RL}/length", f"{LONG}/length") for one in figures], "<=", 0.9, beside=lengths),
        check_mean("(b) as good", "bench accuracy, rl without the penalty minus rl, points",
                   differences(figures, f"{LONG}/accuracy", f"{RL}/accuracy"), "<=", 1.0),
        check_mean("(c) half of the verifier", "DPO gain with rl over that with the verifier",
                   [ratio(one, f"{RL}/gain", f"{VERIFIER}/gain") for one in figures], ">=", 0.5, beside=gains),
        check_mean("(c) more than no thinking", "DPO gain with rl minus that with no thinking, points",
                   differences(figures, f"{RL}/gain", f"{PLAIN}/gain"), ">", 0.0),
        check_mean("(d) the bench tells", "Spearman's correlation of bench accuracy and DPO gain over the five judges",
                   [one["spearman"] for one in figures], ">=", 0.6),
        check_mean("(e) another writer", "rl's bench accuracy on writers it learned from minus on one it did not, points",
                   differences(figures, f"{RL}/seen", f"{RL}/unseen"), "<", 10.0),
    ]  # fmt: skip


RECIPE = Recipe(
    28, "libra", "Benchmark that asks judges whether hard maths answers are right, and a judge trained on that.",
    Config, run, check,
    (
        Published("non-thinking language models as judges, lowest", "Libra Bench accuracy", 55.1, "%", ours=f"{PLAIN}/accuracy"),
        Published("non-thinking language models as judges, highest", "Libra Bench accuracy", 69.1, "%"),
        Published("thinking language models as judges, lowest", "Libra Bench accuracy", 73.7, "%", ours=f"{THINK}/accuracy"),
        Published("thinking language models as judges, highest", "Libra Bench accuracy", 78.7, "%"),
    ),
    source="Libra, arXiv 2507.21645; the figures as public notes on it give them",
    needs={"accelerate": "train"},
    notes=(
        "Questions ask for the check digit of six digits modulo 10, of one length, instead of chains of 5 to 7 terms with signs.",
        "Judges see the final digit alone, as the paper's see the final part: with the working, one token could check all steps.",
        "All judges start from the same random weights: from a solver's, tried first, sums at another distance are learned late.",
        "Thinking judges begin their sum with the answer and end at 0 where it is right. With the answer added last, subtracted "
        "or compared, as tried before, they stayed at chance in up to 150 steps: that one step was not learned.",
        "Half of the traces check twice, at random. Only after a check that is not 0, on one seed: rl 10 points lower.",
        "Items whose traces are all right are kept, unlike on the card: nearly all traces of wrong answers are right.",
        "Thinking judges write at temperature 1, on the bench too; the verdict token of the others is the likelier one.",
        "Bradley-Terry scores are read at their best threshold on the bench itself, which favours them; DPO pairs use it too.",
        "Answers without a digit are no items; equal final digits of a solver to a question are one item.",
    ),
    arms=arms,
)  # fmt: skip
