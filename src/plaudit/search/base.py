"""What all searches share: sampling and judging within one budget, counted exactly, and a search that ends with what it has.

Limits are checked before something is spent (`affords`), by what can be foreseen: a sample costs one of `samples` and at most
`max_tokens` of `completion_tokens`, a judged row one of `reward_calls` (a comparing reward one for each pair). What a judge's own
engine spends (network calls, tokens, cost) cannot be foreseen: the search ends after the call that passes such a limit, and keeps
what that call said.

Counted, in `Budget.spent`: `samples`; `sampled_tokens`, written by the generator; `completion_tokens`, these and what judges
write; `sampled_steps` where samples are no texts; `reward_calls`; and what engines add.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from plaudit.rewards.scoring import score_counted
from plaudit.types import (
    Batch,
    Budget,
    Context,
    EngineError,
    Generator,
    Reward,
    Sampling,
    Scores,
    Search,
    SearchResult,
    Status,
    Trajectories,
)
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from torch import Tensor

    from plaudit.search.work import Work


class Stopped(Exception):
    """A search cannot go on now. The text is the reason. scores: what was said before it stopped, if anything."""

    def __init__(self, reason: str, scores: Scores | None = None) -> None:
        super().__init__(reason)
        self.scores = scores


# -- the budget ------------------------------------------------------------------------------------------------------------


def affords(budget: Budget, **amounts: float) -> bool:
    """Whether so much more may be spent of each; what has no limit may."""
    return all(budget.spent[name] + amount <= budget.limits.get(name, math.inf) for name, amount in amounts.items())


def require(budget: Budget, **amounts: float) -> None:
    """Raise Stopped, naming the first limit that does not allow so much more."""
    for name, amount in amounts.items():
        if not affords(budget, **{name: amount}):
            limit, spent = budget.limits[name], budget.spent[name]
            raise Stopped(f"the budget of {limit:g} {name} is spent ({spent:g}; the next step needs up to {amount:g})")


def affordable(budget: Budget, **each: float) -> float:
    """How many times so much may still be spent: a whole number, or infinity."""
    rooms = [
        math.floor((budget.limits[name] - budget.spent[name]) / amount)
        for name, amount in each.items()
        if amount > 0 and name in budget.limits
    ]
    return max(0, min(rooms)) if rooms else math.inf


# -- sampling --------------------------------------------------------------------------------------------------------------


def sampling_of(generator: Generator, how: Any = None) -> Any:
    """How a generator samples in a search: as asked, else by its own `sampling`, else at temperature 1."""
    return how or getattr(generator, "sampling", None) or Sampling(temperature=1.0)


def cost_of_sample(how: Any) -> dict[str, float]:
    """The most that one sample can cost."""
    tokens = {name: float(how.max_tokens) for name in ("completion_tokens", "sampled_tokens") if isinstance(how, Sampling)}
    return {"samples": 1.0, **tokens}


def sample(generator: Generator, prompts: Batch, n: int, *, how: Any = None, seed: int, budget: Budget) -> Batch:
    """n samples a prompt, rows of one prompt next to each other and in one group; counted exactly.

    Raises Stopped before anything is drawn where the budget does not allow it, or where the generator cannot be reached.
    """
    import torch

    how = sampling_of(generator, how)
    count = n * len(prompts)
    require(budget, **{name: count * amount for name, amount in cost_of_sample(how).items()})
    try:
        with torch.no_grad():
            drawn = generator.rollout(prompts, n, how=how, seed=seed)
    except EngineError as error:
        raise Stopped(f"the generator cannot be used: {error}") from error
    unlimited(budget).spend(samples=len(drawn), **written(drawn))
    return drawn.batch


def written(drawn: Trajectories) -> dict[str, float]:
    """What samples took to make: tokens of the responses (the one that ends a response is not counted, as engines count), or
    steps where they are no texts."""
    if drawn.batch.lengths is not None:
        tokens = float(sum(drawn.batch.lengths))
        return {"completion_tokens": tokens, "sampled_tokens": tokens}
    return {"sampled_steps": float(int(drawn.mask.sum()) or drawn.mask.numel())}


def unlimited(budget: Budget) -> Budget:
    """The same counters without limits: what was begun is counted to its end and not lost."""
    return Budget({}, budget.spent)


# -- judging ---------------------------------------------------------------------------------------------------------------


def judges_groups(reward: Reward) -> bool:
    """Whether a reward compares the candidates of a prompt instead of judging each for itself."""
    return getattr(reward, "native", "score") != "score"


def cost_of_judging(reward: Reward, sizes: Sequence[int]) -> int:
    """Calls for groups of these sizes: one a row, or one a pair of a group."""
    pairs = getattr(reward, "native", "score") == "compare"
    return sum(size * (size - 1) // 2 if pairs else size for size in sizes)


def judge(reward: Reward, batch: Batch, *, seed: int, budget: Budget) -> Scores:
    """Scores of candidates, larger is better, `reward_calls` counted once.

    Raises Stopped: before a call that `reward_calls` does not allow; where the reward cannot be reached; and with the scores that
    there are (`Stopped.scores`) where some rows could not be reached, or where the call passed another limit of the budget.
    """
    groups = [len(rows) for rows in batch.group_rows()] if judges_groups(reward) else [len(batch)]
    require(budget, reward_calls=cost_of_judging(reward, groups))
    within = {name for name in budget.limits if affords(budget, **{name: 0})}
    try:
        scores = score_counted(reward, batch, Context(seed=seed, budget=unlimited(budget))).scores
    except EngineError as error:
        raise Stopped(f"the reward cannot be reached: {error}") from error
    lost = int((scores.status == Status.UNREACHABLE).sum())
    if lost:
        raise Stopped(f"the reward could not be reached for {lost} of {len(batch)} candidates", scores)
    for name in sorted(within):
        if not affords(budget, **{name: 0}):
            raise Stopped(f"the budget of {budget.limits[name]:g} {name} is passed ({budget.spent[name]:g})", scores)
    return scores


# -- choosing --------------------------------------------------------------------------------------------------------------


def best_row(
    values: Sequence[float | None] | Tensor,
    statuses: Sequence[Status | int | None] | Tensor,
    answers: Sequence[Hashable | None] | None = None,
) -> int | None:
    """The row with the highest value, never one without a number; None where there is none.

    Of equal rows: the one whose answer is given most often among all rows (where answers are given), then the first.
    """
    counts = Counter(answer for answer in answers or () if answer is not None)
    best: tuple[float, int] | None = None
    chosen = None
    for row, (value, status) in enumerate(zip(_plain(values), _plain(statuses), strict=True)):
        if status != Status.OK or value is None or math.isnan(value):
            continue
        rank = (float(value), 0 if answers is None else counts[answers[row]])
        if best is None or rank > best:
            best, chosen = rank, row
    return chosen


def _plain(column: Any) -> list[Any]:
    return list(column.tolist() if hasattr(column, "tolist") else column)


# -- the search ------------------------------------------------------------------------------------------------------------


@dataclass
class BaseSearch(Search):
    """Base of the searches: a subclass is a dataclass of its settings and implements `search`.

    `search(work)` draws and judges through `work` (`plaudit.search.work.Work`), which holds all candidates. Stopped may come from
    any of these calls: let it pass. `search` must be able to go on from any such point: what it finds in `work` is done already.
    """

    def run(
        self, generator: Generator, reward: Reward, prompts: Batch, *, budget: Budget, seed: int, state: Any = None
    ) -> SearchResult:
        """The best samples found within the budget, one row a prompt. state: of an earlier result, to go on with.

        Raises UserError for a state of another search, seed or prompts, or settings that cannot work with these parts.
        """
        from plaudit.search.work import Work

        self.check(generator, reward)
        told = getattr(self, "on_progress", None)
        work = Work(generator, reward, prompts, budget, seed, on_progress=told, key=self.key(prompts, seed))
        if state is not None:
            work.restore(state)
        return self.carried_out(work, self.search)

    def carried_out(self, work: Work, plan: Callable[[Work], None]) -> SearchResult:
        """The result of a plan, done or stopped: what was chosen, and what it added to the budget's counters."""
        before, stopped = Counter(work.budget.spent), None
        try:
            plan(work)
        except Stopped as stop:
            stopped = str(stop)
        batch, scores = work.result([self.choose(work, prompt) for prompt in range(len(work.prompts))])
        spent = {name: float(amount - before[name]) for name, amount in work.budget.spent.items() if amount != before[name]}
        return SearchResult(batch, scores, spent, work.history(), stopped, None if stopped is None else work.state())

    def check(self, generator: Generator, reward: Reward) -> None:
        """Raise UserError, in one sentence, where this search cannot work with these parts."""

    @abstractmethod
    def search(self, work: Work) -> None:
        """Draw and judge until the plan is done."""

    def choose(self, work: Work, prompt: int) -> int | None:
        """Which of `work.of(prompt)` is the result: its place, None where none has a number. Here: the best."""
        found = work.of(prompt)
        return best_row([one.value for one in found], [one.status for one in found])

    def settings(self) -> dict[str, Any]:
        """Every setting that decides what is found, as JSON-able data; functions by name."""
        named = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "on_progress"}
        return {name: _described(value) for name, value in named.items()}

    def key(self, prompts: Batch, seed: int) -> str:
        """Content key of this search for these prompts."""
        return content_key(type(self).__qualname__, self.settings(), [repr(prompt) for prompt in prompts.prompts], seed)


def _described(value: Any) -> Any:
    """A setting as JSON-able data."""
    if isinstance(value, Search):
        return value.settings() if isinstance(value, BaseSearch) else type(value).__qualname__
    if is_dataclass(value) and not isinstance(value, type):
        return {type(value).__name__: {item.name: _described(getattr(value, item.name)) for item in fields(value)}}
    if isinstance(value, Mapping):
        return {str(name): _described(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_described(one) for one in value]
    if value is None or isinstance(value, str | int | float):
        return value
    return getattr(value, "__qualname__", type(value).__qualname__)
