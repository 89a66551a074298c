"""`plaudit fit`: a reward out of labelled rows, from a file of settings or a few options."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from plaudit.cli.align_config import changed, read_config
from plaudit.cli.common import notice, out
from plaudit.cli.fit_config import KEYS, NEEDED, FitParts
from plaudit.cli.fit_progress import FitWatch
from plaudit.cli.judge import FieldArguments
from plaudit.cli.launching import Launch, LaunchArguments
from plaudit.judging.output import dump
from plaudit.scale.launching import rank
from plaudit.types import EngineError, SpecError, UserError

if TYPE_CHECKING:
    from plaudit.data import Row
    from plaudit.rewards.learned.base import LearnedReward
    from plaudit.rewards.learned.labels import LabelledRows
    from plaudit.rewards.learned.report import FitReport
    from plaudit.trust.held_out import HeldOutAudit


@dataclass
class Fit:
    """Fit a reward on labelled rows: pairs, rankings, ratings, ties; measure it on held-out rows; write it as a folder."""

    config: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="CONFIG.yaml")] = None
    """Names head, backbone, data and the rest (docs/fit.md). Options below change what it says."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=VALUE")] = ()
    """Change a setting, such as fit.epochs=3; may be given several times."""
    head: str | None = None
    """What is fitted: bt (pairs), ranking, ordinal, regression (ratings), aspects, ensemble ... Default: bt."""
    data: str | None = None
    """Labelled rows: jsonl, csv, tsv, parquet (also .gz), a folder of a known data set, or hub:OWNER/NAME."""
    backbone: str | None = None
    """The language model that the head reads: smollm2 (embedded), a model folder, or OWNER/NAME. Default: smollm2."""
    adaptation: Literal["frozen", "lora", "full"] | None = None
    """frozen (features computed once and kept), lora (a low-rank adapter is trained too), full (all weights)."""
    test: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Labelled rows to measure on in the end; may be given several times."""
    out: Path | None = None
    """Folder of the reward. Default: rewards/ and the name of the file of settings, or HEAD-DATA."""
    limit: int | None = None
    """Fit on the first N rows only (of a folder: N rows spread over its files)."""
    epochs: int | None = None
    """At most so many passes over the rows; the best one is kept."""
    precision: Literal["full", "bfloat16"] | None = None
    """Matrix products of a frozen backbone on a CPU: bfloat16 is faster and less exact."""
    seed: int | None = None
    """Of the split, the order of rows and fresh adapters."""
    skip_bad: bool = False
    """Leave out rows that cannot be read instead of refusing the file."""
    json: bool = False
    """Print the outcome as JSON, and no table."""
    fields: Annotated[FieldArguments, tyro.conf.arg(name="")] = field(default_factory=FieldArguments)
    launch: Launch = field(default_factory=LaunchArguments)

    def run(self) -> int:
        """Exit code: 0 fitted, 1 updates were skipped until the fit gave up (the reason is said)."""
        from plaudit.cli import fit_report
        from plaudit.rewards.learned.backbones import TextBackbone

        document = self.document()
        folder = self.out or Path("rewards") / self._default_name(document)
        _check_free(folder)
        parts = FitParts(document)
        tests, data, validation = parts.tests(), parts.data(), parts.validation()
        reward = parts.reward(data)
        with FitWatch(quiet=self.json or bool(rank())) as watch:
            if isinstance(reward.backbone, TextBackbone):
                reward.backbone.progress = watch.read
            report = self._fit(parts, reward, data, validation, folder, watch)
        if rank():
            return 0  # the main process measures, writes and says how it went
        reward.name = folder.name
        held = validation.rows if validation is not None else held_rows(data, report, parts.config.split_by)
        audits = _audits({fit_report.HELD_OUT: held, **tests}, reward, parts.config.seed)
        found = fit_report.record(report, audits, data.unlabelled)
        page = fit_report.page(folder.name, report, watch.lines, audits)
        fit_report.write_beside(folder, document, found, audits, page)
        if self.json:
            out.file.write(dump({"folder": str(folder), **found}) + "\n")
        else:
            fit_report.show(folder, report, audits, data.unlabelled, str(parts.data_settings["file"]))
        return 1 if report.stopped is not None and "skipped" in report.stopped else 0

    def document(self) -> dict[str, Any]:
        """The settings: those of the file, changed by the options, changed by --set."""
        document: dict[str, Any] = {"head": "bt"} if self.config is None else read_config(self.config, (), KEYS, ())
        if self.config is None and self.data is None and not any(change.startswith("data") for change in self.set):
            raise SpecError("give a file of settings, or --data with labelled rows")
        if self.head is not None:
            document["head"] = self.head
        if self.data is not None:
            document["data"] = {**_settings(document.get("data"), "file"), "file": self.data}
        _put(document, "data", "file", {"limit": self.limit, "skip_bad": self.skip_bad or None, "fields": self._columns()})
        given = {"model": self.backbone, "adaptation": self.adaptation, "precision": self.precision, "seed": self.seed}
        _put(document, "backbone", "model", given)
        _put(document, "fit", "", {"epochs": self.epochs, "seed": self.seed})
        if self.test:
            document["test"] = list(self.test)
        return changed(document, self.set, KEYS, NEEDED, str(self.config or "plaudit fit"))

    def _columns(self) -> dict[str, str] | None:
        mapping = self.fields.to_map()
        return None if mapping is None else mapping.named()

    def _default_name(self, document: dict[str, Any]) -> str:
        if self.config is not None:
            return self.config.stem
        head = document["head"]
        file = Path(str(_settings(document["data"], "file")["file"]))
        return f"{head['name'] if isinstance(head, dict) else head}-{file.name.split('.')[0]}"

    def _fit(
        self,
        parts: FitParts,
        reward: LearnedReward,
        data: LabelledRows,
        validation: LabelledRows | None,
        folder: Path,
        watch: FitWatch,
    ) -> FitReport:
        from plaudit.rewards.learned.fit import fit

        kept = len(data.data) * (1 - (parts.config.validation if validation is None else 0))
        watch.updates = parts.config.epochs * math.ceil(kept / parts.config.batch_units)
        reward.name = folder.name
        held = None if validation is None else validation.data
        try:
            return fit(reward, data.data, parts.config, validation=held, folder=folder, progress=watch.update)
        except (UserError, EngineError):
            partial = folder.parent / f".{folder.name}.fit"
            if not list(partial.glob("*epochs*")):  # nothing was learned yet that another run could go on from
                shutil.rmtree(partial, ignore_errors=True)
            raise


def held_rows(data: LabelledRows, report: FitReport, split_by: str) -> list[Row]:
    """The rows whose units were held out; by prompt they all are, by anything else rows with a fitted unit too are left out."""
    if report.held_units is None:
        return []
    held = set(report.held_units.tolist())
    of_unit = data.unit_rows.tolist()
    inside = {row for unit, row in enumerate(of_unit) if unit in held}
    fitted = set() if split_by == "prompt" else {row for unit, row in enumerate(of_unit) if unit not in held}
    return [data.rows[row] for row in sorted(inside - fitted)]


def _audits(rows: dict[str, Any], reward: LearnedReward, seed: int) -> dict[str, HeldOutAudit]:
    """What the reward is worth on each set of rows; sets without rows are left out."""
    from plaudit.trust.held_out import held_out_audit

    return {name: held_out_audit(reward, list(some), seed=seed) for name, some in rows.items() if some}


def _check_free(folder: Path) -> None:
    """Raise UserError if there is a finished reward, or something else, in the way."""
    from plaudit.cli.fit_report import AUDIT
    from plaudit.rewards.learned.checkpoint import is_reward_folder

    if folder.is_dir() and any(folder.iterdir()) and not is_reward_folder(folder):
        raise UserError(f"{folder} is not empty and holds no reward: name another folder with --out")
    if (folder / AUDIT).is_file():
        raise UserError(f"{folder} holds a fitted reward already: name another folder with --out")
    if is_reward_folder(folder):
        notice(f"the earlier fit in {folder} ended before it was audited: fitting again")


def _settings(spec: Any, key: str) -> dict[str, Any]:
    """Settings out of a name or settings."""
    return {key: spec} if isinstance(spec, str) else dict(spec or {})


def _put(document: dict[str, Any], place: str, key: str, given: dict[str, Any]) -> None:
    """Options that were given, into a section of the document."""
    named = {name: value for name, value in given.items() if value is not None}
    if named:
        document[place] = {**_settings(document.get(place), key), **named}
