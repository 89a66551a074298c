"""From rows of a batch to one question of a contract: which texts are shown, and why a row cannot be asked about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from plaudit.rewards.generative import templates
from plaudit.rewards.generative.asking import Question
from plaudit.types import Batch, Status

if TYPE_CHECKING:
    from plaudit.rewards.generative.contract import Contract, Criterion

NO_SETTINGS: Mapping[str, Any] = MappingProxyType({})


def question_of(
    contract: Contract,
    batch: Batch,
    rows: Sequence[int],
    control: Sequence[str] = (),
    criterion: Criterion | None = None,
    *,
    items: Sequence[str] = (),
    settings: Mapping[str, Any] = NO_SETTINGS,
) -> Question:
    """The question that shows these rows in this order: one row, or two of a pairwise contract, or all of a listwise one.

    control: the model's control strings, broken inside the texts. items: of an itemised contract. settings: template variables
    of the library's own. Without a request the question has a status: NOT_APPLICABLE where something is no text or the rows
    differ in what they share (prompt, reference, columns), MISSING_REFERENCE where the reference or a column is needed and
    not there.
    """
    shared: dict[str, str | None] = {"reference": None}
    wanted = [("prompt", batch.prompts, True), *_columns_of(contract, batch)]
    for name, column, needed in wanted:
        found = {templates.content_text(column[row]) or "" for row in rows} if column is not None else {""}
        if len(found) > 1:
            return Question(None, Status.NOT_APPLICABLE, f"the {len(rows)} responses differ in their {name}")
        shared[name] = found.pop() or None
        if needed and shared[name] is None:
            if name != "prompt":
                return Question(None, Status.MISSING_REFERENCE, f"contract '{contract.name}' needs the {name} of a row")
            if templates.content_text(batch.prompts[rows[0]]) is None:
                return Question(None, Status.NOT_APPLICABLE, "the prompt is not text")
            shared[name] = ""
    responses = [templates.content_text(batch.require_responses()[row]) for row in rows]
    names = {"pairwise": ("first", "second")}.get(contract.kind, ("response",) * len(rows))
    texts: list[str] = []
    for name, text in zip(names, responses, strict=True):
        if text is None:
            return Question(None, Status.NOT_APPLICABLE, f"the {name} is not text")
        texts.append(text)
    listwise = contract.kind == "listwise"
    single = shared if listwise else {"prompt": shared.pop("prompt"), **dict(zip(names, texts, strict=True)), **shared}
    listed = texts if listwise else list(items)
    rendered = templates.render(contract, single, control, criterion, listed=listed, settings=settings)
    count = len(listed) if contract.kind in ("listwise", "itemised") else None
    return Question(rendered.request, judged=rendered.judged, escapes=rendered.escapes, count=count)


def _columns_of(contract: Contract, batch: Batch) -> list[tuple[str, Sequence[Any] | None, bool]]:
    """(name, column, needed) of what the contract shows beside prompt and responses."""
    columns = [(name, batch.extras.get(name), use == "needed") for name, use in contract.columns.items()]
    if contract.reference == "unused":
        return columns
    return [("reference", batch.references, contract.reference == "needed"), *columns]
