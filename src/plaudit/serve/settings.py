"""What the service allows: sizes, waiting times and the queue's bound. Importing it imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of the service, checked before any work is done."""

    max_items: int = 1024
    """Most items in one request."""
    max_body: int = 8 * 1024 * 1024
    """Largest request body, in bytes; a larger one is answered 413 while it is still being read."""
    queue: int = 4096
    """Most units (responses, pairs, responses of groups) waiting for one reward; past it requests are answered 429."""
    batch_size: int | None = None
    """Most units in one call of a reward; None: the reward's own batch size."""
    max_wait_ms: float = 2.0
    """How long a batch that is not full waits for company, in milliseconds."""
    request_seconds: float = 60.0
    """How long a request may take before it is answered 504; a request may ask for less."""
    read_seconds: float = 10.0
    """How long a client may take to send its headers, and again its body, before its connection is closed."""
    batch_seconds: float = 300.0
    """How long one call of a reward may take before its process is taken to hang, killed and started again."""
    drain_seconds: float = 30.0
    """How long accepted requests may take to finish after SIGTERM."""


class Refused(Exception):
    """A request that is not, or not fully, judged: the HTTP status code and one sentence.

    retry_after: seconds after which trying again makes sense, None where it makes none.
    """

    def __init__(self, code: int, sentence: str, *, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.code, self.sentence, self.retry_after = code, sentence, retry_after


class ClientGone(Exception):
    """The client hung up before its answer was there."""
