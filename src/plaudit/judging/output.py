"""Results on disk, all or nothing: a file appears under its name only when the last row is in it."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from plaudit.judging.results import RowResult
from plaudit.types import UserError

Write = Callable[[RowResult], None]
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
COLUMNS = ("id", "response", "value", "status", "gold", "detail")


def dump(record: Mapping[str, Any]) -> str:
    """One line of JSON. NaN is refused: a missing number is null."""
    return _ENCODER.encode(record)


@contextmanager
def atomic(path: Path, *, newline: str | None = None) -> Iterator[IO[str]]:
    """A text file that replaces `path` when the block ends well, and leaves nothing when it does not.

    Raises UserError where the folder is not there or cannot be written.
    """
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogatepass", newline=newline) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes private files; a result is an ordinary one
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def writer(path: Path) -> Iterator[Write]:
    """A function that adds one result to `path`, as its ending says: .jsonl (rows) or .csv (one line a response or pair).

    Raises UserError for another ending.
    """
    if path.suffix not in (".jsonl", ".csv"):
        raise UserError(f"{path}: results are written as .jsonl or .csv")
    with atomic(path, newline="") as file:
        if path.suffix == ".jsonl":
            yield lambda result: _write_json(file, result)
        else:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(COLUMNS)
            yield lambda result: table.writerows(_csv_lines(result))


def _write_json(file: IO[str], result: RowResult) -> None:
    file.write(dump(result.to_json()) + "\n")


def _csv_lines(result: RowResult) -> Iterator[list[Any]]:
    """A line a response; for a reward that only compared, a line a pair with `first>second` in the place of the response."""
    gold = result.row.gold
    for place, response in enumerate(result.responses):
        detail = "; ".join(verdict.detail for verdict in response.verdicts if verdict.detail)
        yield [result.row.id, place, response.value, response.status.label, gold[place] if gold else None, detail]
    if not result.responses:
        for pair in result.pairs:
            detail = "; ".join(verdict.detail for verdict in pair.verdicts if verdict.detail)
            wanted = None if gold is None else (gold[pair.first] - gold[pair.second] + 1) / 2
            yield [result.row.id, f"{pair.first}>{pair.second}", pair.prob, pair.status.label, wanted, detail]
