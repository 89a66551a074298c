"""Serves the questions of a search: one call of the proposer and one of the judge for all lines of all tasks at a time.

Nothing is asked twice that the journal knows, nothing is asked that a limit forbids, and what the judge cannot be brought to
say is asked again a bounded number of times. Seeds come from the names of the questions, so that a line's fate does not depend
on what runs beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from plaudit.fitting.seeds import derive_seed
from plaudit.search.base import affords
from plaudit.search.proposing import Comparison, Failure, Proposal, Proposer, Question, Step, Vote, together
from plaudit.types import Batch, Budget, BudgetExceeded, Context, EngineError, Preferences, Reward, Status
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from plaudit.search.tree_file import SearchTree

Made = TypeVar("Made")


@dataclass
class Lockstep:
    """Asks the proposer and the judge. refine: whether drafts are refined. retries: for pairs without a verdict.

    budget: shared by all tasks; a limit on `reward_calls` or `proposals` is kept by asking no more, other limits by stopping when
    the budget says so. Each task's own limits are in its tree.
    """

    proposer: Proposer
    judge: Reward
    budget: Budget
    seed: int
    refine: bool = True
    retries: int = 2
    turn: int = field(default=0, init=False)

    def run(self, parts: Sequence[Step[Made]]) -> list[Made]:
        """Drive coroutines to their ends."""
        everything = together(parts)
        try:
            questions = next(everything)
            while True:
                questions = everything.send(self.answer(questions))
        except StopIteration as end:
            return list(end.value)

    def answer(self, questions: Sequence[Question]) -> list[Any]:
        """One answer a question, in order."""
        self.turn += 1
        names = [journal_name(question) for question in questions]
        answers: list[Any] = [question.tree.journal.get(name) for question, name in zip(questions, names, strict=True)]
        unknown = [place for place, answer in enumerate(answers) if answer is None]
        proposals: list[tuple[int, Proposal]] = []
        comparisons: list[tuple[int, Comparison]] = []
        for place in unknown:
            question = questions[place]
            if isinstance(question, Proposal) and self._affords(question.tree, "proposals"):
                proposals.append((place, question))
            elif isinstance(question, Comparison) and self._affords(question.tree, "reward_calls"):
                comparisons.append((place, question))
        drafts = self._propose([question for _, question in proposals])
        votes = self._compare([question for _, question in comparisons])
        asked = [place for place, _ in proposals] + [place for place, _ in comparisons]
        for place, answer in zip(asked, drafts + votes, strict=True):
            answers[place] = answer
            if answer is not None and not isinstance(answer, Failure):
                questions[place].tree.journal[names[place]] = answer
        return answers

    def _affords(self, tree: SearchTree, name: str) -> bool:
        """Count one proposal or judged pair, if the task and the budget allow it; where proposals are spent, judging goes on."""
        if tree.ended or name in tree.spent_out:
            return False
        limit = getattr(tree.limits, name)
        if limit is not None and tree.counts[name] >= limit:
            tree.run_out(name, f"{name}: the task's limit of {limit:g} is spent")
        elif not affords(self.budget, **{name: 1}):
            tree.run_out(name, f"{name}: the limit of {self.budget.limits[name]:g} is spent")
        else:
            tree.counts[name] += 1
            self.budget.spend(**{name: 1})
        return name not in tree.spent_out

    def _guarded(self, questions: Sequence[Question], ask: Callable[[Sequence[int]], list[Any]]) -> list[Any]:
        """The batch's answers; after an error each on its own, so that one line's error stays its own. A lost engine and a
        spent budget stop every task that asked."""
        places: list[Sequence[int]] = [range(len(questions))] if questions else []
        answers: list[Any] = [None] * len(questions)
        while places:
            batch = places.pop(0)
            try:
                for place, answer in zip(batch, ask(batch), strict=True):
                    answers[place] = answer
            except (EngineError, BudgetExceeded) as error:
                for place in batch:
                    questions[place].tree.end(str(error))
            except Exception as error:  # the proposer or judge is anybody's code
                if len(batch) == 1:
                    answers[batch[0]] = Failure(error)
                else:
                    places = [[place] for place in batch] + places
        return answers

    def _propose(self, questions: Sequence[Proposal]) -> list[Any]:
        asks = [question.ask for question in questions]

        def ask(places: Sequence[int]) -> list[Any]:
            chosen = [asks[place] for place in places]
            drafts = self.proposer.propose(chosen, budget=self.budget)
            full = [place for place, draft in enumerate(drafts) if not empty(draft)]
            if self.refine and full:
                better = self.proposer.refine([chosen[n] for n in full], [drafts[n] for n in full], budget=self.budget)
                for place, draft in zip(full, better, strict=True):
                    drafts[place] = draft
            return ["" if empty(draft) else draft for draft in drafts]

        return self._guarded(questions, ask)

    def _compare(self, questions: Sequence[Comparison]) -> list[Any]:
        answers = self._guarded(questions, lambda places: self._votes([questions[place] for place in places], 0))
        for attempt in range(1, self.retries + 1):
            silent = [place for place, answer in enumerate(answers) if isinstance(answer, Vote) and math.isnan(answer.prob)]
            again = [place for place in silent if self._affords(questions[place].tree, "reward_calls")]
            if not again:
                break
            for place in again:
                questions[place].tree.counts["retries"] += 1
            asked = [questions[place] for place in again]
            found = self._guarded(asked, lambda places, asked=asked, attempt=attempt: self._votes(  # type: ignore[misc]
                [asked[place] for place in places], attempt))  # fmt: skip
            for place, answer in zip(again, found, strict=True):
                answers[place] = answer if answer is not None else answers[place]
        for place, answer in enumerate(answers):
            if isinstance(answer, Vote) and answer.status is Status.UNREACHABLE:  # to be asked again when the search goes on
                questions[place].tree.end("the judge cannot be reached")
                answers[place] = None
        return answers

    def _votes(self, questions: Sequence[Comparison], attempt: int) -> list[Vote]:
        """One call of the judge. Row 2k is shown first in pair k; extras: `level`, `strict`, and a `seed` a row."""
        import torch

        places = [derive_seed(self.seed, one.tree.number, one.key, attempt) for one in questions]
        asked = [self.proposer.question(one.tree.task, one.level, strict=one.strict) for one in questions]
        batch = Batch(
            [prompt for prompt in asked for _ in range(2)],
            [side for one in questions for side in (one.first, one.second)],
            extras={
                "level": [one.level for one in questions for _ in range(2)],
                "strict": [one.strict for one in questions for _ in range(2)],
                "seed": [seed for seed in places for _ in range(2)],
            },
        )
        first = torch.arange(0, 2 * len(questions), 2)
        context = Context(seed=derive_seed(self.seed, "turn", self.turn, attempt), budget=Budget())
        found = self.judge.compare(batch, first, first + 1, context)
        others = {name: value for name, value in context.budget.spent.items() if name != "reward_calls"}
        try:
            self.budget.spend(**others)  # judged pairs are counted already, before they were asked for
        except BudgetExceeded as error:  # these votes were paid for; they are the last
            for one in questions:
                one.tree.end(str(error))
        return votes_of(found)


def journal_name(question: Question) -> str:
    """The question's key and what it is about: a search that goes on may reach the same place with other candidates."""
    if isinstance(question, Proposal):
        about: tuple[Any, ...] = (question.ask.current, question.ask.optima, question.ask.failed)
    else:
        about = (question.first, question.second)
    return f"{question.key} {content_key(*about)[:12]}"


def votes_of(found: Preferences) -> list[Vote]:
    """Judged pairs as votes, with what was said."""
    votes = []
    for number, (prob, status) in enumerate(zip(found.prob.tolist(), found.status.tolist(), strict=True)):
        verdicts = found.verdicts[number] if found.verdicts is not None else []
        told = {one.order: one.value for one in verdicts if one.order in ((0, 1), (1, 0)) and one.value is not None}
        flipped = (told[0, 1] - 0.5) * (told[1, 0] - 0.5) < 0 if len(told) == 2 else None
        reason = "; ".join(one.text or one.detail for one in verdicts if one.text or one.detail)
        votes.append(Vote(prob, Status(status), flipped, reason))
    return votes


def empty(candidate: Any) -> bool:
    """Whether a proposal holds nothing."""
    return candidate is None or (isinstance(candidate, str) and not candidate.strip())
