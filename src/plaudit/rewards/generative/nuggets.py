"""`NuggetJudge`: is a response right? Asked as a list of atomic facts, each labelled against the response (Search-Gen-V, arXiv
2510.14660; card 04). Score = sum of weight x value of its label / sum of weights.

Vocabulary: a *nugget* is one atomic fact with a weight; a *chunk* is the nuggets of one call, at most ten of them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from plaudit.rewards.base import BaseReward
from plaudit.rewards.generative.asking import Question, Reading, ask
from plaudit.rewards.generative.contract import Contract, TextReadout
from plaudit.rewards.generative.formats.nuggets import FORMATS, LABEL_VALUES, verdict_reward
from plaudit.rewards.generative.library import load_contract
from plaudit.rewards.generative.questions import question_of
from plaudit.rewards.rules.base import Judged, RuleReward
from plaudit.types import Batch, Context, Engine, Request, Sampling, Scores, SpecError, Status, Verdict
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from torch import Tensor

IMPORTANCE: Mapping[str, float] = {"vital": 1.0, "okay": 0.5}
"""Weights of the two grades of nuggets in TREC practice."""


@dataclass(frozen=True)
class Nugget:
    """One atomic fact. weight >= 0: its share of the score."""

    text: str
    weight: float = 1.0


def nuggets_of(given: Any) -> tuple[Nugget, ...]:
    """Nuggets from a text, or a list of texts, of nuggets, or of `{"text": ..., "weight": ...}` ("importance": "vital" or "okay"
    in place of a weight).

    Raises ValueError for anything else, for an empty text and for a weight that is negative or no number.
    """
    found = []
    for item in [given] if isinstance(given, (str, Nugget, Mapping)) else given or ():
        if isinstance(item, Mapping):
            weight = item.get("weight", IMPORTANCE.get(str(item.get("importance", "vital"))))
            nugget = Nugget(str(item.get("text", "")), math.nan if weight is None else float(weight))
        else:
            nugget = item if isinstance(item, Nugget) else Nugget(str(item))
        if not nugget.text.strip() or not (math.isfinite(nugget.weight) and nugget.weight >= 0):
            raise ValueError(f"a nugget needs a text and a weight of at least 0: {item!r}")
        found.append(nugget)
    return tuple(found)


@dataclass
class _Row:
    """What is asked about one row: its nuggets, and one question a chunk; or why nothing is."""

    nuggets: tuple[Nugget, ...] = ()
    questions: tuple[Question, ...] = ()
    status: Status = Status.OK
    detail: str = ""


class NuggetJudge(BaseReward):
    """A judge that labels each nugget of a row against its response, up to `chunk` of them in one call.

    Nuggets are the column `column` of a batch (`nuggets_of`); a row without any is judged by its reference as the only one (by
    the first of a list of references, which are other ways to say the same).
    No nuggets and no reference: MISSING_REFERENCE; weights that add up to 0: NOT_APPLICABLE.
    contract: an itemised one. format: one of `FORMATS`, named in the prompt. values: what labels are worth; another label has
    the value that the contract's function gives it.
    votes: calls with seeds ctx.seed + 0, 1, ...; a nugget gets the label that most of them gave it, without those that
    gave none; ties go to the label worth least.
    on_error: "sequential" keeps the labels of an answer that lacks some; "strict" throws such an answer away.
    on_missing: what a nugget without a label does: "row": the row has no score; "drop": the score is that of the labelled
    ones; a number stands in. Each is said in the verdicts.

    Parts: the weighted share of each label among the labelled. segments: [B, S] the nuggets' values. Verdicts: one a nugget.
    Raises SpecError for settings that make no sense.
    """

    def __init__(
        self,
        engine: Engine,
        contract: Contract | str = "nuggets",
        *,
        format: str = "json",
        chunk: int = 10,
        values: Mapping[str, float] = LABEL_VALUES,
        votes: int = 1,
        on_error: Literal["sequential", "strict"] = "sequential",
        on_missing: Literal["row", "drop"] | float = "row",
        column: str = "nuggets",
        sampling: Sampling | None = None,
        name: str | None = None,
        batch_size: int | None = None,
    ) -> None:
        self.engine = engine
        self.contract = contract if isinstance(contract, Contract) else load_contract(contract)
        if self.contract.kind != "itemised" or not isinstance(self.contract.readout, TextReadout):
            raise SpecError(f"contract '{self.contract.name}' is {self.contract.kind}, expected itemised")
        if format not in FORMATS:
            raise SpecError(f"format is '{format}', expected one of {', '.join(FORMATS)}")
        if chunk < 1 or votes < 1:
            raise SpecError(f"chunk is {chunk} and votes {votes}; expected at least 1")
        if on_error not in ("sequential", "strict") or (isinstance(on_missing, str) and on_missing not in ("row", "drop")):
            raise SpecError(f"on_error is '{on_error}' and on_missing '{on_missing}'; expected sequential or strict, row or drop")
        self.sampling = sampling or self.contract.readout.sampling
        self.uses_seed = self.sampling.temperature > 0
        if votes > 1 and not self.uses_seed:
            raise SpecError(f"'{self.contract.name}' draws nothing, so its {votes} votes would be the same: sample above 0")
        self.format, self.chunk, self.votes, self.values = format, chunk, votes, dict(values)
        self.on_error, self.on_missing, self.column = on_error, on_missing, column
        self.name = name or self.contract.name
        self.batch_size = engine.rows_at_once if batch_size is None else batch_size

    def fingerprint(self) -> str:
        """Engine version, contract, sampling and settings, hashed."""
        how = [self.sampling.max_tokens, self.sampling.temperature, self.sampling.top_p, self.sampling.stop, self.sampling.seed]
        own = [self.format, self.chunk, self.votes, sorted(self.values.items()), self.on_error, self.on_missing, self.column]
        return content_key("nugget judge", self.engine.version, self.contract.content(), how, own)

    def check(self) -> None:
        """Raise EngineError if the engine cannot be used."""
        self.engine.check()

    def requests(self, batch: Batch, row: int = 0) -> list[Request]:
        """What judging a row sends: one request a chunk. Raises ValueError, with the reason, where nothing is asked."""
        asked = self._row(batch, row)
        for detail in [asked.detail, *(question.detail for question in asked.questions if question.request is None)]:
            if detail or not asked.questions:
                raise ValueError(f"row {row} is not asked about: {detail}")
        return [question.request for question in asked.questions if question.request is not None]

    def label(self, batch: Batch, ctx: Context | None = None) -> list[list[str | None]]:
        """The label of each nugget of each row, None for one without."""
        verdicts = self.score(batch, ctx).verdicts or []
        return [[verdict.choice for verdict in row if verdict.name] for row in verdicts]

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:
        """[B] weighted mean of the nuggets' values, in [0, 1] for the default values. Spends a reward call a row and vote."""
        ctx = ctx or Context()
        ctx.budget.spend(reward_calls=len(batch) * self.votes)
        rows = [self._row(batch, row) for row in range(len(batch))]
        questions = [question for row in rows for question in row.questions]
        ballots = []
        for vote in range(self.votes):
            how = replace(self.sampling, seed=self.sampling.seed + ctx.seed + vote) if self.uses_seed else self.sampling
            ballots.append(ask(self.engine, self.contract, how, questions, ctx.budget))
        start, verdicts = 0, []
        for row in rows:
            end = start + len(row.questions)
            verdicts.append(self._verdicts(row, [ballot[start:end] for ballot in ballots]))
            start = end
        return self._scores(rows, verdicts)

    def _row(self, batch: Batch, row: int) -> _Row:
        column = batch.extras.get(self.column)
        reference = None if batch.references is None else batch.references[row]
        if isinstance(reference, (list, tuple)):
            reference = reference[0] if reference else None
        try:
            nuggets = nuggets_of(None if column is None else column[row]) or nuggets_of(reference)
        except (ValueError, TypeError) as error:
            return _Row(status=Status.NOT_APPLICABLE, detail=str(error))
        if not nuggets:
            return _Row(status=Status.MISSING_REFERENCE, detail=f"no {self.column} and no reference to judge by")
        if math.fsum(nugget.weight for nugget in nuggets) == 0:
            return _Row(status=Status.NOT_APPLICABLE, detail="the weights of the nuggets add up to 0")
        settings = {"format": FORMATS[self.format].instruction, "format_name": self.format}
        chunks = [nuggets[start : start + self.chunk] for start in range(0, len(nuggets), self.chunk)]
        questions = tuple(
            question_of(self.contract, batch, (row,), self.engine.control_strings, items=[one.text for one in chunk],
                        settings=settings)
            for chunk in chunks
        )  # fmt: skip
        return _Row(nuggets, questions)

    def _verdicts(self, row: _Row, votes: Sequence[Sequence[Reading]]) -> list[Verdict]:
        """One a nugget, by vote over the readings [votes][chunks] of the row."""
        found: list[Verdict] = []
        for chunk in range(len(row.questions)):
            readings = [vote[chunk] for vote in votes]
            nuggets = row.nuggets[chunk * self.chunk : (chunk + 1) * self.chunk]
            lists = [self._labels(reading, len(nuggets)) for reading in readings]
            why = next((reading for reading in readings if reading.status is not Status.OK), readings[0])
            for place, nugget in enumerate(nuggets):
                choice, value = self._majority([column[place] for column in lists])
                status = Status.OK if choice is not None else why.status if why.status is not Status.OK else Status.UNPARSABLE
                detail = "" if status is Status.OK else "; ".join(why.detail) or "the answer gives this nugget no label"
                if self.votes > 1:
                    detail = f"{sum(column[place] is not None for column in lists)} of {self.votes} votes. {detail}".strip()
                text = readings[0].text if place == 0 else None
                found.append(Verdict(choice, value, text, None, readings[0].seed, status, detail, nugget.text))
        return found

    def _labels(self, reading: Reading, count: int) -> list[tuple[str, float] | None]:
        """(label, value) of each nugget of one answer."""
        pairs = zip(reading.labels or (None,) * count, reading.values or (None,) * count, strict=True)
        known = [None if label is None or value is None else (label, self.values.get(label, value)) for label, value in pairs]
        return [None] * count if self.on_error == "strict" and None in known else known

    def _majority(self, votes: Sequence[tuple[str, float] | None]) -> tuple[str | None, float | None]:
        counted = Counter(vote for vote in votes if vote is not None)
        if not counted:
            return None, None
        label, value = min(counted, key=lambda vote: (-counted[vote], vote[1], vote[0]))
        return label, value

    def _scores(self, rows: Sequence[_Row], verdicts: Sequence[list[Verdict]]) -> Scores:
        import torch

        status = [row.status for row in rows]
        values = [math.nan] * len(rows)
        segments = torch.full((len(rows), max((len(row.nuggets) for row in rows), default=0)), torch.nan)
        labels = tuple(self.values)
        parts: dict[str, Tensor] = {label: torch.full((len(rows),), torch.nan) for label in labels}
        for place, (row, said) in enumerate(zip(rows, verdicts, strict=True)):
            if row.status is not Status.OK:
                said.append(Verdict(status=row.status, detail=row.detail))
                continue
            known = [
                (nugget.weight, verdict) for nugget, verdict in zip(row.nuggets, said, strict=True) if verdict.value is not None
            ]
            values[place], status[place] = self._weighted(row, said, known)
            for number, verdict in enumerate(said):
                segments[place, number] = math.nan if verdict.value is None else verdict.value
            total = math.fsum(weight for weight, _ in known)
            for label in labels if total else ():
                parts[label][place] = math.fsum(weight for weight, verdict in known if verdict.choice == label) / total
        codes = torch.tensor([int(code) for code in status], dtype=torch.int8)
        return Scores(torch.tensor(values), codes, parts, segments=segments, verdicts=list(verdicts))

    def _weighted(self, row: _Row, said: list[Verdict], known: Sequence[tuple[float, Verdict]]) -> tuple[float, Status]:
        """(score, status) of one row, by the rule for nuggets without a label."""
        gone = [place for place, verdict in enumerate(said) if verdict.value is None]
        pairs = [(weight, verdict.value or 0.0) for weight, verdict in known]
        if gone and isinstance(self.on_missing, str):
            failed = next((said[place].status for place in gone), Status.UNPARSABLE)
            if self.on_missing == "row" or not math.fsum(weight for weight, _ in pairs):
                return math.nan, failed
        for place in gone:
            rule = "left out of the score" if isinstance(self.on_missing, str) else f"counted as {self.on_missing:g}"
            said[place].detail = f"{said[place].detail}; {rule}"
            if not isinstance(self.on_missing, str):
                pairs.append((row.nuggets[place].weight, float(self.on_missing)))
        return math.fsum(w * v for w, v in pairs) / math.fsum(w for w, _ in pairs), Status.OK


class NuggetReward(RuleReward):
    """`verdict_reward` of what a nugget judge wrote: the reward that trains one (card 04, step 12).

    The reference is the list of gold labels; the column `format` names the format that was asked for.
    """

    name = "nugget-verdict"
    needs_reference = True

    def __init__(self, *, format: str = "json", column: str = "format", reasoning: bool = True) -> None:
        if format not in FORMATS:
            raise SpecError(f"format is '{format}', expected one of {', '.join(FORMATS)}")
        self.format, self.column, self.reasoning = format, column, reasoning
        self.settings = {"format": format, "column": column, "reasoning": reasoning}

    def judge_rows(self, batch: Batch) -> list[Judged]:
        """[B] in [0, 1]."""
        formats = batch.extras.get(self.column) or [self.format] * len(batch)
        return [
            response if isinstance(response, Status) else verdict_reward(response, gold, str(one), reasoning=self.reasoning)
            for (_, response, gold), one in zip(self.text_rows(batch), formats, strict=True)
        ]


def only_accepted(scores: Scores, batch: Batch) -> Scores:  # noqa: ARG001  # a shaper sees both
    """The scores above 0; a row at 0 abstains, so that `otherwise` asks somebody else about it."""
    import torch

    refused = scores.ok & (scores.values <= 0)
    status = torch.where(refused, int(Status.ABSTAINED), scores.status).to(torch.int8)
    return Scores(scores.values, status, scores.parts, verdicts=scores.verdicts)


def exact_or_judge(judge: BaseReward, exact: BaseReward | None = None) -> BaseReward:
    """1 where the exact match accepts a response, else what the judge says: the cascade for short answers (card 04, step 14).

    The judge is asked only where the match fails. exact: by default `ExactMatch` without case and punctuation.
    """
    from plaudit.rewards.rules.text_format import ExactMatch

    return (exact or ExactMatch(punctuation=False)).shaped(only_accepted).otherwise(judge)
