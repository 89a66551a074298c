"""The requests and answers of other tools' reward servers, as pure functions: a request becomes rows, numbers become an answer.

Written after what the released packages send and read: OpenRLHF 0.11 (`--reward.remote_url`, formerly `--remote_rm_url`),
verl 0.9 (`compute_score`, and the `/classify` call of its reward loop), the rerank convention of Cohere, Jina and vLLM, and
that of text-embeddings-inference. None of these protocols has a place for "could not be judged": see `numbers`.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from plaudit.data.row import Row
from plaudit.serve.settings import Refused
from plaudit.types import Status

MAX_ITEMS = 4096
"""Most items of one request."""
RETRY_AFTER = 5
"""Seconds that a client is asked to wait where trying again may help."""
SHOWN = 10
"""How many rows a refusal names in its sentence; its `rows` hold all of them."""
_END_MARK = re.compile(r"(?:<\|[^<>|]{1,40}\|>|<｜[^<>｜]{1,40}｜>|</s>|<eos>|<end_of_turn>)\Z")

Texts = Annotated[list[str], Field(min_length=1, max_length=MAX_ITEMS)]


@dataclass(frozen=True)
class Asked:
    """What is to be judged: rows, and for each item of the request the (row, response) that answers it."""

    rows: list[Row]
    places: list[tuple[int, int]]


Record = Mapping[str, Any]
"""What the service says of one response: `value` (None: not judged), `status`, and perhaps `detail`."""


class NotNumbers(Refused):
    """The request cannot be answered with numbers. rows: what is wrong with which item (index, status, detail)."""

    def __init__(self, code: int, sentence: str, rows: Sequence[Record]) -> None:
        super().__init__(code, sentence, retry_after=RETRY_AFTER if code == 503 else None)
        self.rows = [dict(row) for row in rows]

    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        return {"detail": self.sentence, "rows": self.rows}


def numbers(records: Sequence[Record], unscored: float | None) -> tuple[list[float], list[int]]:
    """(a number for every item, the items that got `unscored` in place of one).

    These protocols know only numbers, so by default a single item without one refuses the whole answer: 503 where trying
    again may help (timed out, failed, unreachable), else 422. unscored: the number that the user chose to send instead.
    Raises NotNumbers.
    """
    missing = [item for item, record in enumerate(records) if record["value"] is None]
    if missing and unscored is None:
        rows = [_why(item, records[item]) for item in missing]
        named = ", ".join(f"{row['index']} ({row['status']})" for row in rows[:SHOWN]) + (" ..." if len(rows) > SHOWN else "")
        retryable = any(Status[row["status"].upper()].retryable for row in rows)
        sentence = f"{len(missing)} of {len(records)} items could not be judged, so no number is sent for any: items {named}"
        raise NotNumbers(503 if retryable else 422, sentence, rows)
    values: list[Any] = [unscored if record["value"] is None else record["value"] for record in records]
    return values, missing


def _why(item: int, record: Record) -> dict[str, Any]:
    return {"index": item, "status": record["status"], **({"detail": record["detail"]} if record.get("detail") else {})}


class _Model(BaseModel):
    # other servers' clients send fields that mean nothing here (max_tokens_per_doc, encoding_format ...)
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


# -- OpenRLHF --------------------------------------------------------------------------------------------------------------


class OpenRLHFRequest(_Model):
    """`{"query", "prompts", "labels"}`; older releases send `query` alone."""

    query: Texts
    """Prompt and response as one text, special tokens included."""
    prompts: list[str] | None = None
    labels: list[JsonValue] | None = None

    @model_validator(mode="after")
    def _same_length(self) -> OpenRLHFRequest:
        for name in ("prompts", "labels"):
            column = getattr(self, name)
            if column and len(column) != len(self.query):
                raise ValueError(f"{name} has {len(column)} items for {len(self.query)} queries")
        return self


def openrlhf_rows(request: OpenRLHFRequest, *, grouped: bool) -> Asked:
    """One row a query; with `grouped` (rewards that compare or rank) one row for all queries of one prompt and label.

    The response is the query without its prompt in front and end-of-turn tokens behind; without prompts it is the whole
    query. Raises NotNumbers (422) where a query does not begin with its prompt: what part of it to judge would be a guess.
    """
    prompts, labels = request.prompts or [""] * len(request.query), request.labels or [None] * len(request.query)
    responses = [_without_prompt(query, prompt) for query, prompt in zip(request.query, prompts, strict=True)]
    foreign = [item for item, response in enumerate(responses) if response is None]
    if foreign:
        named = ", ".join(str(item) for item in foreign[:SHOWN])
        raise NotNumbers(
            422, f"queries {named} do not begin with their prompts; expected query = prompt + response",
            [{"index": item, "status": "not_applicable"} for item in foreign],
        )  # fmt: skip
    items = [(prompt, response or "", label) for prompt, response, label in zip(prompts, responses, labels, strict=True)]
    return _rows(items, grouped=grouped)


def _without_prompt(query: str, prompt: str) -> str | None:
    """The response in a query; tokenisers that drop a leading space are forgiven."""
    for text, front in ((query, prompt), (query.lstrip(), prompt.lstrip())):
        if text.startswith(front):
            return without_end_marks(text[len(front) :])
    return None


def without_end_marks(text: str) -> str:
    """The text without end-of-turn tokens, and white space around them, at its end."""
    while mark := _END_MARK.search(text.rstrip(), max(0, len(text.rstrip()) - 64)):
        text = text[: mark.start()]
    return text


def _rows(items: Sequence[tuple[str, str, Any]], *, grouped: bool) -> Asked:
    """(prompt, response, label) as rows. An empty or absent label is no reference."""
    if not grouped:
        rows = [Row(str(item), prompt, (response,), _reference(label, 1)) for item, (prompt, response, label) in enumerate(items)]
        return Asked(rows, [(item, 0) for item in range(len(items))])
    members: dict[str, list[int]] = {}
    for item, (prompt, _, label) in enumerate(items):
        members.setdefault(repr((prompt, label)), []).append(item)
    rows, places = [], [(0, 0)] * len(items)
    for number, mine in enumerate(members.values()):
        prompt, _, label = items[mine[0]]
        rows.append(Row(str(mine[0]), prompt, tuple(items[item][1] for item in mine), _reference(label, len(mine))))
        for place, item in enumerate(mine):
            places[item] = (number, place)
    return Asked(rows, places)


def _reference(label: Any, count: int) -> tuple[Any, ...] | None:
    return None if label is None or label == "" else (label,) * count


def openrlhf_answer(values: list[float], missing: Sequence[int], *, marked: bool) -> dict[str, Any]:
    """`rewards` for training, `scores` for filtering, and with `marked` 1.0 in `extra_logs.unscored` where a number was put in.

    The trainer needs the same keys of `extra_logs` for every sample, all of them numbers, so a reward's parts stay out.
    """
    logs = {"unscored": [1.0 if item in set(missing) else 0.0 for item in range(len(values))]} if marked else {}
    return {"rewards": values, "scores": values, "extra_logs": logs}


# -- verl ------------------------------------------------------------------------------------------------------------------


class VerlRequest(_Model):
    """The arguments of verl's `compute_score`: of one sample, or as the batch manager gives them, in lists."""

    solution_str: str | None = None
    ground_truth: JsonValue = None
    extra_info: dict[str, JsonValue] | None = None
    data_source: str | None = None
    solution_strs: Texts | None = None
    ground_truths: list[JsonValue] | None = None
    extra_infos: list[dict[str, JsonValue] | None] | None = None
    data_sources: list[str | None] | None = None

    @model_validator(mode="after")
    def _one_or_many(self) -> VerlRequest:
        if (self.solution_str is None) == (self.solution_strs is None):
            raise ValueError("give either solution_str or solution_strs")
        for name in ("ground_truths", "extra_infos", "data_sources"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self.solution_strs or ()):
                raise ValueError(f"{name} has {len(column)} items for {len(self.solution_strs or ())} solution_strs")
        return self


def verl_rows(request: VerlRequest, *, grouped: bool) -> Asked:
    """One row a solution. verl does not hand its prompt to `compute_score`: it is read from `extra_info`, as `prompt` or
    `question`, and is empty where neither is there."""
    if request.solution_strs is None:
        solutions, truths, infos = [request.solution_str or ""], [request.ground_truth], [request.extra_info]
    else:
        solutions = request.solution_strs
        truths = request.ground_truths or [None] * len(solutions)
        infos = request.extra_infos or [None] * len(solutions)
    prompts = [_verl_prompt(info or {}) for info in infos]
    return _rows(list(zip(prompts, solutions, truths, strict=True)), grouped=grouped)


def _verl_prompt(info: Mapping[str, Any]) -> str:
    for name in ("prompt", "question"):
        if isinstance(info.get(name), str):
            return str(info[name])
    return ""


def verl_answer(request: VerlRequest, values: list[float], missing: Sequence[int], *, marked: bool) -> Any:
    """What `compute_score` may return as it is: `{"score"}`, or a list of them; with `marked` also `unscored`, 0.0 or 1.0."""
    gone = set(missing)
    each = [
        {"score": value, **({"unscored": 1.0 if item in gone else 0.0} if marked else {})} for item, value in enumerate(values)
    ]
    return each[0] if request.solution_strs is None else each


class ClassifyRequest(_Model):
    """vLLM's `/classify`, which verl's reward loop asks: chats rendered to one text each."""

    input: Annotated[str, Field()] | Texts
    model: str | None = None


def classify_rows(request: ClassifyRequest) -> Asked:
    """One row a text, judged as a whole: where its last answer begins is a guess that the judged text itself could steer."""
    texts = [request.input] if isinstance(request.input, str) else request.input
    return _rows([("", text, None) for text in texts], grouped=False)


def classify_answer(values: Sequence[float], model: str) -> dict[str, Any]:
    """vLLM's shape; `probs` holds the reward's one number, whatever its scale."""
    data = [{"index": item, "label": "reward", "probs": [value], "num_classes": 1} for item, value in enumerate(values)]
    return {"id": f"classify-{uuid.uuid4().hex}", "object": "list", "created": int(time.time()), "model": model, "data": data}


# -- rerank ----------------------------------------------------------------------------------------------------------------


class RerankDocument(_Model):
    """A document as an object."""

    text: str


class RerankRequest(_Model):
    """`documents` (Cohere, Jina, vLLM) or `texts` (text-embeddings-inference); the answer takes the same side's shape."""

    query: str
    documents: Annotated[list[str | RerankDocument], Field(min_length=1, max_length=MAX_ITEMS)] | None = None
    texts: Texts | None = None
    model: str | None = None
    top_n: Annotated[int, Field(ge=1)] | None = None
    return_documents: bool = False
    return_text: bool = False

    @model_validator(mode="after")
    def _one_side(self) -> RerankRequest:
        if (self.documents is None) == (self.texts is None):
            raise ValueError("give either documents or texts")
        return self

    def contents(self) -> list[str]:
        """The documents as plain texts."""
        given: Sequence[str | RerankDocument] = self.texts if self.texts is not None else self.documents or ()
        return [one if isinstance(one, str) else one.text for one in given]


def rerank_rows(request: RerankRequest, *, grouped: bool) -> Asked:
    """The query is the prompt, the documents are the responses: one group where the reward compares or ranks."""
    return _rows([(request.query, text, None) for text in request.contents()], grouped=grouped)


def rerank_answer(request: RerankRequest, values: Sequence[float], model: str, *, higher_is_better: bool) -> Any:
    """The best first, equals in the order of the request; the numbers are the reward's own, on its own scale."""
    sign = -1.0 if higher_is_better else 1.0
    order = sorted(range(len(values)), key=lambda item: (sign * values[item], item))[: request.top_n]
    texts = request.contents()
    if request.texts is not None:
        return [{"index": i, "score": values[i], **({"text": texts[i]} if request.return_text else {})} for i in order]
    results = [
        {"index": i, "relevance_score": values[i], **({"document": {"text": texts[i]}} if request.return_documents else {})}
        for i in order
    ]
    return {"id": f"rerank-{uuid.uuid4().hex}", "model": model, "results": results}
