"""A search as a file of settings: names become generator, reward, prompts and search.

world:      {name: arithmetic, ...}           optional: gives prompts, a truth and start models
prompts:    N (of the world) | FILE.jsonl      with split: and seed: of the world
candidates: FILE                               responses that are there already, in place of prompts and generator
generator:  {engine: NAME} | NAME | {name: NAME, ...} | {base: LEVEL, seed: N} (of the world) | FILE.py:NAME
reward:     truth | anything that `plaudit judge --reward` takes, compositions included
search:     NAME | {name: NAME, ...} | FILE.py:NAME
how:        settings of sampling               truth: an independent reward of what was found
budget:     {COUNTER: LIMIT, ...}
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plaudit.cli.align_config import Parts, catalogue_builder, named, read_config
from plaudit.engines.catalogue import open_engine
from plaudit.rewards.catalogue import Resolver
from plaudit.types import Budget, SearchResult, SpecError

if TYPE_CHECKING:
    from plaudit.search.work import Work

KEYS = ("world", "prompts", "split", "seed", "candidates", "generator", "reward", "search", "how", "truth", "budget")


def read_search(path: Path, changes: Sequence[str] = ()) -> dict[str, Any]:
    """The settings in a file. Raises SpecError, naming the place, for what cannot be used together."""
    document = read_config(path, changes, KEYS, ("reward",))
    recorded = "candidates" in document
    if recorded and ("prompts" in document or "generator" in document):
        raise SpecError(f"{path}: `candidates` are responses that are there already: leave out prompts and generator")
    missing = [] if recorded else [name for name in ("prompts", "generator") if name not in document]
    if missing:
        raise SpecError(f"{path}: {' and '.join(missing)} must be given, or candidates: FILE")
    return document


class SearchParts(Parts):
    """Builds what a search needs from settings. Raises SpecError or UserError for what cannot be built."""

    def __init__(self, document: Mapping[str, Any], resolver: Resolver) -> None:
        self.document, self.resolver = document, resolver
        self.world = self._world()
        self.reward = self._reward(document["reward"])
        self.truth = None if document.get("truth") is None else self._reward(document["truth"])
        self.limits = _limits(document.get("budget") or {})
        self.recorded = document.get("candidates") is not None
        if self.recorded:
            self.prompts = _candidates(str(document["candidates"]))
            self.generator = None
        else:
            self.prompts = self._prompts(document["prompts"], document.get("split", "test"), document.get("seed", 0))
            self.generator = self._generator()
        self.search = self._search()

    @property
    def count(self) -> int:
        """How many prompts there are."""
        return len(self.prompts.group_rows()) if self.recorded else len(self.prompts)

    @property
    def ids(self) -> list[str]:
        """A name for each prompt."""
        if self.recorded:
            first = [rows[0] for rows in self.prompts.group_rows()]
            return [str((self.prompts.ids or [])[row]).rpartition("#")[0] for row in first]
        return [str(name) for name in self.prompts.ids or range(len(self.prompts))]

    def run(self, budget: Budget, seed: int, state: Any, on_progress: Callable[[Work], None]) -> SearchResult:
        """Search, from the state of an earlier search if there is one."""
        if self.recorded:
            from plaudit.search.best_of_n import BestOfN
            from plaudit.search.recorded import best_recorded

            if not isinstance(self.search, BestOfN):
                raise SpecError("recorded candidates are chosen by best_of_n, vote or self_consistency")
            return best_recorded(
                self.prompts, self.reward, search=self.search, budget=budget, seed=seed, state=state, on_progress=on_progress
            )
        if hasattr(self.search, "on_progress"):
            self.search.on_progress = on_progress
        found: SearchResult = self.search.run(self.generator, self.reward, self.prompts, budget=budget, seed=seed, state=state)
        return found

    def measured(self, result: SearchResult) -> dict[str, Any]:
        """The independent reward's mean over what was found."""
        from plaudit.search.comparing import quality_of

        assert self.truth is not None
        known = [value for value in quality_of(result, self.truth) if value is not None]
        return {"mean": math.fsum(known) / len(known) if known else None, "n": len(known)}

    def _generator(self) -> Any:
        spec = self.document["generator"]
        if isinstance(spec, Mapping) and set(spec) == {"engine"}:
            from plaudit.generators.sampler import EngineSampler

            return EngineSampler(open_engine(str(spec["engine"])))
        return super()._generator()

    def _search(self) -> Any:
        spec = self.document.get("search", "best_of_n")
        if self.document.get("how") is not None:
            given = {"name": spec} if isinstance(spec, str) else dict(spec)
            spec = {"how": self._how(self.document["how"]), **given}
        return named(spec, "search", catalogue_builder("plaudit.search.catalogue", "build_search"))


def _candidates(path: str) -> Any:
    from plaudit.data import read_rows, rows_to_batch

    return rows_to_batch(list(read_rows(path)))


def _limits(spec: Any) -> dict[str, float]:
    if not isinstance(spec, Mapping):
        raise SpecError("budget: expected limits by name, such as {reward_calls: 1000}")
    for name, limit in spec.items():
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit >= 0:
            raise SpecError(f"budget.{name}: expected a number of at least 0, not '{limit}'")
    return {str(name): float(limit) for name, limit in spec.items()}
