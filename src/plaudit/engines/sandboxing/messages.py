"""Messages between the sandbox and a runner: JSON with its length in front, over a socket of their own."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

_LENGTH = struct.Struct("!I")


def send(to: socket.socket, message: dict[str, Any]) -> None:
    """Raises OSError where nobody listens."""
    data = json.dumps(message).encode()
    to.sendall(_LENGTH.pack(len(data)) + data)


def receive(come_from: socket.socket) -> dict[str, Any] | None:
    """The next message; None where the other side is gone. Raises TimeoutError as the socket is set."""
    head = _exactly(come_from, _LENGTH.size)
    body = None if head is None else _exactly(come_from, _LENGTH.unpack(head)[0])
    if body is None:
        return None
    message: dict[str, Any] = json.loads(body)
    return message


def _exactly(come_from: socket.socket, count: int) -> bytes | None:
    data = bytearray()
    while len(data) < count:
        part = come_from.recv(min(1 << 20, count - len(data)))
        if not part:
            return None
        data += part
    return bytes(data)
