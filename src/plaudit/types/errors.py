"""Errors that are the user's to mend. The command line prints them as one sentence and exits with code 2."""

from __future__ import annotations


class UserError(Exception):
    """Something that the user gave cannot be used; the message is one clear sentence."""


class DataError(UserError):
    """A file or a row that cannot be read as data: names the file, the row (1-based) and what was expected."""

    def __init__(self, file: str, row: int | None, problem: str, expected: str = "") -> None:
        self.file, self.row, self.problem, self.expected = file, row, problem, expected
        place = file if row is None else f"{file}, row {row}"
        super().__init__(f"{place}: {problem}" + (f"; expected {expected}" if expected else ""))


class SpecError(UserError):
    """A `--reward` or `--engine` that cannot be understood."""
