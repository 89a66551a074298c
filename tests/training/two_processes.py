"""A short run under `accelerate launch`, or in one process: python -m tests.training.two_processes FOLDER. Says who it is."""

import sys

from plaudit.fitting import FitConfig
from plaudit.training import OnPolicy, Run, RunConfig
from tests.training.small import Broken, GroupGradient, Words, prompts


def main(folder):
    fit = FitConfig(learning_rate=0.05, mini_batch_rows=5, epsilon=1e-3)
    config = RunConfig(steps=4, fit=fit, draw_parts=2, inner_epochs=2, updates_per_draw=2, on_degenerate="drop")
    source = OnPolicy(prompts(), 48, 8)
    run = Run(Words(), GroupGradient(), source, reward=Broken(2, "nan"), config=config, run_dir=folder).finish()
    sys.stdout.write(f"{run.fitter.processes.index}/{run.fitter.processes.count}\n")


if __name__ == "__main__":
    main(sys.argv[1])
