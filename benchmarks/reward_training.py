"""A Bradley-Terry training step on shared prefixes: the prefix tree against TRL's RewardTrainer.

    python -m benchmarks.reward_training --rounds 3 --json reward_training.json

docs/prefix-tree.md says what is measured. TRL runs in `.peers/trl` (`make bench-peers` makes it).
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import Measurement, Spread, Worker, facts, forget_peak, peak_mb, ratios, write_json
from benchmarks.runner_overhead import PEERS
from benchmarks.workloads import star

LEARNING_RATE = 1e-6
PAIRS = {"one pair": [(0, 1)], "4 candidates, all pairs": list(itertools.combinations(range(4), 2))}
"""(chosen, rejected) of the responses of 200 tokens to a prompt of 300."""
Step = Callable[[], Any]


def head_weights(width: int) -> Any:
    """[1, width] first weights of the reward head, the same for every arm."""
    import torch

    return 0.02 * torch.randn(1, width, generator=torch.Generator().manual_seed(0))


def gradient_norm(model: Any) -> float:
    """Euclidean norm of all gradients, by which two arms can be seen to take the same step."""
    return sum(float(weight.grad.square().sum()) for weight in model.parameters() if weight.grad is not None) ** 0.5


def timed_step(loss_of: Step, optimizer: Any, model: Any) -> dict[str, float]:
    """Forward, loss, backward, optimizer; taking the gradients' norm is not timed."""
    forget_peak()
    begin = time.perf_counter()
    loss = loss_of()
    loss.backward()
    seconds = time.perf_counter() - begin
    norm = gradient_norm(model)
    begin = time.perf_counter()
    optimizer.step()
    optimizer.zero_grad()
    seconds += time.perf_counter() - begin
    return {"seconds": seconds, "peak_mb": peak_mb(), "loss": float(loss.detach()), "gradient_norm": norm}


def reward_step(rows: dict[str, Any], folder: Path) -> Callable[[], dict[str, float]]:
    """A step of plaudit: each distinct token once, a linear head on the last states."""
    import torch

    from plaudit.engines.forward import CausalModel
    from plaudit.engines.prefix_tree.training import bradley_terry_loss, tree_last_states

    model = CausalModel(folder, "float32", None)
    head = torch.nn.Linear(model.model.config.hidden_size, 1, bias=False)
    head.weight.data.copy_(head_weights(head.in_features))
    trained = torch.nn.ModuleList([model.trunk, head])
    optimizer = torch.optim.AdamW(trained.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    pairs = [tuple(pair) for pair in rows["pairs"]]

    def loss() -> Any:
        return bradley_terry_loss(head(tree_last_states(model, rows["rows"]))[:, 0], pairs)

    return lambda: timed_step(loss, optimizer, trained)


def serve(make: Callable[[dict[str, Any], Path], Callable[[], dict[str, float]]], folder: Path) -> None:
    """The arm of plaudit as a worker: the first line of input holds the rows, each further line asks for a step."""
    import torch

    torch.set_num_threads(2)
    print(json.dumps({"ready": True}), flush=True)
    step = make(json.loads(sys.stdin.readline()), folder)
    print(json.dumps({"loaded": True}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(step()), flush=True)


def compare(kind: str, module: str, rows: dict[str, Any], folder: Path, rounds: int) -> dict[str, Any]:
    """Steps of both arms in turn on the same rows and weights; the first step of each is not counted."""
    python = PEERS / "trl" / "bin" / "python"
    given = ["--model", str(folder)]
    workers = {"plaudit": Worker(Path(sys.executable), module, "--worker", *given)}
    if python.exists():
        workers["trl"] = Worker(python, "benchmarks.peers.trl_arm", "--kind", kind, "--steps", str(rounds + 1), *given)
    else:
        print("without TRL: there is no .peers/trl", file=sys.stderr)
    answers: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
    try:
        for worker in workers.values():
            worker(rows)
        for number in range(rounds + 1):
            for name, worker in workers.items():
                answers[name].append(worker({}))
            print(f"  step {number}: " + ", ".join(f"{n} {a[-1]['seconds']:.2f} s" for n, a in answers.items()), file=sys.stderr)
    finally:
        for worker in workers.values():
            worker.close()
    return summary(answers)


def summary(answers: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Seconds, memory, the ratio with its spread, and how far losses and gradients of the first step are apart."""
    taken = {name: [Measurement(one["seconds"], one["peak_mb"]) for one in each[1:]] for name, each in answers.items()}
    found: dict[str, Any] = {
        "seconds": {name: Spread.of([one.seconds for one in each]) for name, each in taken.items()},
        "peak_mb": {name: max(one.peak_mb for one in each) for name, each in taken.items()},
        "steps": answers,
    }
    if "trl" in taken:
        ours, theirs = answers["plaudit"][0], answers["trl"][0]
        found["ratio"] = ratios(taken["trl"], taken["plaudit"])
        found["loss_difference"] = abs(ours["loss"] - theirs["loss"])
        found["gradient_difference"] = abs(ours["gradient_norm"] / theirs["gradient_norm"] - 1)
    return found


def report(name: str, tokens: int, distinct: int, one: dict[str, Any]) -> str:
    """The figures of a comparison as text."""
    lines = [f"{name}: {tokens} tokens, {distinct} distinct, limit by tokens {tokens / distinct:.2f}"]
    for arm, seconds in one["seconds"].items():
        lines.append(f"  {arm:8} {seconds} s a step, peak {one['peak_mb'][arm]:.0f} MB")
    if "ratio" in one:
        apart = f"first losses differ by {one['loss_difference']:.1e}, gradient norms by {one['gradient_difference']:.1e}"
        lines.append(f"  trl / plaudit {one['ratio']}; {apart}")
    return "\n".join(lines)


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description="A Bradley-Terry step against TRL")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--worker", action="store_true", help="serve steps of plaudit (used by the benchmark itself)")
    parser.add_argument("--model", type=Path, help="folder of the model; without it the embedded one")
    given = parser.parse_args()
    from plaudit.engines.default_model import ensure_default_model
    from plaudit.engines.prefix_tree.trie import build_tree

    folder = given.model or ensure_default_model()
    if given.worker:
        serve(reward_step, folder)
        return
    figures: dict[str, Any] = {"machine": facts(), "rounds": given.rounds, "workloads": {}}
    for name, pairs in PAIRS.items():
        rows = star(5, 300, max(map(max, pairs)) + 1, 200)
        found = compare("reward", "benchmarks.reward_training", {"rows": rows, "pairs": pairs}, folder, given.rounds)
        figures["workloads"][name] = found
        print(report(name, 1000 * len(pairs), len(build_tree(rows)), found), flush=True)
        write_json(given.json, figures)
    print(", ".join(f"{name}: {value}" for name, value in figures["machine"].items()))


if __name__ == "__main__":
    main()
