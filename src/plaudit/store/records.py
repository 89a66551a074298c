"""What the store keeps, and how it is written as text that every database takes and gives back unchanged.

PostgreSQL refuses the character NUL, and no database takes half a surrogate pair; both turn up in judged texts. In a body,
which is JSON, both have an escape; other texts that hold them are kept as JSON behind a mark.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_ASCII_ENCODER = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"))
_MARK = 'json:"'


@dataclass(frozen=True)
class Record:
    """What is kept about one thing judged. body: JSON-able numbers, statuses and verdicts."""

    key: str
    kind: str
    subject: str
    """The id of the row it was first judged in, for people."""
    body: Mapping[str, Any]


@dataclass(frozen=True)
class RewardEntry:
    """One reward in the store: its fingerprint, name, how many verdicts it has, and when they were written (Unix seconds)."""

    fingerprint: str
    name: str
    verdicts: int
    first: float | None
    last: float | None


def entries(fingerprint: str, name: str, records: Iterable[Record]) -> list[dict[str, Any]]:
    """Records of one reward, written now, in the form of `Store.records`."""
    now = time.time()
    return [
        {
            "key": record.key, "reward": fingerprint, "name": name, "kind": record.kind, "subject": record.subject,
            "written": now, "body": record.body,
        }
        for record in records
    ]  # fmt: skip


def row_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The row of the table of verdicts that holds an entry."""
    return {
        "key": entry["key"],
        "reward": entry["reward"],
        "kind": to_text(entry["kind"]),
        "subject": to_text(entry["subject"]),
        "written": entry["written"],
        "body": to_json(entry["body"]),
    }


def to_json(body: Mapping[str, Any]) -> str:
    """A body as JSON without NUL characters and half surrogate pairs."""
    text = _ENCODER.encode(body)
    return text if _can_be_kept(text) else _ASCII_ENCODER.encode(body)


def to_text(text: str) -> str:
    """A text as it is kept."""
    return text if _can_be_kept(text) and not text.startswith(_MARK) else _MARK[:-1] + _ASCII_ENCODER.encode(text)


def from_text(kept: str) -> str:
    """The text that was kept."""
    if kept.startswith(_MARK):
        try:
            return str(json.loads(kept[len(_MARK) - 1 :]))
        except ValueError:  # written before there was a mark
            pass
    return kept


def _can_be_kept(text: str) -> bool:
    if "\0" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
