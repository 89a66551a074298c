"""How fast the sandbox runs trivial code, and whether its memory stays flat.

    python -m benchmarks.sandbox --runs 20000 --threads 4

Prints executions a second (whole machine, so stop other work first), processor time an execution, and the resident memory of this
process and of the sandbox's processes at the beginning and the end.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import psutil

from plaudit.engines.sandbox import Sandbox

CODE = "print(6 * 7)"


def resident(template: int) -> float:
    """Resident memory of this process and the sandbox's, MB."""
    processes = [psutil.Process(), psutil.Process(template), *psutil.Process(template).children(recursive=True)]
    total = 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except psutil.Error:  # a child that has just ended
            continue
    return total / 2**20


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--threads", type=int, default=4)
    given = parser.parse_args()
    with Sandbox(strict=False) as sandbox, ThreadPoolExecutor(given.threads) as pool:
        for name, guarantee in sandbox.guarantees().items():
            print(f"{name:<26}{'yes' if guarantee.given else 'NO':<5}{guarantee.how}")
        template = sandbox._template.pid  # type: ignore[union-attr]
        list(pool.map(sandbox.run, [CODE] * 200))
        waits = []
        for _ in range(50):
            begun = time.perf_counter()
            sandbox.run(CODE)
            waits.append(time.perf_counter() - begun)
        before, begun = resident(template), time.perf_counter()
        rates, memory = [], [before]
        chunk = max(1, given.runs // 10)
        for _ in range(0, given.runs, chunk):
            start = time.perf_counter()
            done = list(pool.map(sandbox.run, [CODE] * chunk))
            assert all(one.stdout == "42\n" for one in done)
            rates.append(chunk / (time.perf_counter() - start))
            memory.append(resident(template))
        print(f"one at a time: median {1000 * statistics.median(waits):.1f} ms")
        seconds, load = time.perf_counter() - begun, os.getloadavg()[0]
        spread = f"tenths of the run: {min(rates):.0f} to {max(rates):.0f}"
        print(f"{given.runs} runs, {given.threads} threads: {given.runs / seconds:.0f} a second ({spread})")
        print(f"{os.cpu_count()} cores, load {load:.1f}")
        print("resident MB: " + ", ".join(f"{value:.1f}" for value in memory))


if __name__ == "__main__":
    main()
