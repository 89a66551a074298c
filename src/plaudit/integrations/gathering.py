"""`Gathering`: calls that come one row at a time, from many threads or coroutines, judged together.

While one batch is judged, rows that arrive meanwhile wait and make up the next batch. Nobody waits for a timer: a lone row is
judged at once, and the busier it gets, the larger the batches are.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

Row = TypeVar("Row")
Answer = TypeVar("Answer")


class Gathering(Generic[Row, Answer]):
    """judge: answers for a list of rows, one each. limit: the most rows of one batch.

    An exception of `judge` goes to every row of its batch. Can be pickled; a copy has a thread of its own.
    """

    def __init__(self, judge: Callable[[list[Row]], Sequence[Answer]], limit: int = 64) -> None:
        self._judge = judge
        self._limit = limit
        self._start()

    def _start(self) -> None:
        self._waiting: deque[tuple[Row, Future[Answer]]] = deque()
        self._lock = threading.Lock()
        self._worker: ThreadPoolExecutor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_judge": self._judge, "_limit": self._limit}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def submit(self, row: Row) -> Future[Answer]:
        """Queue a row; its answer comes by the future (`.result()`, or `await asyncio.wrap_future(...)`)."""
        future: Future[Answer] = Future()
        with self._lock:
            if self._worker is None:
                self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="plaudit")
            self._waiting.append((row, future))
            self._worker.submit(self._turn)
        return future

    def _turn(self) -> None:
        """Judge what waits now; a turn whose row went with an earlier batch finds less, or nothing."""
        with self._lock:
            taken = [self._waiting.popleft() for _ in range(min(self._limit, len(self._waiting)))]
        # a caller that gave up (a cancelled coroutine) is not judged
        taken = [(row, future) for row, future in taken if future.set_running_or_notify_cancel()]
        if not taken:
            return
        try:
            answers = self._judge([row for row, _ in taken])
            for (_, future), answer in zip(taken, answers, strict=True):
                future.set_result(answer)
        except Exception as error:
            for _, future in taken:
                if not future.done():
                    future.set_exception(error)
