"""`plaudit judge --ray`: the same judging by several processes, on this machine or a Ray cluster (docs/past-one-machine.md)."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from plaudit.cli.common import EngineArguments, notice
from plaudit.cli.progress import Watch
from plaudit.engines.catalogue import EngineOptions
from plaudit.types import UserError

if TYPE_CHECKING:
    from plaudit.cli.judge import Judge
    from plaudit.scale.ray_judging import Job


@dataclass
class RayArguments:
    """Judging by several processes (docs/past-one-machine.md)."""

    ray: str | None = None
    """Judge on Ray: local (processes of this machine), auto, or HOST:PORT of a cluster. --out is then a folder of parts."""
    workers: int | None = None
    """Processes that judge at once, of one processor each. Default on this machine: one a processor."""
    part_rows: int | None = None
    """Rows of a part, rounded up to the reward's batch size: what is lost, at most, when a worker dies. Default: about 4096."""
    worker_gpus: float = 0.0
    """GPUs of each worker; 0.5 lets two share one."""


def judge_on_ray(command: Judge) -> int:
    """Exit code: 0 done, 1 nothing could be judged or the run stopped early. Raises UserError for options that do not fit."""
    from plaudit.scale.ray_cluster import cluster
    from plaudit.scale.ray_judging import RayRun

    address = command.on_ray.ray
    assert address is not None
    job = _job(command, address)
    reward = job.reward()
    run = RayRun(job, reward)
    run.folder.begun(run.identity(), job.source.files())  # what is wrong with names is said before a cluster is started
    # what Ray reports about workers that died goes to standard output, where only results belong
    with redirect_stdout(sys.stderr), cluster(address, job.workers):
        missing = run.prepare()
        total, there = run.manifest.parts, run.manifest.parts - len(missing)
        with Watch(run, run.manifest.reading.rows, quiet=command.json) as watch:
            watch.row_done(run.progress.rows)
            with _interrupts() as raise_if_interrupted:
                for done in run.run(missing):
                    watch.row_done(done.rows)
                    raise_if_interrupted()
        summary = run.summary()
    command.show(run, run.manifest.reading, summary, watch.seconds, [])
    left = len(run.folder.missing(run.manifest))
    notice(f"{job.out}: {total - left:,} of {total:,} parts of {run.manifest.part_rows:,} rows, {there:,} were there already")
    return 0 if run.progress.stopped is None and summary.invalid < max(1, summary.judged) else 1


@contextmanager
def _interrupts() -> Iterator[Callable[[], None]]:
    """Ctrl-C ends the run even where it falls into a callback of Ray's, in which Python drops exceptions: call what this gives
    after each part."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    pressed = threading.Event()

    def on_interrupt(_number: int, _frame: object) -> None:
        pressed.set()
        raise KeyboardInterrupt

    def raise_if_interrupted() -> None:
        if pressed.is_set():
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield raise_if_interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _job(command: Judge, address: str) -> Job:
    from plaudit.scale.ray_cluster import default_workers
    from plaudit.scale.ray_judging import Job, RewardSpec
    from plaudit.scale.reading import Source

    options = command.on_ray
    job = Job(
        Source(command.file, command.fields.to_map(), command.limit, command.skip_bad),
        RewardSpec(command.reward, command.engine.engine, _plain(command.engine), command.temperature),
        _folder(command),
        default_workers(address) if options.workers is None else options.workers,
        command.seed,
        command.pairs,
        None if command.store == "none" else command.store,
        options.part_rows,
        options.worker_gpus,
    )
    job.check(address)
    return job


def _plain(engine: EngineArguments) -> EngineOptions:
    """The options without their command line, which workers need not load."""
    return EngineOptions(**{one.name: getattr(engine, one.name) for one in fields(EngineOptions)})


def _folder(command: Judge) -> Path:
    """The folder of the parts. Raises UserError for the options that need all rows in one process."""
    alone = {
        "--votes": command.votes > 1,
        "--report": command.report is not None,
        "--dry-run": command.dry_run,
        "--max-cost": command.max_cost is not None,
    }
    used = [name for name, given in alone.items() if given]
    if used:
        raise UserError(f"{used[0]} is for a single process; leave it out, or leave out --ray")
    if command.out is None or (command.out.suffix in (".jsonl", ".csv") and not command.out.is_dir()):
        raise UserError("--ray writes a folder of parts; name it with --out FOLDER")
    return command.out
