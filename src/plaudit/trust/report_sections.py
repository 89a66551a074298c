"""The report's sections: what was measured, said in words, drawn and tabled."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations

from plaudit.data.row import Row
from plaudit.judging.results import RowResult
from plaudit.trust import agreement
from plaudit.trust.agreement import Measured
from plaudit.trust.report_plots import Plot, distributions, forest, heat_map, order_points, order_scatter, table_of
from plaudit.trust.report_words import against, counts, listed, mean, number, percent, points, share

Results = Mapping[str, Sequence[RowResult]]
Picks = Mapping[str, Sequence[int | None]]
TABLE = ("reward", "share [95 %]", "cases", "left out")
GOLD_BEST, GOLD_OTHER, ALL = "best by the labels", "other responses", "all responses"
BETTER_WINS = "P(better beats worse)"


def accuracy_section(results: Results, baselines: Results) -> Plot:
    """How often the better response wins, next to rewards that judge nothing."""
    both = {**results, **{f"baseline: {name}": column for name, column in baselines.items()}}
    items = [(name, agreement.accuracy(column)) for name, column in both.items()]
    measured, trivial = items[: len(results)], items[len(results) :]
    known = [(name, found.estimate.mean) for name, found in trivial if found.estimate is not None]
    says = ["The rows have no labelled pairs, so accuracy is not measured."]
    if known:
        best, level = max(known, key=lambda item: item[1])
        best = best.removeprefix("baseline: ")
        says = [f"Chance is 50 %; the best trivial baseline, always taking the {best} response, reaches {percent(level)}."]
        for name, found in measured:
            where = f": {against(found, 0.5, 'chance')}, {against(found, level, 'the best baseline')}"
            says.append(
                f"{name} lets the better response win in {share(found)} of pairs{where}."
                if found.n
                else f"{name}: {share(found)}."
            )
    return Plot(
        "accuracy",
        "Accuracy against the labels",
        "How often does the reward prefer the response that the labels prefer? A tie counts half.",
        says,
        "Share of labelled pairs whose better response wins, per reward and baseline, with 95 % intervals and a line at chance.",
        forest(items, "better response wins", level=0.5, muted=[name for name, _ in trivial]) if known else None,
        TABLE,
        table_of(items) if known else (),
    )


def picks_section(rows: Sequence[Row], picks: Picks) -> Plot:
    """How often the picked response is the best one."""
    items = [(name, agreement.pick_accuracy(rows, column)) for name, column in picks.items()]
    chance = agreement.chance_pick(rows)
    says = ["The rows have no labels, so it is not known which picks are best."]
    if chance is not None:
        says = [f"Picking at random finds a best response in {percent(chance)} of rows."]
        for name, found in items:
            where = f"{share(found)} of rows: {against(found, chance, 'chance')}"
            says.append(f"{name} picks a best response in {where}." if found.n else f"{name}: {share(found)}.")
    return Plot(
        "picks",
        "Best-response picks",
        "If the reward chooses one response of each row, how often is it one that the labels hold for the best?",
        says,
        "Share of rows whose picked response is the best by the labels, per reward, with 95 % intervals and a line at chance.",
        forest(items, "pick is the best", level=chance) if chance is not None else None,
        TABLE,
        table_of(items) if chance is not None else (),
    )


def _grouped_values(name: str, column: Sequence[RowResult]) -> tuple[str, dict[str, list[float]]]:
    groups: dict[str, list[float]] = {}
    for result in column:
        best = agreement.best_by_gold(result.row)
        for place, value in enumerate(result.values):
            if value is not None:
                groups.setdefault(ALL if not best else GOLD_BEST if place in best else GOLD_OTHER, []).append(value)
        if not result.responses:
            for better, worse in agreement.contests(result.row):
                prob, _ = agreement.probability(result, better, worse)
                if prob is not None:
                    groups.setdefault(BETTER_WINS, []).append(prob)
    return name, {group: groups[group] for group in (GOLD_BEST, GOLD_OTHER, ALL, BETTER_WINS) if group in groups}


def distribution_section(results: Results) -> Plot:
    """The scores of each reward, split by what the labels say."""
    groups = [_grouped_values(name, column) for name, column in results.items()]
    says, cells = [], []
    for name, parts in groups:
        means = [f"{group} {number(math.fsum(values) / len(values))} (n={len(values):,})" for group, values in parts.items()]
        says.append(f"{name}: mean of {listed(means)}." if means else f"{name}: not measured.")
        cells += [
            [name, group, f"{len(values):,}", number(min(values)), number(math.fsum(values) / len(values)), number(max(values))]
            for group, values in parts.items()
        ]
    return Plot(
        "distributions",
        "Distributions of scores",
        "Does the reward give higher numbers to the best responses, and does it use its range?",
        says,
        "A histogram of scores per reward, the best responses by the labels next to the others.",
        distributions(groups),
        ("reward", "group", "n", "lowest", "mean", "highest"),
        cells,
    )


def agreement_section(results: Results) -> Plot:
    """Which rewards order the responses of a row the same."""
    names = list(results)
    cells: dict[tuple[str, str], Measured] = {}
    lines = []
    for a, b in combinations(names, 2):
        cells[a, b] = cells[b, a] = agreement.ranking_agreement(results[a], results[b])
        lines.append((a, b, cells[a, b], agreement.kendall_tau_b(results[a], results[b])))
    known = sorted((found.estimate.mean, a, b) for a, b, found, _ in lines if found.estimate is not None)
    says = [
        "There is one reward only, so there is nothing to agree with." if len(names) < 2 else "No pair was judged by two rewards."
    ]
    if known:
        says = [f"Most alike: {known[-1][1]} and {known[-1][2]}, {share(cells[known[-1][1], known[-1][2]])}. Chance is 50 %."]
        if len(known) > 1:
            says.append(f"Least alike: {known[0][1]} and {known[0][2]}, {share(cells[known[0][1], known[0][2]])}.")
    return Plot(
        "agreement",
        "Agreement between rewards",
        "In what share of the pairs of responses of one row do two rewards prefer the same response?",
        says,
        "A coloured table of the share of pairs that each two rewards order the same.",
        heat_map(names, names, cells, "ordered the same"),
        ("rewards", "same order [95 %]", "Kendall's tau-b within rows [95 %]", "left out"),
        [[f"{a} and {b}", share(found), mean(tau), counts(found.left_out) or "none"] for a, b, found, tau in lines],
    )


def order_section(results: Results) -> Plot:
    """Whether the place in which a response is shown changes the verdict."""
    says, cells = [], []
    for name, column in results.items():
        bias, flips = agreement.order_bias(column), agreement.flip_rate(column)
        if bias.estimate is None and not bias.left_out:
            continue
        cells.append([name, points(bias), share(flips), counts(bias.left_out) or "none"])
        found = bias.estimate
        if found is None:
            says.append(f"{name}: order bias {share(bias)}.")
            continue
        told = found.low > 0 or found.high < 0
        favoured = "first" if found.mean > 0 else "second"
        size = points(bias) if found.mean > 0 or not told else points(_negated(bias))
        says.append(
            (
                f"{name} prefers the {favoured}-shown response by {size}"
                if told
                else f"{name} shows no clear preference for a place: {size}"
            )
            + f"; its winner changes with the order in {share(flips)} of pairs."
        )
    return Plot(
        "order",
        "Order bias",
        "Does it matter which response is shown first? A fair judge lies on the diagonal; below it, being shown first helps.",
        says or ["No reward here is shown two responses in an order, so order bias is not measured."],
        "Each pair's probability of winning when shown first against when shown second, with the diagonal of no bias.",
        order_scatter(results) if any(order_points(column) for column in results.values()) else None,
        ("reward", "first shown wins, beyond 50 % [95 %]", "winner changes with the order [95 %]", "left out"),
        cells,
    )


def _negated(measured: Measured) -> Measured:
    found = measured.estimate
    assert found is not None
    return Measured(type(found)(-found.mean, -found.high, -found.low, found.n, found.clusters), measured.left_out)


def length_section(results: Results) -> Plot:
    """Whether longer responses win."""
    items = [(name, agreement.length_preference(column)) for name, column in results.items()]
    labelled = agreement.length_preference(_gold_as_results(results))
    says = [
        f"{name}: the longer response wins in {share(found)} of pairs, {against(found, 0.5, 'no preference (50 %)')}."
        if found.n
        else f"{name}: {share(found)}."
        for name, found in items
    ]
    if labelled.estimate is not None:
        says.append(f"By the labels the longer response is the better one in {share(labelled)} of pairs.")
        items.append(("labels", labelled))
    return Plot(
        "length",
        "Length preference",
        "Does the longer of two responses win? Compare with the labels, which may themselves prefer one.",
        says,
        "Share of pairs whose longer response wins, per reward and by the labels, with 95 % intervals and a line at 50 %.",
        forest(items, "longer response wins", level=0.5, muted=["labels"]),
        TABLE,
        table_of(items),
    )


def _gold_as_results(results: Results) -> list[RowResult]:
    from plaudit.judging.results import ResponseResult
    from plaudit.types import Status

    rows = [result.row for column in list(results.values())[:1] for result in column]
    return [RowResult(row, [ResponseResult(value, Status.OK) for value in row.gold]) for row in rows if row.gold is not None]


def section_names(row: Row, better: int, worse: int) -> Iterable[str]:  # noqa: ARG001  # the pair does not matter here
    """The section of a row, if it has one."""
    section = row.section if row.section is not None else row.extras.get("section")
    return () if section is None else (str(section),)


def worse_kind(row: Row, better: int, worse: int) -> Iterable[str]:  # noqa: ARG001
    """The kind of the worse response, where the row's `kinds` say it."""
    kinds = row.extras.get("kinds")
    if not isinstance(kinds, Sequence) or isinstance(kinds, str) or len(kinds) != len(row.responses):
        return ()
    return (str(kinds[worse]),)


def parts_section(
    results: Results, key: str, title: str, question: str, names: Callable[[Row, int, int], Iterable[str]], lowest: str
) -> Plot | None:
    """Accuracy in parts; None where the rows do not say them. lowest: how the part with the lowest accuracy is introduced."""
    parts = {name: agreement.accuracy_by(column, names) for name, column in results.items()}
    columns = sorted({column for found in parts.values() for column in found})
    if not columns:
        return None
    cells = {(name, column): found[column] for name, found in parts.items() for column in found}
    says = []
    for name, found in parts.items():
        known = sorted((part.estimate.mean, column) for column, part in found.items() if part.estimate is not None)
        if len(known) == 1:
            says.append(f"{name}: only {known[0][1].replace('_', ' ')} could be judged, {share(found[known[0][1]])} right.")
        elif known:
            says.append(
                f"{name}: {lowest} {known[0][1].replace('_', ' ')}, {share(found[known[0][1]])} right; "
                f"highest on {known[-1][1].replace('_', ' ')}, {share(found[known[-1][1]])}."
            )
        else:
            says.append(f"{name}: not measured.")
    items = [(f"{name}: {column}", cells[name, column]) for name in results for column in columns if (name, column) in cells]
    single = [(column, cells[name, column]) for name in results for column in columns if (name, column) in cells]
    return Plot(
        key,
        title,
        question,
        says,
        f"{title}: the share of pairs whose better response wins.",
        heat_map(list(results), columns, cells, "better wins")
        if len(results) > 1
        else forest(single, "better response wins", level=0.5),
        ("reward: part", *TABLE[1:]),
        table_of(items),
    )
