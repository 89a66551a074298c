"""The page of a run: its curves, each also said in words and given as a table. It works offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plaudit.training.run import Run

MOST_LINES = 6
MOST_TABLE_ROWS = 200
Lines = list[dict[str, Any]]

_PANELS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("reward", "Reward", "Does the optimised reward rise, and does the independent one rise with it?",
     ("draw/reward_mean", "draw/shaped_mean", "evaluation/reward", "independent/mean")),
    ("distance", "Distance to the start", "How far has the policy moved, in nats a sample?",
     ("distance_to_start", "lesson/kl_reference")),
    ("losses", "Loss and gradient", "Is learning stable?", ("update/loss", "update/grad_norm")),
    ("rows", "Rows and groups without a signal", "How much of each draw could not be learned from?",
     ("draw/rows_invalid", "draw/rows_truncated", "draw/groups_equal", "draw/groups_empty", "draw/groups_dropped",
      "update/skipped")),
    ("policy", "The policy", "How does it sample?",
     ("update/entropy", "update/clip_share", "lesson/advantage_std", "draw/reward_deviation", "length/mean")),
)  # fmt: skip


def write_page(run: Run) -> None:
    """Write `run.html` into the folder of a run, all or nothing."""
    from plaudit.judging.output import atomic

    lines = run.metrics
    if not lines:
        return
    text = page(lines, run.folder.path.name, run.done, run.stopped, [vars(part) for part in run.scales])
    with atomic(run.folder.path / "run.html") as file:
        file.write(text)


def page(lines: Lines, name: str, done: int, stopped: str | None, scales: Sequence[Mapping[str, Any]]) -> str:
    """The HTML of a run. lines: its metrics. done: steps. stopped: why it ended early."""
    from plaudit.trust.report_page import render

    facts = {"steps": str(done), "ended": stopped or "as planned"}
    notes = [f"Step {line['step']}: {note}" for line in lines for note in line.get("notes", ())]
    shown = notes[:5] + ([f"... and {len(notes) - 5} more notes in metrics.jsonl"] if len(notes) > 5 else [])
    plots = [panel_plot(panel, lines) for panel in _PANELS if any(name in line for line in lines for name in panel[3])]
    plots += [_scales(scales)] if len(scales) > 1 else []
    return render("page.html.j2", title=f"Training run {name}", facts=facts, notes=shown, plots=plots)


def panel_plot(panel: tuple[str, str, str, tuple[str, ...]], lines: Lines) -> Any:
    """A `report_plots.Plot` of curves by step. panel: key, title, question, and the figures' names in `lines`."""
    from plaudit.trust.report_plots import Plot

    key, title, question, names = panel
    series = {name: [(line["step"], line[name]) for line in lines if name in line] for name in names}
    series = {name: points for name, points in series.items() if points}
    says = [
        f"{name}: {points[0][1]:.4g} at step {points[0][0]}, {points[-1][1]:.4g} at step {points[-1][0]}"
        for name, points in series.items()
    ]
    steps = sorted({step for points in series.values() for step, _ in points})
    shown = steps[:: max(1, -(-len(steps) // MOST_TABLE_ROWS))]
    found = {name: dict(points) for name, points in series.items()}
    cells = [[str(step), *(f"{found[name][step]:.5g}" if step in found[name] else "" for name in series)] for step in shown]
    return Plot(key, title, question, says, f"{title} by step.", _curves(series), ["step", *series], cells)


def _curves(series: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, Any]:
    """Lines with markers, in plotly's own form."""
    import plotly.graph_objects as go

    from plaudit.trust.report_plots import SERIES, SYMBOLS, label

    traces = [
        go.Scatter(
            x=[step for step, _ in points],
            y=[value for _, value in points],
            name=label(name),
            mode="lines+markers" if len(points) <= 60 else "lines",
            line={"color": SERIES[number % len(SERIES)], "width": 2},
            marker={"symbol": SYMBOLS[number % len(SYMBOLS)], "size": 7},
        )
        for number, (name, points) in enumerate(list(series.items())[:MOST_LINES])
    ]
    layout = {
        "height": 340,
        "margin": {"l": 8, "r": 16, "t": 40, "b": 48},
        "xaxis": {"title": {"text": "step"}, "automargin": True},
        "yaxis": {"automargin": True},
        "legend": {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "xanchor": "left"},
        "showlegend": True,
    }
    figure: dict[str, Any] = go.Figure(traces, layout={"template": go.layout.Template(), **layout}).to_plotly_json()
    figure["layout"].pop("template", None)
    return figure


def _scales(scales: Sequence[Mapping[str, Any]]) -> Any:
    """The scale report as a table."""
    from plaudit.trust.report_plots import Plot

    def text(value: Any) -> str:
        return "not known" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)

    columns = ["name", "rows", "mean", "deviation", "within", "share"]
    cells = [[text(part[column]) for column in columns] for part in scales]
    says = [
        f"{part['name']}: {100 * part['share']:.0f} % of what groups differ by"
        for part in scales[1:]
        if part["share"] is not None
    ]
    question = "Which part of the reward decides, by its spread within groups before the first step?"
    return Plot("scales", "Parts of the reward", question, says, "", None, columns, cells)
