"""What goes wrong with a database, as one sentence: gone, full, read-only, locked, or refusing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from plaudit.types import UserError

if TYPE_CHECKING:
    from sqlalchemy.exc import SQLAlchemyError

Reason = Literal["gone", "full", "read-only", "locked"]

_POSTGRES: dict[str, Reason] = {"53100": "full", "25006": "read-only", "55P03": "locked"}
_CONFLICTS = ("40001", "40P01", "23503")
"""Serialisation failure, deadlock, and a reward that was pruned between its own insertion and that of its verdict."""


class StoreUnavailable(UserError):
    """The store's database cannot be used now: `reason` says how. Nothing of the call that raised it was kept.

    retryable: whether waiting may help. A read-only database stays so until somebody does something about it.
    """

    def __init__(self, message: str, reason: Reason) -> None:
        self.reason = reason
        super().__init__(message)

    @property
    def retryable(self) -> bool:
        """Whether the same call can go well later."""
        return self.reason != "read-only"


class Conflict(Exception):
    """Two writers were in each other's way: the transaction is to be run again at once."""


def translated(error: SQLAlchemyError, label: str) -> StoreUnavailable | UserError | Conflict:
    """What a database error means for the store called `label`."""
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
    from sqlalchemy.exc import TimeoutError as NoFreeConnection

    detail = first_line(error)
    if isinstance(error, NoFreeConnection):
        return StoreUnavailable(f"the verdict store {label} has no connection left: too many threads use it at once", "locked")
    if isinstance(error, DBAPIError):
        if getattr(error.orig, "sqlstate", None) in _CONFLICTS:
            return Conflict(detail)
        reason = _reason(error.orig)
        if reason is None and (error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)):
            reason = "gone"
        if reason is not None:
            return StoreUnavailable(_sentence(label, reason, detail), reason)
    return UserError(f"the verdict store {label} cannot be used: {detail}")


def _reason(original: Any) -> Reason | None:
    """By the code that the database gave; None where it says nothing special."""
    code: str = getattr(original, "sqlite_errorname", "")
    if code.startswith("SQLITE_FULL"):
        return "full"
    if code.startswith("SQLITE_READONLY"):
        return "read-only"
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return "locked"
    return _POSTGRES.get(getattr(original, "sqlstate", None) or "")


def _sentence(label: str, reason: Reason, detail: str) -> str:
    return {
        "gone": f"the verdict store {label} cannot be reached: {detail}",
        "full": f"the disk of the verdict store {label} is full",
        "read-only": f"the verdict store {label} is read-only, so nothing can be written",
        "locked": f"the verdict store {label} is locked by another program",
    }[reason]


def first_line(error: BaseException) -> str:
    """What the database itself said; SQLAlchemy's own message would add the statement and the texts in it."""
    text = str(getattr(error, "orig", None) or error).strip()
    return text.splitlines()[0].strip() if text else type(error).__name__


def missing_table(error: SQLAlchemyError) -> bool:
    """Whether a query failed because its table is not there."""
    original = getattr(error, "orig", None)
    return getattr(original, "sqlstate", None) == "42P01" or "no such table" in str(original)
