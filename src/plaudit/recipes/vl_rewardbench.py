"""31 · VL-RewardBench: a hard pairwise benchmark for vision-language judges, made by judges that fail, and what it predicts.

New parts: `plaudit.trust.benchmarks.voting` and `hard_filter`, `plaudit.trust.downstream`. World: `plaudit.worlds.scene_pairs`,
answers about rendered scenes with exact labels; the judges are tiny vision-language models (`plaudit.worlds.scene_judge`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plaudit.fitting import derive_seed
from plaudit.recipes.base import Arm, Check, Figures, Published, Recipe, RecipeConfig, check_mean, figure_over_seeds
from plaudit.types import Budget, Context

if TYPE_CHECKING:
    from plaudit.data import Row
    from plaudit.judging.results import RowResult
    from plaudit.trust.benchmarks.voting import VotingPoint
    from plaudit.worlds.scene_judge import SceneJudge

KS = (1, 3, 5, 7, 9)
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Config(RecipeConfig):
    """courses: (width, steps at which a judge is taken); together the eight judges. mid: place of the one of check (a).

    lessons: pairs that a course of training draws from. weak: width and steps of the filter's own judges. calls: stored a pair.
    more: extra steps of check (d).
    """

    raw: int = 900
    courses: tuple[tuple[int, tuple[int, ...]], ...] = ((16, (100, 300, 1000)), (32, (100, 300, 800)), (64, (150, 500)))
    lessons: int = 8000
    mid: int = 4
    weak: tuple[int, int] = (16, 150)
    weak_judges: int = 3
    weak_calls: int = 5
    calls: int = 10
    questions: int = 200
    candidates: int = 8
    more: int = 300


def judges(config: Config, seed: int) -> list[SceneJudge]:
    """The eight judges: of three widths, taken from training at different steps."""
    from plaudit.worlds.scene_judge import taught, untrained

    found: list[SceneJudge] = []
    for width, stops in config.courses:
        learner = untrained(width, derive_seed(seed, "weights"))
        found += taught(learner, stops, derive_seed(seed, "course", width), rows=config.lessons)
    return found


def arms(config: Config, seed: int) -> dict[str, Arm]:
    """Every judge by name, those of the filter included."""
    from plaudit.worlds.scene_judge import taught, untrained

    width, steps = config.weak
    found = {judge.name: Arm(reward=judge) for judge in judges(config, seed)}
    for number in range(config.weak_judges):
        own = derive_seed(seed, "weak", number)
        found[f"weak {number}"] = Arm(reward=taught(untrained(width, own), [steps], own, rows=config.lessons)[0])
    return found


def judged(judge: SceneJudge, rows: Sequence[Row], calls: int, seed: int, budget: Budget) -> list[RowResult]:
    """The rows judged so many times."""
    from plaudit.trust.benchmarks.run import judge_rows
    from plaudit.trust.benchmarks.spec import load_benchmark

    context = Context(seed=derive_seed(seed, "calls"), budget=budget)
    return judge_rows(load_benchmark("vl_rewardbench"), judge, rows, context=context, votes=calls)[0]


def _mean(found: object) -> float | None:
    estimate = getattr(found, "estimate", None)
    return None if estimate is None else float(estimate.mean)


def _amplified(curves: dict[str, list[VotingPoint]]) -> float | None:
    """Share of (judge, group) cells away from 0.5 at one vote that nine votes move further away."""
    from plaudit.trust.benchmarks.voting import moved_from_half

    ends = [(curve[0].accuracy[group], curve[-1].accuracy[group]) for curve in curves.values() for group in curve[0].accuracy]
    moves = [moved for one, nine in ends if (moved := moved_from_half(_mean(one), _mean(nine))) is not None]
    return sum(moves) / len(moves) if moves else None


def worth(
    config: Config, eight: dict[str, SceneJudge], strict: dict[str, float | None], seed: int, budget: Budget
) -> dict[str, float | None]:
    """What best-of-N with each judge reaches on counting questions, and how it goes with the benchmark."""
    from plaudit.trust.downstream import best_of_n, downstream_correlation
    from plaudit.worlds.scene_pairs import counting_questions

    questions = counting_questions(config.questions, config.candidates, derive_seed(seed, "questions"))
    context = Context(seed=derive_seed(seed, "best of n"), budget=budget)
    reached = {name: _mean(best_of_n(judge, questions, ctx=context)) for name, judge in eight.items()}
    by_name = {f"{name}/best of n": value for name, value in reached.items()}
    return {"correlation": downstream_correlation(strict, reached).r, **by_name}


def of_mid(
    config: Config, judge: SceneJudge, raw: Sequence[Row], hard: Sequence[Row], seed: int, budget: Budget
) -> dict[str, float | None]:
    """The mid judge on all pairs and on the hard ones, and its errors there by type."""
    from plaudit.trust.benchmarks.voting import error_table, voted_at, voting_point

    everything = judged(judge, raw, config.calls, seed, budget)
    names = {row.id for row in hard}
    there = [result for result in everything if result.row.id in names]
    voted = [one for result in there if (one := voted_at(result, KS[-1], seed)) is not None]
    errors = {f"mid/errors, {tag}": _mean(share) for tag, share in error_table(voted).items()}
    ends = {"unfiltered": everything, "filtered": there}
    return {f"mid/{name}": _mean(voting_point(kept, KS[-1], seed=seed).strict) for name, kept in ends.items()} | errors


def run(config: Config, seed: int) -> Figures:
    """Train the judges, make the benchmark, measure it and what it predicts."""
    from plaudit.trust.benchmarks.hard_filter import hard_filter
    from plaudit.trust.benchmarks.voting import voting_curve, voting_point
    from plaudit.worlds.scene_judge import taught
    from plaudit.worlds.scene_pairs import scene_pairs

    budget, found = Budget(), {name: arm.reward for name, arm in arms(config, seed).items()}
    eight = {name: judge for name, judge in found.items() if not name.startswith("weak")}
    raw = scene_pairs(config.raw, derive_seed(seed, "raw"))
    weak = [judged(judge, raw, config.weak_calls, seed, budget) for name, judge in found.items() if name not in eight]
    hard = hard_filter(weak).rows
    curves = {name: voting_curve(judged(one, hard, config.calls, seed, budget), KS, seed=seed) for name, one in eight.items()}
    strict = {name: _mean(curve[-1].strict) for name, curve in curves.items()}
    values: dict[str, float | None] = {"hard pairs": float(len(hard)), "amplified": _amplified(curves)}
    for name, curve in curves.items():
        values |= {f"{name}/strict": strict[name], f"{name}/macro": curve[-1].macro}
        values |= {f"{name}/{group}": _mean(share) for group, share in curve[-1].accuracy.items()}
    values |= worth(config, eight, strict, seed, budget)
    values |= of_mid(config, list(eight.values())[config.mid], raw, hard, seed, budget)
    weakest = min(eight, key=lambda name: (strict[name] is None, strict[name]))
    after = taught(eight[weakest], [config.more], derive_seed(seed, "more"), rows=config.lessons)[0]
    again = voting_point(judged(after, hard, config.calls, seed, budget), KS[-1], seed=seed)
    values |= {"weakest/before": strict[weakest], "weakest/after": _mean(again.strict)}
    lines: dict[str, Points] = {
        f"strict accuracy by votes: {name}": [(point.k, share) for point in curve if (share := _mean(point.strict)) is not None]
        for name, curve in curves.items()
    }
    return Figures(seed, values, curves=lines, budget=dict(budget.spent), notes=[f"weakest judge: {weakest}"])


def check(figures: Sequence[Figures]) -> list[Check]:
    """(a) the filter stays hard, (b) the benchmark predicts best-of-N, (c) voting amplifies, (d) judging can be learned."""
    mid = {name: figure_over_seeds(figures, f"mid/{name}") for name in ("unfiltered", "filtered")}
    weakest = {name: figure_over_seeds(figures, f"weakest/{name}") for name in ("before", "after")}
    pairs = {"hard pairs": figure_over_seeds(figures, "hard pairs")}
    return [
        check_mean("(a) hard filter", "strict accuracy of a judge that was not in the filter, all pairs minus hard ones",
                   [one.difference("mid/unfiltered", "mid/filtered") for one in figures], ">=", 0.08, beside=mid | pairs),
        check_mean("(b) downstream", "r over eight judges of strict accuracy and best-of-8 accuracy on counting questions",
                   [one["correlation"] for one in figures], ">=", 0.8),
        check_mean("(c) voting", "share of (judge, group) cells further than 0.04 from 0.5 that nine votes move away from it",
                   [one["amplified"] for one in figures], ">=", 0.75),
        check_mean("(d) learning to judge", "strict accuracy of the weakest judge after 300 more steps, minus before",
                   [one.difference("weakest/after", "weakest/before") for one in figures], ">=", 0.08, beside=weakest),
    ]  # fmt: skip


RECIPE = Recipe(
    31,
    "vl-rewardbench",
    "A hard pairwise benchmark for vision-language judges, made by judges that fail, and what it predicts.",
    Config,
    run,
    check,
    (
        Published("16 judges", "r of benchmark and best-of-N accuracy on MMMU-Pro (above)", 0.9, ours="correlation"),
        Published("GPT-4o", "overall accuracy", 65.8, "%"),
        Published("GPT-4o", "macro accuracy", 62.4, "%"),
        Published("InternVL2-8B", "macro accuracy", 45.2, "%", ours="mid/filtered"),
        Published("LLaVA-OneVision-7B", "gain by critic training", 14.7, "points"),
    ),
    source="Li et al. 2024, VL-RewardBench; the figures of the card",
    needs={"accelerate": "train"},
    notes=(
        "Ours are shares of 1 of tiny judges on rendered scenes of four cells: they show the protocol, not how VLMs see.",
        "Figures are read at 9 of 10 stored calls. A weak judge of the filter fails a pair by the majority of 5 calls.",
        "Labels are exact by construction: nothing is verified by people, and no verdict is ever unparsed.",
    ),
    arms=arms,
)
