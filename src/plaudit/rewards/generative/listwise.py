"""Listwise judging: all responses of a group in one question, shuffled under masked names, and one number for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plaudit.fitting.seeds import derive_seed, permutation
from plaudit.rewards.generative import templates
from plaudit.rewards.generative.asking import Question, Reading
from plaudit.rewards.generative.questions import question_of
from plaudit.types import Batch, Scores, Status, Verdict

if TYPE_CHECKING:
    from plaudit.rewards.generative.contract import Contract


@dataclass(frozen=True)
class Listing:
    """One group as it is shown. rows: of the batch, in the order shown; what is no text is left out and stands in `unread`."""

    rows: tuple[int, ...]
    unread: tuple[int, ...]
    question: Question


def shuffled(texts: Sequence[str], seed: int) -> list[int]:
    """Places of the texts in the order in which they are shown: decided by the texts and the seed, not by where they stand."""
    by_content = sorted(range(len(texts)), key=texts.__getitem__)
    drawn = permutation(len(texts), derive_seed(seed, "shown order", *(texts[place] for place in by_content)))
    return [by_content[place] for place in drawn]


def listings(contract: Contract, batch: Batch, control: Sequence[str], seed: int) -> list[Listing]:
    """Every group of the batch as one question. A group of one is asked about too."""
    found = []
    for group in batch.group_rows():
        texts = {row: templates.content_text(batch.require_responses()[row]) for row in group}
        readable = {row: text for row, text in texts.items() if text is not None}
        unread = tuple(row for row in group if row not in readable)
        rows = tuple(list(readable)[place] for place in shuffled(list(readable.values()), seed))
        nothing = Question(None, Status.NOT_APPLICABLE, "no response of the group is text")
        found.append(Listing(rows, unread, question_of(contract, batch, rows, control) if rows else nothing))
    return found


def listed_scores(shown: Sequence[Listing], readings: Sequence[Reading], batch: Batch) -> Scores:
    """[B] the number that each row was given, un-shuffled. A row that was given none is UNPARSABLE, its neighbours are not.

    The verdict's order is the rows' places in their group as they were shown; its text is kept with the first row shown.
    """
    import torch

    values, status = [math.nan] * len(batch), [Status.NOT_APPLICABLE] * len(batch)
    verdicts: list[list[Verdict]] = [[] for _ in range(len(batch))]
    for listing, reading in zip(shown, readings, strict=True):
        members = sorted((*listing.rows, *listing.unread))
        order = tuple(members.index(row) for row in listing.rows)
        for row in listing.unread:
            verdicts[row] = [Verdict(status=Status.NOT_APPLICABLE, detail="the response is not text")]
        for place, row in enumerate(listing.rows):
            value = reading.values[place] if reading.values else None
            label = reading.labels[place] if reading.labels else None
            found = reading.status if reading.status is not Status.OK or value is not None else Status.UNPARSABLE
            detail = "; ".join(reading.detail) or ("" if found is Status.OK else "the answer gives this response no value")
            text = reading.text if place == 0 else None
            verdicts[row] = [Verdict(label, value, text, order, reading.seed, found, detail)]
            status[row] = found
            values[row] = math.nan if value is None else value
    return Scores(
        torch.tensor(values, dtype=torch.float32),
        torch.tensor([int(code) for code in status], dtype=torch.int8),
        verdicts=verdicts,
    )
