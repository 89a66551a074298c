"""Refinement with a critique: a judge of steps says where an answer goes wrong and why, and the generator answers again.

GenPRM as a critic (arXiv 2504.00891, section 3.4). The comparison at equal budget is best-of-n with as many samples; without a
critique the generator refines itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from plaudit.fitting.seeds import derive_seed
from plaudit.rewards.generative.formats.steps import parse_step
from plaudit.rewards.generative.step_form import split_steps
from plaudit.search.base import BaseSearch, Stopped, affordable, best_row, cost_of_sample, sample, sampling_of
from plaudit.search.work import Candidate, candidates_of
from plaudit.types import Prompt, Status, UserError, prompt_text

if TYPE_CHECKING:
    from plaudit.search.work import Progress, Work

Critique = Callable[[Candidate], str | None]
"""What is wrong with an answer, out of what the reward said about it; None: nothing, it is kept."""
FollowUp = Callable[[Prompt, str, str], Prompt]
"""(prompt, answer, critique) -> the prompt of the next answer."""
_STEP = re.compile(r"step (\d+)")


def step_critique(candidate: Candidate) -> str | None:
    """The first step whose verdict is below a half, quoted, with the judge's analysis of it (its whole answer where it has none).

    A verdict that is missing before any such step leaves open where the error is: nothing is said then.
    """
    for verdict in candidate.verdicts:
        named = _STEP.search(verdict.name)
        if named is None:
            continue
        if verdict.status is not Status.OK or verdict.value is None:
            return None
        if verdict.value < 0.5:
            reason = parse_step(verdict.text or "").analysis or verdict.text or "it is wrong"
            return f"> {_step(candidate, int(named[1]) - 1)}\n\nThis step is wrong: {reason.strip()}"
    return None


def _step(candidate: Candidate, number: int) -> str:
    """The text of a step, quoted line by line."""
    text = str(candidate.response)
    spans = candidate.segments or split_steps(text)
    start, end = spans[number] if number < len(spans) else (0, len(text))
    return text[start:end].strip().replace("\n", "\n> ")


def ask_again(prompt: Prompt, answer: str, critique: str) -> Prompt:
    """The chat so far, and a turn with the critique that asks for a new full answer."""
    before = list(prompt) if isinstance(prompt, (list, tuple)) else [{"role": "user", "content": prompt_text(prompt)}]
    request = f"{critique}\n\nWrite the whole answer again, without this error."
    return [*before, {"role": "assistant", "content": answer}, {"role": "user", "content": request}]  # type: ignore[list-item]


@dataclass
class Refine(BaseSearch):
    """Answer, judge, and answer again with the critique, up to `turns` times; an answer without a critique is kept.

    critique: what a judged answer lacks. follow_up: the prompt of the next turn. how: sampling. keep: "last", as published, or
    "best" by the reward over all turns. Answers without a number end a prompt's turns. The reward is asked about an answer under
    the prompt's own text. Raises UserError for settings that cannot work.
    """

    turns: int = 3
    critique: Critique = step_critique
    follow_up: FollowUp = ask_again
    how: Any = None
    keep: Literal["last", "best"] = "last"
    on_progress: Progress | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.turns < 0 or self.keep not in ("last", "best"):
            raise UserError("turns must be 0 or more, and keep last or best")

    def search(self, work: Work) -> None:
        """Turn after turn, for all prompts of a portion that still have a critique."""
        for rows in work.chunks(1):
            work.draw(rows, 1, how=self.how, note={"turn": 0}, key="first")
            work.judge([one for row in rows for one in work.of(row)])
            for turn in range(1, self.turns + 1):
                self._turn(work, rows, turn)

    def _turn(self, work: Work, rows: list[int], turn: int) -> None:
        how, asked = sampling_of(work.generator, self.how), []
        for row in rows:
            last = work.of(row)[-1]
            if last.note.get("turn") == turn - 1 and last.value is not None and (said := self.critique(last)) is not None:
                asked.append((row, self.follow_up(work.prompts.prompts[row], str(last.response), said)))
        room = affordable(work.budget, **cost_of_sample(how))
        some = asked[: int(min(len(asked), room))]
        if some:
            prompts = work.prompts.select([row for row, _ in some])
            prompts.prompts = [prompt for _, prompt in some]
            seed = derive_seed(work.seed, "turn", turn, some[0][0])
            drawn = sample(work.generator, prompts, 1, how=how, seed=seed, budget=work.budget)
            made = candidates_of(drawn)
            for one in made:
                one.prompt, one.note = some[one.prompt][0], {"turn": turn}
            work.add(made)
        work.judge([work.of(row)[-1] for row in rows])
        if len(some) < len(asked):
            raise Stopped(f"the budget does not allow the answers of turn {turn} that are left: {len(asked) - len(some)}")

    def choose(self, work: Work, prompt: int) -> int | None:
        """The last answer with a number, or the best."""
        found = work.of(prompt)
        if self.keep == "best":
            return best_row([one.value for one in found], [one.status for one in found])
        return next((place for place in reversed(range(len(found))) if found[place].value is not None), None)
