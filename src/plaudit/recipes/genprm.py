"""08 · GenPRM: a process reward model that reasons, runs code and then says yes or no to a step.

New parts: `plaudit.curation.progress` (labels by relative progress), `plaudit.rewards.generative.steps` (the step judge),
`plaudit.engines.sandbox`. World: `plaudit.worlds.faulty_chains`. A: labels out of rollouts against the truth. B: judges of steps,
trained on the same labelled steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from plaudit.curation.progress import Mode, mc_values, rpe_labels
from plaudit.fitting import FitConfig, derive_seed
from plaudit.recipes.base import (
    Arm,
    Check,
    Figures,
    Published,
    Recipe,
    RecipeConfig,
    as_premise,
    check_mean,
    check_seeds,
    figure_over_seeds,
)  # fmt: skip
from plaudit.recipes.frames import differences, figures_beside
from plaudit.trust.benchmarks.steps import balanced_accuracy, first_error_scores
from plaudit.types import Budget, Context, Sampling
from plaudit.worlds.base import Decoder
from plaudit.worlds.faulty_chains import DEVIATION, FaultyChains, each_step, flawed_half, large_chains, marked, step_spans
from plaudit.worlds.step_judging import CHARACTERS, FORM, step_traces

if TYPE_CHECKING:
    from plaudit.engines.sandbox import Sandbox
    from plaudit.generators.language import LanguageGenerator

LABELS: Mapping[str, tuple[Mode, float]] = {
    "hard": ("hard", 0.0), "difference -0.3": ("difference", 0.3), "difference -0.5": ("difference", 0.5),
    "RPE 0.5": ("ratio", 0.5), "RPE 0.8": ("ratio", 0.8), "RPE 1.0": ("ratio", 1.0),
}  # fmt: skip


@dataclass(frozen=True)
class Config(RecipeConfig):
    """solutions, samples: of A, half wrong in their final answer, and continuations of each prefix. steps, epochs, batch,
    learning_rate: what both judges are trained with. judged: held-out solutions, half with an error. votes: of Maj@N."""

    world: Mapping[str, Any] = field(default_factory=dict)
    solutions: int = 150
    samples: int = 32
    steps: int = 5000
    epochs: int = 5
    batch: int = 32
    learning_rate: float = 3e-3
    judged: int = 200
    votes: int = 8
    temperature: float = 0.6
    decoder: Decoder = field(default_factory=lambda: Decoder(layers=2, width=64, heads=4, context=96))


def labels_figures(config: Config, seed: int, budget: Budget) -> dict[str, float | None]:
    """A: balanced accuracy of each way to label, over the steps up to each solution's first error."""
    world = FaultyChains(**config.world)
    policy = world.base("start", 0)
    prompts = world.prompts("test", config.solutions, derive_seed(seed, "problems"))
    drawn = policy.rollout(prompts, 4, how=world.sampling, seed=derive_seed(seed, "solutions")).batch
    right = (world.truth.score(drawn).values > 0.5).tolist()
    budget.spend(samples=len(drawn), completion_tokens=float(sum(drawn.lengths or ())))
    chosen = flawed_half(marked(drawn), right, config.solutions)
    upto = [_until_error(own) for own in chosen.extras["true"]]
    values = mc_values(policy, chosen, world.truth, samples=config.samples, how=world.sampling, upto=upto,
                       seed=derive_seed(seed, "values"), ctx=Context(budget=budget))  # fmt: skip
    found: dict[str, float | None] = {"policy/solved": sum(right) / len(right)}
    alive = [(mc, own[: len(mc) - 1]) for mc, own in zip(values, chosen.extras["true"], strict=True) if mc[0] > 0]
    truth = [step for _, own in alive for step in own]
    for name, (mode, eps) in LABELS.items():
        said = [step for mc, _ in alive for step in rpe_labels(mc, eps, mode).tolist()]
        found[f"labels/{name}"] = balanced_accuracy(said, truth)
    after_error = [float(mc[-1]) for mc, own in alive if not own[-1]]
    found["labels/recoverable errors"] = sum(value > 0 for value in after_error) / len(after_error) if after_error else None
    found["labels/steps"] = float(len(truth))
    return found


def _until_error(truth: Sequence[bool]) -> int:
    """How many steps there are up to the first wrong one, itself included."""
    return next((place + 1 for place, right in enumerate(truth) if not right), len(truth))


def arms(config: Config, seed: int, sandbox: Sandbox) -> dict[str, Arm]:
    """The judge that says yes or no at once; the one that reasons and runs code, trained on the same steps, alone, in votes, and
    without running its code."""
    from plaudit.generators.language.engine import LiveEngine
    from plaudit.rewards.generative.steps import StepJudge

    solutions = large_chains(config.steps // 5, derive_seed(seed, "training"), flawed=1.0)
    steps, truth = (column[: config.steps] for column in each_step(solutions))
    found: dict[str, Arm] = {}
    ways: dict[str, dict[str, Any]] = {
        "direct": {},
        "generative": {},
        "Maj@N": {"votes": config.votes},
        "not run": {"execute": False},
    }
    for name, settings in ways.items():
        generative = name != "direct"
        model = found["generative"].generator if "generative" in found else taught(config, steps, truth, generative, seed)
        judge = StepJudge(LiveEngine(model), sandbox, form=FORM, analyze=generative, verify=generative,
                          sampling=Sampling(max_tokens=48, temperature=config.temperature), max_code_rounds=1,
                          share_names=False, split=step_spans, batch_size=64, **settings)  # fmt: skip
        found[name] = Arm(generator=model, reward=judge)
    return found


def taught(config: Config, steps: Sequence[Any], truth: Sequence[Any], generative: bool, seed: int) -> LanguageGenerator:
    """A tiny decoder that has learned to answer about these steps. It learns what executed code wrote as well, so that the judge
    whose code is not run knows what should stand there."""
    from plaudit.fitting.imitation import fit_to_samples
    from plaudit.generators.language import tiny_decoder

    model = tiny_decoder(CHARACTERS, seed=derive_seed(seed, "judge"), deviation=DEVIATION, **asdict(config.decoder))
    traces = replace(step_traces(steps, truth, generative=generative), extras={})
    updates = config.epochs * -(-len(steps) // config.batch)
    fit = FitConfig(learning_rate=config.learning_rate, schedule="cosine", warmup_steps=20, total_steps=updates)
    fit_to_samples(model, traces, fit, batch_rows=config.batch, epochs=config.epochs, seed=derive_seed(seed, "order", generative))
    return model


def judge_figures(config: Config, seed: int, budget: Budget) -> dict[str, float | None]:
    """B: the first error of held-out solutions, by each judge."""
    from plaudit.engines.sandbox import Limits, Sandbox

    solutions = large_chains(config.judged, derive_seed(seed, "held out"))
    found: dict[str, float | None] = {}
    with Sandbox(Limits(cpu_seconds=2, wall_seconds=20), strict=False) as sandbox:
        for name, arm in arms(config, seed, sandbox).items():
            scores = arm.reward.score(solutions, Context(seed=derive_seed(seed, name), budget=budget))
            said = [None if math.isnan(place) else int(place) for place in scores.parts["first_error"].tolist()]
            measured = first_error_scores(said, solutions.extras["first_error"])
            found |= {f"{name}/{figure}": value for figure, value in measured.items()}
            found[f"{name}/readable"] = float(scores.parts["votes"].mean())
    return found


def run(config: Config, seed: int) -> Figures:
    """Both parts of the check."""
    budget = Budget()
    values = {**labels_figures(config, seed, budget), **judge_figures(config, seed, budget)}
    return Figures(seed, values, budget=dict(budget.spent))


def check(figures: Sequence[Figures]) -> list[Check]:
    """Labels by progress beat hard ones where errors can be recovered from; the judge that runs code beats the others."""
    labels = figures_beside(figures, LABELS, "labels/{}")
    judges = figures_beside(figures, ("direct", "generative", "Maj@N", "not run"), "{}/F1")
    gain = partial(differences, figures)
    return [
        as_premise(check_mean("premise of A", "share of first errors after which the policy can still end right (MC above 0)",
                              [one["labels/recoverable errors"] for one in figures], ">=", 0.1,
                              beside={"solved by the policy": figure_over_seeds(figures, "policy/solved")})),
        check_mean("A: labels", "balanced accuracy of step labels, RPE 0.8 minus hard",
                   gain("labels/RPE 0.8", "labels/hard"), ">=", 0.02, beside=labels),
        check_seeds("B: generative", "F1 of the first error, generative minus direct", gain("generative/F1", "direct/F1"),
                    ">=", 0.05, share=1.0, beside=judges),
        check_seeds("B: votes", "F1 of the first error, mean of eight answers minus one answer",
                    gain("Maj@N/F1", "generative/F1"), ">=", 0.0, share=1.0),
        check_seeds("B: execution", "F1 of the first error, code run minus code not run", gain("generative/F1", "not run/F1"),
                    ">=", 0.0, share=1.0),
    ]  # fmt: skip


PUBLISHED = (
    Published("GenPRM-7B, Maj@8", "ProcessBench F1, average", 80.5, "%", ours="Maj@N/F1"),
    Published("GenPRM-7B, one answer", "ProcessBench F1, average", 75.2, "%", ours="generative/F1"),
    Published("7B, yes token on the same data", "ProcessBench F1, average", 60.0, "%", ours="direct/F1"),
    Published("GenPRM-7B, Maj@8, code not run", "ProcessBench F1, average", 79.9, "%", ours="not run/F1"),
    Published("GenPRM-7B, hard labels", "ProcessBench F1, average", 73.2, "%"),
)
RECIPE = Recipe(
    8, "genprm", "Process reward model that reasons and runs code before it says yes or no to a step.",
    Config, run, check, PUBLISHED,
    source="GenPRM: Scaling Test-Time Compute of Process Reward Models via Generative Reasoning, arXiv 2504.00891",
    needs={"accelerate": "train", "reasoning_gym": "worlds"},
    notes=(
        "A: steps up to the first error, itself included, are compared; of later ones no label is agreed upon. Both halves are "
        "samples of the policy, by the final answer; problems that it never solves are left out, as the card says.",
        "Decoders of 2 layers and width 64, where the card has 4 and 128, 150 solutions in A and 200 in B instead of 300: what "
        "two cores can do. One policy for all seeds, which draw other problems and rollouts; true partial results lie between 0 "
        "and 9.",
        "B: the judge sees the step alone, analyses it in one token, and its code is the step as a question to Python. It learns "
        "the output of code too (the card masks it), or the judge whose code is not run would not know what to write.",
        "The published figure without execution is of Maj@8; ours is of one answer, like the one that it is compared with.",
    ),
    arms=arms,
)  # fmt: skip
