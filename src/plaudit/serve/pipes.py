"""Objects over a socket between the service and its own workers: a length of 8 bytes, then a pickle.

The service's side runs on its event loop: a thread in between would wait for the interpreter's lock behind every request that is
being read, which costs a fast reward more than judging does.
"""

from __future__ import annotations

import asyncio
import pickle
from typing import Any, Protocol

HEADER = 8


class Readable(Protocol):
    """A blocking stream; fewer bytes than were asked for are its end."""

    def read(self, size: int, /) -> bytes:
        """So many bytes."""
        ...


def pack(value: Any) -> bytes:
    """The value as it goes over the wire."""
    data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    return len(data).to_bytes(HEADER, "big") + data


async def receive(reader: asyncio.StreamReader) -> Any:
    """The next value. Raises asyncio.IncompleteReadError or OSError where the other side is gone."""
    length = int.from_bytes(await reader.readexactly(HEADER), "big")
    return pickle.loads(await reader.readexactly(length))


def receive_blocking(stream: Readable) -> Any:
    """The next value, in a worker. Raises EOFError or OSError where the service is gone."""
    header = stream.read(HEADER)
    data = stream.read(int.from_bytes(header, "big")) if len(header) == HEADER else b""
    if not data:
        raise EOFError
    return pickle.loads(data)
