"""Dynamic micro-batching: what several clients ask at the same time becomes one call of the reward.

A batch is cut when `batch_size` units wait, or when the oldest has waited `max_wait` seconds; while the reward is busy, what
comes in gathers anyway. The queue is bounded; who hangs up or runs out of time before a batch takes its work leaves no trace.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from plaudit.data.row import Row
from plaudit.rewards.base import Native
from plaudit.serve.host import Part
from plaudit.serve.settings import Refused

Rows = list[dict[str, Any]]
HEADROOM = 0.8
"""The share of a request's time that the work before it may take, since how fast a reward is can only be estimated."""


def row_units(row: Row, native: Native) -> int:
    """How many things a reward judges for one row: pairs where it compares, else responses."""
    responses = len(row.responses)
    return max(1, responses * (responses - 1) // 2) if native == "compare" else responses


def split(part: Part, native: Native, batch_size: int, *, uses_seed: bool) -> list[Part]:
    """A request's rows in pieces that a batch can take.

    A reward that draws gets the chunks that the runner would cut from the rows alone, so that its draws are those of an
    offline run; for others a piece ends where its units reach `batch_size`.
    """
    pieces: list[list[Row]] = []
    filled = batch_size
    for row in part.rows:
        cost = 1 if uses_seed else row_units(row, native)
        if not pieces or filled + cost > batch_size:
            pieces.append([])
            filled = 0
        pieces[-1].append(row)
        filled += cost
    return [Part(tuple(rows), part.kind, part.seed, part.verdicts) for rows in pieces]


@dataclass(eq=False)
class Waiting:
    """A piece in the queue. answer: set with a record a row, or an exception; cancelled when nobody waits any more."""

    part: Part
    units: int
    answer: asyncio.Future[Rows]
    since: float = field(default_factory=time.monotonic)


class Batcher:
    """The queue of one reward. Runs on one event loop.

    run: judges a batch and sets every `answer`; must not raise. turn: held while a batch runs; shared by the rewards of one
    worker. observe: told the number of waiting units after every change.
    """

    def __init__(
        self,
        run: Callable[[list[Waiting]], Awaitable[None]],
        *,
        batch_size: int,
        max_wait: float,
        queue: int,
        turn: asyncio.Lock | None = None,
        observe: Callable[[int], None] = lambda _: None,
    ) -> None:
        if batch_size < 1 or queue < 1 or max_wait < 0:
            raise ValueError("a batcher needs a batch and a queue of at least 1 and a wait of at least 0")
        self._run, self.batch_size, self.max_wait, self.queue = run, batch_size, max_wait, queue
        self._turn, self._observe = turn or asyncio.Lock(), observe
        self._waiting: deque[Waiting] = deque()
        self.units = 0
        self._arrival = asyncio.Event()
        self._batch_units = self._batch_seconds = 0.0
        self._judging = 0
        self._task: asyncio.Task[None] | None = None

    async def submit(self, pieces: Sequence[tuple[Part, int]], seconds: float = math.inf) -> Rows:
        """The records of all (piece, units), in order.

        Raises Refused (429) where the queue has no room for all of them, or holds more work than is done in `seconds`, going by
        the last batches: who would wait in vain is told at once. Cancelling it takes what no batch has begun out of the queue.
        """
        wanted = sum(units for _, units in pieces)
        if self.units + wanted > self.queue and (self.units or wanted > self.queue):
            raise Refused(429, f"{self.units} units are waiting for this reward already", retry_after=self.retry_after())
        ahead = self.units + self._judging
        if ahead and self._rate and (ahead + wanted) / self._rate > HEADROOM * seconds:
            sentence = f"about {ahead / self._rate:.0f} s of work wait for this reward already"
            raise Refused(429, f"{sentence}, and this request may take {seconds:g} s", retry_after=self.retry_after())
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        loop = asyncio.get_running_loop()
        mine = [Waiting(part, units, loop.create_future()) for part, units in pieces]
        self._waiting.extend(mine)
        self._count(wanted)
        self._arrival.set()
        try:
            return [record for answer in await asyncio.gather(*(one.answer for one in mine)) for record in answer]
        finally:
            for one in mine:
                one.answer.cancel()
            self._drop()

    @property
    def _rate(self) -> float:
        """Units judged a second, by the last batches; 0 before the first."""
        return self._batch_units / self._batch_seconds if self._batch_seconds else 0.0

    def retry_after(self) -> int:
        """Whole seconds after which the queue should have room, by the rate of the last batches; 1 to 60."""
        return max(1, min(60, math.ceil(self.units / self._rate))) if self._rate else 1

    def fail(self, error: Exception) -> int:
        """Give everyone who waits the error; how many pieces there were."""
        gone = list(self._waiting)
        for one in gone:
            if not one.answer.done():
                one.answer.set_exception(error)
        self._drop()
        return len(gone)

    async def close(self) -> None:
        """Stop cutting batches; whoever waits is cancelled."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for one in list(self._waiting):
            one.answer.cancel()
        self._drop()

    def _count(self, change: int) -> None:
        self.units += change
        self._observe(self.units)

    def _drop(self) -> None:
        """Take what nobody waits for any more out of the queue."""
        left = deque(one for one in self._waiting if not one.answer.done())
        if len(left) != len(self._waiting):
            gone = sum(one.units for one in self._waiting) - sum(one.units for one in left)
            self._waiting = left
            self._count(-gone)

    async def _work(self) -> None:
        while True:
            self._arrival.clear()
            if not self._waiting:
                await self._arrival.wait()
            await self._gather()
            async with self._turn:
                batch = self._cut()
                if batch:
                    start, self._judging = time.monotonic(), sum(one.units for one in batch)
                    await self._run(batch)
                    self._note(self._judging, time.monotonic() - start)
                    self._judging = 0

    async def _gather(self) -> None:
        """Wait until a batch is full or its oldest piece has waited long enough."""
        while self._waiting and self.units < self.batch_size:
            left = self._waiting[0].since + self.max_wait - time.monotonic()
            if left <= 0:
                return
            self._arrival.clear()
            try:
                async with asyncio.timeout(left):
                    await self._arrival.wait()
            except TimeoutError:
                return

    def _cut(self) -> list[Waiting]:
        """The oldest pieces, up to `batch_size` units; at least one."""
        batch: list[Waiting] = []
        filled = 0
        while self._waiting and (not batch or filled + self._waiting[0].units <= self.batch_size):
            one = self._waiting.popleft()
            filled += one.units
            batch.append(one)
        if batch:
            self._count(-filled)
        return batch

    def _note(self, units: int, seconds: float) -> None:
        """Units and seconds are averaged apart: a batch that the store answered at once says little about the others."""
        share = 0.3 if self._batch_seconds else 1.0
        self._batch_units += share * (units - self._batch_units)
        self._batch_seconds += share * (max(seconds, 1e-6) - self._batch_seconds)
