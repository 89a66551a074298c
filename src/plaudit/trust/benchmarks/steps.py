"""Step by step: the first error of a chain (BIG-Bench Mistake, as ProcessBench), and rated steps (PRM800K).

A reward judges every prefix of the steps: a row's responses are the prefixes, so that what they share is computed once. The
value of a prefix is read as the value of its last step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from plaudit.data import Row
from plaudit.judging.results import RowResult
from plaudit.trust.agreement import cluster_of
from plaudit.trust.benchmarks.cases import Case, Evidence, Item, Parts, by_section, composite, constant_rivals, share
from plaudit.trust.benchmarks.cases import Reading as CaseReading
from plaudit.trust.benchmarks.chance import expected_harmonic_mean, expected_macro_f1
from plaudit.trust.benchmarks.classes import class_items, macro_f1
from plaudit.trust.benchmarks.loading import Reading, Source, read_layout
from plaudit.trust.benchmarks.ranks import Scored, ScoredOf, auc, curve_figure
from plaudit.trust.benchmarks.spec import Benchmark
from plaudit.trust.figures import Figure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def build_prefixes(benchmark: Benchmark, source: Source, reading: Reading, seed: int) -> list[Row]:
    """Rows whose responses are the prefixes of their steps, joined by rules.join (default: a line break).

    gold: for a first error (extras `mistake_index`) 1 for the prefixes before it; for ratings (extras `step_ratings`) 1 where the
    last step is rated 1.
    """
    join = str(benchmark.rules.get("join", "\n"))
    return [prefixes(row, join) for row in read_layout(benchmark, source, reading, seed)]


def prefixes(row: Row, join: str) -> Row:
    """The row with every prefix of its steps as a response."""
    steps = row.extras["steps"]
    if "step_ratings" in row.extras:
        gold = tuple(float(rating == 1) for rating in row.extras["step_ratings"])
    else:
        mistake = row.extras["mistake_index"]
        gold = tuple(float(mistake is None or place < mistake) for place in range(len(steps)))
    texts = tuple(join.join(steps[: place + 1]) for place in range(len(steps)))
    references = None if row.references is None else row.references[:1] * len(texts)
    return replace(row, responses=texts, gold=gold, references=references, extras={})


def first_wrong(gold: Sequence[float]) -> int | None:
    """Index of the first step that is not right; None: all are."""
    return next((place for place, value in enumerate(gold) if value < 1), None)


def predicted_error(result: RowResult, threshold: float) -> tuple[int | None, bool, str]:
    """(first prefix whose value is at most the threshold, or None; whether that is known; why not).

    A prefix without a value before any such prefix leaves the answer open.
    """
    if not result.responses:
        return None, False, "not scored"
    for place, one in enumerate(result.responses):
        if one.value is None:
            return None, False, one.status.label
        if one.value <= threshold:
            return place, True, ""
    return None, True, ""


def first_error(benchmark: Benchmark, results: Sequence[RowResult]) -> Parts:
    """Where is the first mistake? accuracy: of the index, "no mistake" being an answer of its own. F1: the harmonic mean of the
    accuracy on rows with a mistake and on rows without one, 0 where both are 0.

    The prediction is the first prefix with a value of at most rules.threshold (0.5). official leaves out rows where a value is
    missing before it. random: each of the steps, and "no mistake", equally likely.
    """
    threshold = float(benchmark.rules.get("threshold", 0.5))
    evidence = Evidence(benchmark, results, constant_rivals)

    def right(result: RowResult) -> Iterator[Case]:
        gold = result.row.gold or ()
        said, known, reason = predicted_error(result, threshold)
        credit = float(said == first_wrong(gold)) if known else None
        yield Case(result.row.id, cluster_of(result.row), credit, reason, 1 / (1 + len(gold)))

    def items(results: Sequence[RowResult], reading: CaseReading) -> Iterator[Item]:
        for result in results:
            for case in right(result):
                credit = case.under(reading)
                flawed = first_wrong(result.row.gold or ()) is not None
                vector = None if credit is None else [credit, 1.0, 0.0, 0.0] if flawed else [0.0, 0.0, credit, 1.0]
                yield case.cluster, vector, case.reason

    def figures(part: Evidence) -> list[Figure]:
        flawed = part.where(lambda result: first_wrong(result.row.gold or ()) is not None)
        sound = part.where(lambda result: first_wrong(result.row.gold or ()) is None)
        chances = [[1 / (1 + len(one.row.responses)) for one in rows.results] for rows in (flawed, sound)]
        found = [
            share("accuracy", part, right),
            composite("F1", part, items, harmonic_mean, random=expected_harmonic_mean(*chances)),
        ]
        named = (("accuracy with a mistake", flawed), ("accuracy without a mistake", sound))
        return [*found, *(share(name, rows, right) for name, rows in named if rows.results)]

    return by_section(evidence, figures, right)


def harmonic_mean(sums: Floats) -> Floats:
    """[R, 4] (credit, rows) with and without a mistake -> [R] 2 a b / (a + b); NaN where either kind is absent."""
    import numpy as np

    a, b = sums[:, 0] / np.maximum(sums[:, 1], 1.0), sums[:, 2] / np.maximum(sums[:, 3], 1.0)
    both = np.where(a + b > 0, 2 * a * b / np.where(a + b > 0, a + b, 1.0), 0.0)
    return np.where((sums[:, 1] > 0) & (sums[:, 3] > 0), both, np.nan)


def first_error_scores(predicted: Sequence[int | None], gold: Sequence[int]) -> dict[str, float]:
    """Of the index of the first error (-1: none): `flawed`, the share of flawed solutions with exactly that index, `sound`, the
    share of right ones without a false alarm, and `F1`, their harmonic mean, 0 where both are 0 (ProcessBench, arXiv 2412.06559).

    predicted: None where it could not be told, which is wrong. Shares of nothing are NaN, and F1 then too. The benchmark
    `first_error` gives the same with intervals; this is for indices that are there already.
    Raises ValueError where the two differ in length.
    """
    import numpy as np

    hits = [float(said == true) for said, true in zip(predicted, gold, strict=True)]
    flawed = [hit for hit, true in zip(hits, gold, strict=True) if true >= 0]
    sound = [hit for hit, true in zip(hits, gold, strict=True) if true < 0]
    f1 = harmonic_mean(np.array([[sum(flawed), len(flawed), sum(sound), len(sound)]], dtype=np.float64))
    shares = {name: sum(part) / len(part) if part else float("nan") for name, part in (("flawed", flawed), ("sound", sound))}
    return {**shares, "F1": float(f1[0])}


def balanced_accuracy(said: Sequence[bool], truth: Sequence[bool]) -> float:
    """Mean of the shares of right steps called right and of wrong ones called wrong; NaN where either kind is absent.

    Raises ValueError where the two differ in length.
    """
    hits: dict[bool, list[bool]] = {True: [], False: []}
    for one, true in zip(said, truth, strict=True):
        hits[bool(true)].append(bool(one) == bool(true))
    shares = [sum(part) / len(part) if part else float("nan") for part in hits.values()]
    return sum(shares) / 2


def rated_steps(benchmark: Benchmark, results: Sequence[RowResult]) -> Parts:
    """Which steps, and which solutions, are not good throughout? Macro F1 over good and not good, and AUC, at both levels.

    A step is called good where its prefix has a value above rules.threshold (0.5); a solution has the lowest value of its steps,
    and is good where all of them are rated so. official leaves out what has no value. random: good or not by a coin.
    """
    threshold = float(benchmark.rules.get("threshold", 0.5))
    evidence = Evidence(benchmark, results, constant_rivals)

    def right(result: RowResult) -> Iterator[Case]:
        for case in of_steps(result):
            credit = None if case.value is None else float((case.value > threshold) == case.label)
            yield Case(result.row.id, case.cluster, credit, case.reason)

    def figures(part: Evidence) -> list[Figure]:
        found = [share("step accuracy", part, right)]
        for level, scored in (("step", of_steps), ("solution", of_solutions)):
            labels = [case.label for result in part.results for case in scored(result)]
            random = expected_macro_f1([labels.count(True), labels.count(False)])
            said = partial(_verdicts, scored=scored, threshold=threshold)
            items = partial(class_items, verdicts_of=said, classes=(1.0, 0.0))
            found.append(composite(f"{level} macro F1", part, items, macro_f1, random=random))
            found.append(curve_figure(f"{level} AUC", Evidence(part.benchmark, part.results), scored, auc, random=0.5))
        return found

    return by_section(evidence, figures, right)


def of_steps(result: RowResult) -> list[Scored]:
    """Each step with the value of its prefix."""
    cluster, found = cluster_of(result.row), []
    for place, label in enumerate(result.row.gold or ()):
        value = result.responses[place].value if result.responses else None
        reason = result.responses[place].status.label if result.responses else "not scored"
        found.append(Scored(cluster, label == 1, value, "" if value is not None else reason))
    return found


def of_solutions(result: RowResult) -> list[Scored]:
    """The solution with the lowest value of its steps; none where a step has none."""
    steps = of_steps(result)
    values = [step.value for step in steps if step.value is not None]
    missing = next((step.reason for step in steps if step.value is None), "")
    label = all(step.label for step in steps)
    return [Scored(cluster_of(result.row), label, min(values) if len(values) == len(steps) else None, missing)]


def _verdicts(result: RowResult, scored: ScoredOf, threshold: float) -> Iterator[tuple[float, float | None, str]]:
    for case in scored(result):
        yield float(case.label), None if case.value is None else float(case.value > threshold), case.reason
