"""Searches over samples that are there already: nothing is drawn, only judged and chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from plaudit.search.best_of_n import BestOfN
from plaudit.search.work import Candidate, Progress, Work, candidates_of
from plaudit.types import Batch, Budget, Generator, Reward, SearchResult, States, StepStats, Trajectories
from plaudit.types.keys import content_key


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


@dataclass
class RecordedWork(Work):
    """Candidates that are rows of a batch, with all their columns. source: the batch."""

    source: Batch = field(default_factory=lambda: Batch([]))

    def batch_of(self, candidates: Sequence[Candidate]) -> Batch:
        """Rows of the source, in groups by prompt."""
        import torch

        groups = torch.tensor([one.prompt for one in candidates], dtype=torch.int64)
        return replace(self.source.select([one.note["row"] for one in candidates]), groups=groups)


def best_recorded(
    batch: Batch,
    reward: Reward,
    *,
    search: BestOfN | None = None,
    budget: Budget | None = None,
    seed: int = 0,
    state: Any = None,
    on_progress: Progress | None = None,
) -> SearchResult:
    """Of each group's responses the one that a search would have taken: the best by the reward, or by votes (`Vote` ...).

    batch: samples in groups (`Batch.groups`; `plaudit.data.rows_to_batch` makes one of a file with several responses a row).
    search: `BestOfN`, `Vote` or `SelfConsistency`; its n is not read. The result has one row a group, with all its columns.
    state: of an earlier result that was stopped. Raises UserError for a state of something else.
    """
    search, groups, budget = search or BestOfN(), batch.group_rows(), budget or Budget()
    place = {row: number for number, rows in enumerate(groups) for row in rows}
    prompts = replace(batch.select([rows[0] for rows in groups]), groups=None)
    key = content_key("recorded", search.key(batch, seed), [repr(one) for one in batch.require_responses()])
    work = RecordedWork(NoGenerator(), reward, prompts, budget, seed, on_progress=on_progress, key=key, source=batch)
    if state is None:
        rows = candidates_of(replace(batch, groups=None))
        work.add([replace(one, prompt=place[number], note={"row": number}) for number, one in enumerate(rows)])
    else:
        work.restore(state)
    return search.carried_out(work, search.judge)
