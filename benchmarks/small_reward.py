"""Fits the small reward that comes with the package, and says how well it judges beside length and the embedded judge.

    python -m benchmarks.small_reward --data ../shared/data --out src/plaudit/assets/plaudit-small --json small_reward.json

It is fitted on sets with an MIT or Apache licence, on four fifths of their prompts. Held-out prompts of these sets, and sets
that it never saw, are judged by all three. Texts of tests that training has, exactly or nearly, are left out and counted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from plaudit.curation.factory import split_prompts
from plaudit.curation.leakage import find_leaks
from plaudit.data import Row, read_rows
from plaudit.judging.easy import judge
from plaudit.judging.results import RowResult
from plaudit.rewards.base import BaseReward
from plaudit.rewards.catalogue import Resolver
from plaudit.trust.agreement import Measured, accuracy, baseline_results
from plaudit.trust.compare import Comparison, Side, cases_of, compare

FITTED = {
    "hh_rlhf helpful": "hh_rlhf/helpful_base_test.jsonl.gz",
    "hh_rlhf harmless": "hh_rlhf/harmless_base_test.jsonl.gz",
    "pandalm": "pandalm/testset_v1.jsonl.gz",
}
NEVER_SEEN = {
    "llmbar natural": "llmbar/natural.jsonl",
    "llmbar adversarial": "llmbar/adversarial_*.jsonl",
    "hhh_alignment": "hhh_alignment",
    "auto_j": "auto_j_pairwise",
    "rm_bench chat": "rm_bench/chat.jsonl.gz",
    "rm_bench safety": "rm_bench/safety_re*.jsonl.gz",
    "judgebench": "judgebench",
}


@dataclass
class Options:
    """Settings of the fit, chosen on the validation part of what is fitted on."""

    data: Path = Path("../shared/data")
    out: Path | None = None
    """Folder for the reward; nothing is written without it."""
    layers: int = 16
    pooling: str = "mean"
    precision: str = "bfloat16"
    """Of the pass that computes features here; the reward that is written runs in full precision."""
    hidden: int = 128
    dropout: float = 0.5
    learning_rate: float = 3e-4
    weight_decay: float = 10.0
    epochs: int = 60
    judge_rows: int = 50
    """Rows of each set that the embedded judge reads, which is slow; all of hh_rlhf and hhh_alignment. 0: none."""
    most_rows: int = 300
    """Rows of each set that are judged at most."""
    json: Path | None = None


def rows_of(data: Path, pattern: str) -> list[Row]:
    """Labelled rows of one or more files."""
    paths = sorted(data.glob(pattern))
    if not paths:
        raise FileNotFoundError(f"{data / pattern}: no such data")
    return [row for path in paths for row in read_rows(str(path)) if row.gold is not None]


def fitted(options: Options, train: Sequence[Row], precision: str) -> Any:
    """The reward, fitted on rows, and its report."""
    from plaudit.fitting import FitConfig
    from plaudit.rewards.learned.backbones import TextBackbone
    from plaudit.rewards.learned.fit import RewardFitConfig, fit
    from plaudit.rewards.learned.heads import BradleyTerryReward
    from plaudit.rewards.learned.labels import labelled_rows

    backbone = TextBackbone("smollm2", layers=options.layers, pooling=options.pooling, precision=precision)  # type: ignore[arg-type]
    reward = BradleyTerryReward(backbone, hidden=(options.hidden,), dropout=options.dropout)
    reward.name = "plaudit-small"
    optimiser = FitConfig(learning_rate=options.learning_rate, weight_decay=options.weight_decay)
    config = RewardFitConfig(epochs=options.epochs, optimiser=optimiser, patience=8)
    return reward, fit(reward, labelled_rows(train, "pairs").data, config)


def in_full_precision(reward: Any) -> Any:
    """The same head on a backbone whose products are not reduced: what is written."""
    from plaudit.rewards.learned.heads import BradleyTerryReward

    settings = {**reward.settings, "backbone": {**reward.settings["backbone"], "precision": "full"}}
    whole = BradleyTerryReward(**settings)
    whole.load_state_dict(reward.state_dict())
    whole.name = reward.name
    return whole


def judged(rows: Sequence[Row], reward: BaseReward) -> list[RowResult]:
    """Results in the order of the rows."""
    return judge(list(rows), reward).results


@dataclass
class Measurement:
    """One set. leaked: rows left out because training has their texts. apart: largest difference between the scores of the
    reward as it is written and as it was fitted, on the first rows. differences: paired, in points."""

    rows: int
    leaked: int
    accuracies: dict[str, Measured]
    differences: dict[str, Comparison]
    apart: float

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        accuracies = {name: found.to_json() for name, found in self.accuracies.items()}
        differences = {name: found.to_json() for name, found in self.differences.items()}
        return {"rows": self.rows, "leaked": self.leaked, "accuracy": accuracies, "against": differences, "apart": self.apart}


def measured(
    rows: list[Row], leaked: int, reward: BaseReward, whole: BaseReward, zero_shot: BaseReward | None, few: int
) -> Measurement:
    """Accuracy of the judges, and of the reward minus each of them on the rows that both judged."""
    results = judged(rows, reward)
    others = {"longest": baseline_results(rows)["longest"]}
    if zero_shot is not None and few:
        others["embedded judge"] = judged(rows[:few], zero_shot)
    differences = {name: difference(found, results[: len(found)]) for name, found in others.items()}
    again = judged(rows[:5], whole)
    apart = max(abs(a - b) for x, y in zip(results, again, strict=False) for a, b in zip(x.values, y.values, strict=True))  # type: ignore[operator]
    accuracies = {name: accuracy(found) for name, found in {"plaudit-small": results, **others}.items()}
    return Measurement(len(rows), leaked, accuracies, differences, apart)


def difference(first: Sequence[RowResult], second: Sequence[RowResult]) -> Comparison:
    """Paired over the same rows, intervals clustered by prompt."""
    sides = [Side(name, "rows", name, {"rows": cases_of(found)}) for name, found in (("first", first), ("second", second))]
    return compare(*sides).sets[0]


def main(options: Options) -> None:
    """Fit, write and measure."""
    console = Console(width=160)
    train, tests = [], {}
    for name, pattern in FITTED.items():
        told, held, _ = split_prompts(rows_of(options.data, pattern))
        train += told
        tests[f"{name}, held-out prompts"] = held
    tests |= {f"{name}, never seen": rows_of(options.data, pattern) for name, pattern in NEVER_SEEN.items()}
    reward, report = fitted(options, train, options.precision)
    whole = in_full_precision(reward)
    from plaudit.engines.catalogue import DEFAULT, open_engine

    zero_shot = Resolver(lambda: open_engine(DEFAULT, None)).resolve("yes-token") if options.judge_rows else None
    said: dict[str, Measurement] = {}
    table = Table(
        "set", "rows", "left out", "plaudit-small", "longest", "embedded judge", "minus longest", "minus embedded judge"
    )
    for name, rows in tests.items():
        clean, leaks = find_leaks(train, rows)
        few = options.most_rows if name.startswith("hh") and options.judge_rows else options.judge_rows
        found = said[name] = measured(clean[: options.most_rows], len(leaks.leaked), reward, whole, zero_shot, few)
        accuracies = [words(found.accuracies.get(judge)) for judge in ("plaudit-small", "longest", "embedded judge")]
        gaps = [
            words(one.difference.measured) if one else "-" for one in map(found.differences.get, ("longest", "embedded judge"))
        ]
        table.add_row(name, str(found.rows), str(found.leaked), *accuracies, *gaps)
        console.print(name, *accuracies, *gaps, highlight=False)
    console.print(table)
    content = {"fitted": report.to_json(), "sets": {name: found.to_json() for name, found in said.items()}}
    if options.out is not None:
        from plaudit.rewards.learned.report import model_card

        whole.save(options.out, texts={"README.md": model_card(whole, report) + worth(content["sets"])})
    if options.json is not None:
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def worth(sets: dict[str, Any]) -> str:
    """What the model card says of it, from the sets as they stand in the JSON."""
    lines = [
        "",
        "## What it is worth",
        "",
        f"Fitted on {', '.join(FITTED)} (MIT and Apache licences), four fifths of the prompts; texts that training has are",
        "left out of the tests. Per cent of pairs ordered as labelled, 95 % intervals over prompts; chance is 50. The",
        "embedded judge reads the first rows of a set only; the last column is the difference on these.",
        "",
        "| set | rows | plaudit-small | longest response | embedded judge | minus the judge |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in sets.items():
        told = [cell(found["accuracy"].get(judge)) for judge in ("plaudit-small", "longest", "embedded judge")]
        gap = cell((found["against"].get("embedded judge") or {}).get("difference"))
        lines.append(f"| {name} | {found['rows']} | {' | '.join(told)} | {gap} |")
    return "\n".join(lines) + "\n"


def cell(found: dict[str, Any] | None) -> str:
    """`words` for a record of JSON."""
    estimate = (found or {}).get("estimate")
    return (
        "-" if estimate is None else f"{100 * estimate['mean']:.1f} [{100 * estimate['low']:.1f}, {100 * estimate['high']:.1f}]"
    )


def words(found: Measured | None) -> str:
    """Per cent with the 95 % interval."""
    if found is None or found.estimate is None:
        return "-"
    return f"{100 * found.estimate.mean:.1f} [{100 * found.estimate.low:.1f}, {100 * found.estimate.high:.1f}]"


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
