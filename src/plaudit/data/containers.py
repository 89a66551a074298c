"""Containers: files as streams of records. None is held in memory, but for a JSON array of at most 64 MB.

A record that cannot be read comes out as a `BadRow` in its place; what makes the rest of the file unreadable raises DataError.
Row numbers are 1-based: the line in JSON Lines (so that an editor finds it), the record elsewhere, headers not counted.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import shutil
import sys
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any

from plaudit.data.cells import BadRow, Record, kind
from plaudit.types import DataError

LONGEST_ROW = 64 << 20
"""Bytes of one line of JSON Lines; longer ones are refused, so that a file without line ends does not fill the memory."""
LARGEST_ARRAY = 64 << 20
"""Bytes of a JSON array, which has to be read whole."""
_MEGABYTE = 1 << 20
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")

Numbered = tuple[int, Record | BadRow]
Opener = Callable[[], IO[bytes]]


class Container(ABC):
    """One file, read again from the start by each call of `records`. name: as the user gave it."""

    def __init__(self, name: str, opener: Opener) -> None:
        self.name, self.opener = name, opener

    @abstractmethod
    def records(self) -> Iterator[Numbered]:
        """(row number, record or what is wrong with it). Raises DataError where the file cannot be read on."""

    @abstractmethod
    def count(self) -> int | None:
        """Records in the file, good or bad, by a fast look; None if only reading it all would tell."""


class JsonLines(Container):
    """One JSON object a line, in UTF-8, gzip-compressed or not; blank lines are skipped, a byte order mark is accepted."""

    def records(self) -> Iterator[Numbered]:
        """See Container."""
        for number, line in self._lines():
            record = parse_line(line)
            if record is not None:
                yield number, record

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        number = 0
        try:
            with self.opener() as handle:
                while line := handle.readline(LONGEST_ROW):
                    number += 1
                    if len(line) == LONGEST_ROW and not line.endswith(b"\n"):
                        problem = f"the row is longer than {LONGEST_ROW >> 20} MB"
                        raise DataError(self.name, number, problem, "one JSON object a line")
                    yield number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        except (OSError, EOFError, zlib.error) as error:
            raise _unreadable(self.name, number + 1, error) from error

    def count(self) -> int | None:
        """Lines that are not blank."""
        return sum(1 for _, line in self._lines() if not line.isspace() and line)


def parse_line(line: bytes) -> Record | BadRow | None:
    """One line of JSON Lines as a record; None if it is blank."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        return BadRow(f"invalid UTF-8 at byte {error.start + 1}", "text in UTF-8")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if not text.strip():
            return None
        return BadRow(f"truncated or invalid JSON at column {error.colno}", "one JSON object a line")
    except (ValueError, RecursionError) as error:
        return BadRow(f"JSON that cannot be read ({str(error).split(';')[0]})", "one JSON object a line")
    if not isinstance(value, dict):
        return BadRow(f"the row is {kind(value)}", "a JSON object")
    if ("\\ud" in text or "\\uD" in text) and _LONE_SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        return BadRow("half a character (a lone surrogate escape)", "text that can be written as UTF-8")
    return value


class JsonArray(Container):
    """A JSON array of objects; a `.json` file that does not start with a bracket is read as JSON Lines."""

    def records(self) -> Iterator[Numbered]:
        """See Container. Raises DataError if the file is too large or not an array of objects."""
        try:
            with self.opener() as handle:
                start = handle.readline(LONGEST_ROW)
                while start and not start.removeprefix(codecs.BOM_UTF8).strip():
                    start = handle.readline(LONGEST_ROW)
                if not start.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
                    yield from JsonLines(self.name, self.opener).records()
                    return
                data = start + handle.read(max(0, LARGEST_ARRAY + 1 - len(start)))
        except (OSError, EOFError, zlib.error) as error:
            raise _unreadable(self.name, None, error) from error
        if len(data) > LARGEST_ARRAY:
            problem = f"a JSON array of more than {LARGEST_ARRAY >> 20} MB, which has to be read whole"
            raise DataError(self.name, None, problem, "the same as .jsonl, one object a line")
        escapes = b"\\ud" in data or b"\\uD" in data
        for index, value in enumerate(self._parse(data)):
            if not isinstance(value, dict):
                yield index + 1, BadRow(f"the element is {kind(value)}", "a JSON object")
            elif escapes and _LONE_SURROGATE.search(json.dumps(value, ensure_ascii=False)):
                yield index + 1, BadRow("half a character (a lone surrogate escape)", "text that can be written as UTF-8")
            else:
                yield index + 1, value

    def _parse(self, data: bytes) -> list[Any]:
        try:
            values: list[Any] = json.loads(data.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise DataError(self.name, None, f"invalid UTF-8 at byte {error.start + 1}", "text in UTF-8") from error
        except json.JSONDecodeError as error:
            problem = f"truncated or invalid JSON at line {error.lineno} column {error.colno}"
            raise DataError(self.name, None, problem, "a JSON array of objects") from error
        except (ValueError, RecursionError) as error:
            raise DataError(self.name, None, f"JSON that cannot be read ({error})", "a JSON array of objects") from error
        return values

    def count(self) -> int | None:
        """None: it has to be read."""
        return None


class Given(Container):
    """Records that are in memory already."""

    def __init__(self, name: str, given: Iterable[Mapping[str, Any]]) -> None:
        super().__init__(name, io.BytesIO)
        self.given = list(given)

    def records(self) -> Iterator[Numbered]:
        """See Container."""
        for index, record in enumerate(self.given):
            yield index + 1, dict(record) if isinstance(record, Mapping) else BadRow(f"the row is {kind(record)}", "a dictionary")

    def count(self) -> int | None:
        """Their number."""
        return len(self.given)


class Delimited(Container):
    """CSV or TSV with a header, in UTF-8, gzip-compressed or not. Cells are texts; an empty cell is an empty text.

    A row with fewer or more cells than the header is bad; an unclosed quote ends the file with a DataError.
    """

    def __init__(self, name: str, opener: Opener, delimiter: str) -> None:
        super().__init__(name, opener)
        self.delimiter = delimiter

    def records(self) -> Iterator[Numbered]:
        """See Container."""
        # The limit on a cell's length is global to the csv module; 131,072 characters is too few for long responses.
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST_ROW))
        number = 0
        try:
            with self.opener() as raw, io.TextIOWrapper(raw, "utf-8-sig", errors="surrogateescape", newline="") as text:
                reader = csv.reader(text, delimiter=self.delimiter, strict=True)
                header = next(reader, None)
                if header is None:
                    return
                self._check_header(header)
                for cells in reader:
                    if cells:
                        number += 1
                        yield number, _named(header, cells)
        except csv.Error as error:
            raise DataError(self.name, number + 1, f"{error}", "cells quoted as in RFC 4180") from error
        except (OSError, EOFError, zlib.error) as error:
            raise _unreadable(self.name, number + 1, error) from error

    def _check_header(self, header: list[str]) -> None:
        double = next((name for name in header if header.count(name) > 1), None)
        if double is not None:
            raise DataError(self.name, None, f"two columns are called {double!r}", "different names in the header")
        if _LONE_SURROGATE.search("".join(header)):
            raise DataError(self.name, None, "invalid UTF-8 in the header", "text in UTF-8")

    def count(self) -> int | None:
        """None: quoted line ends make lines and rows differ."""
        return None


def _named(header: list[str], cells: list[str]) -> Record | BadRow:
    if len(cells) != len(header):
        return BadRow(f"the row has {len(cells)} cells", f"{len(header)}, as in the header")
    if _LONE_SURROGATE.search("\n".join(cells)):
        return BadRow("invalid UTF-8", "text in UTF-8")
    return dict(zip(header, cells, strict=True))


class Parquet(Container):
    """A parquet file, read by batches of its row groups."""

    def __init__(self, name: str, path: Path) -> None:
        super().__init__(name, lambda: path.open("rb"))

    def records(self) -> Iterator[Numbered]:
        """See Container."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        number = 0
        try:
            with self.opener() as handle:
                for batch in pq.ParquetFile(handle).iter_batches(batch_size=256):
                    for record in batch.to_pylist():
                        number += 1
                        yield number, record
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise _unreadable(self.name, number + 1 if number else None, error) from error

    def count(self) -> int | None:
        """Rows by the file's own footer."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with self.opener() as handle:
                return int(pq.ParquetFile(handle).metadata.num_rows)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(self.name, None, error) from error


def _unreadable(name: str, row: int | None, error: Exception) -> DataError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return DataError(name, row, f"the file is damaged or cannot be read ({reason})")


def open_bytes(path: Path) -> IO[bytes]:
    """The file's bytes, decompressed where they start like gzip, whatever the name says."""
    with path.open("rb") as handle:
        compressed = handle.read(2) == b"\x1f\x8b"
    if compressed:
        return io.BufferedReader(gzip.open(path, "rb"), _MEGABYTE)
    return path.open("rb", buffering=_MEGABYTE)


class Spool:
    """A stream that can be read once (standard input, a pipe), kept in a temporary file so that it can be read again."""

    def __init__(self, open_source: Opener | None = None) -> None:
        self._open_source = open_source
        self._kept: IO[bytes] | None = None

    def __call__(self) -> IO[bytes]:
        """The stream from its start; the first call reads the source to its end."""
        if self._kept is None:
            self._kept = NamedTemporaryFile(prefix="plaudit-")  # noqa: SIM115  # lives as long as the spool
            shutil.copyfileobj(self._open_source() if self._open_source else sys.stdin.buffer, self._kept, _MEGABYTE)
            self._kept.flush()
        return open_bytes(Path(self._kept.name))
