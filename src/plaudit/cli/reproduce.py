"""`plaudit reproduce`, `plaudit seeds` and `plaudit gallery`: published systems as recipes, and what of them shows here."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.markup import escape
from rich.table import Table

from plaudit.cli.common import err, notice, out
from plaudit.judging.output import atomic
from plaudit.recipes.base import Figures, Recipe
from plaudit.types import UserError

STYLES = {"holds": "green", "fails": "red", "invalid": "yellow", "recipe": "", "not yet": "dim"}
RESULTS = Path("results")


@dataclass
class Reproduce:
    """Run a published system's laptop check over its seeds, and say whether its claim holds, fails or cannot be told here."""

    recipe: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="NAME|NN|FILE.py")] = None
    """A card's number or name, or your own recipe: a Python file with a RECIPE."""
    all: bool = False
    """Run every recipe that there is."""
    list: bool = False
    """List the recipes."""
    preset: Literal["laptop", "paper"] = "laptop"
    """Sizes: what two cores can do in minutes, or those of the paper."""
    seeds: int | None = None
    """How many seeds (default: as many as the card asks for)."""
    out: Path = RESULTS
    """Folder for NN-name.json and its plot."""
    again: bool = False
    """Run every seed again. Otherwise finished seeds are taken from the cache while settings and code are the same."""
    recheck: int | None = None
    """Run one seed of so many recipes again, chosen by the date, and compare with the results in --out; nothing is written."""
    longest: float = 180.0
    """With --recheck: only recipes that took at most so many seconds a seed."""
    date: datetime.date | None = None
    """With --recheck: the date that chooses (default: today)."""
    json: bool = False
    """Print the result as JSON."""

    def run(self) -> int:
        """Exit code: 0 ran (also where a check fails), 1 a recipe of --all could not run, or one of --recheck does not agree."""
        from plaudit.recipes.catalogue import find_recipe, recipes

        if self.list:
            return _list(self.json)
        if self.recheck is not None:
            return self._recheck(self.recheck)
        if self.all == (self.recipe is not None):
            raise UserError("name one recipe, or give --all; `plaudit reproduce --list` shows what there is")
        if self.recipe is not None:
            self._show([self._one(find_recipe(self.recipe))])
            return 0
        records, failed = [], 0
        for recipe in recipes().values():
            try:
                records.append(self._one(recipe))
            except Exception as error:  # one recipe that breaks must not cost the others their run
                failed += 1
                err.print(f"{recipe.slug} could not run: {type(error).__name__}: {error}", style="red", markup=False)
                if os.environ.get("PLAUDIT_LOG"):
                    err.print_exception()
        self._show(records)
        return 1 if failed else 0

    def _one(self, recipe: Recipe) -> dict[str, Any]:
        """Run, write and show one recipe; its result."""
        from plaudit.recipes import results
        from plaudit.recipes.runner import reproduce

        count = len(recipe.configured(self.preset, self.seeds).seeds)
        results.guard(self.out, recipe.slug, self.preset, count)
        if not self.json:
            notice(f"{recipe.slug}: {count} seed{'s' if count > 1 else ''}")

        def on_seed(figures: Figures, kept: bool) -> None:
            if not self.json:
                notice(f"  seed {figures.seed}: {figures.seconds:.1f} s" + (", kept from an earlier run" if kept else ""))

        done = reproduce(recipe, preset=self.preset, seeds=self.seeds, again=self.again, on_seed=on_seed)
        path, plot = results.write_result(done, self.out)
        record = results.read_result(path)
        if not self.json:
            show_result(record)
            notice(f"written: {path} and {plot.name}")
        return record

    def _recheck(self, count: int) -> int:
        from plaudit.recipes.recheck import chosen, run_again
        from plaudit.recipes.results import read_results

        if self.recipe is not None or self.all or count < 1:
            raise UserError("--recheck wants a number of at least 1, and chooses the recipes itself")
        found = read_results(self.out)
        _say_unreadable(found.unreadable)
        picked = chosen(found, self.date or datetime.datetime.now(datetime.UTC).date(), count, self.longest)
        if not picked:
            raise UserError(f"{self.out} has no result of at most {self.longest:g} seconds a seed to run again")
        said = []
        for recipe in picked:
            said.append(again := run_again(recipe, found.records[recipe.slug]))
            if not self.json:
                agreed = f"{again.figures - len(again.outside)} of {again.figures} figures lie where the committed seeds lie"
                notice(f"{again.slug}, seed {again.seed}, {again.seconds:.0f} s: {agreed}")
                for name, (value, band) in again.outside.items():
                    shown = "missing" if value is None else f"{value:.4g}"
                    notice(f"  {name}: {shown}, expected {band.low:.4g} to {band.high:.4g}")
        if self.json:
            out.file.write(json.dumps([one.to_json() for one in said], indent=1, ensure_ascii=False) + "\n")
        return 0 if all(one.agrees for one in said) and not found.unreadable else 1

    def _show(self, records: Sequence[dict[str, Any]]) -> None:
        if self.json:
            out.file.write(json.dumps(records[0] if self.recipe is not None else records, indent=1, ensure_ascii=False) + "\n")


@dataclass
class Seeds:
    """List all published systems with their state: a verdict, a recipe that has not run, or not yet."""

    results: Path = RESULTS
    """The folder of results."""
    json: bool = False
    """Print as JSON."""

    def run(self) -> int:
        """Exit code: 0, or 1 where a result file cannot be read."""
        from plaudit.recipes.catalogue import cards
        from plaudit.recipes.gallery import state_of
        from plaudit.recipes.results import read_results

        found = read_results(self.results)
        states = [(card, state_of(card, found)) for card in cards()]
        if self.json:
            listed = [{"number": card.number, "name": card.name, "title": card.title, "state": state} for card, state in states]
            out.file.write(json.dumps(listed, indent=1, ensure_ascii=False) + "\n")
        else:
            table = Table(box=None, pad_edge=False)
            for column in ("card", "name", "state", "what it is"):
                table.add_column(column)
            for card, state in states:
                table.add_row(f"{card.number:02d}", card.name, f"[{STYLES[state] or 'default'}]{state}[/]", escape(card.title))
            out.print(table)
        _say_unreadable(found.unreadable)
        return 1 if found.unreadable else 0


@dataclass
class Gallery:
    """Write the gallery page from the results."""

    results: Path = RESULTS
    """The folder of results."""
    out: Path = Path("docs") / "gallery.md"
    """The page."""

    def run(self) -> int:
        """Exit code: 0, or 1 where a result file cannot be read."""
        from plaudit.recipes.gallery import gallery
        from plaudit.recipes.results import read_results

        found = read_results(self.results)
        link = Path(os.path.relpath(self.results, self.out.parent)).as_posix()
        with atomic(self.out) as file:
            file.write(gallery(found, link))
        notice(f"{self.out}: {len(found.records)} result{'s' if len(found.records) != 1 else ''}")
        _say_unreadable(found.unreadable)
        return 1 if found.unreadable else 0


def _say_unreadable(unreadable: dict[str, str]) -> None:
    for why in unreadable.values():
        err.print(why, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _list(as_json: bool) -> int:
    from plaudit.recipes.catalogue import recipes

    found = list(recipes().values())
    if as_json:
        listed = [{"card": one.card, "name": one.name, "title": one.title, "seeds": len(one.config().seeds)} for one in found]
        out.file.write(json.dumps(listed, indent=1, ensure_ascii=False) + "\n")
        return 0
    table = Table(box=None, pad_edge=False)
    for column in ("card", "name", "seeds", "what it is"):
        table.add_column(column)
    for one in found:
        table.add_row(f"{one.card:02d}", one.name, str(len(one.config().seeds)), escape(one.title))
    out.print(table)
    return 0


def show_result(record: dict[str, Any]) -> None:
    """Checks with their intervals, the paper's figures beside ours, notes, and the verdict last."""
    from plaudit.recipes.base import interval_words, outcome_words
    from plaudit.recipes.gallery import estimate_of, published_words

    table = Table(title=f"{record['name']}: checks", title_justify="left", box=None, pad_edge=False)
    for column in ("check", "what was compared", "ours (95 % over seeds)", "wanted", "outcome"):
        table.add_column(column, overflow="fold")
    for check in record["checks"]:
        met = "" if check["seeds_met"] is None else f", met in {check['seeds_met']} of {len(check['by_seed'])} {check['cases']}"
        said = f"[{STYLES[check['outcome']]}]{escape(outcome_words(check))}[/]"
        beside = [f"  {name} {interval_words(estimate_of(found))}" for name, found in check["figures"].items()]
        ours = "\n".join([interval_words(estimate_of(check["estimate"])), *beside])
        wanted = f"{check['relation']} {check['threshold']:g}{met}"
        table.add_row(escape(check["name"]), escape(check["compared"]), escape(ours), wanted, said)
    out.print(table)
    if record["paper"]["figures"]:
        paper = Table(title=f"The paper ({escape(record['paper']['source'])})", title_justify="left", box=None, pad_edge=False)
        for column in ("system", "figure", "paper", "ours, at this size"):
            paper.add_column(column, overflow="fold")
        for one in record["paper"]["figures"]:
            ours = "" if one["measured"] is None else interval_words(estimate_of(one["measured"]))
            paper.add_row(escape(one["system"]), escape(one["figure"]), published_words(one), escape(ours))
        out.print(paper)
    for note in record["notes"]:
        out.print(f"- {note}", markup=False, highlight=False)
    said = f"{record['name']}: [bold {STYLES[record['verdict']]}]{record['verdict']}[/]"
    out.print(f"{said} ({len(record['seeds'])} seeds, {record['seconds']:.0f} s, {record['preset']})", highlight=False)
