"""Small files for reader tests."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from plaudit.data import FieldMap, Row, read_rows


def write_jsonl(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def one(path: Path, record: dict[str, Any], fields: FieldMap | None = None) -> Row:
    """The row that a file with this one record gives."""
    (row,) = read_rows(write_jsonl(path / "one.jsonl", [record]), fields=fields)
    return row
