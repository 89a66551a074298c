"""`Service`: the rewards that are served, their queues and workers, and the way of one request through them.

It knows no HTTP: the endpoints of `app.py` and the compatible ones of `compat.py` call `Service.judge`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from plaudit.data.row import Row
from plaudit.rewards.base import BaseReward
from plaudit.serve.batching import Batcher, Rows, Waiting, row_units, split
from plaudit.serve.host import Failure, HostState, Judged, Kind, Part, Report, RewardHost, RewardInfo
from plaudit.serve.settings import ClientGone, Limits, Refused
from plaudit.serve.workers import ProcessWorker, ThreadWorker, Worker, WorkerDied
from plaudit.types import EngineError, UserError

if TYPE_CHECKING:
    from pathlib import Path

    from plaudit.engines.catalogue import EngineOptions
    from plaudit.serve.metrics import Metrics

T = TypeVar("T")
CODES = {"input": 422, "engine": 503, "store": 503, "disk": 507, "reward": 500}
TEND = 1.0
"""Seconds between two looks after the workers."""
PAUSE = 5
"""Seconds that a client is asked to wait when something is gone that may come back."""


@dataclass(frozen=True)
class Answer:
    """What a request gets: one record a row (`responses` and, for pairs, `pairs`), and the reward that said it."""

    reward: RewardInfo
    seed: int
    rows: Rows

    def counts(self) -> Counter[str]:
        """How many numbers have each status: of pairs where pairs were asked for, else of responses."""
        ones = (one for row in self.rows for one in row.get("responses") or row.get("pairs", ()))
        return Counter(one["status"] for one in ones)


@dataclass
class Served:
    """One reward with its queue and the place where it runs."""

    info: RewardInfo
    worker: Worker
    batcher: Batcher


class Service:
    """Rewards behind queues.

    specs: reward by served name: what `--reward` takes, or, with `in_process`, a reward itself. engine, options: of judges.
    store: URL or path of the verdict store, None keeps nothing. journal: folder where verdicts wait while the store is gone;
    None: they wait in memory. in_process: rewards run in a thread here, not in processes.
    """

    def __init__(
        self,
        specs: Mapping[str, str | BaseReward],
        *,
        engine: str | None = None,
        options: EngineOptions | None = None,
        store: str | None = None,
        journal: Path | None = None,
        limits: Limits | None = None,
        in_process: bool = False,
    ) -> None:
        from plaudit.serve.metrics import Metrics

        if not specs:
            raise UserError("there is no reward to serve")
        self.limits = limits or Limits()
        self.metrics: Metrics = Metrics()
        self.rewards: dict[str, Served] = {}
        self.in_flight = 0
        """Requests that were accepted and are not answered yet."""
        self.draining = self.warm = False
        self._specs, self._in_process = dict(specs), in_process
        self._make = partial(
            RewardHost, engine=engine, options=options, store=store, journal=journal, batch_size=self.limits.batch_size
        )
        self._workers: list[Worker] = []
        self._states: dict[Worker, HostState | str] = {}
        self._tending: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    # -- life ----------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the workers and resolve the names. Raises UserError or EngineError where one cannot be used."""
        try:
            if self._in_process:
                worker: Worker = ThreadWorker(self._make(self._specs))
                self._take(worker, await self._load(worker))
            else:
                await self._start_processes()
        except BaseException:
            await self.close()
            raise

    async def _start_processes(self) -> None:
        """A process a reward; those that turn out to judge through the engine move into one."""
        alone = [self._process({name: spec}) for name, spec in self._specs.items()]
        self._workers = list(alone)
        loaded = await _together(self._load(worker) for worker in alone)
        shared = {info.name: self._specs[info.name] for (info,) in loaded if info.shares_engine}
        for worker, infos in zip(alone, loaded, strict=True):
            if len(shared) > 1 and infos[0].shares_engine:
                await worker.close()
                self._workers.remove(worker)
            else:
                self._take(worker, infos)
        if len(shared) > 1:
            worker = self._process(shared)
            self._workers.append(worker)
            self._take(worker, await self._load(worker))
        self.rewards = {name: self.rewards[name] for name in self._specs}

    def _process(self, specs: Mapping[str, str | BaseReward]) -> ProcessWorker:
        return ProcessWorker(partial(self._make, dict(specs)))

    async def _load(self, worker: Worker) -> list[RewardInfo]:
        try:
            return await worker.load()
        except WorkerDied as error:
            raise UserError(f"a reward could not be loaded: {error}") from error

    def _take(self, worker: Worker, infos: Sequence[RewardInfo]) -> None:
        if worker not in self._workers:
            self._workers.append(worker)
        for info in infos:
            waiting = self.metrics.waiting.labels(info.name)
            batcher = Batcher(
                partial(self._run, info.name),
                batch_size=info.batch_size,
                max_wait=self.limits.max_wait_ms / 1000,
                queue=self.limits.queue,
                turn=worker.turn,
                observe=waiting.set,
            )
            self.rewards[info.name] = Served(info, worker, batcher)

    async def load_weights(self) -> None:
        """Load what is heavy and try each reward once; then the service is ready. Raises UserError or EngineError."""

        async def one(worker: Worker) -> None:
            async with worker.turn:
                await worker.warm()

        try:
            await _together(one(worker) for worker in self._workers)
        except WorkerDied as error:
            raise EngineError(f"a reward could not be loaded: {error}") from error
        self.warm = True
        self.metrics.ready.set(1)
        self._tending = asyncio.create_task(self._tend())

    async def _tend(self) -> None:
        """Every second: start what died again, and look after the stores. A worker that is judging is left alone."""
        while not self._closing.is_set():
            for worker in self._workers:
                if worker.turn.locked() or self._closing.is_set():
                    continue
                async with worker.turn:
                    try:
                        self._states[worker] = await worker.tend()
                    except (WorkerDied, UserError, EngineError) as error:
                        self._states[worker] = str(error)
            states = [state for state in self._states.values() if isinstance(state, HostState)]
            self.metrics.store_waiting.set(sum(state.waiting for state in states))
            self.metrics.ready.set(self.problem() is None)
            with suppress(TimeoutError):
                async with asyncio.timeout(TEND):
                    await self._closing.wait()

    def problem(self) -> str | None:
        """Why the service should get no requests just now, in a sentence; None: it is ready."""
        if self.draining:
            return "the service is shutting down"
        if not self.warm:
            return "the rewards are being loaded"
        for worker in self._workers:
            state = self._states.get(worker)
            if isinstance(state, str):
                return f"a reward cannot be used: {state}"
            if not worker.alive:
                return "a reward's process died and is being started again"
            if state is not None and state.problem is not None:
                return f"{state.problem} ({state.waiting} verdicts wait for it)"
        return None

    async def drain(self) -> int:
        """Refuse what is new and finish what was accepted, for at most `drain_seconds`; how many requests were cut off."""
        self.draining = True
        self.metrics.ready.set(0)
        end = time.monotonic() + self.limits.drain_seconds
        while self.in_flight and time.monotonic() < end:
            await asyncio.sleep(0.02)
        cut_off = self.in_flight
        if cut_off:
            for served in self.rewards.values():
                served.batcher.fail(Refused(503, "the service shut down before this was judged", retry_after=PAUSE))
            await asyncio.gather(*(worker.close() for worker in self._workers))
        return cut_off

    async def close(self) -> list[str]:
        """End queues and workers; a sentence for each whose verdicts could not be kept."""
        self._closing.set()
        if self._tending is not None:  # not cancelled: a call that is cut off ends its worker, and what waits for the store there
            await asyncio.gather(self._tending, return_exceptions=True)
        for served in self.rewards.values():
            await served.batcher.close()
        lost = await asyncio.gather(*(worker.close() for worker in self._workers))
        return [sentence for sentence in lost if sentence is not None]

    # -- one request -----------------------------------------------------------------------------------------------------------

    def find(self, name: str | None) -> RewardInfo:
        """The reward of that name, or the only one. Raises Refused: 404 for an unknown name, 422 where one must be named."""
        names = ", ".join(self.rewards)
        if name is None:
            if len(self.rewards) > 1:
                raise Refused(422, f"name a reward: this service has {names}")
            name = next(iter(self.rewards))
        if name not in self.rewards:
            raise Refused(404, f"there is no reward of that name here: this service has {names}")
        return self.rewards[name].info

    async def judge(
        self,
        name: str | None,
        rows: Sequence[Row],
        kind: Kind,
        *,
        seed: int = 0,
        verdicts: bool = False,
        seconds: float | None = None,
        gone: Callable[[], Awaitable[None]] | None = None,
    ) -> Answer:
        """Judge rows with one reward; the records come in the order of the rows.

        seconds: this request's own time limit, if it is shorter than the service's. gone: returns when the client hung up.
        Raises Refused with the status code for the client, or ClientGone.
        """
        info = self.find(name)
        try:
            self._check(info, rows, kind)
            found = await self._wait(info, Part(tuple(rows), kind, seed, verdicts), seconds, gone)
        except Refused as refused:
            self.metrics.refused.labels(info.name, str(refused.code)).inc()
            raise
        answer = Answer(info, seed, found)
        self.metrics.count_results(info.name, answer.counts())
        return answer

    def _check(self, info: RewardInfo, rows: Sequence[Row], kind: Kind) -> None:
        if len(rows) > self.limits.max_items:
            raise Refused(422, f"{len(rows)} items are more than the {self.limits.max_items} that one request may have")
        if kind == "score" and info.native != "score":
            verb = "compares" if info.native == "compare" else "judges within groups"
            raise Refused(422, f"the reward '{info.name}' only {verb}: use /v1/compare or /v1/rank")
        units = sum(row_units(row, info.native) for row in rows)
        if units > self.limits.queue:
            raise Refused(422, f"this request asks for {units} judgements, more than the {self.limits.queue} of the queue")

    async def _wait(
        self, info: RewardInfo, part: Part, seconds: float | None, gone: Callable[[], Awaitable[None]] | None
    ) -> Rows:
        batcher = self.rewards[info.name].batcher
        pieces = split(part, info.native, batcher.batch_size, uses_seed=info.uses_seed)
        limit = min(seconds or self.limits.request_seconds, self.limits.request_seconds)
        counted = [(piece, sum(row_units(row, info.native) for row in piece.rows)) for piece in pieces]
        work = asyncio.ensure_future(batcher.submit(counted, limit))
        waiting: set[asyncio.Future[Any]] = {work}
        if gone is not None:
            waiting.add(asyncio.ensure_future(gone()))
        try:
            done, _ = await asyncio.wait(waiting, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if work in done:
                return work.result()
            if done:
                raise ClientGone
            raise Refused(
                504, f"not judged within {limit:g} s; what had not begun was dropped", retry_after=batcher.retry_after()
            )
        finally:
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    # -- one batch -------------------------------------------------------------------------------------------------------------

    async def _run(self, name: str, batch: list[Waiting]) -> None:
        """Judge a batch and answer each piece. After a death of the worker each piece is tried once more, alone."""
        try:
            await self._try(name, batch)
        except WorkerDied as died:
            self.metrics.restarts.labels(name).inc()
            if died.hung:
                self._refuse(batch, Refused(504, f"{died}; it was ended"))
                return
            for one in batch:
                try:
                    await self._try(name, [one])
                except WorkerDied as again:
                    self.metrics.restarts.labels(name).inc()
                    self._refuse([one], Refused(503, f"{again} twice over this request", retry_after=PAUSE))

    async def _try(self, name: str, batch: list[Waiting]) -> None:
        """One call of the worker. Raises WorkerDied; any other error becomes the pieces' answer."""
        batch = [one for one in batch if not one.answer.done()]
        if not batch:
            return
        start = time.monotonic()
        try:
            report = await self.rewards[name].worker.judge(name, [one.part for one in batch], self.limits.batch_seconds)
        except WorkerDied:
            raise
        except (UserError, EngineError) as error:
            self._refuse(batch, Refused(503, f"the reward cannot be used now: {error}", retry_after=PAUSE))
            return
        except Exception as error:
            self._refuse(batch, Refused(500, f"{type(error).__name__}: {error}"))
            return
        self._record(name, batch, report, time.monotonic() - start)
        for one, outcome in zip(batch, report.outcomes, strict=True):
            if isinstance(outcome, Judged):
                if not one.answer.done():
                    one.answer.set_result(outcome.rows)
            else:
                self._refuse([one], _refusal(outcome))

    def _record(self, name: str, batch: Sequence[Waiting], report: Report, seconds: float) -> None:
        metrics = self.metrics
        metrics.batch_units.labels(name).observe(sum(one.units for one in batch))
        metrics.batch_seconds.labels(name).observe(seconds)
        metrics.judged.labels(name).inc(report.judged)
        metrics.reused.labels(name).inc(report.reused)
        for what, amount in report.spent.items():
            metrics.spent.labels(name, what).inc(amount)

    @staticmethod
    def _refuse(batch: Sequence[Waiting], refused: Refused) -> None:
        for one in batch:
            if not one.answer.done():
                one.answer.set_exception(refused)


async def _together(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All results, in order; or the first error, once all other calls have ended: what they use is closed next."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _refusal(failure: Failure) -> Refused:
    code = CODES[failure.cause]
    return Refused(code, failure.sentence, retry_after=PAUSE if code in (503, 507) else None)
