"""Fitting a reward on real preference pairs with a low-rank adapter: plaudit's way of it against TRL's RewardTrainer.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.reward_fit --pairs 200 --batch 4 8 --json reward_fit.json

The first 200 pairs of hh_rlhf that fit `--longest` tokens, as SmolLM2-135M-Instruct's chat template renders them, in the same
order, the same number at a time, one epoch. Both arms train the same adapter (rank 16 on all linear layers, the same first
weights) and the same linear head with AdamW; they take turns step by step. The clock runs from the batch of tokens to the end
of the optimizer's step. TRL runs in `.peers/trl` (`make bench-peers` makes it), in float32 without checkpointing: its defaults
would be slower on a CPU. The limit by tokens is padded tokens over distinct ones: what no way of running the tree can beat.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.common import (
    Measurement,
    Spread,
    Worker,
    facts,
    forget_peak,
    peak_mb,
    processor_ratios,
    ratios,
    write_json,
)
from benchmarks.runner_overhead import PEERS
from benchmarks.training import Stopwatch, head_weights

RANK, ALPHA, RATE = 16, 32.0, 2e-4
LONGEST = 512


def adapter_weights(name: str, shape: tuple[int, ...]) -> Any:
    """First weights of a layer's A matrix, by the layer's name, the same for every arm; uniform as peft's own."""
    import zlib

    import torch

    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    bound = shape[-1] ** -0.5
    return (2 * torch.rand(shape, generator=generator) - 1) * bound


def set_adapter(model: Any) -> int:
    """Give all A matrices of a model the shared first weights; how many there were."""
    import torch

    found = 0
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_A" in name:
                weight.copy_(adapter_weights(name[name.index("layers.") :], tuple(weight.shape)))
                found += 1
    return found


def read_pairs(folder: Path, count: int, longest: int) -> list[list[list[int]]]:
    """[chosen, rejected] tokens of the first pairs whose rows have at most `longest` tokens."""
    from plaudit.data import read_rows
    from plaudit.rewards.learned.backbones import TextBackbone
    from plaudit.rewards.learned.rendering import Reading

    backbone = TextBackbone(max_length=longest)
    pairs: list[list[list[int]]] = []
    for row in read_rows(str(folder), limit=4 * count):
        found = [backbone.reader.read(row.prompt, response) for response in row.responses]
        if all(isinstance(one, Reading) for one in found) and len(pairs) < count:
            pairs.append([list(one.ids) for one in found if isinstance(one, Reading)])
    return pairs


def plaudit_step(rows: dict[str, Any]) -> Any:
    """An update of `LearnedReward.loss` by `Fitter`, as `plaudit fit` does them; rows are read from their tokens."""
    import torch

    from plaudit.fitting import FitConfig, Fitter
    from plaudit.rewards.learned.backbones import TextBackbone
    from plaudit.rewards.learned.data import FitData
    from plaudit.rewards.learned.heads import BradleyTerryReward
    from plaudit.rewards.learned.rendering import Reading
    from plaudit.types import Batch, Preferences

    class Tokens(TextBackbone):
        """The backbone on rows that are token ids already, as the other arm has them."""

        def read(self, batch: Batch) -> list[Any]:
            return [Reading(tuple(ids), (len(ids) - 1,)) for ids in batch.require_responses()]

    backbone = Tokens(adaptation="lora", rank=RANK, alpha=ALPHA)
    reward = BradleyTerryReward(backbone)
    assert set_adapter(backbone.causal_model.model)
    with torch.no_grad():
        last = [weight for weight in reward.head.parameters() if weight.dim() == 2][-1]
        last.copy_(head_weights(last.shape[-1]))
    fitter = Fitter(reward.fitted_modules(), FitConfig(learning_rate=RATE, max_grad_norm=None))
    pairs, size = rows["pairs"], rows["batch"]
    first = 2 * torch.arange(len(pairs))
    data = FitData(
        Batch([""] * (2 * len(pairs)), [ids for pair in pairs for ids in pair]),
        Preferences(first, first + 1, torch.ones(len(pairs))),
    )
    number = 0

    def step() -> dict[str, float]:
        nonlocal number
        units = list(range(number, min(number + size, len(pairs))))
        number += size
        forget_peak()
        clock = Stopwatch()
        report = fitter.update([lambda: reward.loss(data.select(units))], len(units))
        clock.stop()
        return {**clock.taken(), "peak_mb": peak_mb(), "loss": report.loss, "gradient_norm": report.grad_norm}

    return step


def serve() -> None:
    """plaudit's arm: the first line holds the pairs, each further line asks for a step."""
    import torch

    torch.set_num_threads(2)
    print(json.dumps({"ready": True}), flush=True)
    step = plaudit_step(json.loads(sys.stdin.readline()))
    print(json.dumps({"loaded": True}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(step()), flush=True)


def compare(pairs: list[list[list[int]]], batch: int, steps: int, folder: Path) -> dict[str, Any]:
    """All steps of both arms in turn."""
    message: dict[str, Any] = {"pairs": pairs[: batch * steps], "batch": batch}
    workers = {"plaudit": Worker(Path(sys.executable), "benchmarks.reward_fit", "--serve")}
    python = PEERS / "trl" / "bin" / "python"
    if python.exists():
        workers["trl"] = Worker(python, "benchmarks.peers.trl_reward_fit_arm", "--model", str(folder), "--steps", str(steps))
    else:
        print("without TRL: there is no .peers/trl", file=sys.stderr)
    answers: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
    try:
        for worker in workers.values():
            worker(message)
        for number in range(steps):
            for name, worker in workers.items():
                answers[name].append(worker({}))
            said = ", ".join(f"{n} {a[-1]['seconds']:.2f} s loss {a[-1]['loss']:.4f}" for n, a in answers.items())
            print(f"  step {number}: {said}", file=sys.stderr, flush=True)
    finally:
        for worker in workers.values():
            worker.close()
    return summary(answers, message["pairs"], batch)


def summary(answers: dict[str, list[dict[str, float]]], pairs: list[list[list[int]]], batch: int) -> dict[str, Any]:
    """Ratios step by step and in all, the curves, and how far they are apart."""
    from plaudit.engines.prefix_tree.trie import build_tree

    groups = [[ids for pair in pairs[at : at + batch] for ids in pair] for at in range(0, len(pairs), batch)]
    padded = sum(len(rows) * max(map(len, rows)) for rows in groups)
    found: dict[str, Any] = {
        "steps": answers,
        "peak_mb": {name: max(one["peak_mb"] for one in each) for name, each in answers.items()},
        "tokens": {"padded": padded, "distinct": sum(len(build_tree(rows)) for rows in groups)},
        "seconds": {name: sum(one["seconds"] for one in each) for name, each in answers.items()},
        "last_losses": {name: statistics.mean(one["loss"] for one in each[-10:]) for name, each in answers.items()},
    }
    if "trl" in answers:
        timed = {name: [Measurement.of(one) for one in each[1:]] for name, each in answers.items()}
        ours, theirs = answers["plaudit"], answers["trl"]
        if timed["trl"]:
            found["ratio"] = ratios(timed["trl"], timed["plaudit"])
            found["processor_ratio"] = processor_ratios(timed["trl"], timed["plaudit"])
            sums = {
                name: [sum(one[kind] for one in each[1:]) for kind in ("seconds", "processor")] for name, each in answers.items()
            }
            found["ratio_of_sums"] = [one / other for one, other in zip(sums["trl"], sums["plaudit"], strict=True)]
        found["loss_difference"] = Spread.of([abs(one["loss"] - other["loss"]) for one, other in zip(ours, theirs, strict=True)])
    return found


def report(batch: int, one: dict[str, Any]) -> str:
    """The figures as text."""
    tokens = one["tokens"]
    limit = tokens["padded"] / tokens["distinct"]
    lines = [
        f"{batch} pairs a step: {tokens['padded']} padded tokens, {tokens['distinct']} distinct, limit by tokens {limit:.2f}"
    ]
    for arm, seconds in one["seconds"].items():
        last = one["last_losses"][arm]
        lines.append(f"  {arm:8} {seconds:.1f} s in all, peak {one['peak_mb'][arm]:.0f} MB, mean of the last losses {last:.4f}")
    if "ratio" in one:
        sums = one["ratio_of_sums"]
        lines.append(f"  trl / plaudit in all: {sums[0]:.2f} of seconds, {sums[1]:.2f} of processor time, without the first step")
        lines.append(f"  step by step: {one['ratio']} of seconds, {one['processor_ratio']} of processor time")
    if "loss_difference" in one:
        lines.append(f"  losses of a step differ by {one['loss_difference']}")
    return "\n".join(lines)


def main() -> None:
    """Measure, or serve as plaudit's arm."""
    parser = argparse.ArgumentParser(description="Fitting a reward on pairs: plaudit against TRL")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--batch", type=int, nargs="*", default=[4])
    parser.add_argument("--steps", type=int, help="only so many steps of each")
    parser.add_argument("--longest", type=int, default=LONGEST, help="leave out pairs with longer rows (memory)")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--serve", action="store_true", help="used by the benchmark itself")
    given = parser.parse_args()
    if given.serve:
        return serve()
    from plaudit.engines.default_model import ensure_default_model

    data = Path(os.environ.get("PLAUDIT_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")) / "hh_rlhf"
    pairs = read_pairs(data, given.pairs, given.longest)
    figures: dict[str, Any] = {"machine": facts(), "pairs": len(pairs), "longest": given.longest, "batches": {}}
    for batch in given.batch:
        steps = min(given.steps or len(pairs), len(pairs) // batch)
        found = compare(pairs, batch, steps, ensure_default_model())
        figures["batches"][str(batch)] = found
        print(report(batch, found), flush=True)
        write_json(given.json, figures)
    print(", ".join(f"{name}: {value}" for name, value in figures["machine"].items()))
    return None


if __name__ == "__main__":
    main()
