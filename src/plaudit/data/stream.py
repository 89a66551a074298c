"""`RowStream`: rows of one or several files, one after another, with what was odd and what was skipped."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

from plaudit.data.cells import BadRow, Cells, Pieces, Record
from plaudit.data.containers import Container
from plaudit.data.fields import FieldMap
from plaudit.data.layouts import Layout, recognise
from plaudit.data.row import Row
from plaudit.types import DataError

KEPT_ERRORS = 1_000
"""Skipped rows whose messages are kept; all are counted."""
CHECKED_IDS = 1_000_000
"""Rows of a file whose own ids are checked for being unique (memory); the ids of later rows get their row number added."""
_KNOWN_SHAPES = 1_000


@dataclass
class Part:
    """One file of a stream. stem: its short name, in ids and sections. shared: whether other files are read beside it."""

    container: Container
    stem: str
    shared: bool = False
    fields: FieldMap | None = None
    layout: Layout | None = None

    def rows(self) -> Iterator[Row | DataError]:
        """Good rows and, in their place, what is wrong with the others."""
        shapes: set[tuple[str, ...]] = set()
        seen: set[int] = set()
        for number, record in self.container.records():
            try:
                if isinstance(record, BadRow):
                    raise record
                shape = tuple(record)
                if self.layout is None:
                    self.layout = recognise(record, self.fields)
                elif shape not in shapes:
                    self.layout.check(record)
                if len(shapes) < _KNOWN_SHAPES:
                    shapes.add(shape)
                yield self._row(self.layout, record, number, seen)
            except BadRow as bad:
                yield DataError(self.container.name, number, bad.problem, bad.expected)

    def _row(self, layout: Layout, record: Record, number: int, seen: set[int]) -> Row:
        cells = Cells(record, self.stem)
        pieces = layout.build(cells)
        references = (pieces.reference,) * len(pieces.responses) if pieces.reference is not None else None
        return Row(
            id=self._id(pieces, cells, number, seen),
            prompt=pieces.prompt,
            responses=pieces.responses,
            references=references,
            gold=pieces.gold,
            section=self.stem if pieces.section is None and self.shared else pieces.section,
            user=pieces.user,
            extras=pieces.extras,
            source=self.container.name,
            number=number,
            notes=tuple(cells.notes),
        )

    def _id(self, pieces: Pieces, cells: Cells, number: int, seen: set[int]) -> str:
        """The row's own id, `FILE:ID` where several files are read; `FILE:NUMBER` without one."""
        if pieces.id is None:
            return f"{self.stem}:{number}"
        own = f"{self.stem}:{pieces.id}" if self.shared else pieces.id
        key = hash(own)
        if key not in seen and len(seen) < CHECKED_IDS:
            seen.add(key)
            return own
        cells.note("duplicate id, row number added" if key in seen else "id not checked, row number added")
        return f"{own}@{number}"

    def first_layout(self) -> str:
        """The layout's name, after a look at the first good record where it is not known yet."""
        if self.layout is None:
            error: DataError | None = None
            for row in self.rows():
                if self.layout is not None:
                    break
                error = error or (row if isinstance(row, DataError) else None)
            if self.layout is None:
                raise error or DataError(self.container.name, None, "no rows", "at least one row")
        return self.layout.name


@dataclass
class RowStream:
    """An iterable of `Row`s; each loop reads the files again.

    limit: at most so many rows. With several files they are taken in turn, one row of each, so that all are there.
    seed: None takes the first rows; a number draws `limit` rows of all at random, in the files' order.
    skip_bad: bad rows are skipped and counted instead of raised. notes, skipped, skipped_count: of the latest loop.
    """

    parts: Sequence[Part]
    limit: int | None = None
    skip_bad: bool = False
    seed: int | None = None
    notes: Counter[str] = field(default_factory=Counter)
    skipped: list[DataError] = field(default_factory=list)
    skipped_count: int = 0
    _total: int | None = None

    def __iter__(self) -> Iterator[Row]:
        self.notes, self.skipped, self.skipped_count = Counter(), [], 0
        return self._read()

    def _read(self) -> Iterator[Row]:
        if self.limit == 0:
            return
        number = 0
        wanted = self._sample()
        in_turn = self.limit is not None and wanted is None and len(self.parts) > 1
        streams = [self._part(part) for part in self.parts]
        rows = _in_turn(streams) if in_turn else chain.from_iterable(streams)
        given = 0
        for number, row in enumerate(rows, start=1):
            if wanted is not None and number - 1 not in wanted:
                continue
            if isinstance(row, DataError):
                self._skip(row)
                continue
            if row.notes:
                self.notes.update(row.notes)
            yield row
            given += 1
            if given == self.limit:
                return
        if wanted is None:
            self._total = number
        if not given:
            self._raise_empty(number)

    def _part(self, part: Part) -> Iterator[Row | DataError]:
        number = 0
        for number, row in enumerate(part.rows(), start=1):  # noqa: B007  # read after the loop
            yield row
        if not number and len(self.parts) > 1:
            raise DataError(part.container.name, None, "no rows", "at least one row")

    def _skip(self, error: DataError) -> None:
        if not self.skip_bad:
            raise error
        self.skipped_count += 1
        if len(self.skipped) < KEPT_ERRORS:
            self.skipped.append(error)

    def _raise_empty(self, number: int) -> None:
        name = self.parts[0].container.name
        if self.skipped:
            first = self.skipped[0]
            problem = f"no usable row: all {number} were skipped, the first one because: {first.problem}"
            raise DataError(first.file, None, problem, first.expected)
        raise DataError(name, None, "no rows", "at least one row")

    def _sample(self) -> set[int] | None:
        if self.limit is None or self.seed is None:
            return None
        total = self.count_all()
        if total <= self.limit:
            return None
        return set(random.Random(self.seed).sample(range(total), self.limit))

    def count_all(self) -> int:
        """Rows in all files, good and bad, whatever the limit; reads what has to be read."""
        if self._total is None:
            counts = (part.container.count() for part in self.parts)
            self._total = sum(
                sum(1 for _ in part.container.records()) if count is None else count
                for part, count in zip(self.parts, counts, strict=True)
            )
        return self._total

    def count(self) -> int | None:
        """How many rows a loop gives, bad ones counted too; None if it is not known without reading everything."""
        if self._total is None:
            counts = [part.container.count() for part in self.parts]
            self._total = None if None in counts else sum(count for count in counts if count is not None)
        return self._total if self.limit is None or self._total is None else min(self._total, self.limit)

    @property
    def layout(self) -> str:
        """Name of the recognised layout; several names are parted by commas. Raises DataError if it cannot be told."""
        return ", ".join(dict.fromkeys(part.first_layout() for part in self.parts))

    def validate(self) -> int:
        """Read all rows (up to `limit`) once and count the good ones. Raises DataError at the first that cannot be skipped."""
        return sum(1 for _ in self)

    def head(self, count: int) -> list[Row]:
        """The first rows."""
        return list(islice(self, count))


def _in_turn(streams: Sequence[Iterator[Row | DataError]]) -> Iterator[Row | DataError]:
    """One row of each stream in turn, until all are at their end."""
    left = list(streams)
    while left:
        for stream in list(left):
            try:
                yield next(stream)
            except StopIteration:
                left.remove(stream)
