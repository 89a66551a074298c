"""`Work`: one search in progress. It holds every candidate, draws and judges more of them, and can be kept and taken up again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from plaudit.fitting.seeds import derive_seed
from plaudit.search.base import Stopped, affordable, cost_of_judging, cost_of_sample, judge, judges_groups, sample, sampling_of
from plaudit.types import Batch, Budget, Generator, Reward, Scores, Status, UserError, Verdict

Progress = Callable[["Work"], None]
"""Called whenever something was drawn or judged; `work.state()` is then worth keeping."""
ROWS_AT_ONCE = 512
"""Samples that are drawn in one go: what is lost at most when a search is killed."""


@dataclass
class Candidate:
    """One sample of a prompt. status: None while it is not judged; value: None unless it is OK.

    tokens, finish, segments: as in `Batch`. note: what the search says about it (round, temperature ...), JSON-able.
    """

    prompt: int
    response: Any
    tokens: int | None = None
    finish: Any = None
    segments: Any = None
    note: dict[str, Any] = field(default_factory=dict)
    status: Status | None = None
    value: float | None = None
    parts: dict[str, float | None] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def judged(self) -> bool:
        """Whether it need not be judged (again)."""
        return self.status is not None and self.status != Status.UNREACHABLE

    def record(self) -> dict[str, Any]:
        """What history and state keep of it."""
        kept = {
            "prompt": self.prompt,
            "response": _kept(self.response),
            **{name: getattr(self, name) for name in ("tokens", "finish", "value") if getattr(self, name) is not None},
            **self.note,
            "status": "not_judged" if self.status is None else self.status.label,
        }
        if self.segments is not None:
            kept["segments"] = [list(span) for span in self.segments]
        if self.parts:
            kept["parts"] = dict(self.parts)
        if self.verdicts:
            kept["verdicts"] = [verdict.to_json() for verdict in self.verdicts]
        return kept

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Candidate:
        """The candidate of a record."""
        known = ("prompt", "response", "tokens", "finish", "value", "status", "segments", "parts", "verdicts")
        status = None if record["status"] == "not_judged" else Status[record["status"].upper()]
        spans = record.get("segments")
        return cls(
            record["prompt"],
            _restored(record["response"]),
            record.get("tokens"),
            record.get("finish"),
            None if spans is None else [tuple(span) for span in spans],
            {name: value for name, value in record.items() if name not in known},
            status,
            record.get("value"),
            dict(record.get("parts", {})),
            [_verdict(one) for one in record.get("verdicts", ())],
        )


@dataclass
class Work:
    """What a search has found so far. memory: JSON-able, whatever the search must know besides to go on. key: of its settings,
    prompts and seed; a state is taken up only by a search with the same."""

    generator: Generator
    reward: Reward
    prompts: Batch
    budget: Budget
    seed: int
    candidates: list[Candidate] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)
    on_progress: Progress | None = None
    key: str = ""

    def of(self, prompt: int) -> list[Candidate]:
        """The candidates of a prompt, in the order in which they were made."""
        return [self.candidates[place] for place in self._places.get(prompt, ())]

    def add(self, candidates: Sequence[Candidate]) -> None:
        """More candidates, made in whatever way."""
        for one in candidates:
            self._places.setdefault(one.prompt, []).append(len(self.candidates))
            self.candidates.append(one)

    def __post_init__(self) -> None:
        self._places: dict[int, list[int]] = {}
        self._portion = 0
        given, self.candidates = self.candidates, []
        self.add(given)

    def chunks(self, samples: int) -> Iterator[list[int]]:
        """The prompts' numbers in portions, each of about `ROWS_AT_ONCE` samples at so many a prompt; always the same ones."""
        size = max(1, ROWS_AT_ONCE // max(1, samples))
        for start in range(0, len(self.prompts), size):
            self._portion = start
            yield list(range(start, min(start + size, len(self.prompts))))

    # -- drawing -----------------------------------------------------------------------------------------------------------

    def draw(self, rows: Sequence[int], n: int, *, how: Any = None, note: dict[str, Any] | None = None, key: Any = 0) -> None:
        """n samples of each prompt of one chunk, less those that an earlier call with this key drew already.

        key: tells this draw from the others of the same prompts. note: kept with every sample. Where the budget does not reach
        for all, as many prompts as it does reach for are drawn, the last one with fewer samples; then Stopped is raised.
        """
        how = sampling_of(self.generator, how)
        have = {row: sum(one.note.get("draw") == key for one in self.of(row)) for row in rows}
        left = [row for row in rows if have[row] < n]
        while left:
            room = affordable(self.budget, **cost_of_sample(how))
            started = next((place for place, row in enumerate(left) if have[row]), len(left))
            whole = left[: int(min(started, room // n))]
            if whole:
                self._sampled(whole, n, how, note, (key, self._portion))
                left = left[len(whole) :]
                continue
            # a prompt gets fewer samples than wanted; what it lacks is drawn with another seed, now or when the search goes on
            row = left[0]
            few = int(max(1, min(n - have[row], room)))
            self._sampled([row], few, how, note, (key, row, have[row]))  # raises Stopped where there is no room at all
            have[row] += few
            left = left if have[row] < n else left[1:]

    def _sampled(self, rows: list[int], n: int, how: Any, note: dict[str, Any] | None, key: tuple[Any, ...]) -> None:
        seed = derive_seed(self.seed, "draw", *key)
        drawn = sample(self.generator, self.prompts.select(rows), n, how=how, seed=seed, budget=self.budget)
        noted = {**(note or {}), "draw": key[0]}
        self.add([replace(one, prompt=rows[one.prompt], note=dict(noted)) for one in candidates_of(drawn)])
        self._tell()

    # -- judging -----------------------------------------------------------------------------------------------------------

    def judge(self, candidates: Sequence[Candidate] | None = None) -> None:
        """Judge those of the candidates (None: of all) that are not judged yet, as many at once as the reward takes.

        A reward that compares judges all candidates of a prompt anew when there is a new one. Raises Stopped where the budget
        does not reach for all, or where the reward is not reachable; what was said until then is kept.
        """
        units = self._units([one for one in (self.candidates if candidates is None else candidates) if not one.judged])
        while units:
            count = self._affordable(units)
            now, units = units[: max(1, count)], units[max(1, count) :]
            self._judged([one for unit in now for one in unit])

    def _units(self, pending: list[Candidate]) -> list[list[Candidate]]:
        """What is judged together: single candidates, or all of a prompt."""
        if not judges_groups(self.reward):
            return [[one] for one in pending]
        return [self.of(prompt) for prompt in dict.fromkeys(one.prompt for one in pending)]

    def _affordable(self, units: list[list[Candidate]]) -> int:
        """How many of the units fit into one call and the budget."""
        room = affordable(self.budget, reward_calls=1)
        most = max(1, int(getattr(self.reward, "batch_size", ROWS_AT_ONCE)))
        rows = calls = 0.0
        for count, unit in enumerate(units):
            rows, calls = rows + len(unit), calls + cost_of_judging(self.reward, [len(unit)])
            if rows > most or calls > room:
                return count
        return len(units)

    def _judged(self, candidates: list[Candidate]) -> None:
        try:
            scores = judge(self.reward, self.batch_of(candidates), seed=derive_seed(self.seed, "judge"), budget=self.budget)
        except Stopped as stop:
            if stop.scores is not None:
                _note_scores(candidates, stop.scores)
            self._tell()
            raise
        _note_scores(candidates, scores)
        self._tell()

    # -- what it is --------------------------------------------------------------------------------------------------------

    def batch_of(self, candidates: Sequence[Candidate]) -> Batch:
        """Candidates as a batch, in groups by prompt."""
        import torch

        rows = [one.prompt for one in candidates]
        columns = {
            "lengths": [one.tokens for one in candidates],
            "finish": [one.finish for one in candidates],
            "segments": [one.segments for one in candidates],
        }
        known: dict[str, Any] = {name: column for name, column in columns.items() if None not in column}
        responses = _column([one.response for one in candidates])
        groups = torch.tensor(rows, dtype=torch.int64)
        return replace(self.prompts.select(rows), responses=responses, groups=groups, **known)

    def result(self, chosen: Sequence[int | None]) -> tuple[Batch, Scores]:
        """One row a prompt: the chosen candidate; where there is none the last, with its status and no value.

        A prompt for which nothing was drawn has the response None; not drawn and not judged both have the status UNREACHABLE,
        which says that a later run can change it.
        """
        import torch

        rows = []
        for prompt, place in enumerate(chosen):
            found = self.of(prompt)
            rows.append(found[-1 if place is None else place] if found else Candidate(prompt, None))
        values = [math.nan if one.value is None else one.value for one in rows]
        status = [Status.UNREACHABLE if one.status is None else one.status for one in rows]
        names = dict.fromkeys(name for one in rows for name in one.parts)
        parts = {
            name: torch.tensor([math.nan if (part := one.parts.get(name)) is None else part for one in rows]) for name in names
        }
        verdicts = [one.verdicts for one in rows] if any(one.verdicts for one in rows) else None
        scores = Scores(torch.tensor(values), torch.tensor([int(one) for one in status]), parts, verdicts=verdicts)
        return replace(self.batch_of(rows), groups=None), scores

    def history(self) -> list[dict[str, Any]]:
        """A record of each candidate, in the order in which they were made."""
        return [one.record() for one in self.candidates]

    def state(self) -> dict[str, Any]:
        """All that another run needs to go on; JSON-able where responses are."""
        return {"key": self.key, "candidates": self.history(), "memory": self.memory}

    def restore(self, state: Any) -> None:
        """Take up the state of an earlier run. Raises UserError where it belongs to something else."""
        if not isinstance(state, Mapping) or state.get("key") != self.key:
            raise UserError("this state belongs to another search, other prompts or another seed")
        self.add([Candidate.from_record(record) for record in state["candidates"]])
        self.memory = dict(state["memory"])

    def _tell(self) -> None:
        if self.on_progress is not None:
            self.on_progress(self)


def candidates_of(batch: Batch) -> list[Candidate]:
    """Samples as candidates that are not judged yet; `prompt` is the number of the group, or the row without groups."""
    count = len(batch)
    prompts = range(count) if batch.groups is None else batch.groups.tolist()
    columns: list[Any] = [batch.lengths, batch.finish, batch.segments]
    lengths, finish, segments = (column or [None] * count for column in columns)
    rows = zip(prompts, batch.require_responses(), lengths, finish, segments, strict=True)
    return [Candidate(int(prompt), response, length, end, spans) for prompt, response, length, end, spans in rows]


def _note_scores(candidates: Sequence[Candidate], scores: Scores) -> None:
    values, statuses = scores.values.tolist(), scores.status.tolist()
    parts = {name: part.tolist() for name, part in scores.parts.items()}
    for row, one in enumerate(candidates):
        one.status = Status(statuses[row])
        one.value = values[row] if one.status == Status.OK else None
        one.parts = {name: None if math.isnan(part[row]) else part[row] for name, part in parts.items()}
        one.verdicts = [] if scores.verdicts is None else scores.verdicts[row]


def _column(responses: list[Any]) -> Any:
    """Tensors of one shape as a tensor, anything else as a list."""
    import torch

    if responses and all(hasattr(one, "dim") for one in responses) and len({tuple(one.shape) for one in responses}) == 1:
        return torch.stack(responses)
    return responses


def _kept(response: Any) -> Any:
    """A tensor as lists of numbers, anything else as it is."""
    return {"tensor": response.tolist(), "dtype": str(response.dtype)} if hasattr(response, "dim") else response


def _restored(response: Any) -> Any:
    if not (isinstance(response, dict) and set(response) == {"tensor", "dtype"}):
        return response
    import torch

    return torch.tensor(response["tensor"], dtype=getattr(torch, response["dtype"].removeprefix("torch.")))


def _verdict(record: dict[str, Any]) -> Verdict:
    order = record.get("order")
    return Verdict(
        **{
            **record,
            "status": Status[record["status"].upper()],
            "order": None if order is None else tuple(order),
        }
    )
