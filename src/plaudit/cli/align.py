"""`plaudit align`: train a generator against a reward, from a file of settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from plaudit.cli.align_config import Parts, read_config
from plaudit.cli.align_progress import Watch
from plaudit.cli.common import Engine, EngineArguments, err, out
from plaudit.cli.launching import Launch, LaunchArguments
from plaudit.judging.output import atomic, dump
from plaudit.types import SpecError, UserError

if TYPE_CHECKING:
    from plaudit.training import Run

SETTINGS = "align.yaml"


@dataclass
class Align:
    """Train a generator against a reward, with one loop for language models, diffusion, flows and GFlowNets."""

    config: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="CONFIG.yaml")] = None
    """Names generator, objective, source, reward and the rest (docs/training.md). Not needed with --resume."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=VALUE")] = ()
    """Change a setting, such as run.steps=10; may be given several times."""
    out: Path | None = None
    """Folder of the run. Default: runs/ and the name of the file of settings."""
    resume: Path | None = None
    """Go on with the run in this folder, with the same numbers as if it had never stopped."""
    engine: Engine = field(default_factory=EngineArguments)
    launch: Launch = field(default_factory=LaunchArguments)
    json: bool = False
    """Print the last line of metrics as JSON, and no table."""

    def run(self) -> int:
        """Exit code: 0 all steps done, 1 the run was stopped early (the reason is said)."""
        if (self.config is None) == (self.resume is None):
            raise SpecError("give a file of settings, or --resume with the folder of a run")
        with Watch(quiet=self.json) as watch:
            run = self._resumed(watch) if self.resume is not None else self._new(watch)
            run.finish()
        if not run.main:
            return 0  # the main process says how it went
        self._show(run)
        return 0 if run.stopped is None else 1

    def _new(self, watch: Watch) -> Run:
        from plaudit.training import Run
        from plaudit.training.folder import RunFolder

        assert self.config is not None
        document = read_config(self.config, self.set)
        folder = self.out or Path("runs") / self.config.stem
        if RunFolder(folder).begun:
            raise UserError(f"{folder} holds a run already: go on with --resume {folder}, or name another folder with --out")
        parts = Parts(document, self.engine.resolver())
        arguments = parts.arguments()
        run = Run(parts.generator, parts.objective, parts.source, run_dir=folder, on_step=watch.step_done, **arguments)
        if run.main:
            _write_settings(folder, document)
        return run

    def _resumed(self, watch: Watch) -> Run:
        from plaudit.training import Run

        assert self.resume is not None
        if not (self.resume / SETTINGS).is_file():
            raise UserError(f"{self.resume} holds no run of `plaudit align`: {SETTINGS} is not there")
        document = read_config(self.resume / SETTINGS, self.set)
        parts = Parts(document, self.engine.resolver())
        return Run.resume(
            self.resume, parts.generator, parts.objective, parts.source, on_step=watch.step_done, **parts.arguments()
        )

    def _show(self, run: Run) -> None:
        lines = run.metrics
        if self.json:
            out.file.write(
                dump({"folder": str(run.folder.path), "stopped": run.stopped, "done": run.done, "last": lines[-1]}) + "\n"
            )
            return
        first, last = _of(lines, "draw/reward_mean"), _of(lines[::-1], "draw/reward_mean")
        change = "" if first is None or last is None else f", reward {first:.4g} -> {last:.4g}"
        independent = _of(lines, "evaluation/reward"), _of(lines[::-1], "evaluation/reward")
        if None not in independent:
            change += f", independent reward {independent[0]:.4g} -> {independent[1]:.4g}"
        out.print(f"{run.done} steps{change}", highlight=False, markup=False, soft_wrap=True)
        if run.stopped is not None:
            err.print(f"stopped: {run.stopped}", style="yellow", highlight=False, markup=False, soft_wrap=True)
        best = "" if run.best is None else f", best checkpoint: step {run.best['step']} ({run.best['why']})"
        out.print(f"{run.folder.path}: metrics.jsonl, run.html, checkpoints{best}", highlight=False, markup=False, soft_wrap=True)


def _of(lines: list[dict[str, Any]], name: str) -> float | None:
    """The first value of a figure."""
    return next((float(line[name]) for line in lines if name in line), None)


def _write_settings(folder: Path, document: dict[str, Any]) -> None:
    import yaml

    with atomic(folder / SETTINGS) as file:
        file.write(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
