"""Judging on Ray: what a second worker brings, what the driver's memory does as rows grow, and what a judgement costs.

    python -m benchmarks.ray_judging --rounds 3 --json ray_judging.json
    python -m benchmarks.ray_judging --only memory cost

throughput: a reward that works for a fixed number of hashes a row (about 10 ms or more), judged by one and by two workers in
turn. The rate counts from the end of the first parts (workers are up) to the end of the last. Beside the ratio of the rates
stands the ratio of the processors that the workers got: on a machine with other work to do, two workers get less than two.
memory: the driver's resident memory at the end of runs of 10^4, 10^5 and 10^6 rows of a rule, each in a process of its own.
cost: processor time a row of a rule, of plaudit-small, and of the embedded judge, in a single process with one thread; of
checking and reading a row; and what a part costs besides its rows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import psutil

from benchmarks.common import ROOT, Spread, facts, peak_mb, write_json
from plaudit.data import Row, read_rows
from plaudit.judging import Runner
from plaudit.scale.parts import Manifest, PartFolder
from plaudit.scale.ray_cluster import cluster
from plaudit.scale.ray_judging import Job, PartDone, RayRun, RewardSpec
from plaudit.scale.reading import Source, check_file

MEMORY_ROWS = (10_000, 100_000, 1_000_000)
HASHING = RewardSpec(f"{ROOT / 'benchmarks' / 'ray_reward.py'}:Hashing")


def write_rows(path: Path, count: int) -> None:
    """So many prompts with a response, each of its own."""
    with path.open("w", encoding="utf-8") as file:
        for index in range(count):
            words = "word " * (index % 37 + 20)
            file.write(json.dumps({"prompt": f"Question {index}?", "response": f"Answer {index}: {words}"}) + "\n")


@dataclass(frozen=True)
class Arm:
    """One run of the throughput part: rows a second and processors in use once workers were up, processor time a row."""

    rate: float
    processors: float
    busy_a_row: float
    whole_seconds: float


def throughput(folder: Path, rows: int, rounds: int) -> dict[str, Any]:
    """One against two workers, in turn."""
    source = folder / "rows.jsonl"
    write_rows(source, rows)
    arms: dict[int, list[Arm]] = {1: [], 2: []}
    with cluster("local", 2):
        for number in range(rounds):
            for workers in (1, 2) if number % 2 else (2, 1):
                job = Job(Source(str(source)), HASHING, folder / f"out-{number}-{workers}", workers, part_rows=16)
                arms[workers].append(_arm(job))
    pairs = list(zip(arms[2], arms[1], strict=True))
    return {
        "rows": rows,
        "rate": {workers: Spread.of([arm.rate for arm in found]) for workers, found in arms.items()},
        "processors": {workers: Spread.of([arm.processors for arm in found]) for workers, found in arms.items()},
        "milliseconds_a_row": {workers: Spread.of([1000 * arm.busy_a_row for arm in found]) for workers, found in arms.items()},
        "whole_seconds": {workers: Spread.of([arm.whole_seconds for arm in found]) for workers, found in arms.items()},
        "ratio_of_rates": Spread.of([two.rate / one.rate for two, one in pairs]),
        "ratio_of_processors": Spread.of([two.processors / one.processors for two, one in pairs]),
        "load": psutil.getloadavg()[0],
    }


def _arm(job: Job) -> Arm:
    run = RayRun(job, job.reward())
    missing = run.prepare()
    begun, ended = time.perf_counter(), list[tuple[float, PartDone]]()
    for done in run.run(missing):
        ended.append((time.perf_counter(), done))
    warm = ended[job.workers - 1][0]  # every worker has loaded what it needs
    after = [done for _, done in ended[job.workers :]]
    seconds, rows = ended[-1][0] - warm, sum(done.rows for done in after)
    busy = sum(done.busy for done in after)
    return Arm(rows / seconds, busy / seconds, busy / rows, ended[-1][0] - begun)


def memory(folder: Path, sizes: Sequence[int]) -> dict[int, dict[str, float]]:
    """The driver's memory after runs of so many rows, each in a process of its own."""
    found = {}
    for rows in sizes:
        command = [sys.executable, "-m", "benchmarks.ray_judging", "--drive", str(folder), "--rows", str(rows)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[rows] = json.loads(done.stdout.splitlines()[-1])
    return found


def drive(folder: Path, rows: int) -> dict[str, float]:
    """One driver: its memory at the end and at most, in MB, and what the run took."""
    source = folder / f"rows-{rows}.jsonl"
    write_rows(source, rows)
    job = Job(Source(str(source)), RewardSpec("brevity"), folder / f"driven-{rows}", 2)
    run = RayRun(job, job.reward())
    begun, busy = time.perf_counter(), 0.0
    with cluster("local", 2):
        missing = run.prepare()
        checked = time.perf_counter() - begun
        busy = sum(done.busy for done in run.run(missing))
        summary = run.summary()
        end = psutil.Process().memory_info().rss / 2**20
    assert summary.rows == rows
    source.unlink()
    seconds = time.perf_counter() - begun
    return {"end_mb": end, "peak_mb": peak_mb(), "seconds": seconds, "checked_after": checked, "workers_busy": busy}


def cost(folder: Path) -> dict[str, float]:
    """Milliseconds of processor time a row, by what is done with it."""
    source = folder / "cost.jsonl"
    write_rows(source, 20_000)
    rows = read_rows(source).head(20_000)
    found = {
        "check": _each(20_000, lambda: check_file(Source(str(source)), 0)),
        "rule (brevity)": _judged(rows, RewardSpec("brevity")),
        "rule (math)": _judged([_sum(row, index) for index, row in enumerate(rows[:2100])], RewardSpec("math")),
        "learned (plaudit-small)": _judged(rows[:96], RewardSpec("plaudit-small"), warm=32),
        "judge (yes-token)": _judged(rows[:96], RewardSpec("yes-token"), warm=32),
    }
    reading = Manifest(RayRun(_job(source, folder), RewardSpec("brevity")()).identity(), _reading(source), 4096)
    parts = PartFolder(folder / "empty-parts")
    parts.begin(reading)
    found["a part besides its rows"] = _each(50, lambda: [_empty_part(parts, part) for part in range(50)])
    return found


def _sum(row: Row, index: int) -> Row:
    """A row that the math rule has to work on: every answer is another one, since equal ones are checked once."""
    return replace(row, responses=(rf"So it is \boxed{{\frac{{{index + 1}}}{{2}}}}.",), references=(f"{index + 1}/2",))


def _job(source: Path, folder: Path) -> Job:
    return Job(Source(str(source)), RewardSpec("brevity"), folder, 1)


def _reading(source: Path) -> Any:
    from plaudit.scale.reading import reading_of

    given = Source(str(source))
    return reading_of(given.files(), [check_file(given, 0)])


def _empty_part(folder: PartFolder, part: int) -> None:
    from plaudit.judging import Summary

    with folder.writing(part, Summary()):
        pass


def _each(count: int, work: Callable[[], Any]) -> float:
    begun = _processor()
    work()
    return 1000 * (_processor() - begun) / count


def _processor() -> float:
    """Processor time of this process and its children (the math rule checks answers in one), seconds."""
    times = [one.cpu_times() for one in psutil.Process().children(recursive=True)]
    return time.process_time() + sum(one.user + one.system for one in times)


def _judged(rows: Sequence[Any], spec: RewardSpec, warm: int = 100) -> float:
    runner = Runner(spec())
    list(runner.run(islice(rows, warm)))
    return _each(len(rows) - warm, lambda: list(runner.run(rows[warm:])))


def show(figures: Mapping[str, Any]) -> None:
    """Print what there is."""
    if "throughput" in figures:
        found = figures["throughput"]
        print(f"\nthroughput: {found['rows']} rows, load {found['load']:.1f}")
        print(f"{'workers':<9}{'rows/s':>24}{'processors':>22}{'ms a row':>24}{'seconds with start':>26}")
        for workers in found["rate"]:
            cells = [str(found[name][workers]) for name in ("rate", "processors", "milliseconds_a_row", "whole_seconds")]
            print(f"{workers:<9}{cells[0]:>24}{cells[1]:>22}{cells[2]:>24}{cells[3]:>26}")
        print(f"2 workers over 1: rates {found['ratio_of_rates']}, processors got {found['ratio_of_processors']}")
    for rows, found in figures.get("memory", {}).items():
        cells = ", ".join(f"{name} {value:.1f}" for name, value in found.items())
        print(f"memory: {int(rows):>9,} rows: {cells}")
    for name, milliseconds in figures.get("cost", {}).items():
        print(f"cost: {name:<26}{milliseconds:>10.4f} ms of processor time")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=["throughput", "memory", "cost"], default=["throughput", "memory", "cost"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1600, help="of the throughput part")
    parser.add_argument("--largest", type=int, default=MEMORY_ROWS[-1], help="rows of the memory part, at most")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.drive is not None:
        print(json.dumps(drive(given.drive, given.rows)))
        return
    figures: dict[str, Any] = {"machine": facts()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "throughput" in given.only:
            figures["throughput"] = throughput(folder, given.rows, given.rounds)
        if "memory" in given.only:
            figures["memory"] = memory(folder, [rows for rows in MEMORY_ROWS if rows <= given.largest])
        if "cost" in given.only:
            figures["cost"] = cost(folder)
    show(figures)
    write_json(given.json, figures)


if __name__ == "__main__":
    main()
