"""The update of a GRPO step: the prefix tree against TRL's GRPOTrainer, on the same completions with the same rewards.

    python -m benchmarks.grpo_step --rounds 3 --json grpo_step.json

docs/prefix-tree.md says what is measured. TRL runs in `.peers/trl` (`make bench-peers` makes it).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import facts, write_json
from benchmarks.reward_training import LEARNING_RATE, compare, report, serve, timed_step
from benchmarks.workloads import star

PROMPT, GROUP, LENGTH = 200, 8, 64


def grpo_step(rows: dict[str, Any], folder: Path) -> Callable[[], dict[str, float]]:
    """A step of plaudit: each distinct token once, log-probabilities of the completions only."""
    import torch

    from plaudit.engines.forward import CausalModel
    from plaudit.engines.prefix_tree.training import group_advantages, grpo_loss, tree_log_probs

    model = CausalModel(folder, "float32", None)
    optimizer = torch.optim.AdamW(model.model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    advantages = group_advantages(torch.tensor(rows["rewards"]))
    prompts = [rows["prompt"]] * len(rows["completions"])

    def loss() -> Any:
        return grpo_loss(tree_log_probs(model, prompts, rows["completions"]), advantages)

    return lambda: timed_step(loss, optimizer, model.model)


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description="The update of a GRPO step against TRL")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--worker", action="store_true", help="serve steps of plaudit (used by the benchmark itself)")
    parser.add_argument("--model", type=Path, help="folder of the model; without it the embedded one")
    given = parser.parse_args()
    from plaudit.engines.default_model import ensure_default_model

    folder = given.model or ensure_default_model()
    if given.worker:
        serve(grpo_step, folder)
        return
    drawn = star(6, PROMPT, GROUP, LENGTH)
    rewards = [float(number % 3) for number in range(GROUP)]
    rows = {"prompt": drawn[0][:PROMPT], "completions": [row[PROMPT:] for row in drawn], "rewards": rewards}
    figures: dict[str, Any] = {"machine": facts(), "rounds": given.rounds}
    figures["update"] = compare("grpo", "benchmarks.grpo_step", rows, folder, given.rounds)
    print(report("update", GROUP * (PROMPT + LENGTH), PROMPT + GROUP * LENGTH, figures["update"]))
    print(", ".join(f"{name}: {value}" for name, value in figures["machine"].items()))
    write_json(given.json, figures)


if __name__ == "__main__":
    main()
