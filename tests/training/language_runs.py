"""Short runs of a tiny language model, in one process or several: python -m tests.training.language_runs KIND FOLDER [STEPS].

KIND: sft, dpo, grpo (all weights, a frozen reference), lora (grpo on an adapter), odd (rows that processes cannot share evenly,
some without a token). With a FOLDER that holds a run, it goes on. Says, beside its metrics, how the weights lie.
"""

import json
import sys
from pathlib import Path

import torch

from plaudit import as_reward
from plaudit.engines.lora import LoRA
from plaudit.fitting import FitConfig
from plaudit.generators.language.tiny import tiny_decoder
from plaudit.objectives.catalogue import build_objective
from plaudit.training import Fixed, OnPolicy, Run, RunConfig
from plaudit.types import Batch, Sampling

STEPS = 3
PROMPTS = Batch(["ab", "b", "cab", "bca"])
SAMPLES = Batch(
    ["ab", "ab", "b", "b", "cab", "cab"],
    responses=["aaa", "cb", "ab", "bbbbbb", "a", "cc"],
    groups=torch.tensor([0, 0, 1, 1, 2, 2]),
)


def letters(response: str) -> float:
    return response.count("a") - 0.3 * len(response)


def parts(kind):
    lora = LoRA(rank=2, alpha=4.0) if kind == "lora" else None
    generator = tiny_decoder("abc", layers=3, width=16, heads=2, context=24, deviation=0.3, chat=False, lora=lora)
    how = Sampling(max_tokens=6, temperature=1.0)
    if kind == "sft":
        return generator, build_objective("imitation"), Fixed(SAMPLES, shuffle=False), None
    if kind == "dpo":
        return generator, build_objective("dpo"), Fixed(SAMPLES, shuffle=False), "frozen copy"
    if kind == "odd":
        prompts = Batch(["ab", "a" * 24, "cab", "b" * 24])  # a prompt that fills the context has no step to learn from
        return generator, build_objective("grpo"), OnPolicy(prompts, 12, 3, how=how), None
    return generator, build_objective("grpo", kl=0.05), OnPolicy(PROMPTS, 16, 4, how=how), "frozen copy"


def described(run) -> dict:
    """Where the trainable weights and the moments are, in this process."""
    module = next(iter(run.generator.modules().values()))
    whole = getattr(module, "whole_model", module)
    weights = list(whole.parameters())
    moments = [state["exp_avg"] for state in run.fitter._optimiser.state.values()]

    def bytes_of(tensors):
        return sum(getattr(tensor, "to_local", lambda tensor=tensor: tensor)().nbytes for tensor in tensors)

    return {
        "process": run.fitter.processes.index,
        "placements": sorted({str(getattr(weight, "placements", "whole")) for weight in weights}),
        "weights": bytes_of(weights),
        "moments": bytes_of(moments),
    }


def main(kind, folder, steps):
    generator, objective, source, reference = parts(kind)
    fit = FitConfig(learning_rate=0.01, mini_batch_rows=3, epsilon=1e-3, weight_decay=0.1, ema_decay=0.9)
    config = RunConfig(
        steps=steps, seed=7, fit=fit, draw_parts=2, inner_epochs=2, checkpoint_every=1, distance_every=1, ratio_tolerance=1e-4
    )
    found = {}

    def tell(run, record):
        found.update(described(run))
        sys.stdout.write(f"{record.step}\n")
        sys.stdout.flush()

    begin = Run.resume if (Path(folder) / "config.json").is_file() else Run
    others = {"reward": as_reward(letters, name="letters"), "reference_policy": reference, "config": config, "on_step": tell}
    places = {"run_dir": folder}
    run = begin(generator=generator, objective=objective, source=source, **places, **others)
    run.finish()
    whole = next(iter(generator.modules().values())).state_dict()
    found["kinds"] = sorted({type(weight).__name__ for weight in whole.values()})
    (Path(folder) / f"weights{run.fitter.processes.index}.json").write_text(json.dumps(found))
    torch.save(whole, Path(folder) / f"weights{run.fitter.processes.index}.pt")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else STEPS)
