"""From verifiable reasoning to verifiable judging (V2V): solvers' answers with known labels become items to judge.

Libra (arXiv 2507.21645): questions with gold answers, many answers of solvers of differing strength, a label by rule (a checker
where the rule does not know), only the final part of each answer, and as many right as wrong ones per question and solver, so
that "always correct" scores one half. The same builder makes training items; `decontaminated` keeps them apart from a test.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from plaudit.curation.leakage import LeakageReport, find_leaks
from plaudit.curation.traces import Writer
from plaudit.data.row import Row
from plaudit.fitting.seeds import derive_seed
from plaudit.types import Batch, Context, Preferences, Prompt, Reward, Scores

if TYPE_CHECKING:
    from torch import Tensor

Balance = Literal["question x generator", "question"]
FinalPart = Callable[[str], str | None]
"""The part of an answer that is judged, its thinking left out; None: there is none, the answer is malformed."""


@dataclass(frozen=True)
class JudgingItem:
    """Is this response right? label: 1 right, 0 wrong. generator: who wrote it. subset: part of the benchmark."""

    question_id: str
    prompt: Prompt
    response: str
    label: int
    generator: str
    subset: str = ""


@dataclass(frozen=True)
class ItemReport:
    """What became of the answers.

    questions, answers: there were. items: made of them. truncated, malformed (no final part), unlabelled (neither rule nor
    checker knew), repeated (the same final part of the same solver again), surplus (left out by the balance): no items.
    checked: labelled by the checker, where the rule did not know. one_class: questions without both labels.
    """

    questions: int = 0
    answers: int = 0
    items: int = 0
    truncated: int = 0
    malformed: int = 0
    unlabelled: int = 0
    repeated: int = 0
    surplus: int = 0
    checked: int = 0
    one_class: int = 0

    def to_json(self) -> dict[str, Any]:
        """Every field by name."""
        return asdict(self)


@dataclass
class V2V:
    """verifier: a rule that scores an answer against the question's reference, above `threshold` right. checker: another reward,
    asked where the rule has no number. final_part: what of an answer is shown to judges. distinct: equal final parts of a
    question and solver are one answer."""

    verifier: Reward
    checker: Reward | None = None
    final_part: FinalPart = field(default=lambda text: text.strip() or None)
    threshold: float = 0.5
    distinct: bool = True

    def build(
        self,
        questions: Batch,
        solvers: Mapping[str, Writer],
        n: int = 64,
        balance: Balance = "question x generator",
        *,
        per_cell: int | None = None,
        subsets: Sequence[str] | None = None,
        seed: int = 0,
        ctx: Context | None = None,
    ) -> tuple[list[JudgingItem], ItemReport]:
        """n answers of every solver to every question, labelled and balanced.

        solvers: by name (`curation.traces.written_by`). balance: equally many right and wrong of each question and solver, or
        of each question. per_cell: the most of either label in such a cell. subsets: a name a question. Questions are known
        by `ids`, else by their row number. Raises ValueError for another balance or n below 1.
        """
        if balance not in ("question x generator", "question") or n < 1:
            raise ValueError(f"expected balance 'question x generator' or 'question' and n >= 1, not '{balance}' and {n}")
        names = questions.ids or [str(row) for row in range(len(questions))]
        count: Counter[str] = Counter()
        found: list[tuple[int, JudgingItem]] = []
        for solver, write in solvers.items():
            answers = write(questions, n, derive_seed(seed, "solver", solver))
            for place, text, label in self._labelled(answers, count, ctx):
                row = place // n
                subset = "" if subsets is None else subsets[row]
                found.append((row, JudgingItem(names[row], questions.prompts[row], text, label, solver, subset)))
        items, one_class = _balanced(found, len(questions), balance, per_cell, seed)
        fields = {name: count[name] for name in ("truncated", "malformed", "unlabelled", "repeated", "checked")}
        surplus = len(found) - len(items)
        return items, ItemReport(
            len(questions), len(questions) * n * len(solvers), len(items), surplus=surplus, one_class=one_class, **fields
        )

    def _labelled(self, answers: Batch, count: Counter[str], ctx: Context | None) -> list[tuple[int, str, int]]:
        """(row, final part, label) of the answers that can be items; the others are counted."""
        labels = self._labels(answers, count, ctx)
        finish = answers.finish or ["complete"] * len(answers)
        groups = [row for row, rows in enumerate(answers.group_rows()) for _ in rows]
        seen: set[tuple[int, str]] = set()
        found = []
        for row, response in enumerate(answers.require_responses()):
            final = self.final_part(str(response))
            label = labels[row]
            if finish[row] != "complete":
                count["truncated"] += 1
            elif final is None:
                count["malformed"] += 1
            elif label is None:
                count["unlabelled"] += 1
            elif self.distinct and (groups[row], final) in seen:
                count["repeated"] += 1
            else:
                seen.add((groups[row], final))
                found.append((row, final, label))
        return found

    def _labels(self, answers: Batch, count: Counter[str], ctx: Context | None) -> list[int | None]:
        scores = self.verifier.score(answers, ctx)
        labels = _labels_of(scores, self.threshold)
        unknown = [row for row, label in enumerate(labels) if label is None]
        if self.checker is not None and unknown:
            told = _labels_of(self.checker.score(answers.select(unknown), ctx), self.threshold)
            for row, label in zip(unknown, told, strict=True):
                labels[row] = label
                count["checked"] += label is not None
        return labels


def _labels_of(scores: Scores, threshold: float) -> list[int | None]:
    values, ok = scores.values.tolist(), scores.ok.tolist()
    return [int(value > threshold) if usable else None for value, usable in zip(values, ok, strict=True)]


def _balanced(
    found: Sequence[tuple[int, JudgingItem]], questions: int, balance: Balance, per_cell: int | None, seed: int
) -> tuple[list[JudgingItem], int]:
    """(items in the order of the questions, number of questions that lack a label)."""
    cells: dict[tuple[Any, ...], tuple[list[JudgingItem], list[JudgingItem]]] = {}
    labels: dict[int, set[int]] = {}
    for row, item in found:
        key: tuple[Any, ...] = (row, item.generator) if balance == "question x generator" else (row,)
        cells.setdefault(key, ([], []))[item.label].append(item)
        labels.setdefault(row, set()).add(item.label)
    items: list[JudgingItem] = []
    for key in sorted(cells, key=lambda key: (key[0], str(key[1:]))):
        wrong, right = cells[key]
        each = min(len(wrong), len(right), per_cell if per_cell is not None else len(wrong))
        draw = random.Random(derive_seed(seed, "balance", *key))
        for side in (right, wrong):
            items += [side[place] for place in sorted(draw.sample(range(len(side)), each))]
    return items, sum(len(labels.get(row, ())) < 2 for row in range(questions))


def items_to_batch(items: Sequence[JudgingItem]) -> tuple[Batch, list[float]]:
    """(prompts with the responses to judge, gold labels): what `judging_prompts` and `Reward.score` take."""
    batch = Batch(
        [item.prompt for item in items],
        [item.response for item in items],
        ids=[item.question_id for item in items],
        extras={"generator": [item.generator for item in items]},
    )
    return batch, [float(item.label) for item in items]


def items_to_rows(items: Sequence[JudgingItem]) -> list[Row]:
    """A row a question, with all its responses, gold labels, the writers as `extras["models"]` and the subset as section."""
    rows: dict[str, list[JudgingItem]] = {}
    for item in items:
        rows.setdefault(item.question_id, []).append(item)
    return [
        Row(
            name, group[0].prompt, tuple(item.response for item in group), gold=tuple(float(item.label) for item in group),
            section=group[0].subset or None, extras={"models": tuple(item.generator for item in group)},
        )
        for name, group in rows.items()
    ]  # fmt: skip


def decontaminated(
    items: Sequence[JudgingItem], test: Sequence[JudgingItem], *, near: float | None = 0.8
) -> tuple[list[JudgingItem], LeakageReport]:
    """The items whose question the test does not have, exactly or nearly (`leakage.find_leaks`), and what was found.

    near: least similarity of n-grams that counts, None: exact matches only.
    """
    kept, report = find_leaks(
        (replace(row, responses=("",), gold=None, extras={}) for row in items_to_rows(test)),
        [replace(row, responses=("",), gold=None, extras={}) for row in items_to_rows(items)],
        near=near,
    )
    names = {row.id for row in kept}
    return [item for item in items if item.question_id in names], report


def pairs_from_judge(
    samples: Batch, scores: Scores, hi: float = 0.5, lo: float = 0.5, *, per_group: int = 1, seed: int = 0
) -> tuple[Preferences, dict[str, float]]:
    """Preference pairs of unlabelled samples: the chosen one is judged above `hi`, the rejected one below `lo`.

    Groups of samples without both are skipped: a judge that says the same of all gives none. per_group: the most pairs of a
    group, no two with the same two samples; who is drawn follows from the seed. Returns edges over the batch's rows (the chosen
    one first) and counts: groups, groups_used, rows_invalid. Raises ValueError where lo > hi or per_group < 1.
    """
    import torch

    if lo > hi or per_group < 1:
        raise ValueError(f"expected lo <= hi and per_group >= 1, not {lo:g}, {hi:g} and {per_group}")
    values, ok = scores.values.tolist(), scores.ok.tolist()
    first: list[int] = []
    second: list[int] = []
    groups = samples.group_rows()
    used = 0
    for number, rows in enumerate(groups):
        high = [row for row in rows if ok[row] and values[row] > hi]
        low = [row for row in rows if ok[row] and values[row] < lo]
        every = [(one, other) for one in high for other in low]
        drawn = random.Random(derive_seed(seed, "judged pairs", number)).sample(every, min(per_group, len(every)))
        first += [one for one, _ in drawn]
        second += [other for _, other in drawn]
        used += bool(drawn)
    counts = {"groups": float(len(groups)), "groups_used": float(used), "rows_invalid": float(ok.count(False))}
    return Preferences(_rows(first), _rows(second), torch.ones(len(first))), counts


def _rows(numbers: Sequence[int]) -> Tensor:
    import torch

    return torch.tensor(numbers, dtype=torch.int64)
