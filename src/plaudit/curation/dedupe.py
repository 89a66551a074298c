"""Rows that say the same thing twice: exact and near duplicates, and pairs whose labels contradict each other.

The *content* of a row is its prompt and the set of its responses, in whatever order. Two rows of equal content are duplicates;
where their labels differ they are a contradiction, and the first one is kept all the same, counted: who wants neither reads the
report. Near duplicates are rows whose text (prompt and responses) is almost the same (`plaudit.curation.minhash`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from plaudit.curation.minhash import NearIndex, normalised
from plaudit.data.row import Row
from plaudit.types import prompt_text
from plaudit.types.keys import content_key


@dataclass(frozen=True)
class DedupeReport:
    """rows: read. kept: of them. exact, near: dropped, by why. contradictions: exact duplicates whose labels differ.

    examples: (id of a dropped row, id of the kept one, similarity), the first 20.
    """

    rows: int
    kept: int
    exact: int
    near: int
    contradictions: int
    examples: tuple[tuple[str, str, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Every field by name."""
        return asdict(self)


def text_of(response: Any) -> str:
    """A response as text: chats by the contents of their messages, other things by how Python writes them."""
    if isinstance(response, str):
        return response
    if isinstance(response, (list, tuple)) and all(isinstance(turn, dict) and "content" in turn for turn in response):
        return "\n\n".join(str(turn["content"]) for turn in response)
    return str(response)


class Deduplicator:
    """Says of each row of a stream whether it is new, and keeps only keys and signatures of what it has seen.

    near: the least similarity of a near duplicate, None: exact duplicates only (about 240 bytes a row instead of 6 kB).
    Rows of one prompt with different responses are no exact duplicates, but their texts may be near.
    """

    def __init__(self, near: float | None = 0.85) -> None:
        self._seen: dict[str, tuple[str, str]] = {}
        self._index = None if near is None else NearIndex(near)
        self._rows = self._exact = self._near = self._contradictions = 0
        self._examples: list[tuple[str, str, float]] = []

    def is_new(self, row: Row) -> bool:
        """Whether the row is neither an exact nor a near duplicate of an earlier one; counts it."""
        self._rows += 1
        key, label = _content(row), _label(row)
        if (earlier := self._seen.get(key)) is not None:
            self._exact += 1
            self._contradictions += label != earlier[1]
            self._note(row.id, earlier[0], 1.0)
            return False
        if self._index is not None:
            text = "\n".join((prompt_text(row.prompt), *sorted(text_of(response) for response in row.responses)))
            if (found := self._index.find(text)) is not None:
                self._near += 1
                self._note(row.id, str(found[0]), found[1])
                return False
            self._index.add(text, row.id)
        self._seen[key] = (row.id, label)
        return True

    def _note(self, dropped: str, kept: str, how: float) -> None:
        if len(self._examples) < 20:
            self._examples.append((dropped, kept, round(how, 4)))

    def report(self) -> DedupeReport:
        """What was found so far."""
        kept = self._rows - self._exact - self._near
        return DedupeReport(self._rows, kept, self._exact, self._near, self._contradictions, tuple(self._examples))


def deduplicate(rows: Iterable[Row], *, near: float | None = 0.85) -> tuple[list[Row], DedupeReport]:
    """The rows without duplicates of earlier ones, in order; for streams that do not fit into memory, use `Deduplicator`.

    near: the least similarity of a near duplicate in [0.5, 1], None: exact ones only.
    """
    seen = Deduplicator(near)
    kept = [row for row in rows if seen.is_new(row)]
    return kept, seen.report()


def _content(row: Row) -> str:
    """Key of the normalised prompt and responses, whatever their order."""
    return content_key(normalised(prompt_text(row.prompt)), sorted(_response_key(response) for response in row.responses))


def _response_key(response: Any) -> str:
    return content_key(normalised(text_of(response)))


def _label(row: Row) -> str:
    """Key of which responses are better than which, whatever their order and scale; one of its own where there is no label."""
    if row.gold is None:
        return ""
    rank = {value: place for place, value in enumerate(sorted(set(row.gold)))}
    ranked = zip(row.responses, row.gold, strict=True)
    return content_key(sorted((_response_key(response), rank[value]) for response, value in ranked))
