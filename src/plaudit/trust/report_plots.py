"""The report's plots: what each shows is also said in words and given as a table, so that nothing is seen by eye alone.

Colours are chosen to be told apart by colour-blind readers and on light and dark ground; ink and grid colours are set by the
page. plotly is imported only when a figure is built.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from plaudit.judging.intervals import Interval
from plaudit.judging.results import RowResult
from plaudit.trust.agreement import Measured
from plaudit.trust.report_words import counts, percent, share

BEST, OTHER, NEUTRAL = "#2f8fd6", "#e08214", "#8a8f98"
GROUP_COLOURS = {"best by the labels": BEST, "other responses": OTHER}
SERIES = ("#2f8fd6", "#e08214", "#1f9e77", "#c05fb0", "#8a8f98", "#c9a400")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x")
LOW_TO_HIGH = ((0.0, "#b35806"), (0.25, "#f1a340"), (0.5, "#f3f1ea"), (0.75, "#74add1"), (1.0, "#1f63a8"))
MOST_BINS = 20
MOST_POINTS = 2000
Figure = dict[str, Any]


@dataclass(frozen=True)
class Plot:
    """One section of the report. figure: plotly's data and layout, None where there is nothing to draw (`says` tells why)."""

    key: str
    title: str
    question: str
    says: Sequence[str]
    alt: str = ""
    figure: Figure | None = None
    columns: Sequence[str] = ()
    cells: Sequence[Sequence[str]] = field(default=())


def label(name: str, limit: int = 34) -> str:
    """A name for an axis: plotly reads a subset of HTML, so names are escaped; long ones are cut."""
    return html.escape(name if len(name) <= limit else name[: limit - 1] + "…")


def _figure(traces: Sequence[Any], **layout: Any) -> Figure:
    import plotly.graph_objects as go

    layout = {"margin": {"l": 8, "r": 16, "t": 12, "b": 48}, "hoverlabel": {"align": "left"}, **layout}
    figure = go.Figure(list(traces), layout={"template": go.layout.Template(), **layout})
    found: Figure = figure.to_plotly_json()
    found["layout"].pop("template", None)
    return found


def _legend() -> dict[str, Any]:
    return {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "xanchor": "left"}


def forest(
    items: Sequence[tuple[str, Measured]],
    axis: str,
    *,
    level: float | None,
    muted: Sequence[str] = (),
    ends: tuple[float, float] = (-0.02, 1.02),
) -> Figure | None:
    """Shares with their intervals, one line each, against a dashed level; what is not measured has a line without a dot.

    ends: of the axis.
    """
    import plotly.graph_objects as go

    measured = [(name, found.estimate) for name, found in items if found.estimate is not None]
    if not measured:
        return None
    colours = [NEUTRAL if name in muted else BEST for name, _ in measured]
    dots = go.Scatter(
        x=[found.mean for _, found in measured],
        y=[label(name) for name, _ in measured],
        mode="markers",
        marker={"size": 11, "color": colours, "symbol": ["diamond" if name in muted else "circle" for name, _ in measured]},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [found.high - found.mean for _, found in measured],
            "arrayminus": [found.mean - found.low for _, found in measured],
            "color": NEUTRAL,
            "thickness": 2,
            "width": 5,
        },
        customdata=[share(dict(items)[name]) for name, _ in measured],
        hovertemplate="%{y}: %{customdata}<extra></extra>",
    )
    shapes = [] if level is None else [_line(x0=level, x1=level, y0=0, y1=1, yref="paper")]
    return _figure(
        [dots],
        height=68 + 30 * len(items),
        shapes=shapes,
        xaxis={"title": {"text": axis}, "range": list(ends), "tickformat": ".0%", "zeroline": False},
        yaxis={
            "categoryorder": "array",
            "categoryarray": [label(name) for name, _ in reversed(items)],
            "range": [-0.6, len(items) - 0.4],
            "automargin": True,
            "zeroline": False,
        },
    )


def _line(**where: Any) -> dict[str, Any]:
    return {"type": "line", "line": {"dash": "dash", "width": 1.5, "color": NEUTRAL}, "layer": "below", **where}


def table_of(items: Sequence[tuple[str, Measured]]) -> list[list[str]]:
    """Lines of a table: name, share with interval, cases, what was left out."""
    return [
        [name, share(found, cases=False), f"{found.n:,}" if found.n else "0", counts(found.left_out) or "none"]
        for name, found in items
    ]


def heat_map(names: Sequence[str], columns: Sequence[str], cells: Mapping[tuple[str, str], Measured], axis: str) -> Figure | None:
    """Shares as a coloured table; a cell that is not measured is empty, never 0."""
    import plotly.graph_objects as go

    if not any(found.estimate is not None for found in cells.values()):
        return None
    grid = [[cells.get((name, column), Measured(None)) for column in columns] for name in names]
    heat = go.Heatmap(
        z=[[None if found.estimate is None else found.estimate.mean for found in line] for line in grid],
        x=[label(column.replace("_", " ")) for column in columns],
        y=[label(name) for name in names],
        text=[["" if found.estimate is None else percent(found.estimate.mean) for found in line] for line in grid],
        customdata=[[share(found) for found in line] for line in grid],
        texttemplate="%{text}",
        hovertemplate="%{y}, %{x}: %{customdata}<extra></extra>",
        hoverongaps=False,
        zmin=0,
        zmax=1,
        xgap=2,
        ygap=2,
        colorscale=[list(stop) for stop in LOW_TO_HIGH],
        colorbar={"tickformat": ".0%", "thickness": 12, "outlinewidth": 0, "title": {"text": axis, "side": "right"}},
    )
    return _figure(
        [heat],
        height=126 + 38 * len(names),
        xaxis={"automargin": True, "showgrid": False, "type": "category"},
        yaxis={"automargin": True, "showgrid": False, "autorange": "reversed", "type": "category"},
    )


def _histogram(values: Sequence[float], low: float, high: float, count: int) -> list[float]:
    bins = [0] * count
    for value in values:
        bins[min(count - 1, int((value - low) / (high - low) * count))] += 1
    return [number / len(values) for number in bins]


def distributions(groups: Sequence[tuple[str, Mapping[str, Sequence[float]]]]) -> Figure | None:
    """A small histogram per reward; groups: (reward, group name -> values). Bars are shares of the group in equal bins."""
    from plotly.subplots import make_subplots

    shown = [(name, {group: values for group, values in parts.items() if values}) for name, parts in groups]
    shown = [(name, parts) for name, parts in shown if parts]
    if not shown:
        return None
    lines = -(-len(shown) // 2)
    titles = [label(name) for name, _ in shown]
    wide = 2 if len(shown) > 1 else 1
    grid = make_subplots(lines, wide, subplot_titles=titles, vertical_spacing=min(0.22, 0.3 / lines), horizontal_spacing=0.1)
    seen: set[str] = set()
    for at, (_, parts) in enumerate(shown):
        for bar in _bars(parts, seen):
            grid.add_trace(bar, at // wide + 1, at % wide + 1)
    figure = _figure(grid.data, **{**grid.layout.to_plotly_json(), "template": None}, **_histogram_layout(lines))
    for name, axis in figure["layout"].items():
        if name.startswith("yaxis"):
            axis.update(tickformat=".0%", rangemode="tozero", automargin=True)
    return figure


def _histogram_layout(lines: int) -> dict[str, Any]:
    height = 80 + 210 * lines
    return {
        "height": height,
        "barmode": "group",
        "bargap": 0.12,
        "bargroupgap": 0,
        # the legend stays at the same distance above the plots, however many lines there are
        "legend": {"orientation": "h", "x": 0, "y": 1 + 34 / height, "yanchor": "bottom", "xanchor": "left"},
        "margin": {"l": 8, "r": 16, "t": 80, "b": 40},
    }


def _bars(parts: Mapping[str, Sequence[float]], seen: set[str]) -> list[Any]:
    import plotly.graph_objects as go

    everything = [value for values in parts.values() for value in values]
    low, high = min(everything), max(everything)
    if not low < high:
        low, high = low - 0.5, high + 0.5
    count = MOST_BINS if len(everything) >= 400 else MOST_BINS // 2
    centres = [low + (place + 0.5) * (high - low) / count for place in range(count)]
    bars = []
    for group, values in parts.items():
        bars.append(
            go.Bar(
                x=centres,
                y=_histogram(values, low, high, count),
                name=group,
                legendgroup=group,
                showlegend=group not in seen,
                marker={
                    "color": GROUP_COLOURS.get(group, SERIES[2]),
                    "pattern": {"shape": "/" if GROUP_COLOURS.get(group) == OTHER else "", "size": 5, "solidity": 0.6},
                    "line": {"width": 0},
                },
                hovertemplate=f"{group}: %{{y:.1%}} near %{{x:.3g}}<extra></extra>",
            )
        )
        seen.add(group)
    return bars


def _unit_square(traces: Sequence[Any], across: str, up: str) -> Figure:
    """Shares against shares, both from 0 to 1, with the diagonal on which they are equal."""
    ends = {"range": [-0.03, 1.03], "tickformat": ".0%", "zeroline": False, "automargin": True}
    return _figure(
        traces,
        height=460,
        margin={"l": 8, "r": 16, "t": 40, "b": 48},
        showlegend=True,
        legend=_legend(),
        shapes=[_line(x0=0, x1=1, y0=0, y1=1)],
        xaxis={**ends, "title": {"text": across}, "constrain": "domain"},
        yaxis={**ends, "title": {"text": up}, "scaleanchor": "x", "constrain": "domain"},
    )


def order_scatter(results: Mapping[str, Sequence[RowResult]]) -> Figure | None:
    """P(a response wins) when shown first against when shown second; on the diagonal the order does not matter."""
    import plotly.graph_objects as go

    traces = []
    for place, (name, column) in enumerate(results.items()):
        points = order_points(column)
        if points:
            step = max(1, -(-len(points) // MOST_POINTS))  # evenly thinned, so that a long run still gives a light page
            traces.append(
                go.Scatter(
                    x=[first for first, _ in points[::step]],
                    y=[second for _, second in points[::step]],
                    mode="markers",
                    name=label(name),
                    marker={"size": 7, "opacity": 0.65, "color": SERIES[place % 6], "symbol": SYMBOLS[place % 6]},
                    hovertemplate="shown first: %{x:.2f}, shown second: %{y:.2f}<extra></extra>",
                )
            )
    if not traces:
        return None
    return _unit_square(traces, "P(it wins) when shown first", "P(it wins) when shown second")


def reliability(curves: Mapping[str, Sequence[tuple[float, Interval]]]) -> Figure | None:
    """How often it is so (with interval) where the reward says so: curve name -> (mean probability, outcomes) of each bin."""
    import plotly.graph_objects as go

    traces = []
    for place, (name, bins) in enumerate(curves.items()):
        traces.append(
            go.Scatter(
                x=[said for said, _ in bins],
                y=[found.mean for _, found in bins],
                mode="lines+markers",
                name=label(name),
                marker={"size": 8, "color": SERIES[place % 6], "symbol": SYMBOLS[place % 6]},
                line={"color": SERIES[place % 6], "width": 1.5},
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [found.high - found.mean for _, found in bins],
                    "arrayminus": [found.mean - found.low for _, found in bins],
                    "thickness": 1.5,
                    "width": 4,
                },
                hovertemplate="said: %{x:.2f}, so in %{y:.0%}<extra></extra>",
            )
        )
    if not any(len(bins) for bins in curves.values()):
        return None
    return _unit_square(traces, "what the reward says", "how often it is so")


def against_counts(curves: Mapping[str, Sequence[tuple[int, Interval]]], across: str, up: str) -> Figure | None:
    """Shares with their intervals against a count on a logarithmic axis: curve name -> (count, share) of each point."""
    import plotly.graph_objects as go

    traces = []
    for place, (name, points) in enumerate(curves.items()):
        colour = SERIES[place % 6]
        errors = [[found.high - found.mean for _, found in points], [found.mean - found.low for _, found in points]]
        bars = {"type": "data", "symmetric": False, "array": errors[0], "arrayminus": errors[1], "thickness": 1.5, "width": 4}
        traces.append(
            go.Scatter(
                x=[count for count, _ in points],
                y=[found.mean for _, found in points],
                mode="lines+markers",
                name=label(name),
                marker={"size": 8, "color": colour, "symbol": SYMBOLS[place % 6]},
                line={"color": colour, "width": 1.5},
                error_y=bars,
                hovertemplate="%{x}: %{y:.1%}<extra></extra>",
            )
        )
    counts = sorted({count for points in curves.values() for count, _ in points})
    if not counts:
        return None
    across_axis = {"title": across, "type": "log", "tickvals": counts, "ticktext": [str(count) for count in counts]}
    up_axis = {"title": up, "tickformat": ".0%"}
    return _figure(traces, xaxis=across_axis, yaxis=up_axis, height=320, showlegend=len(curves) > 1, legend=_legend())


def order_points(results: Sequence[RowResult]) -> list[tuple[float, float]]:
    """(P when shown first, P when shown second) of the first response of each pair judged in both orders."""
    orders = [pair.by_order for result in results for pair in result.pairs if pair.by_order is not None]
    return [(first, second) for first, second in orders if first is not None and second is not None]
