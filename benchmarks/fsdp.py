"""What sharing weights out over two processes saves, and what it costs a step.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python -m benchmarks.fsdp --rounds 5 --json fsdp.json

Arms: one process; two with all weights in each (ddp); two with FSDP2, layer by layer (fsdp2) or all weights once an update
(once). The same update, supervised, of the same rows in all arms, and the gathering of all weights that comes before a draw.
Arms take turns within a round; ratios are to one process of the same round. What is sent is a formula, not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import Spread, facts, write_json
from benchmarks.runner_overhead import ROOT

ARMS = ("ddp", "fsdp2", "once")
ROWS, TOKENS, MINI_BATCH = 16, 96, 4
CHARACTERS = "abcdefghijklmnopqrstuvwxyz .,:;!?"


def share(arm: str) -> None:
    """As the launcher would say it."""
    os.environ["ACCELERATE_USE_FSDP"] = str(arm in ("fsdp2", "once")).lower()
    os.environ["FSDP_VERSION"] = "2"
    os.environ["FSDP_RESHARD_AFTER_FORWARD"] = str(arm == "fsdp2").lower()


class Arm:
    """A model of `layers` x `width`, and its update."""

    def __init__(self, arm: str, layers: int, width: int) -> None:
        from plaudit.fitting import FitConfig, Fitter
        from plaudit.generators.language.tiny import tiny_decoder
        from plaudit.types import Batch

        share(arm)
        self.generator = tiny_decoder(CHARACTERS, layers=layers, width=width, heads=4, context=2 * TOKENS, chat=False)
        texts = [CHARACTERS[row % 20] * (TOKENS - row) for row in range(ROWS)]
        self.generator.score_encoded = False
        self.taught = self.generator.encode(Batch(["a"] * ROWS, responses=texts), seed=0)
        self.fitter = Fitter(self.generator.modules(), FitConfig(learning_rate=1e-4))

    def update(self) -> None:
        """One step: this process's rows in mini-batches."""
        from plaudit.types import Loss

        def loss(rows: list[int]) -> Loss:
            part = self.taught.select(rows)
            log_prob = self.generator.evaluate(part).log_prob
            assert log_prob is not None
            return Loss(-(log_prob * part.mask).sum())

        processes = self.fitter.processes
        own = list(range(processes.index, ROWS, processes.count))
        chunks = [own[at : at + MINI_BATCH] for at in range(0, len(own), MINI_BATCH)]
        units = float(self.taught.mask.sum()) / processes.count
        self.fitter.update([lambda chunk=chunk: loss(chunk) for chunk in chunks], units, spare=lambda: loss([0]))  # type: ignore[misc]

    def measure(self) -> dict[str, float]:
        """Seconds and processor time of an update, seconds of a gathering, and the bytes that lie here."""
        begin, worked = time.perf_counter(), time.process_time()
        self.update()
        seconds, processor = time.perf_counter() - begin, time.process_time() - worked
        begin = time.perf_counter()
        with self.fitter.whole():
            pass
        gather = time.perf_counter() - begin

        def held(tensors: Any) -> float:
            return float(sum(getattr(one, "to_local", lambda one=one: one)().nbytes for one in tensors))  # type: ignore[misc]

        state = self.fitter._optimiser.state.values()
        moments = held(moment[name] for moment in state for name in ("exp_avg", "exp_avg_sq"))
        weights = held(self.fitter.parameters.values())
        return {"seconds": seconds, "processor": processor, "gather": gather, "weights": weights, "moments": moments}


def serve(folder: Path, layers: int, width: int) -> None:
    """One of the two processes: measure the arm that `folder/ask` names, until it says stop."""
    arms = {arm: Arm(arm, layers, width) for arm in ARMS}
    processes = next(iter(arms.values())).fitter.processes
    for arm in arms.values():
        arm.measure()
    while True:
        ask = folder / "ask"
        while processes.main and not ask.exists():
            time.sleep(0.01)
        wanted = processes.agree(ask.read_text() if processes.main else None)
        if wanted == "stop":
            return
        found = processes.gather(arms[wanted].measure())
        if processes.main:
            ask.unlink()
            (folder / "answer.new").write_text(json.dumps(found))
            (folder / "answer.new").rename(folder / "answer")


def ask(folder: Path, arm: str) -> list[dict[str, float]]:
    """What both processes measured."""
    (folder / "ask.new").write_text(arm)
    (folder / "ask.new").rename(folder / "ask")
    while not (folder / "answer").exists():
        time.sleep(0.01)
    found: list[dict[str, float]] = json.loads((folder / "answer").read_text())
    (folder / "answer").unlink()
    return found


def traffic(weights: float, outside: float, mini_batches: int, processes: int = 2) -> dict[str, float]:
    """Bytes that each process sends an update: an all-gather or a reduce-scatter of b bytes is b (n - 1) / n, an all-reduce twice
    that. fsdp2: a mini-batch gathers layers twice (forward, backward) and what is outside of layers once, and scatters once."""
    share_of = (processes - 1) / processes
    by_layer = mini_batches * (2 * (weights - outside) + outside + weights)
    return {"one": 0.0, "ddp": 2 * weights * share_of, "fsdp2": by_layer * share_of, "once": 2 * weights * share_of}


def run(rounds: int, layers: int, width: int) -> dict[str, Any]:
    """All figures."""
    from plaudit.scale.launching import config_path

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config_path("cpu-fsdp2")), "-m"]
        command += ["benchmarks.fsdp", "--serve", name, "--layers", str(layers), "--width", str(width)]
        with subprocess.Popen(command, cwd=ROOT) as group:
            try:
                alone = Arm("one", layers, width)
                alone.measure()
                found: dict[str, list[list[dict[str, float]]]] = {arm: [] for arm in ("one", *ARMS)}
                for _ in range(rounds):
                    found["one"].append([alone.measure()])
                    for arm in ARMS:
                        found[arm].append(ask(folder, arm))
            finally:
                (folder / "ask").write_text("stop")
                group.wait()
    inside = alone.generator.causal_model.model
    outside = sum(
        weight.nbytes for part in (inside.get_input_embeddings(), inside.get_output_embeddings()) for weight in part.parameters()
    )
    sent = traffic(found["one"][0][0]["weights"], outside, -(-ROWS // 2 // MINI_BATCH))
    return {"facts": facts(), "arms": {arm: row(arm, found, sent[arm]) for arm in found}}


def row(arm: str, found: dict[str, list[list[dict[str, float]]]], sent: float) -> dict[str, Any]:
    """One line of the table: the slower process counts, processor time is that of all."""
    rounds = list(zip(found[arm], found["one"], strict=True))
    return {
        "weights_mb": max(one["weights"] for one in found[arm][0]) / 2**20,
        "moments_mb": max(one["moments"] for one in found[arm][0]) / 2**20,
        "seconds_ratio": Spread.of([max(one["seconds"] for one in mine) / base[0]["seconds"] for mine, base in rounds]),
        "processor_ratio": Spread.of([sum(one["processor"] for one in mine) / base[0]["processor"] for mine, base in rounds]),
        "gather_share": Spread.of([max(one["gather"] for one in mine) / base[0]["seconds"] for mine, base in rounds]),
        "sent_mb": sent / 2**20,
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve is not None:
        serve(given.serve, given.layers, given.width)
        return
    figures = run(given.rounds, given.layers, given.width)
    print("arm    weights MB  moments MB  sent MB  seconds / one     processor / one   gathering / an update of one")
    for arm, one in figures["arms"].items():
        held = f"{one['weights_mb']:10.1f}  {one['moments_mb']:10.1f}  {one['sent_mb']:7.1f}"
        print(f"{arm:6} {held}  {one['seconds_ratio']!s:17} {one['processor_ratio']!s:17} {one['gather_share']}")
    write_json(given.json, figures)


if __name__ == "__main__":
    main()
