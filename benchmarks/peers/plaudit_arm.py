"""plaudit: `Runner` over a `Judge` with the contract `reason-then-score`, every verdict committed to an SQLite store.

`--variant pairwise` judges pairs by `verdict-text`: two judgements a pair, one in each order.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.peers.arm import Sample, run_arm
from plaudit.data.row import Row
from plaudit.engines.openai_api import OpenAIEngine
from plaudit.judging.runner import Runner
from plaudit.rewards.generative import Judge
from plaudit.store import Store
from plaudit.types import Status


def prepare(given: argparse.Namespace) -> Callable[[list[Sample]], int]:
    """A fresh store on disk; everything else as the command line has it."""
    import torch  # noqa: F401 - imports are not timed, for any arm

    pairwise = given.variant == "pairwise"
    model = "stub-plaudit-pairwise" if pairwise else "stub-plaudit"
    engine = OpenAIEngine(model, base_url=given.url, api_key="none", concurrency=given.concurrency)
    reward = Judge(engine, "verdict-text" if pairwise else "reason-then-score")
    store = Store(Path(tempfile.mkdtemp()) / "store.sqlite")

    def judge(work: list[Sample]) -> int:
        if pairwise:
            work = work[: len(work) // 2]
            rows = [Row(sample.prompt, sample.prompt, (sample.response, sample.response[::-1])) for sample in work]
            results = list(Runner(reward, store).run(rows))
            return len(work) - sum(1 for result in results if result.pairs[0].status is Status.OK)
        rows = [Row(sample.prompt, sample.prompt, (sample.response,)) for sample in work]
        results = list(Runner(reward, store).run(rows))
        return len(work) - sum(1 for result in results if result.responses[0].status is Status.OK)

    return judge


if __name__ == "__main__":
    run_arm(prepare)
