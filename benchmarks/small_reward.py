"""Fits the small rewards that come with the package, and says how well they judge beside length and the embedded judge.

    python -m benchmarks.small_reward --data ../shared/data --assets src/plaudit/assets --json small_reward.json

They are fitted on sets with an MIT or Apache licence, on four fifths of their prompts: one reward on all of them, one on those
whose labels say what is more helpful, one on those that say what is less harmful, since the two contradict each other. Held-out
prompts of the sets, and sets that were never seen, are judged by all. Texts of tests that training has, exactly or nearly, are
left out and counted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from plaudit.curation.factory import split_prompts
from plaudit.curation.leakage import find_leaks
from plaudit.data import Row, read_rows
from plaudit.judging.easy import judge
from plaudit.judging.results import RowResult
from plaudit.rewards.base import BaseReward
from plaudit.rewards.catalogue import Resolver
from plaudit.store import Store
from plaudit.trust.agreement import Measured, accuracy, baseline_results
from plaudit.trust.compare import Comparison, Side, cases_of, compare

FITTED = {
    "hh_rlhf helpful": "hh_rlhf/helpful_base_test.jsonl.gz",
    "hh_rlhf harmless": "hh_rlhf/harmless_base_test.jsonl.gz",
    "pandalm": "pandalm/testset_v1.jsonl.gz",
}
REWARDS = {
    "plaudit-small": tuple(FITTED),
    "plaudit-small-helpful": ("hh_rlhf helpful", "pandalm"),
    "plaudit-small-harmless": ("hh_rlhf harmless",),
}
"""Each reward, and the sets that it is fitted on."""
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
    assets: Path | None = None
    """Folder for the folders of the rewards; nothing is written without it."""
    rewards: tuple[str, ...] = tuple(REWARDS)
    """Which of them."""
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
    """Rows that the embedded judge, which is slow, reads of each set in `judge_sets`, and all of hh_rlhf's. 0: none."""
    judge_sets: tuple[str, ...] = ("pandalm", *NEVER_SEEN)
    """What it reads, besides hh_rlhf."""
    most_rows: int = 300
    """Rows of each set that are judged at most."""
    store: Path | None = None
    """Where the embedded judge's verdicts are kept, so that a second run does not ask again."""
    json: Path | None = None


def rows_of(data: Path, pattern: str) -> list[Row]:
    """Labelled rows of one or more files."""
    paths = sorted(data.glob(pattern))
    if not paths:
        raise FileNotFoundError(f"{data / pattern}: no such data")
    return [row for path in paths for row in read_rows(str(path)) if row.gold is not None]


def fitted(options: Options, name: str, train: Sequence[Row]) -> Any:
    """The reward, fitted on rows, and its report."""
    from plaudit.fitting import FitConfig
    from plaudit.rewards.learned.backbones import TextBackbone
    from plaudit.rewards.learned.fit import RewardFitConfig, fit
    from plaudit.rewards.learned.heads import BradleyTerryReward
    from plaudit.rewards.learned.labels import labelled_rows

    backbone = TextBackbone("smollm2", layers=options.layers, pooling=options.pooling, precision=options.precision)  # type: ignore[arg-type]
    reward = BradleyTerryReward(backbone, hidden=(options.hidden,), dropout=options.dropout)
    reward.name = name
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


def judged(rows: Sequence[Row], reward: BaseReward, store: Store | None = None) -> list[RowResult]:
    """Results in the order of the rows."""
    return judge(list(rows), reward, store=store).results


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
    rows: list[Row], leaked: int, reward: BaseReward, whole: BaseReward, others: dict[str, list[RowResult]]
) -> Measurement:
    """Accuracy of the reward and of the others, and of the reward minus each of them on the rows that both judged."""
    results = judged(rows, reward)
    place = {(result.row.source, result.row.number): number for number, result in enumerate(results)}
    differences = {
        name: difference(found, [results[place[one.row.source, one.row.number]] for one in found])
        for name, found in others.items()
    }
    again = judged(rows[:5], whole)
    apart = max(abs(a - b) for x, y in zip(results, again, strict=False) for a, b in zip(x.values, y.values, strict=True))  # type: ignore[operator]
    accuracies = {name: accuracy(found) for name, found in {"reward": results, **others}.items()}
    return Measurement(len(rows), leaked, accuracies, differences, apart)


def difference(first: Sequence[RowResult], second: Sequence[RowResult]) -> Comparison:
    """Paired over the same rows, intervals clustered by prompt."""
    sides = [Side(name, "rows", name, {"rows": cases_of(found)}) for name, found in (("first", first), ("second", second))]
    return compare(*sides).sets[0]


class Others:
    """What is compared with: the longest response, and the embedded judge on some rows of each set, asked once."""

    def __init__(self, options: Options) -> None:
        from plaudit.engines.catalogue import DEFAULT, open_engine

        self.options = options
        self.store = None if options.store is None else Store(str(options.store))
        self.judge = Resolver(lambda: open_engine(DEFAULT, None)).resolve("yes-token") if options.judge_rows else None

    def results(self, name: str, rows: Sequence[Row]) -> dict[str, list[RowResult]]:
        """By judge; the embedded judge reads all held-out conversations, and `judge_rows` of the other sets."""
        found = {"longest": baseline_results(rows)["longest"]}
        of = name.partition(",")[0]
        if self.judge is not None and (of in self.options.judge_sets or of.startswith("hh_rlhf")):
            few = self.options.most_rows if of.startswith("hh_rlhf") else self.options.judge_rows
            # spread over the set, whose parts stand one after the other
            found["embedded judge"] = judged(rows[:: -(-len(rows) // few)], self.judge, self.store)
        return found


def main(options: Options) -> None:
    """Fit, write and measure."""
    console, others = Console(width=160), Others(options)
    parts = {name: split_prompts(rows_of(options.data, pattern))[:2] for name, pattern in FITTED.items()}
    unseen = {f"{name}, never seen": rows_of(options.data, pattern) for name, pattern in NEVER_SEEN.items()}
    content: dict[str, Any] = {}
    for name in options.rewards:
        train = [row for of in REWARDS[name] for row in parts[of][0]]
        tests = {f"{of}, held-out prompts": parts[of][1] for of in REWARDS[name]} | unseen
        reward, report = fitted(options, name, train)
        whole = in_full_precision(reward)
        said: dict[str, Measurement] = {}
        for test, rows in tests.items():
            clean, leaks = find_leaks(train, rows)
            clean = clean[: options.most_rows]
            found = said[test] = measured(clean, len(leaks.leaked), reward, whole, others.results(test, clean))
            told = [f"{judge} {words(one)}" for judge, one in found.accuracies.items()]
            gaps = [f"minus {judge} {words(one.difference.measured)}" for judge, one in found.differences.items()]
            console.print(
                f"{name} on {test}, {found.rows} rows, {found.leaked} left out:", "; ".join(told + gaps), highlight=False
            )
        content[name] = {"fitted": report.to_json(), "sets": {test: found.to_json() for test, found in said.items()}}
        if options.assets is not None:
            from plaudit.rewards.learned.report import model_card

            card = model_card(whole, report) + worth(REWARDS[name], content[name]["sets"])
            whole.save(options.assets / name, texts={"README.md": card})
        if options.json is not None:
            options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def worth(fitted_on: Sequence[str], sets: dict[str, Any]) -> str:
    """What the model card says of it, from the sets as they stand in the JSON."""
    lines = [
        "",
        "## What it is worth",
        "",
        f"Fitted on {', '.join(fitted_on)} (MIT and Apache licences), four fifths of the prompts; texts that training has are",
        "left out of the tests. Per cent of pairs ordered as labelled, 95 % intervals over prompts; chance is 50. The",
        "embedded judge reads some rows of a set only, spread over it; the last column is the difference on these.",
        "",
        "| set | rows | this reward | longest response | embedded judge | minus the judge |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in sets.items():
        told = [cell(found["accuracy"].get(judge)) for judge in ("reward", "longest", "embedded judge")]
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
