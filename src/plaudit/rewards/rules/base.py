"""`RuleReward`, and `rule` / `as_reward`, which make a plain function into a reward."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from plaudit.rewards.base import BaseReward
from plaudit.rewards.rules.source import function_key, module_source
from plaudit.rewards.rules.waiting import await_all
from plaudit.types import Batch, Context, Prompt, Scores, SpecError, Status, Verdict, prompt_text
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from torch import Tensor

Judged = float | bool | Status | Verdict | None
"""What a rule says about one row: a number, None (abstains), a Status, or a Verdict (a value or a status with a reason)."""


def response_text(response: Any) -> str | None:
    """The text of a response: itself, or the content of a message or of a chat's last message. None where it is no text."""
    if isinstance(response, str):
        return response
    if isinstance(response, Mapping):
        return response_text(response.get("content"))
    if isinstance(response, (list, tuple)) and response:
        if all(isinstance(part, Mapping) and part.get("type") == "text" for part in response):
            return "".join(str(part.get("text", "")) for part in response)
        last = response[-1]
        return response_text(last) if isinstance(last, Mapping) and "content" in last else None
    return None


def scores_of(judged: Sequence[Judged], parts: Mapping[str, Sequence[float]] | None = None) -> Scores:
    """[B] scores out of what a rule said about each row; parts: [B] numbers by name, NaN where there is none.

    Verdicts are kept only where a rule gave one, so that a plain rule costs no object per row.
    """
    import torch

    values = [float("nan")] * len(judged)
    status = [int(Status.OK)] * len(judged)
    verdicts: list[list[Verdict]] | None = None
    for row, said in enumerate(judged):
        if isinstance(said, Verdict):
            if verdicts is None:
                verdicts = [[] for _ in judged]
            verdicts[row] = [said]
            said = said.status if said.status != Status.OK or said.value is None else said.value
            if said is Status.OK:
                said = None
        if said is None:
            status[row] = Status.ABSTAINED
        elif isinstance(said, Status):
            status[row] = said
        else:
            values[row] = said
    columns: dict[str, Tensor] = {name: torch.tensor(part, dtype=torch.float32) for name, part in (parts or {}).items()}
    return Scores(torch.tensor(values, dtype=torch.float32), torch.tensor(status, dtype=torch.int8), columns, verdicts=verdicts)


def failure(error: Exception) -> Verdict:
    """The verdict of a row whose rule raised an error."""
    return Verdict(status=Status.FAILED, detail=f"{type(error).__name__}: {error}"[:500])


class RuleReward(BaseReward):
    """A reward that a program decides, row by row. A subclass gives `judge_one`.

    Responses that are messages are judged by their last content; responses that are no text are NOT_APPLICABLE.
    A rule with `needs_reference` gives MISSING_REFERENCE for rows without one. An error in `judge_one` is FAILED with the
    error's text in the verdict, and the other rows go on.
    """

    abstract = True
    uses_seed = False  # a rule decides by the row alone
    batch_size = 4096
    needs_reference: bool = False

    def judge_one(self, prompt: Prompt, response: str, reference: Any) -> Judged:
        """One row. Raises anything: the row is then FAILED."""
        raise NotImplementedError

    def judge_rows(self, batch: Batch) -> list[Judged]:
        """[B] what is said about each row; overridden by rules that read other columns or judge many rows at once."""
        return [self._guarded(*row) for row in self.text_rows(batch)]

    def text_rows(self, batch: Batch) -> Iterable[tuple[Prompt, str | Status, Any]]:
        """(prompt, response text or the status of a row that cannot be judged, reference) of each row."""
        responses = batch.require_responses()
        references = batch.references if batch.references is not None else [None] * len(batch)
        for prompt, response, reference in zip(batch.prompts, responses, references, strict=True):
            text = response_text(response)
            if text is None:
                yield prompt, Status.NOT_APPLICABLE, reference
            elif reference is None and self.needs_reference:
                yield prompt, Status.MISSING_REFERENCE, None
            else:
                yield prompt, text, reference

    def _guarded(self, prompt: Prompt, response: str | Status, reference: Any) -> Judged:
        if isinstance(response, Status):
            return response
        try:
            return _told(self.judge_one(prompt, response, reference))
        except Exception as error:  # a rule's own error belongs to its row, not to the run
            return failure(error)

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:  # noqa: ARG002  # part of the interface
        """[B] what the rule says. Raises ValueError if the batch has no responses."""
        return scores_of(self.judge_rows(batch))

    def fingerprint(self) -> str:
        """Class, name, settings and the source of every file that the class and its bases stand in."""
        own = [kind for kind in type(self).__mro__ if issubclass(kind, RuleReward)]
        return content_key(super().fingerprint(), {kind.__module__: module_source(kind.__module__) for kind in own})


_COLUMNS = ("prompt", "response", "reference", "user")


class FunctionReward(RuleReward):
    """A plain function as a reward; made by `rule` or `as_reward`."""

    uses_seed = True  # nobody knows what a user's function draws

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None,
        settings: Mapping[str, Any] | None = None,
        higher_is_better: bool = True,
        batched: bool = False,
        at_once: int = 16,
    ) -> None:
        if at_once < 1:
            raise SpecError(f"at_once is {at_once}: at least one row must be under way at a time")
        self.function = function
        self.name = name or str(getattr(function, "__name__", type(function).__name__))
        self.parameters = _parameters(function, self.name)
        required = self.parameters.get("reference")
        self.needs_reference = required is True
        self.settings = {"function": function_key(function) if settings is None else dict(settings)}
        self.higher_is_better = higher_is_better
        self._batched, self._at_once = batched, at_once
        self._waits = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function itself, so that a decorated rule can still be called."""
        return self.function(*args, **kwargs)

    def judge_rows(self, batch: Batch) -> list[Judged]:
        """[B] what the function says. Raises SpecError if it asks for a column that the batch does not have."""
        extra = self._extra_columns(batch)
        judged: list[Judged] = []
        asked: list[tuple[int, dict[str, Any]]] = []
        for row, (prompt, response, reference) in enumerate(self.text_rows(batch)):
            judged.append(response if isinstance(response, Status) else None)
            if isinstance(response, Status):
                continue
            given: dict[str, Any] = {"response": response, **{name: column[row] for name, column in extra.items()}}
            for name in self.parameters:
                if name == "prompt":
                    given[name] = prompt_text(prompt)
                elif name == "reference" and (reference is not None or self.needs_reference or self._batched):
                    given[name] = reference
            asked.append((row, given))
        answers = self._ask([given for _, given in asked])
        for (row, _), answer in zip(asked, answers, strict=True):
            judged[row] = answer
        return judged

    def _ask(self, rows: Sequence[dict[str, Any]]) -> list[Judged]:
        """What the function says about rows of arguments: at once, waiting for several, or one after another."""
        if self._batched and rows:
            columns = {name: [row[name] for row in rows] for name in rows[0]}
            said = self._call(columns)
            answers = list(await_all(lambda one: one, [said], 1)[0] if self._waits else said)
            if len(answers) != len(rows):
                raise ValueError(f"the reward '{self.name}' was given {len(rows)} responses and answered about {len(answers)}")
            return [_told(one) for one in answers]
        if self._waits:
            return await_all(self._awaited, rows, self._at_once)
        return [self._guarded_call(row) for row in rows]

    def _extra_columns(self, batch: Batch) -> dict[str, Sequence[Any]]:
        columns: dict[str, Sequence[Any]] = {**batch.extras}
        if batch.users is not None:
            columns["user"] = batch.users
        wanted = {name: needed for name, needed in self.parameters.items() if name not in ("prompt", "response", "reference")}
        for name, needed in wanted.items():
            if needed and name not in columns:
                there = ", ".join([*_COLUMNS, *batch.extras])
                raise SpecError(f"the rule '{self.name}' asks for '{name}', which is no column of this data (there are: {there})")
        return {name: columns[name] for name in wanted if name in columns}

    def _call(self, given: dict[str, Any]) -> Any:
        """One parameter alone is given by place, since it may have any name."""
        return self.function(given["response"]) if len(self.parameters) == 1 else self.function(**given)

    def _guarded_call(self, given: dict[str, Any]) -> Judged:
        try:
            return _told(self._call(given))
        except Exception as error:
            return failure(error)

    async def _awaited(self, given: dict[str, Any]) -> Judged:
        try:
            return _told(await self._call(given))
        except Exception as error:
            return failure(error)


def _told(said: Any) -> Judged:
    """What a function returned: a number as a float. Raises ValueError or TypeError for what is none of what it may return."""
    return said if said is None or isinstance(said, (Status, Verdict)) else float(said)


def _parameters(function: Callable[..., Any], name: str) -> dict[str, bool]:
    """Parameter names, and whether each must be given. One parameter alone is the response, whatever its name."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    try:
        found = [item for item in inspect.signature(function).parameters.values() if item.kind not in kinds]
    except (TypeError, ValueError) as error:
        raise SpecError(f"the rule '{name}' is not a function whose parameters can be read") from error
    required = [item for item in found if item.default is inspect.Parameter.empty]
    if len(found) == 1 or (len(required) == 1 and "response" not in {item.name for item in found}):
        return {"response": True}
    if "response" not in {item.name for item in found}:
        raise SpecError(f"the rule '{name}' has several parameters, so one of them must be called 'response'")
    return {item.name: item.default is inspect.Parameter.empty for item in found}


def as_reward(
    function: Callable[..., Any],
    *,
    name: str | None = None,
    settings: Mapping[str, Any] | None = None,
    higher_is_better: bool = True,
    batched: bool = False,
    at_once: int = 16,
) -> FunctionReward:
    """Make a function into a reward.

    function: takes `response`, and any of `prompt` (as text), `reference`, `user` and names of extra columns; a parameter with
    a default is optional. It returns a number or a truth value, None to abstain, a Status, or a Verdict with a reason. It may
    be asynchronous: `at_once` rows are then under way at a time.
    batched: the function takes lists, one item a row, and returns a list. An error in it is an error of each row, asked alone.
    settings: what decides the numbers besides the class; None: the content of the function's file and of what it closes over.
    Raises SpecError if the parameters cannot be understood or the function has no stable content.
    """
    return FunctionReward(
        function, name=name, settings=settings, higher_is_better=higher_is_better, batched=batched, at_once=at_once
    )


@overload
def rule(function: Callable[..., Any], /) -> FunctionReward: ...
@overload
def rule(
    *,
    name: str | None = None,
    settings: Mapping[str, Any] | None = None,
    higher_is_better: bool = True,
    batched: bool = False,
    at_once: int = 16,
) -> Callable[[Callable[..., Any]], FunctionReward]: ...
def rule(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """`as_reward` as a decorator: `@rule` or `@rule(name="short")`; the options are those of `as_reward`."""
    return as_reward(function) if function is not None else lambda inner: as_reward(inner, **options)


reward = rule
"""The same decorator, by the name that it has in `plaudit`: `@plaudit.reward(name="short")`."""
