"""`read_rows`: what the user names (a file, a folder, a known set, standard input, the hub) as a stream of rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from plaudit.data.containers import Container, Delimited, Given, JsonArray, JsonLines, Parquet, Spool, open_bytes
from plaudit.data.fields import FieldMap
from plaudit.data.stream import Part, RowStream
from plaudit.types import DataError

_READERS: dict[str, Callable[[str, Path], Container]] = {
    ".jsonl": lambda name, path: JsonLines(name, partial(open_bytes, path)),
    ".json": lambda name, path: JsonArray(name, partial(open_bytes, path)),
    ".csv": lambda name, path: Delimited(name, partial(open_bytes, path), ","),
    ".tsv": lambda name, path: Delimited(name, partial(open_bytes, path), "\t"),
}
READABLE = (*_READERS, *(f"{suffix}.gz" for suffix in _READERS), ".parquet")
"""Endings of the files that can be read."""
AUXILIARY = ("recorded_", "leaderboard", "judge_prompts")
"""Files of a folder with this in their name are no rows to judge: recorded verdicts, leaderboards, judges' prompts."""
DATA_VARIABLE = "PLAUDIT_DATA"
"""Environment variable: the folder in which known data sets are looked for by name."""


def read_rows(
    source: str | Path,
    *,
    fields: FieldMap | None = None,
    limit: int | None = None,
    skip_bad: bool = False,
    seed: int | None = None,
) -> RowStream:
    """Rows of a file, a folder's files, a known data set, standard input or a hub set; nothing is read before the first row.

    source: a path ending in one of `READABLE`; a folder (its own files, sorted, without `AUXILIARY` ones); `-` or a pipe for
    JSON Lines; `hub:owner/name[:config][:split]`; or a path below $PLAUDIT_DATA, such as `llmbar`.
    fields: which column is what; without it the layout is recognised (docs/data.md).
    limit, skip_bad, seed: see `RowStream`.

    Raises DataError if the source is not there or of no readable kind, ValueError on a negative limit. Rows raise while read.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit is {limit}, expected 0 or more")
    parts = _parts(str(source), fields)
    return RowStream(parts, limit=limit, skip_bad=skip_bad, seed=seed)


def read_records(
    records: Iterable[Mapping[str, Any]], *, fields: FieldMap | None = None, skip_bad: bool = False, name: str = "records"
) -> RowStream:
    """Rows of dictionaries in memory, by the same layouts and rules as those of files. name: what messages call them."""
    return RowStream([Part(Given(name, records), name, fields=fields)], skip_bad=skip_bad)


def _parts(source: str, fields: FieldMap | None) -> list[Part]:
    if source == "-":
        return [Part(JsonLines("standard input", Spool()), "stdin", fields=fields)]
    if source.startswith("hub:"):
        from plaudit.data.hub import HubSet

        hub_set = HubSet(source)
        return [Part(hub_set, hub_set.path.rstrip("/").rsplit("/", 1)[-1], fields=fields)]
    path = find_source(source)
    if path.is_dir():
        return _folder(source, path, fields)
    return [Part(_container(source, path), _stem(path.name), fields=fields)]


def find_source(source: str) -> Path:
    """The file or folder that a name stands for: a path, or one below $PLAUDIT_DATA. Raises DataError if it is not there."""
    path = Path(source).expanduser()
    root = os.environ.get(DATA_VARIABLE)
    if not path.exists() and root and (Path(root) / source).exists():
        return Path(root) / source
    if not path.exists():
        known = "" if root else f", or the name of a data set below ${DATA_VARIABLE}, which is not set"
        raise DataError(source, None, "file not found", f"a file, a folder, '-' or hub:owner/name{known}")
    return path


def _container(name: str, path: Path) -> Container:
    if not path.is_file():
        return JsonLines(name, Spool(lambda: path.open("rb")))
    if path.name.lower().endswith(".parquet"):
        return Parquet(name, path)
    reader = _READERS.get(Path(path.name.lower().removesuffix(".gz")).suffix)
    if reader is None:
        raise DataError(name, None, "not a kind of file that can be read", f"one of {', '.join(READABLE)}")
    return reader(name, path)


def _folder(source: str, folder: Path, fields: FieldMap | None) -> list[Part]:
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name.lower().endswith(READABLE))
    files = [path for path in files if not any(word in path.name.lower() for word in AUXILIARY)]
    if not files:
        raise DataError(source, None, "no readable data file in this folder", f"files that end in {', '.join(READABLE)}")
    stems = [_stem(path.name) for path in files]
    unique = len(set(stems)) == len(stems)
    parts = []
    for path, stem in zip(files, stems, strict=True):
        name = str(Path(source) / path.name)
        parts.append(Part(_container(name, path), stem if unique else path.name, shared=len(files) > 1, fields=fields))
    return parts


def _stem(name: str) -> str:
    """A file's name without its readable ending."""
    ending = max((end for end in READABLE if name.lower().endswith(end)), key=len, default="")
    return name[: len(name) - len(ending)] or name
