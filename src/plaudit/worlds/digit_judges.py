"""Solvers, judging items and scalar rewards of `DigitSums`: what card 28's study of judges is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from plaudit.curation.judging_items import V2V, ItemReport, JudgingItem, items_to_batch, pairs_from_judge
from plaudit.curation.traces import written_by
from plaudit.fitting import derive_seed
from plaudit.types import Batch, Reward, Scores, Status
from plaudit.worlds.digit_sums import MARKS, DigitSums, LastDigit, final_digit, solver_series

if TYPE_CHECKING:
    from plaudit.generators.language import LanguageGenerator
    from plaudit.rewards.learned.data import FitData
    from plaudit.rewards.learned.goal_reward import GoalReward

SEEN, UNSEEN = ("middle", "strong"), "other"


def solvers_of(
    world: DigitSums, levels: tuple[float, float, float], *, steps: int, rows: int, seed: int
) -> dict[str, LanguageGenerator]:
    """Weak, middle and strong copies of one decoder on its way, and a middling one of another.

    Raises KeyError where training never reaches a level.
    """
    size: dict[str, Any] = {"steps": steps, "every": 4, "rows": rows, "rate": 3e-3}
    series = solver_series(world, levels, **size, seed=derive_seed(seed, "solver"))
    other = solver_series(world, levels[1:2], **size, seed=derive_seed(seed, "other solver"))
    found = {name: series[level] for name, level in zip(("weak", *SEEN), levels, strict=True)}
    return {**found, UNSEEN: other[levels[1]]}


def items_of(
    world: DigitSums, solvers: Mapping[str, LanguageGenerator], split: str, size: tuple[int, int], seed: int
) -> tuple[list[JudgingItem], ItemReport]:
    """Balanced items of a split out of (questions, samples): the final digits of the solvers' answers, labelled by rule."""
    questions = world.prompts(split, size[0], derive_seed(seed, "items", split))
    writers = {name: written_by(solver, world.sampling) for name, solver in solvers.items()}
    return V2V(LastDigit(unparsable=True), final_part=final_digit).build(questions, writers, size[1], seed=seed)


def final_scores(reward: Reward, answers: Batch) -> Scores:
    """What a judge of final digits says of whole answers; an answer without a digit is NOT_APPLICABLE."""
    import torch

    digits = [final_digit(str(text)) for text in answers.require_responses()]
    rows = [row for row, digit in enumerate(digits) if digit is not None]
    values = torch.full((len(answers),), torch.nan)
    status = torch.full((len(answers),), int(Status.NOT_APPLICABLE), dtype=torch.int8)
    if rows:
        shown = Batch([answers.prompts[row] for row in rows], [digits[row] for row in rows])
        found = reward.score(shown)
        values[rows], status[rows] = found.values, found.status
    return Scores(values, status)


def untrained_scalar(world: DigitSums, base: LanguageGenerator, seed: int) -> GoalReward:
    """A scalar reward on the weights of a language model of this world."""
    from plaudit.rewards.learned.decoder import TokenDecoder
    from plaudit.rewards.learned.goal_reward import GoalReward

    decoder = TokenDecoder(world.characters, marks=MARKS, seed=seed, **asdict(world.decoder))
    decoder.take_weights(base.causal_model.trunk)
    return GoalReward(decoder, contrast=None, seed=seed)


def right_above_wrong(items: Sequence[JudgingItem], per_question: int, seed: int) -> FitData:
    """Pairs of a right and a wrong answer to the same question, to fit a scalar reward on."""
    import torch

    from plaudit.rewards.learned.data import FitData

    batch, gold = items_to_batch(items)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(batch.ids or ()))}
    grouped = replace(batch, groups=torch.tensor([numbers[name] for name in batch.ids or ()]))
    edges, _ = pairs_from_judge(grouped, Scores(torch.tensor(gold)), per_group=per_question, seed=seed)
    return FitData(grouped, edges)
