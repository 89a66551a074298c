"""Rewards that misbehave on demand, as a user's own file."""

import os
import signal
import threading
import time

import torch

from plaudit import BaseReward, Batch, Context, Preferences, Scores, Status


class OnDemand(BaseReward):
    """The length of a response; "sleep:S" waits, "die" kills the process, "raise" raises, "none" abstains.

    asleep: set as soon as it has begun to wait.
    """

    name = "on-demand"
    uses_seed = False
    batch_size = 8

    def __init__(self) -> None:
        self.asleep = threading.Event()

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:
        values, status = [], []
        for response in batch.require_responses():
            if response.startswith("sleep:"):
                self.asleep.set()
                time.sleep(float(response.removeprefix("sleep:")))
            if response == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if response == "raise":
                raise RuntimeError("as asked")
            values.append(float(len(response)))
            status.append(Status.ABSTAINED if response == "none" else Status.OK)
        return Scores(torch.tensor(values), torch.tensor(status))


class Drawing(BaseReward):
    """Numbers that depend on the seed and, as a careless reward's do, on the place in the call."""

    name = "drawing"
    batch_size = 4

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:
        generator = torch.Generator().manual_seed((ctx or Context()).seed)
        return Scores(torch.rand(len(batch), generator=generator))


class Longer(BaseReward):
    """Compares: the longer response is better."""

    name = "longer"
    uses_seed = False
    batch_size = 8

    def compare(self, batch: Batch, first: torch.Tensor, second: torch.Tensor, ctx: Context | None = None) -> Preferences:
        length = torch.tensor([float(len(response)) for response in batch.require_responses()])
        return Preferences(first, second, torch.sigmoid(length[first] - length[second]))
