"""What recipes about judges share: fitted on traces, reinforced on their verdicts, read off a bench, and put to use by DPO."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plaudit.fitting import FitConfig, derive_seed
from plaudit.fitting.seeds import cycled
from plaudit.recipes.base import Arm
from plaudit.recipes.offline import learn_from
from plaudit.recipes.updates import Updates, improve
from plaudit.types import Batch, Budget, Preferences, Reward, Scores, Trajectories

if TYPE_CHECKING:
    from plaudit.generators.language import LanguageGenerator
    from plaudit.trust.benchmarks.judging_bench import JudgingReport

Judged = tuple[Callable[[Batch], Scores], float]
"""(samples -> scores, the threshold above which a sample is judged right)."""


def fitted(
    base: LanguageGenerator, traces: Batch, beside: Batch | None = None, *, steps: int, rows: int, rate: float, seed: int
) -> LanguageGenerator:
    """A copy of the base after so many updates of `rows` traces, and as many rows of other reasoning data where there is any."""
    from plaudit.rewards.generative.fit_traces import fit_judge_on_traces

    judge = copy.deepcopy(base)
    fit = FitConfig(learning_rate=rate, schedule="cosine", warmup_steps=10)
    used = traces.select(cycled(len(traces), steps * rows, derive_seed(seed, "traces")))
    fit_judge_on_traces(judge, used, fit, beside=beside, batch_rows=rows if beside is None else 2 * rows, seed=seed)
    return judge


def reinforced(
    start: LanguageGenerator, reward: Reward, asked: Batch, how: Any, *, updates: int, prompts: int, group: int, rate: float,
    seed: int, budget: Budget,
) -> LanguageGenerator:  # fmt: skip
    """A copy of the judge after GRPO on its own verdicts. asked: judging prompts, of which each update takes some."""
    from plaudit.objectives.policy_gradient import grpo

    policy = copy.deepcopy(start)

    def drawn(seed: int) -> Batch:
        return asked.select(cycled(len(asked), prompts, seed))

    plan = Updates(updates, drawn, group, how, FitConfig(learning_rate=rate))
    improve(Arm(policy, reward, grpo()), plan, seed, budget=budget)
    return policy


def bench_figures(name: str, bench: JudgingReport, seen: Sequence[str], unseen: str) -> dict[str, float | None]:
    """In per cent: accuracy, that on the writers whose answers judges learned from and on another, items without a verdict."""

    def share(found: Any) -> float | None:
        return None if found is None or found.estimate is None else 100 * found.estimate.mean

    known = [value for writer in seen if (value := share(bench.by_generator.get(writer))) is not None]
    return {
        f"{name}/accuracy": share(bench.accuracy),
        f"{name}/seen": sum(known) / len(known) if len(known) == len(seen) else None,
        f"{name}/unseen": share(bench.by_generator.get(unseen)),
        f"{name}/invalid": 100 * bench.invalid_share,
    }


@dataclass(frozen=True)
class Use:
    """DPO with judges. questions: unlabelled ones. answers: samples of each. steps, rate: of DPO, whose beta is 0.1.

    measure: what a solver is worth, in points. pairs: the most of a question.
    """

    questions: Batch
    answers: int
    how: Any
    steps: int
    rate: float
    measure: Callable[[LanguageGenerator], float]
    pairs: int = 2

    def gains(
        self, solver: LanguageGenerator, judges: Mapping[str, Judged], seed: int, budget: Budget
    ) -> dict[str, float | None]:
        """What DPO on the solver's own answers gains, and how many pairs there were, by who judged them: all judge the same."""
        import torch

        from plaudit.curation.judging_items import pairs_from_judge
        from plaudit.objectives.preference import dpo
        from plaudit.rewards.rules import as_reward

        with torch.no_grad():
            drawn = solver.rollout(self.questions, self.answers, how=self.how, seed=derive_seed(seed, "answers"))
        before, values = self.measure(solver), dict[str, float | None]()
        fit = FitConfig(learning_rate=self.rate, schedule="cosine", total_steps=self.steps)
        known = as_reward(lambda response: None, name="known", settings={})  # noqa: ARG005  # the scores are there already
        for name, (judge, at) in judges.items():

            def edges(t: Trajectories, scores: Scores, at: float = at) -> Preferences:
                return pairs_from_judge(t.batch, scores, at, at, per_group=self.pairs, seed=seed)[0]

            trained = Arm(copy.deepcopy(solver), known, dpo(0.1, edges=edges))
            counted = learn_from(trained, drawn, judge(drawn.batch), fit=fit, per_draw=self.steps, seed=seed, budget=budget)
            values[f"{name}/gain"] = self.measure(trained.generator) - before
            values[f"{name}/pairs"] = counted.get("edges", 0.0)
        return {"before": before, **values}
