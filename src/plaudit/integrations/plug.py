"""What every integration shares: another program's samples -> a Batch -> Scores -> numbers, with all that is unjudged counted.

A converter (trl.py, verl.py ...) only knows how its program calls rewards. Everything else is here: which reward is meant,
which column holds the reference, which rows are a group, and what becomes of rows that could not be judged.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from plaudit.types import Batch, Context, EngineError, Preferences, Prompt, Scores, Status, UserError, Verdict
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from torch import Tensor

    from plaudit.engines.catalogue import EngineOptions
    from plaudit.rewards.base import BaseReward

Unjudged = float | Literal["raise"] | None
"""What a row without a score is worth. "raise": nothing, the run stops. None: None (a program that knows "no score" gets that).
A number: that number, stated by the user; never a silent zero."""

_LOG = logging.getLogger("plaudit.integrations")


class UnjudgedError(RuntimeError):
    """Rows could not be judged, and nobody said what they are worth."""


def open_reward(
    reward: str | BaseReward | Callable[..., Any], *, engine: str | None = None, options: EngineOptions | None = None
) -> BaseReward:
    """The reward that is meant: itself, a plain function, or what `--reward` takes (with `--engine`).

    Raises SpecError if a text names none, or a function's parameters cannot be understood.
    """
    from plaudit.rewards.base import BaseReward

    if isinstance(reward, str):
        from plaudit.engines.catalogue import DEFAULT
        from plaudit.judging.easy import load_reward

        return load_reward(reward, engine=engine or DEFAULT, options=options)
    if isinstance(reward, BaseReward):
        return reward
    if callable(reward):
        from plaudit.rewards.rules import as_reward

        return as_reward(reward)
    raise UserError(f"a {type(reward).__name__} is no reward; expected a plaudit reward, a function, or what --reward takes")


@dataclass
class Judged:
    """Rows (or pairs) judged. values: one each, with `unjudged` in place of what has none. status, details: why there is none.

    scores: what the reward said about rows, None for pairs.
    """

    values: list[float | None]
    status: list[Status]
    details: list[str]
    scores: Scores | None = None

    def __len__(self) -> int:
        return len(self.values)

    def rows(self, rows: Sequence[int]) -> Judged:
        """The given rows alone."""
        return Judged(
            [self.values[row] for row in rows],
            [self.status[row] for row in rows],
            [self.details[row] for row in rows],
            None if self.scores is None else self.scores.select(rows),
        )

    def parts(self) -> dict[str, list[float]]:
        """Named parts, one number a row, NaN where there is none."""
        return {} if self.scores is None else {name: column.tolist() for name, column in self.scores.parts.items()}

    def reasons(self) -> str:
        """`2 unparsable: no verdict in ..., 1 failed`: each status that is not OK, with the first reason given."""
        first: dict[Status, str] = {}
        for status, detail in zip(self.status, self.details, strict=True):
            first[status] = first.get(status) or detail
        counts = sorted((status, count) for status, count in Counter(self.status).items() if status != Status.OK)
        return ", ".join(f"{n} {status.label}" + (f": {first[status]}" if first[status] else "") for status, n in counts)


@dataclass
class Plug:
    """A reward as another program calls it, from any thread; one batch is judged at a time.

    maximise: larger is better, so that rewards of which less is better are negated (trainers); else their own numbers (reports).
    counts: rows so far by status. part_names: the parts that any row had so far.
    """

    reward: BaseReward
    unjudged: Unjudged = None
    maximise: bool = True
    seed: int = 0
    counts: Counter[Status] = field(default_factory=Counter)
    part_names: dict[str, None] = field(default_factory=dict)
    _lock: Any = field(default_factory=threading.Lock, repr=False)
    _checked: bool = False

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def judge(self, batch: Batch, *, step: int = 0, progress: float = 0.0) -> Judged:
        """Score a batch, count its statuses, and put `unjudged` in place of what has no score.

        Raises UserError or EngineError if the reward cannot work at all, or the engine is gone for all rows. Single rows that
        could not be judged raise in `insist`.
        """
        from plaudit.rewards.scoring import score_batch

        with self._lock:
            self._check()
            scored = score_batch(
                self.reward, batch, Context(step=step, progress=progress, seed=self.seed), maximise=self.maximise
            )
        for error in scored.errors:
            _LOG.warning("%s", error)
        return self._finish(scored.scores.values, scored.scores, scored.scores, "rows")

    def compare(self, batch: Batch, first: Tensor, second: Tensor) -> Judged:
        """The same for pairs of rows: P(first beats second) of each, [P] row numbers given."""
        with self._lock:
            self._check()
            preferences = self.reward.compare(batch, first, second, Context(seed=self.seed))
        return self._finish(preferences.prob, preferences, None, "pairs")

    def _check(self) -> None:
        if not self._checked:
            self.reward.check()
            self._checked = True

    def _finish(self, values: Tensor, said: Scores | Preferences, scores: Scores | None, what: str) -> Judged:
        """Count, tell each new kind of failure once with its first reason, and say what the unjudged are worth."""
        status = [Status(code) for code in said.status.tolist()]
        worth = None if self.unjudged == "raise" else self.unjudged
        judged = Judged(
            [value if one == Status.OK else worth for value, one in zip(values.tolist(), status, strict=True)],
            status,
            ["; ".join(one.detail for one in told if one.detail) for told in said.verdicts or [[]] * len(status)],
            scores,
        )
        with self._lock:
            new = {one for one in status if one != Status.OK and not self.counts[one]}
            self.counts.update(status)
            self.part_names |= dict.fromkeys(judged.parts())
        if new:
            _LOG.warning("%s", self._problem(judged, what))
        if status and all(one == Status.UNREACHABLE for one in status):  # as the runner ends there: an outage is worth no number
            raise EngineError(self._problem(judged, what))
        return judged

    def insist(self, judged: Judged) -> Judged:
        """The same, or UnjudgedError if something could not be judged and its worth is "raise"."""
        if self.unjudged == "raise" and any(judged.status):
            what = "pairs" if judged.scores is None else "rows"
            raise UnjudgedError(f"{self._problem(judged, what)}: state what such a one is worth with unjudged=NUMBER")
        return judged

    def failed(self, detail: str) -> Judged:
        """A row that cannot even be put to the reward: FAILED, counted and worth what the unjudged are worth."""
        import torch

        verdict = Verdict(status=Status.FAILED, detail=detail)
        scores = Scores(torch.tensor([torch.nan]), torch.tensor([int(Status.FAILED)]), verdicts=[[verdict]])
        return self._finish(scores.values, scores, scores, "rows")

    def figures(self, judged: Judged) -> dict[str, float]:
        """What a log shows of one row: `judged` (1 or 0), and every part that any row had, NaN where this one has none."""
        parts = judged.parts()
        return {
            "judged": float(judged.status[0] == Status.OK),
            **{name: parts[name][0] if name in parts else math.nan for name in self.part_names},
        }

    def _problem(self, judged: Judged, what: str) -> str:
        missing = sum(one != Status.OK for one in judged.status)
        return f"the reward '{self.reward.name}' could not judge {missing} of {len(judged)} {what} ({judged.reasons()})"

    def summary(self) -> str:
        """One line on what was judged so far: `64 judged; unjudged: 3 unparsable`."""
        bad = [f"{count} {status.label}" for status, count in sorted(self.counts.items()) if status != Status.OK]
        return f"{self.counts[Status.OK]} judged" + (f"; unjudged: {', '.join(bad)}" if bad else "")


def batch_of(
    prompts: Sequence[Prompt],
    responses: Sequence[Any],
    columns: Mapping[str, Sequence[Any]] | None = None,
    *,
    reference: str | None = None,
    group_size: int | None = None,
) -> Batch:
    """A Batch out of another program's columns. Rows of equal prompts are one group.

    responses: texts, or lists of messages. columns: of the same length; `reference` names the one that holds the right answer
    (None: recognised by its name; "": there is none), `user` and `id` are read as such, the rest are extras.
    Raises UserError if the reference cannot be told, or a group does not have `group_size` rows.
    """
    import torch

    given = dict(columns or {})
    name = named_column("reference", given, reference)
    users, ids = given.pop("user", None), given.pop("id", None)
    groups = torch.tensor(_groups(prompts), dtype=torch.int64)
    if group_size is not None:
        sizes = {size for size in torch.bincount(groups).tolist() if size % group_size}
        if sizes:
            raise UserError(
                f"a prompt came with {min(sizes)} completions instead of {group_size}: its group is split over processes, and "
                "what is relative to a group would be wrong; choose batches per device that hold whole groups"
            )
    return Batch(
        prompts=list(prompts),
        responses=[one_text(response) for response in responses],
        references=None if name is None else list(given.pop(name)),
        groups=groups,
        users=users,
        ids=None if ids is None else [str(one) for one in ids],
        extras=given,
    )


def named_column(field: str, columns: Mapping[str, Any], named: str | None) -> str | None:
    """The column that holds a field ("prompt", "reference"): the named one, or the one with a usual name; "" asks for none.

    Raises UserError if the named one is missing, or several have usual names.
    """
    from plaudit.data.fields import ALIASES

    if named == "":
        return None
    if named is not None:
        if named not in columns:
            raise UserError(f"there is no column '{named}' for the {field} (there are: {', '.join(columns) or 'none'})")
        return named
    found = [name for name in ALIASES[field] if name in columns]
    if len(found) > 1 and field not in found:
        raise UserError(f"the columns {', '.join(found)} may all be the {field}: say which with {field}=NAME")
    return None if not found else field if field in found else found[0]


def one_text(response: Any) -> Any:
    """A lone message as its text; longer chats, and anything that is no chat, stay as they are."""
    from plaudit.rewards.rules.base import response_text

    if isinstance(response, (list, tuple)) and len(response) == 1 and isinstance(response[0], Mapping):
        text = response_text(response)
        return response if text is None else text
    return response


def _groups(prompts: Sequence[Prompt]) -> list[int]:
    """A number for each distinct prompt, in the order of their first rows."""
    number: dict[str, int] = {}
    return [number.setdefault(content_key(prompt), len(number)) for prompt in prompts]
