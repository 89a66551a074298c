"""`plaudit judge`: score a file of prompts and responses, and say what the reward is worth on it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from plaudit import __version__
from plaudit.cli.common import Engine, EngineArguments, err, notice, open_store, out
from plaudit.cli.judge_ray import RayArguments, judge_on_ray
from plaudit.cli.progress import Run, Watch
from plaudit.cli.tables import Reading, show_summary, show_votes
from plaudit.data import FieldMap, read_rows
from plaudit.judging import RowResult, Summary
from plaudit.judging.output import dump, writer
from plaudit.judging.voting import VoteRunner, at_temperature
from plaudit.rewards.base import BaseReward
from plaudit.types import Budget, Context, UserError

REPORT_ROWS = 5000


@dataclass
class FieldArguments:
    """Column names, where they are not recognised by themselves."""

    prompt_field: str | None = None
    response_field: str | None = None
    """One column, or several with commas."""
    responses_field: str | None = None
    """A column that holds a list of responses."""
    chosen_field: str | None = None
    rejected_field: str | None = None
    reference_field: str | None = None
    label_field: str | None = None
    id_field: str | None = None
    section_field: str | None = None

    def to_map(self) -> FieldMap | None:
        """The mapping, None where no column was named."""
        named = {name.removesuffix("_field"): column for name, column in vars(self).items() if column is not None}
        return FieldMap(**named) if named else None


@dataclass
class Judge:
    """Judge prompts and responses with a reward, and report what the reward is worth on them."""

    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """jsonl, csv, tsv or parquet (also .gz), a folder of a known data set, hub:OWNER/NAME, or - for jsonl on standard input."""
    reward: str = "yes-token"
    """A name from `plaudit rewards`, a model folder or OWNER/NAME, a .yaml composition or contract, or FILE.py:OBJECT."""
    engine: Engine = field(default_factory=EngineArguments)
    out: Path | None = None
    """Write every judged row to a .jsonl or .csv file (all or nothing); with --ray, to a folder of parts."""
    report: Path | None = None
    """Write a self-contained HTML report."""
    json: bool = False
    """Print the summary as JSON."""
    limit: int | None = None
    """Judge the first N rows only (of a folder: N rows spread over its files)."""
    seed: int = 0
    """The only source of randomness."""
    votes: int = 1
    """Judge everything so many times, with the seeds seed, seed + 1 ..., and count the votes; each is kept in the store."""
    combine: Literal["mean", "majority", "sum"] = "mean"
    """How votes are counted (docs/voting.md)."""
    temperature: float | None = None
    """Sampling temperature of a judge that writes, in place of its contract's; votes need one above 0."""
    skip_bad: bool = False
    """Leave out rows that cannot be read, and list them, instead of refusing the file."""
    pairs: Literal["labelled", "all", "extremes"] = "labelled"
    """Which pairs of a row a comparing reward judges: those with a label, all, or the best labelled against the worst."""
    store: str | None = None
    """Where verdicts are kept: a path, a database URL, or none. Default: $PLAUDIT_STORE or the cache folder; with --ray: none."""
    max_cost: float | None = None
    """Stop before the cost passes this (needs prices)."""
    dry_run: bool = False
    """Judge one batch, print the estimate for the whole file, and stop."""
    fields: Annotated[FieldArguments, tyro.conf.arg(name="")] = field(default_factory=FieldArguments)
    on_ray: Annotated[RayArguments, tyro.conf.arg(name="")] = field(default_factory=RayArguments)

    def run(self) -> int:
        """Exit code: 0 done, 1 nothing could be judged or the run stopped early."""
        if self.on_ray.ray is not None:
            return judge_on_ray(self)
        if self.on_ray != RayArguments():
            raise UserError("--workers, --part-rows and --worker-gpus go with --ray")
        reward = self.engine.resolver().resolve(self.reward)
        if self.temperature is not None:
            reward = at_temperature(reward, self.temperature)
        rows = read_rows(self.file, fields=self.fields.to_map(), limit=self.limit, skip_bad=self.skip_bad)
        total = rows.validate()
        limits = {} if self.max_cost is None else {"cost": self.max_cost}
        context = Context(seed=self.seed, budget=Budget(limits))
        runner = VoteRunner(reward, open_store(self.store), context, self.pairs, votes=self.votes, combine=self.combine)
        summary = Summary()
        kept: list[RowResult] = []
        with ExitStack() as stack:
            write = stack.enter_context(writer(self.out)) if self.out is not None and not self.dry_run else None
            watch = stack.enter_context(Watch(runner, total, quiet=self.json))
            for result in runner.run(rows):
                summary.add(result)
                if write is not None:
                    write(result)
                if self.report is not None or self.votes > 1:
                    kept.append(_keep(kept, result))
                watch.row_done()
                if self.dry_run and watch.batch_judged:
                    watch.announce()
                    break
        if self.report is not None:
            self._write_report(kept, reward)
        self.show(runner, rows, summary, watch.seconds, kept)
        return 0 if runner.progress.stopped is None and summary.invalid < max(1, summary.judged) else 1

    def show(self, runner: Run, rows: Reading, summary: Summary, seconds: float, kept: list[RowResult]) -> None:
        """Print what a run found, as a table or as JSON."""
        if self.json:
            document = self.document(runner, rows, summary)
            if self.votes > 1:
                document["votes"] = self._votes(runner, kept)
            out.file.write(dump(document) + "\n")
        else:
            show_summary(runner.reward.name, summary, rows)
            if self.votes > 1:
                show_votes(self._votes(runner, kept))
            spent = {name: amount for name, amount in runner.context.budget.spent.items() if amount}
            done = runner.progress
            costs = "".join(f", {amount:,.6g} {name.replace('_', ' ')}" for name, amount in sorted(spent.items()))
            notice(f"{seconds:.1f} s: {done.judged:,} judged now, {done.reused:,} from the store{costs}")
        if runner.progress.stopped is not None:
            why = runner.progress.stopped
            err.print(f"Stopped after {summary.rows:,} rows: {why}. Run the same command again to go on.", soft_wrap=True)

    def document(self, runner: Run, rows: Reading, summary: Summary) -> dict[str, Any]:
        """What `--json` prints. No times, paths or cache counts: equal runs give equal bytes."""
        return {
            "plaudit": __version__,
            "reward": {"name": runner.reward.name, "fingerprint": runner.reward.fingerprint()},
            "seed": self.seed,
            "layout": rows.layout,
            "complete": runner.progress.stopped is None,
            "skipped_rows": rows.skipped_count,
            "skipped": [{"row": error.row, "problem": error.problem, "expected": error.expected} for error in rows.skipped],
            "notes": dict(sorted(rows.notes.items())),
            "summary": summary.to_json(),
        }

    def _votes(self, runner: Run, kept: list[RowResult]) -> dict[str, Any]:
        """What the votes say, and what asking for them cost now (votes from the store cost nothing)."""
        from plaudit.trust.vote_section import votes_json

        spent = {name: amount for name, amount in sorted(runner.context.budget.spent.items()) if amount}
        return {**votes_json(kept, self.combine, runner.reward.native), "spent": spent}

    def _write_report(self, results: list[RowResult], reward: BaseReward) -> None:
        from plaudit.trust.report import write_report

        assert self.report is not None
        rows, name, facts = [result.row for result in results], reward.name, {"seed": str(self.seed)}
        if self.votes > 1:
            facts["votes"] = f"{self.votes}, counted by {self.combine}"
        ways = {name: (self.combine, reward.native)}
        write_report(self.report, f"{name} on {Path(self.file).name}", rows, {name: results}, facts=facts, ways=ways)
        notice(f"report: {self.report}")


def _keep(kept: list[RowResult], result: RowResult) -> RowResult:
    if len(kept) >= REPORT_ROWS:
        raise UserError(f"a report, or a curve of votes, holds at most {REPORT_ROWS:,} rows; use --limit")
    return result
