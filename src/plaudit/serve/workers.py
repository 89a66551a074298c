"""Where rewards run: each in a process of its own, so that a slow one does not slow the others.

A process that dies is started again by the next call. Rewards that judge through the same engine share one process.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from plaudit.serve.host import HostState, Part, Report, RewardHost, RewardInfo, serve_socket
from plaudit.serve.pipes import pack, receive
from plaudit.types import EngineError, UserError

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess


class WorkerDied(Exception):
    """The process ended, or was ended because it hung, before it answered. hung: it was over its time."""

    def __init__(self, sentence: str, *, hung: bool = False) -> None:
        super().__init__(sentence)
        self.hung = hung


class Worker(Protocol):
    """One place where rewards run. `turn` is held by whoever calls `judge`: one batch at a time."""

    turn: asyncio.Lock
    restarts: int

    async def load(self) -> list[RewardInfo]:
        """Resolve the rewards. Raises UserError or EngineError."""
        ...

    async def warm(self) -> None:
        """Load weights and try each reward once. Raises UserError or EngineError."""
        ...

    async def judge(self, name: str, parts: list[Part], seconds: float) -> Report:
        """Judge a batch. Raises WorkerDied."""
        ...

    @property
    def alive(self) -> bool:
        """Whether a batch would find it loaded."""
        ...

    async def tend(self) -> HostState:
        """Start it again where it died, and ask how its store is. Raises WorkerDied, UserError, EngineError."""
        ...

    async def close(self) -> str | None:
        """End it, at once where it is judging; a sentence where kept verdicts are lost with it."""
        ...


class ThreadWorker:
    """Rewards in a thread of this process: for rewards that exist only as objects here, and for a service in one process."""

    def __init__(self, host: RewardHost) -> None:
        self.turn, self.restarts = asyncio.Lock(), 0
        self._host, self._thread = host, ThreadPoolExecutor(1, "plaudit-reward")
        self.alive = False

    async def load(self) -> list[RewardInfo]:
        """Resolve the rewards."""
        infos: list[RewardInfo] = await self._call(self._host.load)
        return infos

    async def warm(self) -> None:
        """Load weights and try each reward once."""
        await self._call(self._host.warm)
        self.alive = True

    async def judge(self, name: str, parts: list[Part], seconds: float) -> Report:
        """Judge a batch; a thread cannot be ended, so one that hangs blocks its rewards. Raises WorkerDied after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                report: Report = await self._call(self._host.judge, name, parts)
                return report
        except TimeoutError:
            raise WorkerDied(f"the reward gave no answer within {seconds:g} s", hung=True) from None

    async def _call(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def tend(self) -> HostState:
        """Ask how the store is."""
        state: HostState = await self._call(self._host.state)
        return state

    async def close(self) -> str | None:
        """Write what waits for the store, unless the reward is at work; the thread ends by itself."""
        self.alive = False
        lost: str | None = None if self.turn.locked() else await self._call(self._host.close)
        self._thread.shutdown(wait=False, cancel_futures=True)
        return lost


def _context() -> Any:
    """How processes are started: forked from a helper that has imported torch once and nothing else happens in (fast, and its
    memory is shared); spawned where there is no such helper."""
    from multiprocessing import get_context

    if sys.platform != "linux":
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(["plaudit.serve.preload"])
    return context


class ProcessWorker:
    """Rewards in a process of their own, which shares nothing with this one but a socket, whose closing ends it.

    make: builds its RewardHost there; must be picklable.
    """

    def __init__(self, make: partial[RewardHost]) -> None:
        self.turn, self.restarts = asyncio.Lock(), 0
        self._make = make
        self._process: BaseProcess | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._warm = self._closed = False

    @property
    def alive(self) -> bool:
        """Whether the process runs and its rewards are loaded."""
        return self._warm and self._running()

    @property
    def pid(self) -> int | None:
        """The process id, None before the start."""
        return None if self._process is None else self._process.pid

    async def load(self) -> list[RewardInfo]:
        """Start the process and resolve the rewards. Raises UserError or EngineError, or WorkerDied."""
        await self._start()
        infos: list[RewardInfo] = await self._call("load")
        return infos

    async def warm(self) -> None:
        """Load weights and try each reward once. Raises UserError or EngineError, or WorkerDied."""
        await self._call("warm")
        self._warm = True

    async def judge(self, name: str, parts: list[Part], seconds: float) -> Report:
        """Judge a batch; a process that died is started again first. Raises WorkerDied, UserError, EngineError."""
        await self._ensure()
        report: Report = await self._call("judge", name, parts, seconds=seconds)
        return report

    async def tend(self) -> HostState:
        """Start it again where it died, and ask how its store is. Raises WorkerDied, UserError, EngineError."""
        await self._ensure()
        state: HostState = await self._call("state")
        return state

    def _running(self) -> bool:
        return self._process is not None and self._process.is_alive()

    async def _ensure(self) -> None:
        if self._running():
            return
        if self._closed:
            raise WorkerDied("the service is shutting down")
        await self._end()
        self.restarts += 1
        try:
            await self.load()
            await self.warm()
        except (UserError, EngineError):
            await self._end()  # half loaded is not loaded: the next call tries from the start
            raise

    async def _call(self, method: str, *arguments: Any, seconds: float | None = None) -> Any:
        """One call. Whatever keeps its answer from being read ends the process: the next answer would be taken for this one."""
        if self._reader is None or self._writer is None:
            raise WorkerDied("the reward's process died")
        try:
            async with asyncio.timeout(seconds):
                self._writer.write(pack((method, arguments)))
                await self._writer.drain()
                fine, answer = await receive(self._reader)
        except TimeoutError:
            await self._end()
            raise WorkerDied(f"the reward gave no answer within {seconds:g} s", hung=True) from None
        except (asyncio.IncompleteReadError, OSError):
            await self._end()
            raise WorkerDied("the reward's process died") from None
        except BaseException:
            self._kill()
            raise
        if fine:
            return answer
        of_engine, sentence = answer
        raise (EngineError if of_engine else UserError)(sentence)

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            context = _context()
            self._process = context.Process(target=serve_socket, args=(theirs, self._make), name="plaudit-worker")
            await asyncio.to_thread(self._process.start)  # the helper answers when it has imported what it must
        self._reader, self._writer = await asyncio.open_connection(sock=ours)

    def _kill(self) -> None:
        if self._process is not None and self._process.pid is not None:
            self._process.kill()

    async def _end(self) -> None:
        self._kill()
        process, self._process, self._warm = self._process, None, False
        writer, self._reader, self._writer = self._writer, None, None
        if writer is not None:
            writer.close()
        if process is not None and process.pid is not None:
            await asyncio.to_thread(process.join)

    async def close(self) -> str | None:
        """End the process, at once where it is judging; a sentence where verdicts that waited for the store are lost with it."""
        if self._closed:
            return None
        self._closed = True
        lost: str | None = None
        if self._running() and not self.turn.locked():
            with suppress(WorkerDied):
                lost = await self._call("close")
        await self._end()
        return lost
