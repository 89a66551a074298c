"""Questions to an engine and how their answers are read: the part of a judge that both kinds of contract share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from plaudit.rewards.generative.contract import OptionsReadout, TextReadout
from plaudit.rewards.generative.functions import call_list_function
from plaudit.rewards.generative.parsing import parse
from plaudit.types import Budget, Finish, Request, Sampling, Status, Verdict

if TYPE_CHECKING:
    from plaudit.rewards.generative.contract import Contract
    from plaudit.types import Engine


@dataclass(frozen=True)
class Question:
    """One thing to ask; without a request its status is the answer. judged: the texts shown. escapes: broken strings.

    count: how many things the answer is about, where it is about several.
    """

    request: Request | None
    status: Status = Status.OK
    detail: str = ""
    judged: tuple[str, ...] = ()
    escapes: int = 0
    count: int | None = None


@dataclass
class Reading:
    """What an answer says. value, spread and tie are None unless status is OK.

    values, labels: one for each thing that the answer is about, in the order shown, where it is about several.
    value: expected value of the label distribution. spread: its standard deviation. tie: probability of the labels worth a half.
    """

    status: Status
    value: float | None = None
    spread: float | None = None
    tie: float | None = None
    choice: str | None = None
    text: str | None = None
    seed: int | None = None
    detail: list[str] = field(default_factory=list)
    values: tuple[float | None, ...] = ()
    labels: tuple[str | None, ...] = ()

    def verdict(self, *, name: str = "", value: float | None = None, order: tuple[int, ...] | None = None) -> Verdict:
        """The record of this reading; value: in place of the reading's own, for a pair shown the other way round."""
        shown = self.value if value is None else value
        return Verdict(self.choice, shown, self.text, order, self.seed, self.status, "; ".join(self.detail), name)


def ask(
    engine: Engine, contract: Contract, sampling: Sampling | None, questions: Sequence[Question], budget: Budget | None
) -> list[Reading]:
    """One reading per question. Equal requests are asked once, in an order of their own, so that rows' order changes nothing."""
    texts = {question.request: str(question.request.messages) for question in questions if question.request is not None}
    requests = sorted(texts, key=lambda request: (len(texts[request]), texts[request], request.prefix))
    place = {request: index for index, request in enumerate(requests)}
    readout = contract.readout
    answers: list[Reading] | list[_Answer]
    if not requests:
        answers = []
    elif isinstance(readout, OptionsReadout):
        answers = _read_options(engine, readout, requests, budget)
    else:
        answers = _generate(engine, sampling or readout.sampling, requests, budget)
    readings: list[Reading] = []
    for question in questions:
        if question.request is None:
            readings.append(_without_value(question.status, question.detail))
            continue
        answer = answers[place[question.request]]
        reading = _parsed(answer, readout, question) if isinstance(answer, _Answer) else _copy(answer)
        if question.escapes:
            reading.detail.append(f"{question.escapes} reserved strings in the texts were broken")
        readings.append(reading)
    return readings


def _copy(reading: Reading) -> Reading:
    return replace(reading, detail=list(reading.detail))


def _without_value(status: Status, detail: str) -> Reading:
    return Reading(Status(status), detail=[detail] if detail else [])


def _read_options(engine: Engine, readout: OptionsReadout, requests: Sequence[Request], budget: Budget | None) -> list[Reading]:
    answer = engine.next_token(requests, readout.spellings, budget=budget)
    floors = answer.floor.tolist() if answer.floor is not None else [None] * len(requests)
    details = answer.detail or [""] * len(requests)
    rows = answer.log_probs.tolist()
    return [
        read_distribution(row, readout, floor) if status == Status.OK else _without_value(status, detail)
        for row, status, detail, floor in zip(rows, answer.status, details, floors, strict=True)
    ]


def read_distribution(log_probs: Sequence[float], readout: OptionsReadout, floor: float | None = None) -> Reading:
    """The reading of one next-token distribution.

    log_probs: natural log of each label's summed probability. floor: the log-probability below which the engine shows nothing;
    a label at the floor has it as an upper bound, which is used and noted. UNPARSABLE where the labels' total probability is
    below the readout's minimum, or where no label was shown at all; NOT_A_NUMBER where a log-probability is NaN.
    """
    if any(math.isnan(value) or value == math.inf for value in log_probs):
        return Reading(Status.NOT_A_NUMBER, detail=["a log-probability is not a number"])
    probabilities = [math.exp(value) for value in log_probs]
    mass = math.fsum(probabilities)
    unseen = [] if floor is None else [value <= floor for value in log_probs]
    if mass <= 0 or mass < readout.minimum_mass or (unseen and all(unseen)):
        bound = "at most " if any(unseen) else ""
        menu = ", ".join(label.name for label in readout.labels)
        return Reading(Status.UNPARSABLE, detail=[f"mass {bound}{mass:.4f} on {menu}: the judge was not answering the question"])
    shares = [probability / mass for probability in probabilities]
    values = [label.value for label in readout.labels]
    mean = math.fsum(share * value for share, value in zip(shares, values, strict=True))
    variance = math.fsum(share * (value - mean) ** 2 for share, value in zip(shares, values, strict=True))
    ties = [share for share, label in zip(shares, readout.labels, strict=True) if label.value == 0.5]
    best = max(range(len(shares)), key=shares.__getitem__)
    detail = [f"mass {mass:.4f}"]
    if any(unseen):
        names = ", ".join(label.name for label, low in zip(readout.labels, unseen, strict=True) if low)
        detail.append(f"not shown by the engine, upper bound used: {names}")
    return Reading(
        Status.OK, mean, math.sqrt(variance), math.fsum(ties) if ties else None, readout.labels[best].name, detail=detail
    )


@dataclass(frozen=True)
class _Answer:
    """A generated answer, not yet parsed: what counts as a quotation depends on the question."""

    status: Status
    text: str
    finish: Finish
    detail: str
    seed: int


def _generate(engine: Engine, how: Sampling, requests: Sequence[Request], budget: Budget | None) -> list[_Answer]:
    generations = engine.generate(requests, how, budget=budget)
    return [_Answer(Status(made.status), made.text, made.finish, made.detail, how.seed) for made in generations]


def _parsed(answer: _Answer, readout: OptionsReadout | TextReadout, question: Question) -> Reading:
    assert isinstance(readout, TextReadout)
    assert question.request is not None
    prefix = question.request.prefix
    if answer.status is not Status.OK:
        failed = _without_value(answer.status, answer.detail)
        return replace(failed, text=answer.text or None, seed=answer.seed)
    if question.count is not None:
        found = call_list_function(readout, prefix + answer.text, question.count, question.judged)
        said = [found.detail] if found.detail else []
        said += ["the answer was cut off"] if answer.finish != "complete" else []
        listed = Reading(found.status, text=prefix + answer.text, seed=answer.seed, detail=said)
        if found.status is Status.OK:
            listed.values, listed.labels = found.values, found.labels
        return listed
    parsed = parse(answer.text, readout, judged=question.judged, finish=answer.finish, prefix=prefix)
    return Reading(
        parsed.status,
        parsed.value if parsed.status is Status.OK else None,
        None,
        None if parsed.value is None or not any(label.value == 0.5 for label in readout.labels) else float(parsed.value == 0.5),
        parsed.label,
        prefix + answer.text,
        answer.seed,
        [parsed.detail] if parsed.detail else [],
    )
