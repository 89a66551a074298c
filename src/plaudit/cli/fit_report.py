"""What a fit leaves behind beside the reward: its audit, curves, settings, and the words of its model card."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from plaudit import __version__
from plaudit.cli.common import err, out
from plaudit.cli.tables import percent
from plaudit.judging.output import atomic
from plaudit.trust.agreement import Measured

if TYPE_CHECKING:
    from plaudit.rewards.learned.report import FitReport
    from plaudit.trust.held_out import HeldOutAudit

AUDIT, PAGE, SETTINGS, CARD = "audit.json", "fit.html", "fit.yaml", "README.md"
HELD_OUT = "held-out part"
Audits = Mapping[str, "HeldOutAudit"]


def record(report: FitReport, audits: Audits, unlabelled: int) -> dict[str, Any]:
    """What `--json` prints and audit.json holds. No times or paths: equal fits give equal bytes."""
    return {
        "plaudit": __version__,
        "fit": report.to_json(),
        "rows_without_labels": unlabelled,
        "audit": {name: audit.to_json() for name, audit in audits.items()},
    }


def write_beside(folder: Path, document: Mapping[str, Any], found: Mapping[str, Any], audits: Audits, page: str) -> None:
    """Settings, curves and model card; the audit last: a folder that has it is complete."""
    import yaml

    card = (folder / CARD).read_text(encoding="utf-8") if (folder / CARD).is_file() else ""
    with atomic(folder / SETTINGS) as file:
        file.write(yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True))
    with atomic(folder / CARD) as file:
        file.write(card.rstrip("\n") + "\n\n" + card_lines(audits))
    with atomic(folder / PAGE) as file:
        file.write(page)
    with atomic(folder / AUDIT) as file:
        file.write(json.dumps(found, indent=1, allow_nan=False) + "\n")


def words(name: str, measured: Measured) -> str:
    """A figure with its interval."""
    estimate = measured.estimate
    left_out = "".join(f", {count:,} left out: {reason}" for reason, count in measured.left_out.items())
    if estimate is None:
        return f"not measured{left_out}"
    if not name.startswith("rank"):
        return percent(estimate).replace("\\", "") + left_out
    bounds = "" if math.isinf(estimate.low) else f"  [{estimate.low:.3f}, {estimate.high:.3f}]"
    return f"{estimate.mean:.3f}{bounds}  n = {estimate.n:,}{left_out}"


def card_lines(audits: Audits) -> str:
    """The audit as a part of the model card."""
    lines = ["## Audit", "", "95 % intervals, clustered by prompt. Chance in accuracy is 50 %."]
    for name, audit in audits.items():
        lines += ["", f"### {name}", ""]
        if name == HELD_OUT:
            lines += ["Not fitted on, but they decided when to stop, and the temperature.", ""]
        lines += [f"- {figure}: {words(figure, measured)}" for figure, measured in audit.figures().items()]
    if not audits:
        lines += ["", "Not measured: nothing was held out."]
    return "\n".join([*lines, ""])


def page(name: str, report: FitReport, lines: Sequence[Mapping[str, Any]], audits: Audits) -> str:
    """The HTML page of a fit: losses by epoch and by update; it works offline."""
    from plaudit.training.plots import panel_plot
    from plaudit.trust.report_page import render

    epochs: list[dict[str, Any]] = [{"step": number + 1, "fitted rows": loss} for number, loss in enumerate(report.losses)]
    for line, loss in zip(epochs, report.validation, strict=False):
        line["held-out rows"] = loss
    panels = [
        ("epochs", "Loss by epoch", "Does it still learn, or only remember?", ("fitted rows", "held-out rows")),
        ("updates", "Loss by update", "Is learning stable?", ("loss", "gradient norm")),
    ]
    plots = [panel_plot(panel, _finite(some)) for panel, some in zip(panels, (epochs, lines), strict=True) if some]
    facts = {"head": report.kind, "labels": f"{report.fitted:,} fitted, {report.held_out:,} held out"}
    for where, audit in audits.items():
        facts |= {f"{where}: {figure}": words(figure, one) for figure, one in audit.figures().items()}
    return render("page.html.j2", title=f"Fit of {name}", facts=facts, notes=report.notes, plots=plots)


def _finite(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Lines without the numbers that no curve can show."""
    return [{name: value for name, value in line.items() if math.isfinite(value)} for line in lines]


def show(folder: Path, report: FitReport, audits: Audits, unlabelled: int, file: str) -> None:
    """Print how the fit went, what the reward is worth, and how to use it."""
    table = Table(title=f"{report.kind} fitted on {report.fitted:,} labels", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    best = "" if report.best_epoch is None else f", weights of epoch {report.best_epoch + 1} of {len(report.losses)}"
    validation = "" if report.best_epoch is None else f", held out {report.validation[report.best_epoch]:.4f}"
    shown = report.losses[report.best_epoch if report.best_epoch is not None else -1]
    table.add_row("loss", f"{shown:.4f}{validation}{best}")
    left_out = {**report.left_out, **({"rows without labels": unlabelled} if unlabelled else {})}
    if left_out:
        table.add_row("left out", ", ".join(f"{count:,} {reason}" for reason, count in left_out.items()))
    if report.contradictory:
        table.add_row("labelled both ways", f"{report.contradictory:,}")
    for where, audit in audits.items():
        for figure, measured in audit.figures().items():
            table.add_row(f"{where}: {figure}", words(figure, measured).replace("[", r"\["))
    if report.held is not None and report.held.log_loss() is not None:
        log_loss = report.held.log_loss(report.temperature)
        table.add_row("temperature", f"{report.temperature:.4g}; held-out log loss {log_loss:.4f}, knowing nothing 0.6931")
    out.print(table)
    for note in report.notes:
        err.print(note, style="yellow", highlight=False, markup=False, soft_wrap=True)
    out.print(f"{folder}: reward.json, model.safetensors, {CARD}, {PAGE}, {AUDIT}", highlight=False, markup=False, soft_wrap=True)
    out.print(f"use it:  plaudit judge {file} --reward {folder}", highlight=False, markup=False, soft_wrap=True)
