"""Reading input for a run in parts: every file is read once to check and count it, then in chunks of whole parts.

Both happen wherever they are called, with the ONE reader of `plaudit.data`: rows keep their ids, and bad rows their sentence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from plaudit.data import FieldMap, Row, RowStream, read_rows
from plaudit.data.files import find_source
from plaudit.data.stream import KEPT_ERRORS
from plaudit.scale.parts import InputFile, Manifest, Reading, identify
from plaudit.types import DataError, UserError


@dataclass(frozen=True)
class Source:
    """What is read, as the user named it; opened anew in every process."""

    file: str
    fields: FieldMap | None = None
    limit: int | None = None
    skip_bad: bool = False

    def stream(self) -> RowStream:
        """Its rows. Raises UserError for a source that several processes cannot read, DataError if it is not there."""
        if self.file == "-" or self.file.startswith("hub:"):
            raise UserError(f"{self.file}: judging in parts needs files that every worker can read; save the rows to files first")
        path = find_source(self.file)
        if not path.is_dir() and not path.is_file():
            raise UserError(f"{self.file} can be read only once; judging in parts needs files")
        stream = read_rows(self.file, fields=self.fields, limit=self.limit, skip_bad=self.skip_bad)
        if self.limit is not None and len(stream.parts) > 1:
            raise UserError("--limit takes rows of several files in turn, which parts cannot; name one file, or leave it out")
        return stream

    def files(self) -> list[InputFile]:
        """Its files by size and ends, rows not counted yet."""
        return [identify(part.container.name, Path(find_source(part.container.name)), 0) for part in self.stream().parts]


@dataclass
class FileFacts:
    """What reading one file has shown. error: (file, row, problem, expected) of the first row that cannot be skipped."""

    rows: int = 0
    layout: str | None = None
    notes: Counter[str] | None = None
    skipped: list[tuple[str, int | None, str, str]] | None = None
    skipped_count: int = 0
    error: tuple[str, int | None, str, str] | None = None


def check_file(source: Source, place: int) -> FileFacts:
    """Read one file of a source to its end (or limit), as a single process would do it before it judges."""
    part = source.stream().parts[place]
    facts, notes = FileFacts(), Counter[str]()
    skipped: list[tuple[str, int | None, str, str]] = []
    try:
        for row in part.rows():
            if not isinstance(row, DataError):
                facts.rows += 1
                notes.update(row.notes)
            elif source.skip_bad:
                facts.skipped_count += 1
                if len(skipped) < KEPT_ERRORS:
                    skipped.append(_plain(row))
            else:
                facts.error = _plain(row)
                break
            if facts.rows == source.limit:
                break
        if not facts.rows and not facts.skipped_count and facts.error is None:
            facts.error = part.container.name, None, "no rows", "at least one row"
    except DataError as error:
        facts.error = _plain(error)
    facts.layout = None if part.layout is None else part.layout.name
    facts.notes, facts.skipped = notes, skipped
    return facts


def _plain(error: DataError) -> tuple[str, int | None, str, str]:
    """An error as it travels between processes."""
    return error.file, error.row, error.problem, error.expected


def reading_of(files: Sequence[InputFile], facts: Sequence[FileFacts]) -> Reading:
    """What the facts of all files say together. Raises the DataError that a single process would meet first."""
    for one in facts:
        if one.error is not None:
            raise DataError(*one.error)
    skipped = [DataError(*error) for one in facts for error in one.skipped or ()][:KEPT_ERRORS]
    if not any(one.rows for one in facts):
        first, total = skipped[0], sum(one.skipped_count for one in facts)
        raise DataError(
            first.file, None, f"no usable row: all {total} were skipped, the first one because: {first.problem}", first.expected
        )
    notes: Counter[str] = Counter()
    for one in facts:
        notes.update(one.notes or {})
    layouts = ", ".join(dict.fromkeys(one.layout for one in facts if one.layout is not None))
    counted = tuple(replace(file, rows=one.rows) for file, one in zip(files, facts, strict=True))
    return Reading(layouts, counted, notes, tuple(skipped), sum(one.skipped_count for one in facts))


@dataclass(frozen=True)
class Stretch:
    """A run of parts that one reader reads: from the row `skip` of the file `place` on, through as many files as it takes."""

    place: int
    skip: int
    parts: tuple[int, ...]
    """The parts that are wanted, ascending; those between them are read over."""


def stretches(manifest: Manifest, wanted: Collection[int]) -> list[Stretch]:
    """The readers of a run: one a file, for the parts that begin in it. A file is thus read by one process, front to back."""
    found, start, size = [], 0, manifest.part_rows
    chosen = sorted(wanted)
    for place, file in enumerate(manifest.reading.files):
        first, after = -(-start // size), -(-(start + file.rows) // size)
        parts = tuple(part for part in chosen if first <= part < after)
        if parts:
            found.append(Stretch(place, first * size - start, tuple(parts)))
        start += file.rows
    return found


def read_stretch(source: Source, manifest: Manifest, stretch: Stretch) -> Iterator[tuple[int, list[Row]]]:
    """(part, its rows) of a stretch. Raises DataError if a file has changed since it was checked."""
    stream = source.stream()
    rows = islice(iter(replace(stream, parts=stream.parts[stretch.place :], limit=None)), stretch.skip, None)
    begin = -(-sum(file.rows for file in manifest.reading.files[: stretch.place]) // manifest.part_rows)
    for part in range(begin, stretch.parts[-1] + 1):
        first, after = manifest.range(part)
        if part in stretch.parts:
            chunk = list(islice(rows, after - first))
            if len(chunk) != after - first:
                raise DataError(
                    source.file, None, "the input has fewer rows than when it was checked", "files that do not change"
                )
            yield part, chunk
        else:
            next(islice(rows, after - first, after - first), None)
