"""The embedded model through transformers and through llama.cpp: agreement, speed, memory.

    python -m benchmarks.engines --rounds 3 --json engines.json

Every arm is a process of its own with one thread (`--threads`), and has the same weights: the 4-bit file for llama.cpp, the same
numbers turned back into float32 for transformers. Arms take turns within each round, every round has new texts, so nothing is
answered from what an earlier round left. Agreement is of natural log-probabilities, over all rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import Measurement, Worker, facts, processor_ratios, ratios, timed, write_json
from plaudit.types import Engine, Request, Sampling

OPTIONS = [["Yes", " Yes", "yes", " yes"], ["No", " No", "no", " no"]]
RUBRIC = (
    "Judge whether the response answers the question. A good response is correct, complete and to the point; it neither "
    "invents facts nor leaves out what was asked for, and it says so where something is not known. "
)
TOPICS = ("rivers", "bread", "planets", "trains", "bees", "glass", "wool", "tides", "bridges", "salt", "clocks", "maps")
CONTINUATION = " Yes, the response answers the question, and nothing that was asked for is missing from it."


def chat(text: str) -> Request:
    """One user turn."""
    return Request(({"role": "user", "content": text},), "Answer:")


def shared(seed: int) -> list[Request]:
    """24 responses to one question under one rubric."""
    question = f"Round {seed}. " + 3 * RUBRIC + "\n\nQuestion: what should one know about them?\n\nResponse: "
    return [chat(f"{question}About {topic}, one should know {n} things. Yes or no?") for n in (2, 5) for topic in TOPICS]


def apart(seed: int) -> list[Request]:
    """12 questions that share nothing but the template's beginning."""
    return [chat(f"{topic} {seed}: {RUBRIC} Is it good to know about {topic}? Yes or no?") for topic in TOPICS]


JOBS: dict[str, Callable[[Engine, int], list[float]]] = {
    "yes or no, 24 rows of one rubric": lambda engine, seed: _values(engine.next_token(shared(seed), OPTIONS).log_probs),
    "yes or no, 12 rows apart": lambda engine, seed: _values(engine.next_token(apart(seed), OPTIONS).log_probs),
    "given text, 12 rows": lambda engine, seed: _tokens(engine, seed),
    "generate, 8 rows of 32 tokens": lambda engine, seed: _generated(engine, seed),
}


def _values(log_probs: Any) -> list[float]:
    return [float(value) for value in log_probs.flatten().tolist()]


def _tokens(engine: Engine, seed: int) -> list[float]:
    rows = apart(seed + 1000)
    found = engine.log_probs(rows, [CONTINUATION] * len(rows))
    return [float(value) for tokens in found.tokens for value in tokens.tolist()]


def _generated(engine: Engine, seed: int) -> list[float]:
    made = engine.generate(apart(seed + 2000)[:8], Sampling(max_tokens=32, temperature=1.0, seed=seed))
    return [float(one.completion_tokens) for one in made]


def opened(arm: str, threads: int) -> Engine:
    """The engine of an arm."""
    from plaudit.engines.default_model import ensure_default_gguf, ensure_default_model

    if arm == "transformers":
        from plaudit.engines.local import LocalEngine

        return LocalEngine(ensure_default_model(), device="cpu", threads=threads)
    from plaudit.engines.llama_cpp import LlamaCppEngine

    settings: dict[str, dict[str, Any]] = {
        "llama.cpp": {},
        "llama.cpp, 4 slots": {"slots": 4},
        "llama.cpp, not exact": {"exact": False},
    }
    return LlamaCppEngine(ensure_default_gguf(), context=2048, threads=threads, **settings[arm])


ARMS = ("transformers", "llama.cpp", "llama.cpp, 4 slots", "llama.cpp, not exact")


def work(arm: str, threads: int) -> None:
    """Answer each line of input: what a job took, and its numbers."""
    engine = opened(arm, threads)
    engine.next_token([chat("Ready?")], OPTIONS)
    print(json.dumps({"ready": arm}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        values, taken = timed(lambda asked=asked: JOBS[asked["job"]](engine, asked["seed"]))  # type: ignore[misc]
        answer = {"seconds": taken.seconds, "peak_mb": taken.peak_mb, "processor": taken.processor, "values": values}
        print(json.dumps(answer), flush=True)


def measure(rounds: int, threads: int) -> dict[str, Any]:
    """All jobs on all arms, interleaved: by job and arm what each round took, and the numbers."""
    workers = {arm: Worker(Path(sys.executable), "benchmarks.engines", "--arm", arm, "--threads", str(threads)) for arm in ARMS}
    taken: dict[str, dict[str, list[Measurement]]] = {job: {arm: [] for arm in ARMS} for job in JOBS}
    values: dict[str, dict[str, list[float]]] = {job: {arm: [] for arm in ARMS} for job in JOBS}
    try:
        for number in range(rounds):
            for job in JOBS:
                for arm in ARMS if number % 2 == 0 else reversed(ARMS):
                    answer = workers[arm]({"job": job, "seed": number})
                    taken[job][arm].append(Measurement.of(answer))
                    values[job][arm] += answer["values"]
    finally:
        for worker in workers.values():
            worker.close()
    return {"taken": taken, "values": values}


def agreement(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """How far two lists of log-probabilities are apart."""
    apart_by = sorted(abs(one - other) for one, other in zip(ours, theirs, strict=True))
    return {
        "numbers": len(apart_by),
        "median": statistics.median(apart_by),
        "95 %": apart_by[int(0.95 * (len(apart_by) - 1))],
        "largest": apart_by[-1],
        "mean signed": statistics.mean(one - other for one, other in zip(ours, theirs, strict=True)),
    }


def show(figures: dict[str, Any]) -> None:
    """Print the tables; adds the ratios and the agreement to the figures."""
    figures["ratios"], figures["agreement"] = {}, {}
    for job, arms in figures["taken"].items():
        print(f"\n{job}")
        reference = arms["transformers"]
        for arm, rounds in arms.items():
            seconds = statistics.median(one.seconds for one in rounds)
            faster, cheaper = ratios(reference, rounds), processor_ratios(reference, rounds)
            peak = max(one.peak_mb for one in rounds)
            print(f"  {arm:<22}{seconds:8.2f} s   x {faster!s:<24} processor x {cheaper!s:<24} peak {peak:6.0f} MB")
            figures["ratios"][f"{job} / {arm}"] = {"seconds": faster, "processor": cheaper, "peak_mb": peak}
        numbers = figures["values"][job]
        for arm in ARMS[1:] if "generate" not in job else ():
            found = figures["agreement"][f"{job} / {arm}"] = agreement(numbers[arm], numbers["transformers"])
            print(f"  {arm:<22} log-probabilities apart: " + ", ".join(f"{name} {value:.3g}" for name, value in found.items()))


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.arm is not None:
        work(given.arm, given.threads)
        return
    figures = measure(given.rounds, given.threads)
    print(f"x: how many times as long transformers takes, median (range) of {given.rounds} rounds; load {os.getloadavg()[0]:.1f}")
    show(figures)
    del figures["values"]
    write_json(given.json, {"facts": facts(), "rounds": given.rounds, "threads": given.threads, **figures})


if __name__ == "__main__":
    main()
