"""Training a judge is aligning a language generator: prompts that a contract renders, and a rule that reads the verdict.

`judging_prompts` makes the prompts, with the label that is right as reference; `VerdictReward` parses what the generator wrote
as the contract does and compares. A generator trained on both is a judge at once: `Judge(LiveEngine(generator), contract)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from plaudit.rewards.generative.contract import Contract, TextReadout
from plaudit.rewards.generative.library import load_contract
from plaudit.rewards.generative.parsing import Parsed, parse
from plaudit.rewards.generative.questions import question_of
from plaudit.rewards.rules.base import Judged, RuleReward, scores_of
from plaudit.types import Batch, Context, Finish, Scores, SpecError, Status, Verdict

if TYPE_CHECKING:
    from plaudit.types import Prompt

JUDGED = "judged"
"""Extra column of judging prompts: the texts under judgement, whose lines are quotations where they recur in an answer."""
ASKED_ROW = "asked_row"
"""Extra column of judging prompts: the row of the judged batch that a prompt asks about (of a pair: the first shown)."""


def gold_label(contract: Contract, gold: str | float) -> str:
    """The label that a gold verdict stands for: itself by name, else the one with that value; of a numeric readout `g` format.

    Raises ValueError where the contract has no such label.
    """
    labels = contract.readout.labels
    numbers = getattr(contract.readout, "numbers", None)
    if numbers is not None and not isinstance(gold, str) and numbers[0] <= gold <= numbers[1]:
        return f"{float(gold):g}"
    for label in labels:
        if (gold == label.name) if isinstance(gold, str) else (float(gold) == label.value):
            return label.name
    menu = ", ".join(f"{label.name} ({label.value:g})" for label in labels) or f"numbers in {numbers}"
    raise ValueError(f"contract '{contract.name}' has no verdict {gold!r}, expected one of {menu}")


def judging_prompts(
    contract: Contract | str,
    batch: Batch,
    gold: Sequence[str | float],
    *,
    pairs: Sequence[tuple[int, int]] | None = None,
    control: Sequence[str] = (),
) -> Batch:
    """What a judge is asked about each row, with the verdict that is right as reference.

    gold: a label's name or its value, one a row; with a pairwise contract one for each of `pairs`, row numbers in the order in
    which they are shown (value 1: the first shown wins). control: the model's control strings (`Engine.control_strings`).
    Rows that the contract cannot ask about (no text, no reference) are left out; `extras["asked_row"]` says which are there,
    `extras["judged"]` holds the texts shown, and the given batch's other extras go along.

    Raises SpecError for contracts with a rubric, a forced prefix, or another kind; ValueError for gold that is no verdict.
    """
    contract = contract if isinstance(contract, Contract) else load_contract(contract)
    if contract.kind not in ("pointwise", "pairwise") or contract.criteria or contract.prefix:
        raise SpecError(
            f"contract '{contract.name}' cannot be trained on: it must judge a row or a pair by one question without a prefix"
        )
    if (contract.kind == "pairwise") != (pairs is not None):
        raise SpecError(f"contract '{contract.name}' is {contract.kind}: pairs are given for a pairwise contract, and only then")
    wanted = [tuple(pair) for pair in pairs] if pairs is not None else [(row,) for row in range(len(batch))]
    if len(gold) != len(wanted):
        raise ValueError(f"{len(gold)} gold verdicts for {len(wanted)} {'pairs' if pairs is not None else 'rows'}")
    references = [gold_label(contract, one) for one in gold]
    questions = [question_of(contract, batch, rows, control) for rows in wanted]
    kept = [place for place, question in enumerate(questions) if question.request is not None]
    rows = [wanted[place][0] for place in kept]
    extras = {name: [column[row] for row in rows] for name, column in batch.extras.items()}
    prompts = [cast("Prompt", question.request.messages) for question in questions if question.request is not None]
    return Batch(
        prompts,
        references=[references[place] for place in kept],
        ids=None if batch.ids is None else [batch.ids[row] for row in rows],
        extras={**extras, JUDGED: [questions[place].judged for place in kept], ASKED_ROW: rows},
    )


class VerdictReward(RuleReward):
    """Is the verdict in what was written the reference's? The reward that trains a judge.

    right, wrong, unparsable: what each is worth; unparsable=None: such rows have no number but their status. An answer in which
    the judge declines counts as unparsable. tail: only so many last characters are read, so that a verdict must stand at the
    end. Contracts that read probabilities take an answer that is nothing but a label.
    Parts: `right` and `parsed`, each 1 or 0. Raises SpecError for a tail below 1.
    """

    name = "gold-verdict"
    needs_reference = True

    def __init__(
        self,
        contract: Contract | str,
        right: float = 1.0,
        wrong: float = 0.0,
        unparsable: float | None = 0.0,
        tail: int | None = None,
    ) -> None:
        if tail is not None and tail < 1:
            raise SpecError(f"tail must be at least 1 character, not {tail}")
        self.contract = contract if isinstance(contract, Contract) else load_contract(contract)
        self.right, self.wrong, self.unparsable, self.tail = float(right), float(wrong), unparsable, tail
        worth = {"right": self.right, "wrong": self.wrong, "unparsable": unparsable, "tail": tail}
        self.settings = {"contract": self.contract.content(), **worth}

    def parsed(self, response: str, judged: Sequence[str] = (), finish: Finish = "complete") -> Parsed:
        """The verdict in a response, read as the contract reads it."""
        readout = self.contract.readout
        text = response if self.tail is None else response[-self.tail :]
        if isinstance(readout, TextReadout):
            return parse(text, readout, judged=judged, finish=finish)
        named = zip(readout.labels, readout.spellings, strict=True)
        said = next((label for label, spellings in named if text.strip() in {one.strip() for one in spellings}), None)
        if said is None:
            return Parsed(Status.UNPARSABLE, detail="the answer is none of the labels")
        return Parsed(Status.OK, said.name, said.value)

    def judge_one(self, prompt: Prompt, response: str, reference: str) -> Judged:  # noqa: ARG002
        """One row that was not cut off."""
        return self._worth(self.parsed(response), reference)

    def judge_rows(self, batch: Batch) -> list[Judged]:
        """[B] what each verdict is worth; `batch.finish` says which answers were cut off, `extras["judged"]` what was shown."""
        return [said if isinstance(said, Status) else self._worth(*said) for said in self._readings(batch)]

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:  # noqa: ARG002
        """[B] what each verdict is worth, with the parts. Raises ValueError if the batch has no responses."""
        readings = self._readings(batch)
        worth = [said if isinstance(said, Status) else self._worth(*said) for said in readings]
        return scores_of(worth, {
            "right": [_part(said, lambda parsed, gold: parsed.label == gold) for said in readings],
            "parsed": [_part(said, lambda parsed, gold: True) for said in readings],  # noqa: ARG005
        })  # fmt: skip

    def _readings(self, batch: Batch) -> list[tuple[Parsed, str] | Status]:
        """(verdict, gold label) of each row, or why it cannot be read at all."""
        finish = batch.finish or ["complete"] * len(batch)
        shown = batch.extras.get(JUDGED) or [()] * len(batch)
        return [
            text if isinstance(text, Status) else (self.parsed(text, shown[row], finish[row]), str(gold))
            for row, (_, text, gold) in enumerate(self.text_rows(batch))
        ]

    def _worth(self, said: Parsed, gold: str) -> Verdict:
        if said.status is Status.OK:
            return Verdict(said.label, self.right if said.label == gold else self.wrong)
        if self.unparsable is None:
            return Verdict(status=said.status, detail=said.detail)
        return Verdict(value=float(self.unparsable), detail=said.detail)


def _part(said: tuple[Parsed, str] | Status, holds: Callable[[Parsed, str], bool]) -> float:
    """1 where a verdict was read and holds, else 0; NaN where the row has nothing to read."""
    if isinstance(said, Status):
        return float("nan")
    return float(said[0].status is Status.OK and holds(*said))
