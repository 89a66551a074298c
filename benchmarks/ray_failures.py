"""What failures cost a run in parts: a seeded simulation beside a closed form, and one real worker killed.

    python -m benchmarks.ray_failures --json ray_failures.json
    python -m benchmarks.ray_failures --kill               # also kill -9 a worker of a real local cluster, in the middle

Model: W workers take parts from one queue. A part takes T seconds on a worker of speed 1 (times a lognormal factor: rows differ),
plus o seconds besides its rows. A worker dies after an exponential time of mean M, loses what it has done of its part, and is
back after r seconds; the part is begun anew. A share of the workers is slower. When the driver dies, every part in work is
lost, and the run is started again by hand or by the machine's supervisor.

Closed form: with deaths at the rate a = 1/M, a part of d seconds takes (exp(a d) - 1) (1/a + r) on average, and the workers'
rates add up. When the queue is empty, the others wait for the longest part in work: d exp(s z - s^2/2) for lognormal factors of
scatter s, z the normal quantile of 1 - 1/W, of which half a part, d exp(s^2)/2, is work that was counted already. Overhead is
the time over that of the same workers without deaths, slow ones and cost besides rows. The part that costs least takes about
sqrt(2 o M) seconds (Young's checkpoint interval): there the cost of beginning parts equals the work lost with them.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import os
import random
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.common import Spread, facts, write_json

HOUR = 3600.0
DAY = 24 * HOUR


@dataclass(frozen=True)
class Fleet:
    """A run; times in seconds. mtbf: of one worker. slow: share of the workers that take `slowness` times as long."""

    name: str
    workers: int
    parts: int
    part: float
    beside: float = 0.1
    mtbf: float = math.inf
    restart: float = 30.0
    slow: float = 0.0
    slowness: float = 2.0
    scatter: float = 0.2
    driver_mtbf: float = math.inf
    driver_restart: float = 600.0

    @property
    def ideal(self) -> float:
        """Seconds if nothing went wrong and nothing waited."""
        return self.parts * self.part / self.workers

    def speeds(self) -> list[float]:
        """Time factor of each worker."""
        slow = round(self.slow * self.workers)
        return [self.slowness] * slow + [1.0] * (self.workers - slow)


def simulate(fleet: Fleet, seed: int) -> tuple[float, float]:
    """(seconds of the run, share of all working time that was lost with deaths)."""
    draw = random.Random(seed)
    deaths = _times(draw, fleet.driver_mtbf, 20 * fleet.ideal)
    speeds = fleet.speeds()
    free = [(0.0, worker) for worker in range(fleet.workers)]
    heapq.heapify(free)
    queue = [_factor(draw, fleet.scatter) for _ in range(fleet.parts)]
    ended = lost = worked = 0.0
    while queue:
        now, worker = heapq.heappop(free)
        factor = queue.pop()
        needed = fleet.part * factor * speeds[worker] + fleet.beside
        death = now + (draw.expovariate(1 / fleet.mtbf) if math.isfinite(fleet.mtbf) else math.inf)
        driver = next((moment for moment in deaths if moment > now), math.inf)
        end = min(now + needed, death, driver)
        worked += end - now
        if end == now + needed:
            ended = max(ended, end)
            heapq.heappush(free, (end, worker))
            continue
        lost += end - now
        queue.append(factor)
        heapq.heappush(free, (end + (fleet.driver_restart if end == driver else fleet.restart), worker))
    return ended, lost / worked


def _times(draw: random.Random, mean: float, until: float) -> list[float]:
    moments, now = [], 0.0
    while math.isfinite(mean) and now < until:
        now += draw.expovariate(1 / mean)
        moments.append(now)
    return moments


def _factor(draw: random.Random, scatter: float) -> float:
    """Lognormal with mean 1."""
    return math.exp(draw.gauss(-scatter * scatter / 2, scatter))


def closed_form(fleet: Fleet) -> float:
    """Expected seconds of the run."""
    rate = 0.0
    for speed in fleet.speeds():
        needed = fleet.part * speed + fleet.beside
        # the driver's deaths end a part like the worker's own, at the sum of both rates
        alarms = sum(1 / mean for mean in (fleet.mtbf, fleet.driver_mtbf) if math.isfinite(mean))
        if alarms:
            back = (
                sum(
                    cost / mean
                    for mean, cost in ((fleet.mtbf, fleet.restart), (fleet.driver_mtbf, fleet.driver_restart))
                    if math.isfinite(mean)
                )
                / alarms
            )
            needed = math.expm1(alarms * needed) * (1 / alarms + back)
        rate += 1 / needed
    quantile = statistics.NormalDist().inv_cdf(1 - 1 / fleet.workers)
    longest = math.exp(fleet.scatter * quantile - fleet.scatter**2 / 2)
    return fleet.parts / rate + max(fleet.speeds()) * fleet.part * (longest - math.exp(fleet.scatter**2) / 2)


def fleets() -> list[Fleet]:
    """The runs of docs/past-one-machine.md: 10^9 judgements of 30 ms by 1,000 processors, and what changes with each number."""
    rows, milliseconds, part_rows = 1_000_000_000, 30.0, 4096
    base = Fleet("nothing fails", 1000, rows // part_rows, part_rows * milliseconds / 1000)
    weekly = replace(base, name="a worker dies once a week", mtbf=7 * DAY)
    spot = replace(base, name="spot machines: every 2 hours", mtbf=2 * HOUR)
    return [
        base,
        weekly,
        spot,
        replace(spot, name="spot, parts of 16 times the rows", part=16 * base.part, parts=base.parts // 16),
        replace(spot, name="spot, parts of a 16th of the rows", part=base.part / 16, parts=base.parts * 16),
        replace(weekly, name="weekly, and one worker in 20 half as fast", slow=0.05),
        replace(weekly, name="weekly, rows of very different length", scatter=1.0),
        replace(weekly, name="weekly, and the driver dies once a day", driver_mtbf=DAY),
    ]


def study(fleet: Fleet, seeds: int) -> dict[str, Any]:
    """Simulated and expected overhead over the ideal, and what was lost."""
    runs = [simulate(fleet, seed) for seed in range(seeds)]
    overhead = Spread.of([seconds / fleet.ideal - 1 for seconds, _ in runs])
    expected = closed_form(fleet)
    return {
        **{
            name: value if not isinstance(value, float) or math.isfinite(value) else None for name, value in asdict(fleet).items()
        },
        "ideal_hours": fleet.ideal / HOUR,
        "overhead": overhead,
        "lost": statistics.median(lost for _, lost in runs),
        "closed_form_overhead": expected / fleet.ideal - 1,
        "best_part_seconds": math.sqrt(2 * fleet.beside * fleet.mtbf) if math.isfinite(fleet.mtbf) else None,
    }


REWARD = """
import os, time
from pathlib import Path
import torch
from plaudit.rewards.base import BaseReward
from plaudit.types import Scores

class Noting(BaseReward):
    name, uses_seed, batch_size, settings = "noting", False, 8, {}

    def score(self, batch, ctx=None):
        with Path(__file__).with_name("noted").open("a") as file:
            file.write(f"{time.time()} {os.getpid()} {len(batch)}\\n")
        time.sleep(0.1)
        return Scores(torch.tensor([float(len(text)) for text in batch.responses]))
"""


def kill_one(folder: Path) -> dict[str, float]:
    """Judge with two workers, kill one in the middle: rows judged twice, and seconds until its successor judges."""
    from plaudit.scale.ray_cluster import cluster
    from plaudit.scale.ray_judging import Job, RayRun, RewardSpec
    from plaudit.scale.reading import Source

    (folder / "noting.py").write_text(REWARD)
    source, rows, noted = folder / "rows.jsonl", 2400, folder / "noted"
    source.write_text("".join(json.dumps({"prompt": f"{index}", "response": "x" * index}) + "\n" for index in range(rows)))
    killed: list[tuple[int, float]] = []

    def kill() -> None:
        while not noted.exists() or len({line.split()[1] for line in noted.read_text().splitlines()}) < 2:
            time.sleep(0.05)
        time.sleep(4)
        killed.append((int(noted.read_text().split("\n")[-2].split()[1]), time.time()))
        os.kill(killed[0][0], signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    job = Job(Source(str(source)), RewardSpec(f"{folder / 'noting.py'}:Noting"), folder / "out", 2, part_rows=120)
    with cluster("local", 2):
        run = RayRun(job, job.reward())
        done = list(run.run(run.prepare()))
        whole = run.summary().rows
    moments = [
        (float(moment), int(process), int(count)) for moment, process, count in map(str.split, noted.read_text().splitlines())
    ]
    _, moment = killed[0]
    before = {found for when, found, _ in moments if when < moment}
    successor = min((when for when, found, _ in moments if found not in before), default=math.nan)
    return {
        "rows": rows,
        "rows_whole": whole,
        "parts": len(done),
        "part_rows": 120,
        "judged_twice": sum(count for _, _, count in moments) - rows,
        "restart_seconds": successor - moment,
    }


def show(figures: Mapping[str, Any]) -> None:
    """Print what there is."""
    print(f"{'run':<46}{'ideal':>9}{'overhead (simulated)':>32}{'closed form':>13}{'lost work':>11}{'best part':>11}")
    for found in figures["fleets"]:
        spread = found["overhead"]
        simulated = f"{100 * spread.median:.2f} % ({100 * spread.lowest:.2f} to {100 * spread.highest:.2f})"
        best = "" if found["best_part_seconds"] is None else f"{found['best_part_seconds']:.0f} s"
        print(
            f"{found['name']:<46}{found['ideal_hours']:>7.2f} h{simulated:>32}{100 * found['closed_form_overhead']:>11.2f} %"
            f"{100 * found['lost']:>9.2f} %{best:>11}"
        )
    if "kill" in figures:
        print("\na real worker killed: " + ", ".join(f"{name} {value:.6g}" for name, value in figures["kill"].items()))


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    figures: dict[str, Any] = {"machine": facts(), "fleets": [study(fleet, given.seeds) for fleet in fleets()]}
    if given.kill:
        with tempfile.TemporaryDirectory() as name:
            figures["kill"] = kill_one(Path(name))
    show(figures)
    write_json(given.json, figures)


if __name__ == "__main__":
    main()
