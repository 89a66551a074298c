"""Rewards that the tests of the service and of its clients serve, and judge with themselves to compare."""

import time

import torch

from plaudit import BaseReward, Batch, Preferences, Scores, Status


def short(response: str) -> float | None:
    """Shorter is better; abstains from an empty response."""
    return 1.0 / len(response) if response else None


def slow(response: str) -> float:
    """Takes as many seconds as the response says."""
    time.sleep(float(response))
    return 1.0


class Parts(BaseReward):
    """Scores with parts, a spread, statuses and a seed."""

    name = "parts"

    def score(self, batch: Batch, ctx=None) -> Scores:
        length = torch.tensor([float(len(text)) / 3 for text in batch.responses])
        status = torch.tensor([Status.TIMED_OUT if text == "late" else Status.OK for text in batch.responses])
        cut = torch.tensor([float(batch.finish is not None and batch.finish[row] != "complete") for row in range(len(batch))])
        values = torch.where(status == Status.OK, length + (ctx.seed if ctx else 0) - cut, torch.nan)
        empty = torch.tensor([torch.nan if text == "hole" else 0.5 for text in batch.responses])
        return Scores(values, status, {"length": length, "other": empty}, spread=length / 10)


class Longer(BaseReward):
    """Compares: the longer response wins for sure; equals abstain."""

    name = "longer"
    uses_seed = False

    def compare(self, batch: Batch, first, second, ctx=None) -> Preferences:
        texts = batch.responses
        gaps = [len(texts[a]) - len(texts[b]) for a, b in zip(first.tolist(), second.tolist(), strict=True)]
        prob = torch.tensor([0.9 if gap > 0 else 0.1 for gap in gaps])
        status = torch.tensor([Status.OK if gap else Status.ABSTAINED for gap in gaps])
        return Preferences(first, second, torch.where(status == Status.OK, prob, torch.nan), status=status)


class Rank(BaseReward):
    """Judges within groups: the share of the group that is not longer."""

    name = "rank"
    uses_seed = False
    higher_is_better = False

    def score_group(self, batch: Batch, ctx=None) -> Scores:
        values = torch.zeros(len(batch))
        for rows in batch.group_rows():
            sizes = [len(batch.responses[row]) for row in rows]
            for row in rows:
                values[row] = sum(size <= len(batch.responses[row]) for size in sizes) / len(rows)
        return Scores(values)
