"""Whether a test set was seen in training: prompts and responses that stand in both, exactly or nearly, by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from plaudit.curation.dedupe import text_of
from plaudit.curation.minhash import NearIndex, normalised
from plaudit.data.row import Row
from plaudit.types import prompt_text
from plaudit.types.keys import content_key

Part = Literal["prompt", "response"]


@dataclass(frozen=True)
class Leak:
    """A part of a test row that a training row has too. similarity: 1 where exact, else estimated."""

    test_id: str
    train_id: str
    part: Part
    exact: bool
    similarity: float


@dataclass(frozen=True)
class PartReport:
    """tested: test rows' prompts, or their responses. exact, near: how many of them training has. short: too short to tell."""

    tested: int = 0
    exact: int = 0
    near: int = 0
    short: int = 0

    @property
    def share(self) -> float | None:
        """Share that training has, exactly or nearly; None where nothing was tested."""
        return (self.exact + self.near) / self.tested if self.tested else None

    def to_json(self) -> dict[str, Any]:
        """Every field by name, and the share."""
        return {**asdict(self), "share": None if self.share is None else round(self.share, 6)}


@dataclass(frozen=True)
class LeakageReport:
    """train_rows, test_rows: compared. prompts, responses: what was found. leaks: each by the names of its rows."""

    train_rows: int
    test_rows: int
    prompts: PartReport
    responses: PartReport
    leaks: tuple[Leak, ...] = ()

    @property
    def leaked(self) -> frozenset[str]:
        """Ids of test rows with any leak."""
        return frozenset(leak.test_id for leak in self.leaks)

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "train_rows": self.train_rows,
            "test_rows": self.test_rows,
            "prompts": self.prompts.to_json(),
            "responses": self.responses.to_json(),
            "leaked_rows": len(self.leaked),
            "leaks": [asdict(leak) for leak in self.leaks],
        }


def find_leaks(
    train: Iterable[Row], test: Sequence[Row], *, near: float | None = 0.8, shortest: int = 30
) -> tuple[list[Row], LeakageReport]:
    """The test rows without a leak, and what leaked. The training side is streamed: memory grows with the test set alone.

    near: the least similarity that counts, None: exact only. shortest: responses of fewer characters ("yes", "42") agree by
    chance; they are counted as `short`, not as leaks. Prompts have no such limit. Every part leaks at most once: with its first
    exact match, else with its most similar one.
    """
    prompts, responses = _Checker("prompt", test, near, 1), _Checker("response", test, near, shortest)
    count = 0
    for row in train:
        count += 1
        prompts.meet(row.id, prompt_text(row.prompt))
        for response in row.responses:
            responses.meet(row.id, text_of(response))
    leaks = (*prompts.leaks(), *responses.leaks())
    report = LeakageReport(count, len(test), prompts.report(), responses.report(), leaks)
    return [row for row in test if row.id not in report.leaked], report


class _Checker:
    """The prompts or the responses of the test rows, waiting for training rows."""

    def __init__(self, part: Part, test: Sequence[Row], near: float | None, shortest: int) -> None:
        self.part = part
        self.index = None if near is None else NearIndex(near)
        self.shortest, self.short = shortest, 0
        self.owners: list[tuple[str, str]] = []
        self.places: dict[str, list[int]] = {}
        self.found: dict[int, tuple[str, bool, float]] = {}
        for row in test:
            for text in [prompt_text(row.prompt)] if part == "prompt" else [text_of(response) for response in row.responses]:
                self._keep(row.id, text)

    def _keep(self, test_id: str, text: str) -> None:
        flat = normalised(text)
        self.owners.append((test_id, flat))
        if len(flat) < self.shortest:
            self.short += 1
            return
        key = content_key(flat)
        if key not in self.places and self.index is not None:
            self.index.add(flat, key)
        self.places.setdefault(key, []).append(len(self.owners) - 1)

    def meet(self, train_id: str, text: str) -> None:
        """Compare a text of the training side."""
        flat = normalised(text)
        key = content_key(flat)
        for place in self.places.get(key, ()):
            if not self.found.get(place, ("", False, 0.0))[1]:
                self.found[place] = (train_id, True, 1.0)
        if self.index is not None and len(flat) >= self.shortest:
            for name, how in self.index.find_all(flat):
                for place in self.places[str(name)]:
                    if place not in self.found or (not self.found[place][1] and self.found[place][2] < how):
                        self.found[place] = (train_id, False, how)

    def leaks(self) -> list[Leak]:
        """One a part that was found, in the order of the test rows."""
        listed = sorted(self.found.items())
        return [Leak(self.owners[place][0], train, self.part, exact, round(how, 4)) for place, (train, exact, how) in listed]

    def report(self) -> PartReport:
        """Counts."""
        exact = sum(exact for _, exact, _ in self.found.values())
        return PartReport(len(self.owners), exact, len(self.found) - exact, self.short)
