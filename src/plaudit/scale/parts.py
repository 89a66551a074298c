"""The folder that a run in parts writes: `manifest.json`, and for each part its rows and what its summary counts.

A part is whole once `part-00000.jsonl` is there under its name: it is written under a temporary one and renamed last, after
`part-00000.summary.json`. So a folder never holds half a part, whoever was killed and when, and a run goes on by what is missing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from plaudit.judging import Summary
from plaudit.judging.output import Write, atomic, dump, writer
from plaudit.judging.summary_state import summary_from_state, summary_state
from plaudit.types import DataError, UserError

MANIFEST = "manifest.json"
FORMAT = 1
TRIES = 5
"""Begun so often without an end, a part is given up: its rows end the process that judges them."""
ENDS = 1 << 20
"""Bytes at a file's beginning and end that identify it, together with its size."""


@dataclass(frozen=True)
class InputFile:
    """One file of the input. ends: SHA-256 of its first and last mebibyte. rows: those that can be judged."""

    name: str
    bytes: int
    ends: str
    rows: int


@dataclass(frozen=True)
class Reading:
    """What reading the whole input once has shown; the fields are those of `RowStream`."""

    layout: str
    files: tuple[InputFile, ...]
    notes: Mapping[str, int] = field(default_factory=Counter)
    skipped: tuple[DataError, ...] = ()
    skipped_count: int = 0

    @property
    def rows(self) -> int:
        """Rows in all files."""
        return sum(file.rows for file in self.files)


@dataclass(frozen=True)
class Identity:
    """What decides the numbers of a run, besides its input: two runs of one identity and input give equal parts."""

    reward: str
    fingerprint: str
    seed: int
    pairs: str
    batch_size: int
    skip_bad: bool
    limit: int | None
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Manifest:
    """identity and reading of a run; part k holds the rows from k * part_rows, counted over all files from 0."""

    identity: Identity
    reading: Reading
    part_rows: int

    @property
    def parts(self) -> int:
        """How many parts the run has."""
        return -(-self.reading.rows // self.part_rows)

    def range(self, part: int) -> tuple[int, int]:
        """(first row, row after the last one) of a part."""
        return part * self.part_rows, min((part + 1) * self.part_rows, self.reading.rows)

    def to_json(self) -> dict[str, Any]:
        """What the file holds, with the range of rows of every part."""
        reading = self.reading
        skipped = [[error.file, error.row, error.problem, error.expected] for error in reading.skipped]
        return {
            "format": FORMAT,
            **asdict(self.identity),
            "files": [asdict(file) for file in reading.files],
            "layout": reading.layout,
            "notes": dict(reading.notes),
            "skipped": skipped,
            "skipped_count": reading.skipped_count,
            "rows": reading.rows,
            "part_rows": self.part_rows,
            "parts": {part_name(part): list(self.range(part)) for part in range(self.parts)},
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Manifest:
        """Raises KeyError or TypeError if the record is no manifest."""
        identity = Identity(**{name: record[name] for name in Identity.__dataclass_fields__})
        files = tuple(InputFile(**file) for file in record["files"])
        skipped = tuple(DataError(*error) for error in record["skipped"])
        reading = Reading(record["layout"], files, Counter(record["notes"]), skipped, record["skipped_count"])
        return cls(identity, reading, record["part_rows"])


def part_name(part: int) -> str:
    """The file of a part."""
    return f"part-{part:05d}.jsonl"


def identify(name: str, path: Path, rows: int) -> InputFile:
    """A file by its size and its two ends: a look that costs the same for every size. Raises DataError if it cannot be read."""
    try:
        with path.open("rb") as handle:
            size = os.fstat(handle.fileno()).st_size
            digest = hashlib.sha256(handle.read(ENDS))
            handle.seek(max(0, size - ENDS))
            digest.update(handle.read(ENDS))
    except OSError as error:
        raise DataError(name, None, f"cannot be read ({error.strerror})") from error
    return InputFile(name, size, digest.hexdigest(), rows)


@dataclass(frozen=True)
class PartFolder:
    """A run's folder; every process of the run opens it by its path."""

    path: Path

    def begun(self, identity: Identity, files: Sequence[InputFile]) -> Manifest | None:
        """The manifest of an earlier run of the same identity on the same files; None in a folder that is empty or not there.

        files: their `rows` are not compared. Raises UserError, before anything is written, if the folder holds something else.
        """
        if not self.path.exists():
            return None
        if not self.path.is_dir():
            raise UserError(f"{self.path} is a file; judging in parts writes a folder")
        kept = self.path / MANIFEST
        if not kept.exists():
            if next(self.path.iterdir(), None) is not None:
                raise UserError(f"{self.path} is not empty and holds no {MANIFEST}; name a new or an empty folder")
            return None
        try:
            record = json.loads(kept.read_text(encoding="utf-8"))
            manifest = Manifest.from_json(record)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{kept} cannot be read ({type(error).__name__}: {error}); name another folder") from error
        if record.get("format") != FORMAT:
            raise UserError(f"{kept} was written in another format; name another folder")
        self._refuse_others(manifest, identity, files)
        return manifest

    def _refuse_others(self, manifest: Manifest, identity: Identity, files: Sequence[InputFile]) -> None:
        begun = manifest.identity
        for name, there in asdict(begun).items():
            here = asdict(identity)[name]
            if there != here:
                word = "version or settings of the reward" if name == "fingerprint" else name.replace("_", " ")
                raise UserError(
                    f"{self.path} holds parts of another run ({word}: {there!r} there, {here!r} now); name another folder"
                )
        old = [(file.name, file.bytes, file.ends) for file in manifest.reading.files]
        new = [(file.name, file.bytes, file.ends) for file in files]
        if old != new:
            changed = next((b[0] for a, b in zip(old, new, strict=False) if a != b), "the list of files")
            raise UserError(f"{self.path} holds parts of other input ({changed} has changed); name another folder")

    def begin(self, manifest: Manifest) -> None:
        """Make the folder with its manifest. Raises UserError if it cannot be written."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.path} cannot be made: {error.strerror}") from error
        with atomic(self.path / MANIFEST) as file:
            json.dump(manifest.to_json(), file, ensure_ascii=False, allow_nan=False, indent=1)

    def missing(self, manifest: Manifest) -> list[int]:
        """Parts that are not whole."""
        there = {entry.name for entry in os.scandir(self.path)}
        return [part for part in range(manifest.parts) if part_name(part) not in there]

    def sweep(self) -> None:
        """Remove what killed processes have left: unfinished files, and marks of parts that were begun."""
        for entry in [*self.path.glob(".part-*"), *self.path.glob(".begun-*")]:
            entry.unlink(missing_ok=True)

    @contextmanager
    def writing(self, part: int, summary: Summary) -> Iterator[Write]:
        """A function that adds one result to a part, which is whole once the block ends well.

        Raises UserError if the part has been begun too often: something in its rows ends the process.
        """
        self._count_try(part)
        with writer(self.path / part_name(part)) as write:
            yield write
            with atomic(self._summary(part)) as file:
                file.write(dump(summary_state(summary)))
        self._mark(part).unlink(missing_ok=True)

    def _count_try(self, part: int) -> None:
        mark = self._mark(part)
        with mark.open("ab") as file:  # appended, so that a try that is killed at once counts too
            file.write(b".")
        if mark.stat().st_size > TRIES:
            raise UserError(
                f"{part_name(part)} was begun {TRIES} times and each time the worker ended before it was done: something in its "
                f"rows, or its size, kills the process; {MANIFEST} says which rows they are"
            )

    def forget_try(self, part: int) -> None:
        """The part ended for a reason that is known: its next try is the first one again."""
        self._mark(part).unlink(missing_ok=True)

    def summary(self, parts: Iterable[int]) -> Summary:
        """The summaries of whole parts as one, in the order given. Raises UserError if one of them cannot be read."""
        total = Summary()
        for part in parts:
            try:
                total.merge(summary_from_state(json.loads(self._summary(part).read_text(encoding="utf-8"))))
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise UserError(f"{self._summary(part)} cannot be read; delete {part_name(part)} and run again") from error
        return total

    def _summary(self, part: int) -> Path:
        return self.path / part_name(part).replace(".jsonl", ".summary.json")

    def _mark(self, part: int) -> Path:
        return self.path / f".begun-{part:05d}"
