"""The one runner: a stream of rows x a reward -> store -> results, in order, chunk by chunk.

Chunks are cut by the reward's batch size alone, so the same input gives the same batches and the same numbers. A chunk's
verdicts are committed to the store before its results are handed out: what was reported is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from plaudit.data.row import Row, rows_to_batch
from plaudit.judging.results import RowResult
from plaudit.judging.units import Pairs, Unit, assemble, failed_record, preference_records, score_records, units_of
from plaudit.rewards.base import BaseReward
from plaudit.store import Record, Store, StoreUnavailable
from plaudit.types import BudgetExceeded, Context, EngineError, Status, UserError
from plaudit.types.keys import content_key


@dataclass
class Progress:
    """What a run has done so far. judged, reused: units."""

    rows: int = 0
    judged: int = 0
    reused: int = 0
    judged_rows: int = 0
    """Rows with at least one unit that was judged now."""
    stopped: str | None = None
    """Why the run ended before its last row; None if it did not."""


@dataclass
class Runner:
    """Judges rows with one reward.

    store: None keeps nothing. pairs: see `Pairs`.
    """

    reward: BaseReward
    store: Store | None = None
    context: Context = field(default_factory=Context)
    pairs: Pairs = "labelled"
    progress: Progress = field(default_factory=Progress)
    _checked: bool = field(default=False, init=False)

    def run(self, rows: Iterable[Row]) -> Iterator[RowResult]:
        """Results in the order of the rows.

        Raises what `reward.check()` raises, before the first row that the store does not know, if the reward cannot work.
        Rows that cannot be judged come back with a status. When a whole chunk finds the engine gone, a budget limit is
        reached, or the store stays away for longer than its patience, the run ends early and `progress.stopped` says why;
        running again goes on from the store. A chunk that the store did not take is not handed out.
        """
        if getattr(self.reward, "needs_whole_batch", False):
            raise UserError(f"'{self.reward.name}' is relative to a whole batch: it is for training, not for a stream of rows")
        fingerprint = self.reward.fingerprint()
        seed = self.context.seed if getattr(self.reward, "uses_seed", True) else None
        shared = content_key(fingerprint, seed)
        stream = iter(rows)
        while self.progress.stopped is None and (chunk := list(islice(stream, max(1, self.reward.batch_size)))):
            units = units_of(chunk, self.reward.native, shared, self.pairs)
            try:
                records = self._records(chunk, units, fingerprint)
            except StoreUnavailable as error:
                self.progress.stopped = str(error)
                return
            results = self._assemble(chunk, units, records)
            self.progress.rows += len(results)
            yield from results

    def _records(self, rows: Sequence[Row], units: Sequence[Unit], fingerprint: str) -> dict[str, dict[str, Any]]:
        """A record for every key: from the store, or judged now and kept unless trying again may help."""
        keys = list(dict.fromkeys(unit.key for unit in units))
        known = self.store.get(keys) if self.store is not None else {}
        missing = list({unit.key: unit for unit in units if unit.key not in known}.values())
        self.progress.reused += len(keys) - len(missing)
        if not missing:
            return known
        if not self._checked:
            self.reward.check()
            self._checked = True
        fresh = self._judge(rows, missing)
        self.progress.judged += len(fresh)
        self.progress.judged_rows += len({unit.row for unit in missing})
        kept = [
            Record(unit.key, self.reward.native, rows[unit.row].id, fresh[unit.key])
            for unit in missing
            if unit.key in fresh and not _retryable(fresh[unit.key])
        ]
        if self.store is not None:
            fresh |= self._keep(fingerprint, kept)
        if fresh and all(record["status"] == Status.UNREACHABLE for record in fresh.values()):
            self.progress.stopped = "the engine cannot be reached any more"
        return {**known, **fresh}

    def _keep(self, fingerprint: str, kept: list[Record]) -> dict[str, dict[str, Any]]:
        """Keep the records; those that another process kept first, which are then everybody's, where they differ."""
        assert self.store is not None
        try:
            return self.store.put(fingerprint, self.reward.name, kept)
        except StoreUnavailable as error:
            raise StoreUnavailable(f"{error}; {len(kept)} verdicts of the last batch are not kept", error.reason) from error

    def _judge(self, rows: Sequence[Row], units: Sequence[Unit]) -> dict[str, dict[str, Any]]:
        """Judge units; where the reward's code raises, each unit is tried alone, so that one bad row costs only itself."""
        try:
            return dict(zip((unit.key for unit in units), self._call(rows, units), strict=True))
        except UserError:
            raise
        except BudgetExceeded as error:
            self.progress.stopped = f"the budget is spent: {error}"
            return {}
        except EngineError as error:
            return {unit.key: failed_record(Status.UNREACHABLE, str(error)) for unit in units}
        except Exception as error:
            if len(units) == 1:
                return {units[0].key: failed_record(Status.FAILED, f"{type(error).__name__}: {error}")}
        judged: dict[str, dict[str, Any]] = {}
        for unit in units:
            judged |= self._judge(rows, [unit])
            if self.progress.stopped is not None:
                break
        return judged

    def _call(self, rows: Sequence[Row], units: Sequence[Unit]) -> list[dict[str, Any]]:
        """One call of the reward for the given units: a record for each."""
        import torch

        used = sorted({unit.row for unit in units})
        batch = rows_to_batch([rows[row] for row in used])
        start = dict(zip(used, _starts([len(rows[row].responses) for row in used]), strict=True))
        places = [[start[unit.row] + place for place in unit.places] for unit in units]
        if self.reward.native == "score":
            chosen = batch.select([place for (place,) in places])
            return _checked(score_records(self.reward.score(chosen, self.context)), units, self.reward)
        if self.reward.native == "compare":
            index = torch.tensor(places, dtype=torch.int64).reshape(-1, 2)
            preferences = self.reward.compare(batch, index[:, 0], index[:, 1], self.context)
            return _checked(preference_records(preferences), units, self.reward)
        members = _checked(score_records(self.reward.score_group(batch, self.context)), batch.prompts, self.reward)
        return [_group_record([members[place] for place in group]) for group in places]

    def _assemble(self, rows: Sequence[Row], units: Sequence[Unit], records: dict[str, dict[str, Any]]) -> list[RowResult]:
        """Results of the rows whose units all have a record: all of them, unless the run stops here."""
        native = self.reward.native
        of_row: list[list[Unit]] = [[] for _ in rows]
        for unit in units:
            of_row[unit.row].append(unit)
        return [
            assemble(row, native, [(unit, records[unit.key]) for unit in mine])
            for row, mine in zip(rows, of_row, strict=True)
            if all(unit.key in records for unit in mine)
        ]


def _checked(records: list[dict[str, Any]], asked: Sequence[Any], reward: BaseReward) -> list[dict[str, Any]]:
    """The records, if the reward answered for each thing that it was asked about."""
    if len(records) != len(asked):
        raise ValueError(f"the reward '{reward.name}' was asked about {len(asked)} and answered about {len(records)}")
    return records


def _starts(sizes: Sequence[int]) -> list[int]:
    """First batch row of each row."""
    starts, total = [], 0
    for size in sizes:
        starts.append(total)
        total += size
    return starts


def _group_record(members: list[dict[str, Any]]) -> dict[str, Any]:
    """A group's record holds its members'; its status is the first retryable one, so that such a group is judged again."""
    again = [member["status"] for member in members if _retryable(member)]
    return {"value": None, "status": again[0] if again else int(Status.OK), "members": members}


def _retryable(record: dict[str, Any]) -> bool:
    return Status(record["status"]).retryable
