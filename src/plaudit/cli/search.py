"""`plaudit search`: the best of several samples a prompt, by a reward, from a file of settings."""

from __future__ import annotations

import json
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from plaudit.cli.common import Engine, EngineArguments, err, out
from plaudit.cli.search_config import SearchParts, read_search
from plaudit.judging.output import atomic, dump
from plaudit.types import Budget, Status, UserError

if TYPE_CHECKING:
    from plaudit.search.work import Work
    from plaudit.types import SearchResult

STATE_EVERY = 10.0
"""Seconds between two writings of the state: what a killed search has to do again at most."""


@dataclass
class Search:
    """Spend inference compute: sample, judge, and keep the best answer to every prompt."""

    config: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CONFIG.yaml")]
    """A file of settings. Its keys, with an example of each:

    - prompts: questions.jsonl (lines with `prompt`, and `reference` where there is one), or a number, of a world
    - generator: {engine: smollm2}, or {base: LEVEL} of a world, or FILE.py:NAME
    - reward: yes-token, or anything else that `plaudit judge --reward` takes
    - search: {name: adaptive, tau: 0.9}; the names are best_of_n, vote, self_consistency, adaptive, pruned
    - how: {max_tokens: 256, temperature: 1.0}
    - budget: {reward_calls: 1000}, limits of any counter
    - candidates: answers.jsonl, in place of prompts and generator: responses that are there already

    Examples:

    - plaudit search search.yaml
    - plaudit search search.yaml --set search.n=16 --set budget.samples=500 --out best.jsonl

    A search that was stopped or interrupted goes on when the same command is given again. docs/search.md says more.
    """
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=VALUE")] = ()
    """Change a setting, such as search.n=16; may be given several times."""
    out: Path | None = None
    """File of results, one line a prompt. Default: the name of the file of settings, with .best.jsonl."""
    seed: int = 0
    """The only source of randomness."""
    fresh: bool = False
    """Begin anew, even where a search was stopped."""
    engine: Engine = field(default_factory=EngineArguments)
    json: bool = False
    """Print the summary as JSON, and no table."""

    def run(self) -> int:
        """Exit code: 0 done, 1 stopped early (the reason is said, and what there is was written)."""
        parts = SearchParts(read_search(self.config, self.set), self.engine.resolver())
        target = self.out or self.config.with_suffix(".best.jsonl")
        kept = target.with_name(target.name + ".state.json")
        state = None if self.fresh else _read_state(kept)
        before = {} if state is None else dict(state.pop("spent", {}))
        if state is not None and not self.json:
            err.print(f"going on with the search that {kept.name} holds", style="dim", highlight=False)
        with Keeper(kept, parts.count, quiet=self.json) as keeper:
            budget = Budget(parts.limits, Counter(before))  # limits are of the whole search, interruptions included
            result = parts.run(budget, self.seed, state, keeper)
        spent = {name: float(amount) for name, amount in budget.spent.items()}
        _write_rows(target, result, parts.ids)
        if result.stopped is None:
            kept.unlink(missing_ok=True)
        elif result.state is not None:
            _write_state(kept, result.state, spent)
        self._show(result, spent, target, parts)
        return 0 if result.stopped is None else 1

    def _show(self, result: SearchResult, spent: dict[str, float], target: Path, parts: SearchParts) -> None:
        summary = _summary(result, spent)
        if parts.truth is not None:
            summary["truth"] = parts.measured(result)
        if self.json:
            out.file.write(dump({"out": str(target), **summary}) + "\n")
            return
        from rich.table import Table

        table = Table(title=f"{summary['found']:,} of {summary['prompts']:,} prompts answered", show_header=False)
        table.add_column(style="bold")
        table.add_column()
        if summary["mean"] is not None:
            table.add_row("mean score", f"{summary['mean']:.4g}")
        if summary.get("truth") is not None:
            table.add_row("truth", f"{summary['truth']['mean']:.4g}  (n = {summary['truth']['n']})")
        for name, amount in sorted(spent.items()):
            table.add_row(name.replace("_", " "), f"{amount:,.10g}  [dim]{amount / summary['prompts']:,.4g} a prompt[/dim]")
        for name, count in summary["candidates"].items():
            table.add_row(f"candidates {name.replace('_', ' ')}", f"{count:,}")
        out.print(table)
        if result.stopped is not None:
            again = "Run the same command again to go on (with a larger budget, if it was that)."
            err.print(f"stopped: {result.stopped}. {again}", style="yellow", highlight=False, markup=False, soft_wrap=True)
        out.print(str(target), highlight=False, markup=False, soft_wrap=True)


class Keeper:
    """Tells how far a search is, and keeps its state now and then, so that an interrupted one goes on."""

    def __init__(self, path: Path, prompts: int, *, quiet: bool) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[made]}"))
        self.path = path
        self._bar = Progress(*columns, TimeElapsedColumn(), console=err, disable=quiet or not err.is_terminal, transient=True)
        self._task = self._bar.add_task("searching", total=prompts, made="")
        self._written = time.monotonic()

    def __enter__(self) -> Keeper:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, work: Work) -> None:
        """Something was drawn or judged."""
        judged = {one.prompt for one in work.candidates if one.judged}
        self._bar.update(self._task, completed=len(judged), made=f"{len(work.candidates):,} samples")
        if time.monotonic() - self._written > STATE_EVERY:
            self._written = time.monotonic()
            _write_state(self.path, work.state(), {name: float(amount) for name, amount in work.budget.spent.items()})


def _read_state(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}; remove it, or begin anew with --fresh") from error
    if not isinstance(state, dict):
        raise UserError(f"{path} holds no state of a search; remove it, or begin anew with --fresh")
    return state


def _write_state(path: Path, state: dict[str, Any], spent: dict[str, float]) -> None:
    with suppress(TypeError), atomic(path) as file:  # responses that are no JSON cannot be kept
        file.write(dump({**state, "spent": spent}))


def _write_rows(path: Path, result: SearchResult, ids: list[str]) -> None:
    """One line a prompt: what was chosen, and every sample with its score."""
    samples: dict[int, list[dict[str, Any]]] = {}
    for record in result.history:
        samples.setdefault(int(record["prompt"]), []).append({name: one for name, one in record.items() if name != "prompt"})
    with atomic(path) as file:
        for row in range(len(result.batch)):
            status = Status(int(result.scores.status[row]))
            value = float(result.scores.values[row]) if status == Status.OK else None
            response = (result.batch.responses or [None] * len(result.batch))[row]
            line = {"id": ids[row], "prompt": result.batch.prompts[row], "response": response if value is not None else None}
            file.write(dump({**line, "value": value, "status": status.label, "samples": samples.get(row, [])}) + "\n")


def _summary(result: SearchResult, spent: dict[str, float]) -> dict[str, Any]:
    ok = result.scores.ok
    counts: dict[str, int] = {}
    for record in result.history:
        counts[record["status"]] = counts.get(record["status"], 0) + 1
    return {
        "prompts": len(result.batch),
        "found": int(ok.sum()),
        "mean": float(result.scores.values[ok].mean()) if bool(ok.any()) else None,
        "spent": spent,
        "candidates": dict(sorted(counts.items())),
        "stopped": result.stopped,
    }
