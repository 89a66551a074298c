"""Searches over samples that are there already: nothing is drawn, only judged and chosen."""

from __future__ import annotations

from dataclasses import replace

from plaudit.search.base import Stopped
from plaudit.search.best_of_n import BestOfN
from plaudit.search.work import Work, candidates_of
from plaudit.types import Batch, Budget, Generator, Reward, SearchResult, States, StepStats, Trajectories


class NoGenerator(Generator):
    """Stands where nothing is drawn."""

    def modules(self) -> dict[str, object]:
        """None."""
        return {}

    def rollout(self, prompts: Batch, n: int, *, how: object, start: States | None = None, seed: int) -> Trajectories:
        """Raises NotImplementedError."""
        raise NotImplementedError("recorded samples are judged, not drawn")

    def encode(self, batch: Batch, *, seed: int) -> Trajectories:
        """Raises NotImplementedError."""
        raise NotImplementedError("recorded samples are judged, not drawn")

    def evaluate(self, t: Trajectories, *, need: object = (), steps: object = None, part: object = None) -> StepStats:
        """Raises NotImplementedError."""
        raise NotImplementedError("recorded samples are judged, not drawn")


def best_recorded(
    batch: Batch, reward: Reward, *, search: BestOfN | None = None, budget: Budget | None = None, seed: int = 0
) -> SearchResult:
    """Of each group's responses the one that a search would have taken: the best by the reward, or by votes (`Vote` ...).

    batch: samples in groups (`Batch.groups`; `plaudit.data.rows_to_batch` makes one of a file with several responses a row).
    search: `BestOfN`, `Vote` or `SelfConsistency`; its n is not read. The result has one row a group, with all its columns.
    """
    search, groups = search or BestOfN(), batch.group_rows()
    budget = budget or Budget()
    before = dict(budget.spent)
    work = Work(NoGenerator(), reward, replace(batch.select([rows[0] for rows in groups]), groups=None), budget, seed)
    place = {row: number for number, rows in enumerate(groups) for row in rows}
    rows = candidates_of(replace(batch, groups=None))
    work.add([replace(one, prompt=place[number], note={"row": number}) for number, one in enumerate(rows)])
    stopped = None
    try:
        search.judge(work)
    except Stopped as stop:
        stopped = str(stop)
    chosen, scores = work.result([search.choose(work, prompt) for prompt in range(len(groups))])
    spent = {name: float(amount - before.get(name, 0)) for name, amount in budget.spent.items() if amount != before.get(name, 0)}
    return SearchResult(chosen, scores, spent, work.history(), stopped)
