"""What all arms share: the samples, the arguments, the clock, and the one JSON line that an arm prints."""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

TOPICS = ("rivers", "bread", "sorting", "tides", "chess", "glaciers", "violins", "maps")
WARM_UP = 64
"""Judgements before the clock starts: they open connections and finish lazy imports."""


@dataclass(frozen=True)
class Sample:
    """A prompt and a response to be judged, as every arm gets them."""

    prompt: str
    response: str


def samples(count: int, start: int = 0) -> list[Sample]:
    """`count` different samples of about 600 characters; the same ones every time."""
    made = []
    for number in range(start, start + count):
        topic = TOPICS[number % len(TOPICS)]
        prompt = f"Question {number}: explain to a newcomer what matters most about {topic}, in a few sentences."
        response = " ".join(
            f"Point {i} about {topic} is number {number * 31 + i}, which follows from the one before." for i in range(8)
        )
        made.append(Sample(prompt, response))
    return made


def run_arm(prepare: Callable[[argparse.Namespace], Callable[[list[Sample]], int]]) -> None:
    """Prepare an arm, warm it up, time it, print the result.

    prepare: gets the arguments (url, concurrency) and returns a function that judges samples and says how many failed,
    that is, have no parsed verdict.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True, help="base URL of the stub, up to /v1")
    parser.add_argument("--judgements", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--variant", default="")
    given = parser.parse_args()
    judge = prepare(given)
    judge(samples(WARM_UP, start=10**6))
    work = samples(given.judgements)
    processor = time.process_time()
    begin = time.perf_counter()
    failures = judge(work)
    seconds = time.perf_counter() - begin
    result = {
        "judgements": len(work),
        "seconds": seconds,
        "processor_seconds": time.process_time() - processor,
        "failures": failures,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    sys.stdout.write(json.dumps(result) + "\n")
