"""A fit to be killed from outside, which says each update: python -m tests.rewards.learned.killed_fit FOLDER."""

import sys
import time

from plaudit.fitting import FitConfig
from plaudit.rewards.learned.fit import RewardFitConfig, fit
from plaudit.rewards.learned.heads import BradleyTerryReward
from plaudit.rewards.learned.vectors import VectorBackbone
from tests.rewards.learned.planted import pairs

CONFIG = RewardFitConfig(
    epochs=8, batch_units=40, patience=3, seed=5,
    optimiser=FitConfig(learning_rate=0.02, schedule="cosine", ema_decay=0.9, weight_decay=0.01, mini_batch_rows=16),
)  # fmt: skip


def parts():
    """Dropout, an average, a schedule, moments of the inputs, held-out pairs."""
    return BradleyTerryReward(VectorBackbone(4), hidden=(8,), dropout=0.2, seed=1), pairs(200)


def say(told):
    sys.stdout.write(f"{told.step}\n")
    sys.stdout.flush()
    time.sleep(0.02)  # the one who kills has time to come between two updates


if __name__ == "__main__":
    reward, data = parts()
    fit(reward, data, CONFIG, folder=sys.argv[1], progress=say)
