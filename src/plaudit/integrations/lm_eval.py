"""lm-evaluation-harness: a plaudit reward as a task's filter and its results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from plaudit.integrations.plug import Judged, Plug, batch_of, named_column, open_reward
from plaudit.types import Prompt, Status, UserError

if TYPE_CHECKING:
    from plaudit.engines.catalogue import EngineOptions
    from plaudit.rewards.base import BaseReward

Doc = Mapping[str, Any]


@dataclass(frozen=True)
class LmEvalFunctions:
    """What a task's YAML names with `!function`.

    judge_all: a `custom` filter; all responses of the task are judged at once. process_results: their figures.
    keep_best: a `custom` filter that keeps the best of each document's `repeats`. plug: counts, after the run.
    """

    judge_all: Callable[[Sequence[Sequence[str]], Sequence[Doc]], list[list[dict[str, Any]]]]
    process_results: Callable[[Doc, Sequence[Any]], dict[str, float]]
    keep_best: Callable[[Sequence[Sequence[str]], Sequence[Doc]], list[str]]
    plug: Plug


def lm_eval_reward(
    reward: str | BaseReward | Callable[..., Any],
    *,
    prompt: str | Callable[[Doc], Prompt] | None = None,
    reference: str | Callable[[Doc], Any] | None = None,
    seed: int = 0,
    engine: str | None = None,
    options: EngineOptions | None = None,
) -> LmEvalFunctions:
    """Functions for a `generate_until` task: a Python file beside its YAML says `judged = lm_eval_reward("math")`.

    prompt, reference: the document's field, or a function of the document; None: recognised by its name. The other fields are
    extra columns. A document's figures are `reward` (its own direction, the mean over `repeats`), one for each part, and `judged`
    (the share of its responses that could be judged). One that could not be judged has no `reward`: lm-eval then leaves it out
    of the mean and says so, and `judged` shows how many there were.
    Raises SpecError if no reward is named; UserError where a field is missing.
    """
    plug = Plug(open_reward(reward, engine=engine, options=options), maximise=False, seed=seed)

    def judge(resps: Sequence[Sequence[str]], docs: Sequence[Doc]) -> list[Judged]:
        return _judge(plug, resps, docs, prompt, reference)

    # plain functions: lm-eval copies a task's configuration, and a model must not be copied with it
    def judge_all(resps: Sequence[Sequence[str]], docs: Sequence[Doc]) -> list[list[dict[str, Any]]]:
        return [_rows(texts, judged) for texts, judged in zip(resps, judge(resps, docs), strict=True)]

    def process_results(doc: Doc, results: Sequence[Any]) -> dict[str, float]:
        (found,) = results
        rows = found if isinstance(found, list) else [found]
        if not all(isinstance(row, Mapping) for row in rows):  # the task has no `judge_all` filter: one document at a time
            rows = judge_all([rows], [doc])[0]
        return _figures(rows)

    def keep_best(resps: Sequence[Sequence[str]], docs: Sequence[Doc]) -> list[str]:
        sign = 1.0 if plug.reward.higher_is_better else -1.0
        return [_best(texts, judged, sign) for texts, judged in zip(resps, judge(resps, docs), strict=True)]

    return LmEvalFunctions(judge_all, process_results, keep_best, plug)


def _judge(
    plug: Plug,
    resps: Iterable[Sequence[str]],
    docs: Iterable[Doc],
    prompt: str | Callable[[Doc], Prompt] | None,
    reference: str | Callable[[Doc], Any] | None,
) -> list[Judged]:
    """All responses of all documents as one batch; one answer a document."""
    rows = [(list(texts), doc) for texts, doc in zip(resps, docs, strict=True)]
    flat = [(text, doc) for texts, doc in rows for text in texts]
    if not flat:
        return [Judged([], [], []) for _ in rows]
    fields = dict.fromkeys(name for _, doc in rows for name in doc)
    columns: dict[str, list[Any]] = {name: [doc.get(name) for _, doc in flat] for name in fields}
    if callable(prompt):
        prompts: list[Any] = [prompt(doc) for _, doc in flat]
    else:
        name = named_column("prompt", columns, prompt)
        if name is None:
            raise UserError(f"the documents have no field with a prompt (they have {', '.join(columns)}): say prompt=NAME")
        prompts = columns.pop(name)
    if callable(reference):
        columns["reference"] = [reference(doc) for _, doc in flat]
        reference = "reference"
    judged = plug.judge(batch_of(prompts, [text for text, _ in flat], columns, reference=reference))
    ends = [0]
    for texts, _ in rows:
        ends.append(ends[-1] + len(texts))
    return [judged.rows(range(start, end)) for start, end in pairwise(ends)]


def _rows(texts: Sequence[str], judged: Judged) -> list[dict[str, Any]]:
    """What lm-eval's log of samples shows of each response; JSON-able, without NaN."""
    parts = judged.parts()
    return [
        {
            "response": text,
            "reward": judged.values[row],
            "status": judged.status[row].label,
            "detail": judged.details[row],
            "parts": {name: None if column[row] != column[row] else column[row] for name, column in parts.items()},
        }
        for row, text in enumerate(texts)
    ]


def _figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """A document's figures: means over its responses that have the number; a number that none has is left out."""
    columns: dict[str, list[float | None]] = {"reward": [row["reward"] for row in rows]}
    for name in dict.fromkeys(name for row in rows for name in row["parts"]):
        columns[name] = [row["parts"].get(name) for row in rows]
    there = {name: [value for value in column if value is not None] for name, column in columns.items()}
    figures = {name: sum(values) / len(values) for name, values in there.items() if values}
    return {**figures, "judged": sum(row["status"] == Status.OK.label for row in rows) / len(rows)}


def _best(texts: Sequence[str], judged: Judged, sign: float) -> str:
    """The response with the best value; the first of equals, and the first of all where none could be judged."""
    values = [-float("inf") if value is None else sign * value for value in judged.values]
    return texts[values.index(max(values))]
