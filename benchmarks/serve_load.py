"""The service under load: a judge and a rule asked by 64 clients, on one machine.

    OMP_WAIT_POLICY=PASSIVE .venv/bin/python -m benchmarks.serve_load --seconds 300 --rate 50 --json serve_load.json

`plaudit serve judge brevity` runs as its users run it: the judge (the embedded model, one thread) in a process, the rule in
another, no verdict store, so that everything is judged. 48 clients ask the judge in a closed loop (scores, pairs, rankings), 16
ask the rule at `--rate` requests a second in all; a rule request's latency counts from when it was due, so waiting clients hide
nothing. All 64 are one process (aiohttp), which shares the cores with the service. Reported: answers by status code, latencies,
the largest difference to what the rewards say offline (every answer is compared), and the resident memory of all processes of
the service after each tenth. Then rounds in turn of the same judge behind the service as it is, and behind one that judges one
request at a time (`--batch-size 1`), 64 clients each.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from benchmarks.common import Spread, Worker, facts, write_json
from benchmarks.runner_overhead import ROOT
from benchmarks.serve_clients import JUDGE, RULE

CLIENTS, RULE_CLIENTS = 64, 16


class Service:
    """`plaudit serve` in a process; ready when it is built. Raises RuntimeError, with what it said, if it ends before."""

    def __init__(self, *arguments: str) -> None:
        self._log = Path(tempfile.mkstemp(prefix="plaudit-serve-")[1])
        command = [sys.executable, "-m", "plaudit", "serve", JUDGE, RULE, "--port", "0", "--store", "none", *arguments]
        settings = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "HF_HUB_OFFLINE": "1"}
        with self._log.open("wb") as file:
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, env=settings)
        self.url = ""
        while not self._ready():
            if self._process.poll() is not None:
                raise RuntimeError(self._log.read_text())
            time.sleep(0.2)

    def _ready(self) -> bool:
        found = re.search(r"on (http://\S+)", self._log.read_text())
        if found is None:
            return False
        self.url = found[1]
        try:
            with urllib.request.urlopen(self.url + "/ready", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def resident(self) -> float:
        """Resident memory of all its processes, MB."""
        top = psutil.Process(self._process.pid)
        return sum(one.memory_info().rss for one in (top, *top.children(recursive=True))) / 2**20

    def units_a_batch(self) -> float:
        """Mean number of responses that one call of the judge took so far."""
        with urllib.request.urlopen(self.url + "/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        name = f'plaudit_batch_units_{{}}{{{{reward="{JUDGE}"}}}}'
        units, batches = (
            float(next((line.split()[-1] for line in lines if line.startswith(name.format(part))), 0.0))
            for part in ("sum", "count")
        )
        return units / batches if batches else 0.0

    def close(self) -> int:
        """End it in order; the exit code."""
        self._process.terminate()
        code = self._process.wait(60)
        self._log.unlink()
        return code


def quantiles(values: list[float]) -> dict[str, float]:
    """Milliseconds: median, 95th and 99th percentile, largest."""
    ranked = sorted(values)
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "largest": 1.0}
    return {name: ranked[min(len(ranked) - 1, int(share * len(ranked)))] for name, share in shares.items()}


class Watch(threading.Thread):
    """Notes the service's resident memory and the machine's load ten times in a run, and once before."""

    def __init__(self, service: Service, seconds: float) -> None:
        super().__init__(daemon=True)
        self._service, self._every = service, seconds / 10
        self.memory, self.load = [service.resident()], [os.getloadavg()[0]]

    def run(self) -> None:
        """Ten times."""
        for _ in range(10):
            time.sleep(self._every)
            self.memory.append(self._service.resident())
            self.load.append(os.getloadavg()[0])


def run_mixed(clients: Worker, service: Service, given: argparse.Namespace, expected: dict[str, Any]) -> dict[str, Any]:
    """The mixed load."""
    watch = Watch(service, given.seconds)
    watch.start()
    seen = clients({"what": "mixed", "url": service.url, "expected": expected, "seed": 0, "rate": given.rate,
                    "seconds": given.seconds, "judge_clients": CLIENTS - RULE_CLIENTS, "rule_clients": RULE_CLIENTS})  # fmt: skip
    watch.join()
    tenths: list[list[float]] = [[] for _ in range(10)]
    for due, ms in seen["late"]:
        tenths[min(9, int(10 * due / given.seconds))].append(ms)
    return {
        "seconds": given.seconds,
        "rate": given.rate,
        "codes": seen["codes"],
        "kinds": seen["kinds"],
        "errors": sum(count for code, count in seen["codes"].items() if code not in ("200", "429")),
        "rule_ms": quantiles([ms for _, ms in seen["late"]]),
        "rule_p99_by_tenth": [quantiles(one)["p99"] for one in tenths if one],
        "judge_ms": quantiles(seen["judge_ms"]),
        "checked": seen["checked"],
        "missing": seen["missing"],
        "largest_gap": {"judge": seen["gap"], "rule": seen["rule_gap"]},
        "resident_mb": watch.memory,
        "load": watch.load,
        "units_a_batch": service.units_a_batch(),
    }


def run_throughput(clients: Worker, given: argparse.Namespace) -> dict[str, Any]:
    """Rounds in turn: requests a second of the judge with and without batching, by how many responses share a prompt."""
    patient = ("--request-seconds", "3600")  # nobody is refused: what is measured is how fast work is done
    arms = {"batched": Service(*patient), "one by one": Service("--batch-size", "1", "--max-wait-ms", "0", *patient)}
    first, found = 0, {}
    for group in given.groups:
        rates: dict[str, list[float]] = {name: [] for name in arms}
        for number in range(given.rounds):
            for name in sorted(arms, reverse=bool(number % 2)):
                asked = {"seconds": given.flood_seconds, "clients": given.clients, "group": group, "first": first}
                answer = clients({"what": "flood", "url": arms[name].url, **asked})
                first = answer["next"]
                rates[name].append(answer["per_second"])
        ratio = Spread.of([a / b for a, b in zip(rates["batched"], rates["one by one"], strict=True)])
        found[str(group)] = {"rates": {name: Spread.of(values) for name, values in rates.items()}, "ratio": ratio}
    for service in arms.values():
        service.close()
    return found


def show_mixed(found: dict[str, Any]) -> None:
    """The table of the mixed load."""
    print(f"\nmixed load, {found['seconds']} s, {CLIENTS} clients: {found['kinds']}")
    print(f"answers {found['codes']}, errors other than 429: {found['errors']}; {found['units_a_batch']:.1f} responses a batch")
    for who, name in (("rule_ms", f"rule at {found['rate']:g}/s"), ("judge_ms", "judge, closed loop")):
        print(f"{name:<20}" + "".join(f"{what} {ms:8.1f} ms   " for what, ms in found[who].items()))
    print("rule p99 by tenth, ms: " + ", ".join(f"{ms:.0f}" for ms in found["rule_p99_by_tenth"]))
    gap = found["largest_gap"]
    within = f"judge within {gap['judge']:.1e}, rule within {gap['rule']:.1e}"
    print(f"{found['checked']} numbers compared: {within}, {found['missing']} missing")
    print("resident MB: " + ", ".join(f"{mb:.0f}" for mb in found["resident_mb"]))
    print("load: " + ", ".join(f"{load:.1f}" for load in found["load"]))


def show_throughput(found: dict[str, Any]) -> None:
    """The table of rounds."""
    print("\nthe judge, one new response a request: requests a second, median (lowest to highest)")
    for group, result in found.items():
        print(f"{group} responses to a prompt: " + ", ".join(f"{name} {rate}" for name, rate in result["rates"].items()))
        print(f"  ratio {result['ratio']}")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0, help="of the mixed load; 0 leaves it out")
    parser.add_argument("--rate", type=float, default=50.0, help="rule requests a second")
    parser.add_argument("--rounds", type=int, default=3, help="of the throughput; 0 leaves it out")
    parser.add_argument("--flood-seconds", type=float, default=20.0, help="of one arm in one round")
    parser.add_argument("--clients", type=int, default=CLIENTS, help="of the throughput")
    parser.add_argument("--groups", type=int, nargs="+", default=[8, 1], help="responses that share a prompt")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    about, python = facts(), Path(sys.executable)
    clients = Worker(python, "benchmarks.serve_clients")
    found: dict[str, Any] = {}
    if given.seconds:
        offline = Worker(python, "benchmarks.serve_clients")
        expected = offline({"what": "offline"})
        offline.close()
        service = Service()
        try:
            found["mixed"] = run_mixed(clients, service, given, expected)
        finally:
            found["exit_code"] = service.close()
        show_mixed(found["mixed"])
    if given.rounds:
        found["throughput"] = run_throughput(clients, given)
        show_throughput(found["throughput"])
    clients.close()
    print(f"\n{about['cores']} cores ({about['processor']}), load before {about['load_before']:.1f}")
    write_json(given.json, {"facts": about, **found})


if __name__ == "__main__":
    main()
