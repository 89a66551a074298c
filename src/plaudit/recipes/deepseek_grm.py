"""17 · DeepSeek-GRM: a judge writes a principle, a critique and scores; it gains from more samples and a meta reward.

New parts: `rewards.generative.voting` (votes, and the meta reward that keeps the better half), `rewards.generative.critiques`
(when a critique is right), `rewards.learned.meta`, `trust.vote_curve`. World: `worlds.judged_sums`, sums with four results.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from plaudit.fitting import FitConfig, derive_seed
from plaudit.recipes.base import Arm, Check, Figures, Published, Recipe, RecipeConfig, as_premise, check_mean
from plaudit.recipes.frames import differences, figures_beside
from plaudit.trust.vote_curve import curve_of, pick_credit, pick_share
from plaudit.types import Batch, Budget, Context

if TYPE_CHECKING:
    from torch import Tensor

    from plaudit.generators.language import LanguageGenerator
    from plaudit.worlds.judged_sums import JudgedSums

PAPER = "DeepSeek-GRM-27B, mean of four benchmarks"


@dataclass(frozen=True)
class Config(RecipeConfig):
    """items: questions whose judgements are filtered, `writes` (N_RFT) each. judged: questions for the meta reward, judged once
    by the writer and once by the judge. scalar_items: questions of the Bradley-Terry head. updates: of GRPO (0: no such arm), of
    `group` judgements for each of `draw` questions."""

    wrong: float = 0.06
    items: int = 5500
    writes: int = 3
    epochs: int = 2
    learning_rate: float = 3e-3
    judged: int = 1500
    scalar_items: int = 1500
    votes: int = 16
    keep: int = 8
    temperature: float = 1.0
    updates: int = 150
    draw: int = 8
    group: int = 4
    kl: float = 0.04
    policy_rate: float = 3e-4
    held_out: int = 500


def fine_tuned(config: Config, world: JudgedSums, traces: Batch, seed: int) -> LanguageGenerator:
    """Rejective fine-tuning: a decoder from scratch imitates the kept traces."""
    from plaudit.curation.traces import select_traces
    from plaudit.worlds.base import Level, imitate

    kept, _, _ = select_traces(traces, world.truth.score(traces), per_item=None, seed=seed)
    generator = world.untrained(seed)
    imitate(generator, kept, Level(len(kept), config.epochs, 16, config.learning_rate), derive_seed(seed, "imitation"))
    return generator


def meta_data(config: Config, world: JudgedSums, judge: LanguageGenerator, traces: Batch, seed: int) -> tuple[Batch, list[bool]]:
    """Step 8: judgements that are right and wrong, of the writer and of the judge to be guided."""
    import torch

    from plaudit.types.joining import join_batches

    asked = world.questions("train", config.judged, derive_seed(seed, "judged"))
    how = replace(world.sampling, temperature=config.temperature)
    with torch.no_grad():
        own = judge.rollout(asked, 1, how=how, seed=derive_seed(seed, "own judgements")).batch
    parts = [traces.select(range(0, config.judged * config.writes, config.writes)), own]
    both = join_batches([Batch(part.prompts, responses=part.responses, references=part.references) for part in parts])
    return both, [value == 1.0 for value in world.truth.score(both).values.tolist()]


def scalar_head(
    config: Config, world: JudgedSums, judge: LanguageGenerator, held_out: Batch, right: Tensor, seed: int
) -> list[float]:
    """[accuracy, gain of all votes over one] of a Bradley-Terry head on the same trunk and the same kind of questions."""
    import torch

    from plaudit.recipes.pairs import fit_pairs
    from plaudit.rewards.adapters import preferences_from_gold
    from plaudit.rewards.learned.data import FitData
    from plaudit.rewards.learned.heads import BradleyTerryReward

    items = world.candidates("train", config.scalar_items, derive_seed(seed, "scalar"))
    head = BradleyTerryReward(world.backbone(judge), seed=seed)
    pairs = preferences_from_gold(items, [float(good) for good in items.references or ()])
    fit_pairs(head, FitData(items, pairs), epochs=1, batch=96, rate=1e-3, seed=seed)
    votes = torch.stack([head.score(held_out, Context(seed=vote)).values.reshape(right.shape) for vote in range(config.votes)])
    return [pick_share(votes[0], right), pick_share(votes.sum(0), right) - pick_share(votes[0], right)]


def reinforced(config: Config, world: JudgedSums, judge: LanguageGenerator, seed: int, budget: Budget) -> LanguageGenerator:
    """Step 6: GRPO on the rule's +1 and -1, held close to where it began."""
    from plaudit.objectives.policy_gradient import grpo
    from plaudit.recipes.updates import Updates, improve
    from plaudit.rewards.generative.critiques import CritiqueReward
    from plaudit.worlds.judged_sums import read_scores

    arm = Arm(copy.deepcopy(judge), CritiqueReward(read_scores), grpo(kl=config.kl))
    fit = FitConfig(learning_rate=config.policy_rate)
    plan = Updates(config.updates, lambda drawn: world.questions("train", config.draw, drawn), config.group, world.sampling, fit)
    improve(arm, plan, derive_seed(seed, "grpo"), budget=budget, reference=judge.frozen())
    return arm.generator  # type: ignore[no-any-return]


def run(config: Config, seed: int) -> Figures:
    """One judge by rejective fine-tuning, its votes on held-out questions, a scalar head, and the judge after GRPO."""
    import torch

    from plaudit.rewards.generative.voting import Votes
    from plaudit.rewards.learned.meta import fit_meta_reward
    from plaudit.types.keys import content_key
    from plaudit.worlds.judged_sums import JudgedSums, principle_shares

    world, budget = JudgedSums(config.wrong), Budget()
    traces = world.traces(config.items, config.writes, derive_seed(seed, "traces"))
    generator = fine_tuned(config, world, traces, seed)
    held_out = world.candidates("test", config.held_out, derive_seed(seed, "held out"))
    right = torch.tensor(held_out.references).reshape(config.held_out, -1) == 1
    meta = fit_meta_reward(world.backbone(generator), *meta_data(config, world, generator, traces, seed), seed=seed)
    key = content_key(config.to_json(), seed)
    guided = Votes(world.judge(generator, config.temperature, key), config.votes, "sum", meta=meta, keep=config.keep)
    scores = guided.score_group(held_out, Context(seed=derive_seed(seed, "votes"), budget=budget))
    said = [[float("nan") if one.value is None else one.value for one in row] for row in scores.verdicts or []]
    votes = torch.tensor(said).reshape(config.held_out, -1, config.votes).transpose(1, 2)
    cases = [(item, pick_credit(votes[item], right[item])) for item in range(config.held_out)]
    curve = curve_of(cases, config.votes, None, seed, strict=True)
    points = [(float(point.k), point.accuracy.estimate.mean) for point in curve if point.accuracy.estimate is not None]
    values: dict[str, float | None] = {f"vote@{k:.0f}": share for k, share in points}
    values["guided"] = pick_share(scores.values.reshape(right.shape), right)
    values["scalar"], values["scalar gain"] = scalar_head(config, world, generator, held_out, right, seed)
    stages = {"RFT": generator} | ({"RL": reinforced(config, world, generator, seed, budget)} if config.updates else {})
    for stage, policy in stages.items():
        ctx = Context(seed=seed, budget=budget)
        best, drawn = (world.judge(policy, warmth, f"{key}-{stage}").score_group(held_out, ctx) for warmth in (0.0, 1.0))
        values[f"{stage}/greedy"] = pick_share(best.values.reshape(right.shape), right)
        values[f"{stage}/invalid"] = 1 - float(drawn.ok.double().mean())
        values |= {f"{stage}/{name}": share for name, share in principle_shares(drawn).items()}
    return Figures(seed, values, curves={"held-out accuracy, by votes: all votes": points}, budget=dict(budget.spent))


def check(figures: Sequence[Figures]) -> list[Check]:
    """Votes help, the meta reward does not hurt, a scalar head gains nothing; RL raises greedy accuracy and guesses less."""
    most = max((name for name in figures[0].values if name.startswith("vote@")), key=lambda name: int(name[5:]))
    beside, gains = figures_beside(figures, ("vote@1", most, "guided", "scalar")), partial(differences, figures)
    checks = [
        as_premise(check_mean("room", "accuracy of one vote", [one["vote@1"] for one in figures], "<=", 0.95)),
        check_mean("(a) votes", f"{most} minus vote@1", gains(most, "vote@1"), ">=", 0.03, beside=beside),
        check_mean("(b) meta reward", f"better half of the votes minus {most}", gains("guided", most), ">=", 0.0, beside=beside),
        check_mean(
            "(c) scalar head", "all votes minus one, of Bradley-Terry", [one["scalar gain"] for one in figures], "<=", 0.0
        ),
    ]
    if all("RL/greedy" in one.values for one in figures):
        rl = figures_beside(figures, ("RFT/greedy", "RL/greedy", "RFT/guess", "RL/guess"))
        checks += [
            check_mean(
                "(d) RL", "greedy accuracy after GRPO minus before", gains("RL/greedy", "RFT/greedy"), ">=", 0.03, beside=rl
            ),
            check_mean("(e) guesses", "their share after GRPO minus before", gains("RL/guess", "RFT/guess"), "<", 0.0, beside=rl),
        ]
    return checks


RECIPE = Recipe(
    17,
    "deepseek-grm",
    "A judge writes a principle, a critique and scores; votes and a meta reward raise its accuracy.",
    Config,
    run,
    check,
    (
        Published(PAPER, "k = 1", 67.9, "%", ours="vote@1"),
        Published(PAPER, "vote@8", 70.6, "%", ours="vote@8"),
        Published(PAPER, "vote@32", 71.0, "%", ours="vote@16"),
        Published(PAPER, "meta reward, 32 samples", 72.8, "%", ours="guided"),
        Published(PAPER, "greedy", 69.9, "%", ours="RL/greedy"),
        Published("Bradley-Terry head, same data", "overall", 68.6, "%", ours="scalar"),
    ),
    source="Liu et al. 2025, Inference-Time Scaling for Generalist Reward Modeling (arXiv 2504.02495)",
    needs={"accelerate": "train"},
    notes=(
        "All terms are added and lie between 1 and 3; the judge copies each term and looks each sum up among the candidates.",
        "A decoder of 2 layers, width 64 (card: 128); 150 updates of 8 x 4. The scalar head starts from the judge's layers.",
        "Votes are those of the judge before RL, at temperature 1; the paper's are of the judge after RL, at 0.5.",
        "The filter leaves no wrong sums but those that cancel out: votes differ by the judge's own errors and by its guesses.",
        "vote@k is the mean over subsets of the 16 stored votes; tied results share the credit, no scores at all are wrong.",
    ),
)
