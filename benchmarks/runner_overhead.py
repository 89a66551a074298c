"""Overhead of judging: plaudit against verdict, py-openjudge and prometheus-eval, on a server that answers at once.

    make bench-peers                                        # sets up the peers' environments, then runs this
    python -m benchmarks.runner_overhead --rounds 3 --json overhead.json

Every arm is a process of its own, in its own environment, against one stub server; the arms take turns within each round.
README.md says what each arm does and leaves undone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / ".peers"

TEXTS = {
    "stub-plaudit": "The response is clear.\nScore: 4",
    "stub-plaudit-pairwise": "Verdict: A",
    "stub-verdict": "The response is clear. Score: 4",
    "stub-verdict-structured": '{"score": 4}',
    "stub-openjudge": '{"reason": "The response is clear.", "score": 4}',
    "stub-prometheus": "Feedback: The response is clear. [RESULT] 4",
}
"""What the stub answers each arm: the same verdict in the form that the arm asks for."""


@dataclass(frozen=True)
class Arm:
    """One system: the Python that runs it and the module in `benchmarks.peers`."""

    name: str
    python: Path
    module: str
    variant: str = ""


ARMS = (
    Arm("plaudit", Path(sys.executable), "plaudit_arm"),
    Arm("verdict", PEERS / "verdict" / "bin" / "python", "verdict_arm"),
    Arm("py-openjudge", PEERS / "py-openjudge" / "bin" / "python", "openjudge_arm"),
    Arm("prometheus-eval", PEERS / "prometheus-eval" / "bin" / "python", "prometheus_arm"),
)


@contextmanager
def stub_server() -> Iterator[str]:
    """Base URL of a running stub."""
    command = [sys.executable, "-m", "benchmarks.stub_server", "--texts", json.dumps(TEXTS)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}/v1"
    finally:
        process.kill()
        process.communicate()


def run(arm: Arm, url: str, judgements: int, concurrency: int) -> dict[str, Any]:
    """One timed run of an arm. Raises RuntimeError with the end of its output if it fails."""
    command = [str(arm.python), "-m", f"benchmarks.peers.{arm.module}", "--url", url, "--judgements", str(judgements)]
    command += ["--concurrency", str(concurrency), "--variant", arm.variant]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "2"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{arm.name} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return {**result, "per_second": result["judgements"] / result["seconds"]}


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    model = ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return {
        "processor": model or platform.processor(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "plaudit": version("plaudit"),
        "aiohttp": version("aiohttp"),
    }


def summary(rounds: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Per arm: median and range of judgements a second, failures, memory; and plaudit over the best peer of each round."""
    arms: dict[str, Any] = {}
    for name in rounds[0]:
        rates = [results[name]["per_second"] for results in rounds]
        arms[name] = {
            "per_second": {"median": statistics.median(rates), "lowest": min(rates), "highest": max(rates)},
            "processor_ms": statistics.median(r[name]["processor_seconds"] / r[name]["judgements"] * 1e3 for r in rounds),
            "failures": sum(results[name]["failures"] for results in rounds),
            "peak_memory_mb": max(results[name]["peak_memory_mb"] for results in rounds),
        }
    ratios = [
        results["plaudit"]["per_second"] / max(result["per_second"] for name, result in results.items() if name != "plaudit")
        for results in rounds
        if "plaudit" in results and len(results) > 1
    ]
    ratio = {"median": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)} if ratios else None
    return {"arms": arms, "ratio_to_best_peer": ratio}


def table(figures: dict[str, Any]) -> str:
    """The figures as text."""
    lines = [f"{'':16} {'judgements/s':>12} {'(range)':>15} {'CPU ms each':>12} {'failures':>9} {'peak MB':>8}"]
    for name, arm in figures["arms"].items():
        rate = arm["per_second"]
        spread = f"{rate['lowest']:.0f} to {rate['highest']:.0f}"
        cells = f"{arm['processor_ms']:12.2f} {arm['failures']:9} {arm['peak_memory_mb']:8.0f}"
        lines.append(f"{name:16} {rate['median']:12.0f} {spread:>15} {cells}")
    ratio = figures["ratio_to_best_peer"]
    if ratio:
        lines.append(f"plaudit / best peer of the round: {ratio['median']:.2f} ({ratio['lowest']:.2f} to {ratio['highest']:.2f})")
    return "\n".join(lines)


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description="Overhead of judging against peers")
    parser.add_argument("--judgements", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[], help="names of arms")
    parser.add_argument("--json", type=Path, help="file for all figures")
    given = parser.parse_args()
    arms = [arm for arm in ARMS if not given.only or arm.name in given.only]
    absent = [arm.name for arm in arms if not arm.python.exists()]
    if absent or not arms:
        sys.exit(f"no environment for {', '.join(absent) or given.only}: run `make bench-peers`")
    facts = machine()
    rounds = []
    with stub_server() as url:
        for number in range(given.rounds):
            rounds.append({arm.name: run(arm, url, given.judgements, given.concurrency) for arm in arms})
            rates = ", ".join(f"{name} {result['per_second']:.0f}/s" for name, result in rounds[-1].items())
            print(f"round {number + 1}: {rates}", file=sys.stderr)
    figures = {
        "judgements": given.judgements,
        "concurrency": given.concurrency,
        "machine": facts,
        **summary(rounds),
        "rounds": rounds,
    }
    print(table(figures))
    print(", ".join(f"{name}: {value}" for name, value in facts.items()))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
