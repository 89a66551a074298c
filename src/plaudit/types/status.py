"""Why a number is, or is not, there.

Every row that a reward judges carries one `Status`. A row that could not be judged keeps its reason and a NaN value;
it is never a silent zero (design law 3).
"""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """Outcome of judging one row. Stored as int8 in `Scores.status` and `Preferences.status`."""

    OK = 0
    """A number was produced and can be used."""
    UNPARSABLE = 1
    """The judge answered, but no verdict could be read from its answer."""
    TIMED_OUT = 2
    """The time limit of this row passed before an answer came."""
    FAILED = 3
    """The engine, or the reward's own code, raised an error for this row."""
    ABSTAINED = 4
    """The reward looked at the row and declined to decide."""
    NOT_APPLICABLE = 5
    """The reward does not speak about rows of this kind."""
    NOT_A_NUMBER = 6
    """The reward returned NaN or an infinity and called it a score."""
    MISSING_REFERENCE = 7
    """The reward needs a reference answer that the row does not have."""
    EMPTY_GROUP = 8
    """A group-relative number was asked for in a group with fewer than two usable rows."""
    EQUAL_GROUP = 9
    """All rows of the group are equal, so a group-relative number has no meaning."""
    TOO_LONG = 10
    """The rendered input does not fit into the engine's context."""
    UNREACHABLE = 11
    """The engine could not be reached any more; the row can be judged again later."""

    @property
    def retryable(self) -> bool:
        """Whether judging the same row again can end differently, so that the verdict is not kept in the store."""
        return self in (Status.TIMED_OUT, Status.FAILED, Status.UNREACHABLE)

    @property
    def label(self) -> str:
        """Lower-case name for reports and JSON: `timed_out`."""
        return self.name.lower()
