"""`plaudit demo`: judge plaudit's own file of answers with three kinds of reward, and write a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path

from rich.table import Table

from plaudit.cli.common import Engine, EngineArguments, err, open_store, out
from plaudit.cli.tables import percent
from plaudit.data import Row, read_rows
from plaudit.judging import RowResult, Runner, Summary
from plaudit.rewards.base import BaseReward
from plaudit.rewards.generative import Judge
from plaudit.types import Context, Sampling, Status

RATIONALES = 4
"""Disagreements that the judge is asked to explain; two responses each."""
RATIONALE_TOKENS = 96


@dataclass
class Demo:
    """Judge 40 and more prompts with the embedded judge, rules and a composition; pick the best answers; write a report."""

    engine: Engine = field(default_factory=EngineArguments)
    report: Path = Path("report.html")
    """Where the report goes."""
    store: str | None = None
    """Where verdicts are kept: a path, a database URL, or none."""
    limit: int | None = None
    """Only the first N prompts."""
    seed: int = 0
    """The only source of randomness."""

    def run(self) -> int:
        """0; errors raise."""
        from plaudit.trust.report import write_report

        with as_file(files("plaudit") / "assets" / "demo.jsonl") as path:
            rows = list(read_rows(path, limit=self.limit))
        rewards = self._rewards()
        results = {reward.name: self._judge(reward, rows) for reward in rewards}
        self._print(results)
        write_report(
            self.report,
            "plaudit demo: what are these rewards worth?",
            rows,
            results,
            rationales=self._rationales(rows, results),
            facts={"engine": self.engine.engine, "seed": str(self.seed)},
        )
        out.print(f"\nreport: {self.report}", highlight=False)
        return 0

    def _rewards(self) -> list[BaseReward]:
        """A pointwise and a pairwise judge on the engine, a learned reward, two rules, and a composition of judge and rule."""
        resolver = self.engine.resolver()
        blend = resolver.resolve("{sum: {helpful: {weight: 0.8, reward: yes-token}, brevity: {weight: 0.2, reward: brevity}}}")
        blend.name = "0.8 yes-token + 0.2 brevity"
        return [*(resolver.resolve(name) for name in ("yes-token", "verdict", "plaudit-small", "brevity", "math")), blend]

    def _judge(self, reward: BaseReward, rows: Sequence[Row]) -> list[RowResult]:
        # one pair a prompt keeps the pairwise judge, the dearest of all, within a minute on two cores
        runner = Runner(reward, open_store(self.store), Context(seed=self.seed), pairs="extremes")
        with err.status(f"judging with {reward.name}") as status:
            results = []
            for result in runner.run(rows):
                results.append(result)
                status.update(f"judging with {reward.name}: {len(results)} of {len(rows)} prompts")
        return results

    @staticmethod
    def _print(results: dict[str, list[RowResult]]) -> None:
        table = Table(title="how often the better answer wins", title_justify="left")
        for column in ("reward", "accuracy on labelled pairs (chance 50 %)", "order consistency", "no number"):
            table.add_column(column)
        for name, judged in results.items():
            summary = Summary()
            for result in judged:
                summary.add(result)
            order = summary.order_agrees.estimate()
            shown = "[dim]no order[/dim]" if order is None else percent(order)
            table.add_row(
                name, percent(summary.labelled.accuracy.estimate()), shown, f"{summary.invalid:,} of {summary.judged:,}"
            )
        out.print(table)

    def _rationales(self, rows: Sequence[Row], results: dict[str, list[RowResult]]) -> dict[tuple[str, int], str]:
        """What the judge says, in words, about the responses on which the rewards disagree most."""
        from plaudit.trust.report_cards import disputed_responses

        disputed = disputed_responses(rows, results, limit=RATIONALES)
        asked = [Row(f"{row.id}#{place}", row.prompt, (row.responses[place],)) for row, place in disputed]
        judge = Judge(self.engine.resolver().engine, "reason-then-verdict", sampling=Sampling(max_tokens=RATIONALE_TOKENS))
        judged = self._judge(judge, asked)
        rationales = {}
        for (row, place), result in zip(disputed, judged, strict=False):
            response = result.responses[0]
            said = next((verdict.text for verdict in response.verdicts if verdict.text), None)
            if said:
                rationales[(row.id, place)] = said if response.status == Status.OK else f"{said}\n({response.status.label})"
        return rationales
