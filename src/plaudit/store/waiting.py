"""Trying again: writers in each other's way at once, a database that is gone until patience ends."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from plaudit.store.errors import Conflict, StoreUnavailable

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")
CONFLICTS = 20
"""How often a transaction is run again because of other writers."""
PATIENCE = 60.0
_log = logging.getLogger("plaudit.store")


def default_patience() -> float:
    """$PLAUDIT_STORE_PATIENCE in seconds, or a minute."""
    try:
        return float(os.environ.get("PLAUDIT_STORE_PATIENCE", PATIENCE))
    except ValueError:
        return PATIENCE


def patiently(call: Callable[[], T], label: str, patience: float) -> T:
    """What `call` gives, once it does.

    A StoreUnavailable that may pass is raised after `patience` seconds of trying, any other at once. The first wait is logged.
    """
    try:
        return call()
    except (StoreUnavailable, Conflict) as error:
        failed: Exception | None = error  # most calls never pay for the retry machinery

    from tenacity import Retrying, retry_if_exception, wait_random_exponential

    def again() -> T:
        nonlocal failed
        if failed is not None:
            first, failed = failed, None
            raise first
        return call()

    def enough(state: RetryCallState) -> bool:
        error = _error(state)
        if isinstance(error, Conflict):
            return state.attempt_number > CONFLICTS
        return (state.seconds_since_start or 0.0) >= patience

    def tell(state: RetryCallState) -> None:
        error = _error(state)
        if state.attempt_number == 1 and isinstance(error, StoreUnavailable):
            _log.warning("%s; trying again for up to %g s", error, patience)

    retrying = Retrying(
        retry=retry_if_exception(lambda error: getattr(error, "retryable", isinstance(error, Conflict))),
        stop=enough,
        wait=wait_random_exponential(multiplier=0.05, max=2.0),
        before_sleep=tell,
        reraise=True,
    )
    try:
        return retrying(again)
    except Conflict as error:
        raise StoreUnavailable(
            f"the verdict store {label} is too busy: its writers keep blocking each other", "locked"
        ) from error


def _error(state: RetryCallState) -> BaseException | None:
    return None if state.outcome is None else state.outcome.exception()
