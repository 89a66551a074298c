"""Short runs of a tiny language model in one process or several: python -m tests.training.language_runs KIND,... FOLDER [STEPS].

KIND: sft, dpo, grpo (all weights, a frozen reference), lora (grpo on an adapter), ema (an averaged reference), odd (rows that
processes cannot share evenly, some without a token), scalar (a table, and a weight without dimensions); with WAY/ before it where
`share` is to decide how weights lie. In a folder that holds a run it goes on. Writes, beside the run, how the weights lay in
each process, and what they are in the end.
"""

import json
import os
import sys
from pathlib import Path

import torch

from plaudit import as_reward
from plaudit.engines.lora import LoRA
from plaudit.fitting import FitConfig
from plaudit.generators.language.tiny import tiny_decoder
from plaudit.objectives.catalogue import build_objective
from plaudit.training import Fixed, OnPolicy, Run, RunConfig
from plaudit.types import Batch, Sampling, StepStats
from tests.training.small import GroupGradient, Match, Words, prompts

STEPS = 2
PROMPTS = Batch(["ab", "b", "cab", "bca"])
SAMPLES = Batch(
    ["ab", "ab", "b", "b", "cab", "cab"],
    responses=["aaa", "cb", "ab", "bbbbbb", "a", "cc"],
    groups=torch.tensor([0, 0, 1, 1, 2, 2]),
)


def letters(response: str) -> float:
    return response.count("a") - 0.3 * len(response)


class Tempered(Words):
    """No transformers model, and a weight without dimensions, which cannot lie in pieces."""

    def __init__(self):
        super().__init__()
        self.table["coldness"] = torch.nn.Parameter(torch.ones(()))

    def evaluate(self, t, **asked):
        logits = self.table["logits"][t.payload["where"]] * self.table["coldness"]
        return StepStats(log_prob=logits.log_softmax(-1).gather(-1, t.payload["letters"][..., None]).squeeze(-1))


def parts(kind):
    if kind == "scalar":
        return Tempered(), GroupGradient(), OnPolicy(prompts(), 24, 4), "ema"
    lora = LoRA(rank=2, alpha=4.0) if kind == "lora" else None
    generator = tiny_decoder("abc", layers=3, width=16, heads=2, context=24, deviation=0.3, chat=False, lora=lora)
    how = Sampling(max_tokens=6, temperature=1.0)
    if kind == "sft":  # head and embeddings are one weight, in two modules
        model = generator.causal_model.model
        model.lm_head.weight = model.model.embed_tokens.weight
        return generator, build_objective("imitation"), Fixed(SAMPLES, shuffle=False), None
    if kind == "dpo":
        return generator, build_objective("dpo"), Fixed(SAMPLES, shuffle=False), "frozen copy"
    if kind == "odd":
        full = Batch(["ab", "a" * 24, "cab", "b" * 24])  # a prompt that fills the context has no step to learn from
        return generator, build_objective("grpo"), OnPolicy(full, 12, 3, how=how), None
    reference = "ema" if kind == "ema" else "frozen copy"
    return generator, build_objective("grpo", kl=0.05), OnPolicy(PROMPTS, 16, 4, how=how), reference


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


def main(kind, folder, steps=STEPS):
    folder = Path(folder) / kind
    generator, objective, source, reference = parts(kind)
    fit = FitConfig(learning_rate=0.01, mini_batch_rows=3, epsilon=1e-3, weight_decay=0.1, ema_decay=0.9)
    config = RunConfig(
        steps=steps, seed=7, fit=fit, draw_parts=2, inner_epochs=2, checkpoint_every=1, distance_every=1, ratio_tolerance=1e-4
    )
    found = {}

    def tell(run, record):
        found.update(described(run))
        sys.stdout.write(f"{run.fitter.processes.index} {os.getpid()} {record.step}\n")
        sys.stdout.flush()

    begin = Run.resume if (folder / "config.json").is_file() else Run
    reward = Match() if kind == "scalar" else as_reward(letters, name="letters")
    others = {"reward": reward, "reference_policy": reference, "config": config, "on_step": tell}
    run = begin(run_dir=folder, generator=generator, objective=objective, source=source, **others)
    run.finish()
    whole = next(iter(generator.modules().values())).state_dict()
    number = run.fitter.processes.index
    if kind == "sft":
        model = generator.causal_model.model
        assert model.lm_head.weight is model.model.embed_tokens.weight
    found |= {"processes": run.fitter.processes.count, "kinds": sorted({type(weight).__name__ for weight in whole.values()})}
    (folder / f"process{number}.json").write_text(json.dumps(found))
    torch.save(whole, folder / f"process{number}.pt")


def share(way):
    """How weights lie from now on, as the launcher would say it: by layer, at once (all weights an update), or apart (DDP)."""
    os.environ["ACCELERATE_USE_FSDP"] = str(way != "apart").lower()
    os.environ["FSDP_RESHARD_AFTER_FORWARD"] = str(way == "by layer").lower()


if __name__ == "__main__":
    steps = int(sys.argv[3]) if len(sys.argv) > 3 else STEPS
    for asked in sys.argv[1].split(","):
        way, _, wanted = asked.rpartition("/")
        if way:
            share(way)
        main(wanted, Path(sys.argv[2]) / way, steps)
