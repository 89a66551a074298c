"""Many coroutines awaited from code that is not asynchronous, a limited number at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def await_all(ask: Callable[[Item], Awaitable[Answer]], items: Sequence[Item], at_once: int) -> list[Answer]:
    """`await ask(item)` for every item, in order; at most `at_once` are under way. Also works below a running event loop."""

    async def everything() -> list[Answer]:
        gate = asyncio.Semaphore(at_once)

        async def one(item: Item) -> Answer:
            async with gate:
                return await ask(item)

        return await asyncio.gather(*(one(item) for item in items))

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(everything())
    # a notebook's loop, or a service's, runs in this thread and cannot be entered again
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, everything()).result()
