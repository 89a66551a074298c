"""vLLM on a GPU against the local engine on the CPU: agreement in bfloat16, and rates.

    python -m benchmarks.gpu_engines --model smollm2 --rows 256 --json gpu_engines.json

Needs a GPU and `pip install 'plaudit[vllm]'`; says so and ends with code 0 where there is none. The agreement that is asked for:
probabilities of answers within 0.01 of those of float32 on the CPU, and log-probabilities of given tokens within 0.1 in the mean.
Ends with code 1 where they are not.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import facts, write_json
from benchmarks.engines import CONTINUATION, OPTIONS, apart, shared
from plaudit.types import Engine, Sampling

PROBABILITY, LOG_PROBABILITY = 1e-2, 1e-1


def absent() -> str | None:
    """Why nothing can be run here."""
    import torch

    if not torch.cuda.is_available():
        return "no GPU: not run"
    return None if importlib.util.find_spec("vllm") else "vLLM is not installed: not run (pip install 'plaudit[vllm]')"


def compare(ours: Engine, theirs: Engine) -> dict[str, float]:
    """How far two engines are apart, on rows that share a rubric and rows that share nothing."""
    rows = shared(0) + apart(0)
    one, other = (engine.next_token(rows, OPTIONS).log_probs.exp() for engine in (ours, theirs))
    texts = [CONTINUATION] * len(rows)
    first, second = (engine.log_probs(rows, texts).tokens for engine in (ours, theirs))
    tokens = [
        abs(a - b) for left, right in zip(first, second, strict=True) for a, b in zip(left.tolist(), right.tolist(), strict=True)
    ]
    return {
        "probability, largest": float((one - other).abs().max()),
        "token log-probability, mean": statistics.mean(tokens),
        "token log-probability, largest": max(tokens),
    }


def rates(engine: Engine, rows: int) -> dict[str, float]:
    """Rows a second of each job, once the engine is warm."""
    many = [request for seed in range(1, 2 + rows // 24) for request in shared(seed)][:rows]
    jobs: dict[str, Callable[[], Any]] = {
        "yes or no": lambda: engine.next_token(many, OPTIONS),
        "given text": lambda: engine.log_probs(many, [CONTINUATION] * rows),
        "generate 128 tokens": lambda: engine.generate(many, Sampling(max_tokens=128, temperature=1.0, seed=1)),
    }
    engine.next_token(apart(1), OPTIONS)
    found = {}
    for name, job in jobs.items():
        begin = time.perf_counter()
        job()
        found[name] = rows / (time.perf_counter() - begin)
    return found


def main() -> int:
    """Run and print; 0 where the engines agree or nothing can be run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if (reason := absent()) is not None:
        print(reason)
        return 0
    import torch

    from plaudit.engines.catalogue import EngineOptions, open_engine

    device = torch.cuda.get_device_name()
    gpu = open_engine(f"vllm:{given.model}", EngineOptions(dtype="bfloat16"))
    apart_by = compare(gpu, open_engine(given.model, EngineOptions(device="cpu")))
    speed = {
        "vLLM": rates(gpu, given.rows),
        "local": rates(open_engine(given.model, EngineOptions(dtype="bfloat16")), given.rows),
    }
    agrees = apart_by["probability, largest"] <= PROBABILITY and apart_by["token log-probability, mean"] <= LOG_PROBABILITY
    print(f"{given.model} on {device}")
    for name, value in apart_by.items():
        print(f"  {name:<34}{value:.4f}")
    for engine, jobs in speed.items():
        print("  " + f"{engine}, rows a second: " + ", ".join(f"{name} {rate:.1f}" for name, rate in jobs.items()))
    print("they agree" if agrees else f"they do NOT agree within {PROBABILITY} and {LOG_PROBABILITY}")
    write_json(given.json, {"facts": facts(), "device": device, "agreement": apart_by, "rows a second": speed, "agrees": agrees})
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
