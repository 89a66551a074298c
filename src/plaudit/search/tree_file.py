"""`SearchTree`: everything that a hierarchical search held, in the order in which it came about, as one JSON file."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from plaudit.search.proposing import Limits, Vote
from plaudit.types import Status

Kind = Literal["start", "accepted", "rejected", "chosen"]


@dataclass
class Node:
    """A candidate of the search. parent: the number of the node that it was made from or chosen among, None for the start.

    kind: "accepted" and "rejected" proposals, and what was "chosen" as the result of a branch. key: where it was asked for:
    level, branch, line and step. reason: the judge's words, or why there was no verdict. votes: the mean vote that chose it.
    """

    number: int
    parent: int | None
    kind: Kind
    key: str
    candidate: Any
    level: Any = None
    reason: str = ""
    votes: float | None = None


@dataclass
class SearchTree:
    """The tree of one task. task: its prompt. best: the node that the search ends with.

    counts: `reward_calls` (judged pairs, retries included), `proposals`, `retries`, `unparsable` (pairs left without a verdict),
    `empty` and `unchanged` proposals, `double` comparisons in both orders and the `flips` among them, `cycles` (returns of a
    line to a candidate that it had left), `errors`. lines: how each line ended. stopped: why the search ended early.
    ended: nothing is asked any more. spent_out: what limits no longer allow; without proposals, what there is is still judged.
    journal: every answer by what was asked; given back, a search goes on where it stopped, and counts what it adds.
    """

    task: Any
    number: int = 0
    limits: Limits = field(default_factory=Limits)
    nodes: list[Node] = field(default_factory=list)
    best: Node | None = None
    counts: Counter[str] = field(default_factory=Counter)
    lines: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    stopped: str | None = None
    ended: bool = False
    spent_out: set[str] = field(default_factory=set)
    journal: dict[str, Any] = field(default_factory=dict)

    def end(self, reason: str) -> None:
        """Ask nothing more."""
        self.stopped, self.ended = self.stopped or reason, True

    def run_out(self, name: str, reason: str) -> None:
        """Ask no more of one kind: `proposals`; or `reward_calls`, without which nothing that is proposed could be kept."""
        self.stopped = self.stopped or reason
        self.spent_out.add(name)
        self.ended = self.ended or name == "reward_calls"

    @property
    def complete(self) -> bool:
        """Whether the search did all that it meant to do."""
        return self.stopped is None

    @property
    def calls(self) -> int:
        """Judged pairs."""
        return self.counts["reward_calls"]

    def add(self, parent: Node | None, kind: Kind, key: str, candidate: Any, level: Any = None, reason: str = "") -> Node:
        """A new node."""
        node = Node(len(self.nodes), None if parent is None else parent.number, kind, key, candidate, level, reason)
        self.nodes.append(node)
        return node

    def path(self, node: Node) -> list[Node]:
        """From the start to a node, both included."""
        found = [node]
        while found[-1].parent is not None:
            found.append(self.nodes[found[-1].parent])
        return found[::-1]

    def flip_rate(self) -> float | None:
        """Share of pairs judged in both orders in which the judge preferred the same place twice; None where there are none."""
        return self.counts["flips"] / self.counts["double"] if self.counts["double"] else None

    def to_json(self) -> dict[str, Any]:
        """JSON-able where the candidates are."""
        return {
            "task": self.task,
            "complete": self.complete,
            "stopped": self.stopped,
            "best": None if self.best is None else self.best.number,
            "counts": dict(sorted(self.counts.items())),
            "lines": dict(sorted(self.lines.items())),
            "flip_rate": self.flip_rate(),
            "errors": self.errors,
            "nodes": [{name: value for name, value in asdict(node).items() if value not in (None, "")} for node in self.nodes],
        }

    def write(self, path: str | Path) -> None:
        """The tree as a JSON file, all of it or nothing."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        unfinished.write_text(json.dumps(self.to_json(), ensure_ascii=False, indent=1, default=str), encoding="utf-8")
        os.replace(unfinished, path)


def frozen(journal: dict[str, Any]) -> dict[str, Any]:
    """A journal as JSON can write it, where it can write the candidates."""
    return {
        key: {"vote": [None if math.isnan(answer.prob) else answer.prob, int(answer.status), answer.flipped, answer.reason]}
        if isinstance(answer, Vote)
        else {"candidate": answer}
        for key, answer in journal.items()
    }


def thawed(journal: dict[str, Any]) -> dict[str, Any]:
    """What `frozen` wrote."""
    found: dict[str, Any] = {}
    for key, answer in journal.items():
        if "vote" in answer:
            prob, status, flipped, reason = answer["vote"]
            found[key] = Vote(math.nan if prob is None else prob, Status(status), flipped, reason)
        else:
            found[key] = answer["candidate"]
    return found
