"""Step beam search with a process reward: beginnings of answers are extended by a step, judged, and the best go on.

GenPRM section 3.4 and Snell et al. 2024 (arXiv 2408.03314, section 5.1). The comparison at equal budget is best-of-n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from plaudit.fitting.seeds import derive_seed
from plaudit.search.base import (
    BaseSearch,
    Stopped,
    affordable,
    best_row,
    cost_of_sample,
    require,
    sampling_of,
    unlimited,
    written,
)
from plaudit.search.best_of_n import Answer, answer_of
from plaudit.search.work import Candidate, candidates_of
from plaudit.types import Batch, EngineError, Generator, Reward, Sampling, UserError

if TYPE_CHECKING:
    from plaudit.search.work import Progress, Work


@dataclass
class StepBeams(BaseSearch):
    """Keep the `beams` best beginnings, give each `branches` next steps, and so on until all kept ones are over.

    mark: what ends a step of the generator's text; it is put back where a beginning goes on. steps: the most of an answer. how:
    sampling of one step, at a temperature above 0 (`max_tokens` bounds a step). answer: how final answers are found, by name or
    function; of equal values the answer given most often wins, then the first. Beginnings without a number never go on.
    The generator must continue plain text (its prompts are text, and no chat template is put around them).
    """

    beams: int = 4
    branches: int = 4
    steps: int = 16
    mark: str = "\n"
    how: Any = None
    answer: str | Answer | None = None
    on_progress: Progress | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if min(self.beams, self.branches, self.steps) < 1 or not self.mark:
            raise UserError("beams, branches and steps must be at least 1, and steps need a mark at their end")
        if self.answer is not None:
            answer_of(self.answer)

    def check(self, generator: Generator, reward: Reward) -> None:  # noqa: ARG002  # part of the interface
        """Raise UserError for sampling that draws nothing: equal branches are no search."""
        how = sampling_of(generator, self.how)
        if not isinstance(how, Sampling) or how.temperature <= 0:
            raise UserError("step beams need a language model and a temperature above 0")

    def search(self, work: Work) -> None:
        """Step after step, for all prompts of a portion."""
        for rows in work.chunks(self.beams * self.branches):
            for step in range(self.steps):
                work.judge([one for row in rows for one in work.of(row)])
                parents = {row: self._live(work, row, step) for row in rows}
                made = any(one.note["step"] == step for row in rows for one in work.of(row))  # by a run that was stopped
                if not made and not any(parents.values()):
                    break
                self._extend(work, parents, step)
            work.judge([one for row in rows for one in work.of(row)])

    def _live(self, work: Work, row: int, step: int) -> list[int | None]:
        """Which candidates get another step: places in `work.of(row)`; None is the empty beginning. Nothing where that is
        done."""
        found = work.of(row)
        if any(one.note["step"] == step for one in found):
            return []
        if step == 0:
            return [None]
        pool = [place for place, one in enumerate(found) if one.note["step"] == step - 1 or one.note["over"]]
        ranked = sorted(pool, key=lambda place: -_rank(found[place]))[: self.beams]
        return [place for place in ranked if not found[place].note["over"] and found[place].value is not None]

    def _extend(self, work: Work, parents: dict[int, list[int | None]], step: int) -> None:
        """`branches` next steps of every parent; as many prompts as the budget reaches for."""
        how = sampling_of(work.generator, self.how)
        how = replace(how, stop=(*how.stop, self.mark))
        # the first step of a prompt fills all beams
        counts = {row: self.branches * (self.beams if places == [None] else 1) for row, places in parents.items()}
        room = affordable(work.budget, **cost_of_sample(how))
        some: list[tuple[int, int | None]] = []
        left = 0
        for row, places in parents.items():
            cost = counts[row] * len(places)
            if cost > room:
                left += bool(places)
                continue
            room -= cost
            some += [(row, place) for place in places]
        for count in sorted({counts[row] for row, _ in some}):
            self._draw(work, [(row, place) for row, place in some if counts[row] == count], count, step, how)
        if left:
            raise Stopped(f"the budget does not allow step {step + 1} of {left} prompts")

    def _draw(self, work: Work, parents: Sequence[tuple[int, int | None]], count: int, step: int, how: Sampling) -> None:
        begun = ["" if place is None else _beginning(work.of(row)[place], self.mark) for row, place in parents]
        prompts = work.prompts.select([row for row, _ in parents])
        texts = [prompt if isinstance(prompt, str) else None for prompt in prompts.prompts]
        if None in texts:
            raise UserError("step beams continue plain text: prompts must be texts")
        prompts.prompts = [f"{prompt}{text}" for prompt, text in zip(texts, begun, strict=True)]
        seed = derive_seed(work.seed, "step", step, count, parents[0][0])
        batch, over = continued(work.generator, prompts, count, how, seed, work.budget)
        made = candidates_of(batch)
        for place, one in enumerate(made):
            row, parent = parents[one.prompt]
            one.response = begun[one.prompt] + str(one.response)
            one.prompt, one.segments, one.tokens = row, None, None
            one.note = {"step": step, "parent": parent, "over": over[place]}
        work.add(made)

    def choose(self, work: Work, prompt: int) -> int | None:
        """The best answer that is over; where none is, the best of the longest beginnings."""
        found = work.of(prompt)
        over = [one.note["over"] for one in found]
        longest = max((one.note["step"] for one in found), default=0)
        eligible = over if any(over) else [one.note["step"] == longest for one in found]
        values = [one.value if ok else None for one, ok in zip(found, eligible, strict=True)]
        answers = None
        if self.answer is not None:
            find = answer_of(self.answer)
            answers = [find(one.response) if ok else None for one, ok in zip(found, eligible, strict=True)]
        return best_row(values, [one.status for one in found], answers)


def _rank(candidate: Candidate) -> float:
    return float("-inf") if candidate.value is None else candidate.value


def _beginning(candidate: Candidate, mark: str) -> str:
    text = str(candidate.response)
    return text if text.endswith(mark) else text + mark


def continued(generator: Generator, prompts: Batch, n: int, how: Sampling, seed: int, budget: Any) -> tuple[Batch, list[bool]]:
    """(n continuations of each prompt, whether each is over: ended by the model itself, or cut off). Counted as `sample` does.

    A continuation that met a stop has a step for each token; one that the model ended has one step more. Raises Stopped before
    anything is drawn where the budget does not allow it, or where the generator cannot be reached.
    """
    import torch

    require(budget, **{name: n * len(prompts) * amount for name, amount in cost_of_sample(how).items()})
    try:
        with torch.no_grad():
            drawn = generator.rollout(prompts, n, how=how, seed=seed)
    except EngineError as error:
        raise Stopped(f"the generator cannot be used: {error}") from error
    unlimited(budget).spend(samples=len(drawn), **written(drawn))
    lengths = drawn.batch.lengths or [0] * len(drawn)
    finish = drawn.batch.finish or ["complete"] * len(drawn)
    steps = drawn.mask.sum(dim=1).tolist()
    over = [end != "complete" or made > length for end, made, length in zip(finish, steps, lengths, strict=True)]
    return drawn.batch, over
