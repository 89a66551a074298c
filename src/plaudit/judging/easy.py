"""Judging in one call, for notebooks and scripts: `plaudit.judge(...)`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plaudit.data import Row, read_records, read_rows
from plaudit.engines.catalogue import DEFAULT, EngineOptions, open_engine
from plaudit.judging.metrics import Summary
from plaudit.judging.results import RowResult
from plaudit.judging.runner import Runner
from plaudit.rewards.base import BaseReward
from plaudit.rewards.catalogue import Resolver
from plaudit.store import Store
from plaudit.types import Context


@dataclass
class Judged:
    """What `judge` gives: every row's result, and the figures over them. stopped: why the run ended early, else None."""

    results: list[RowResult]
    summary: Summary
    stopped: str | None

    @property
    def values(self) -> list[list[float | None]]:
        """The values of each row's responses; None where there is none."""
        return [result.values for result in self.results]


def load_reward(spec: str, *, engine: str = DEFAULT, options: EngineOptions | None = None) -> BaseReward:
    """The reward that a text names, as `--reward` and `--engine` do. Raises SpecError if it names none."""
    return Resolver(lambda: open_engine(engine, options)).resolve(spec)


def judge(
    data: str | Path | Iterable[Row] | Sequence[Mapping[str, Any]],
    reward: str | BaseReward = "yes-token",
    *,
    engine: str = DEFAULT,
    store: Store | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Judged:
    """Judge a file, rows, or a list of dictionaries such as {"prompt": ..., "response": ...}.

    reward: a reward, or what `--reward` takes. store: where verdicts are kept; None keeps nothing.
    Raises UserError for data or names that cannot be used, EngineError where the engine cannot be used at all.
    """
    if isinstance(data, str | Path):
        rows: Iterable[Row] = read_rows(data, limit=limit)
    else:
        given = list(data)[:limit]
        rows = given if all(isinstance(row, Row) for row in given) else read_records(given)  # type: ignore[assignment,arg-type]
    runner = Runner(load_reward(reward, engine=engine) if isinstance(reward, str) else reward, store, Context(seed=seed))
    summary, results = Summary(), []
    for result in runner.run(rows):
        summary.add(result)
        results.append(result)
    return Judged(results, summary, runner.progress.stopped)
