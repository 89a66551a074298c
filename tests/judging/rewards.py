"""Small rewards with known numbers, for tests of the runner."""

import time

import torch

from plaudit.rewards.base import BaseReward
from plaudit.types import EngineError, Preferences, Scores, Status, Verdict


class WordCount(BaseReward):
    """Number of words; counts its calls, and can be told to fail."""

    name = "words"
    uses_seed = False

    def __init__(self, batch_size=4, bad=None, gone_after=None):
        self.batch_size, self.bad, self.gone_after = batch_size, bad, gone_after
        self.settings = {}
        self.seen, self.calls = [], 0

    def score(self, batch, ctx=None):
        self.calls += 1
        if self.gone_after is not None and self.calls > self.gone_after:
            raise EngineError("the server hung up")
        if self.bad is not None and self.bad in batch.responses:
            raise RuntimeError("cannot count this")
        self.seen += list(batch.responses)
        values = torch.tensor([float(len(text.split())) if text else float("nan") for text in batch.responses])
        status = torch.tensor([Status.OK if text else Status.ABSTAINED for text in batch.responses], dtype=torch.int8)
        return Scores(values, status)


class Slow(WordCount):
    """Takes its time, so that a run can be killed in the middle."""

    def score(self, batch, ctx=None):
        time.sleep(0.004)
        return super().score(batch, ctx)


class LikesFirst(BaseReward):
    """Prefers more words, and whatever is shown first by 0.1."""

    name = "likes-first"
    batch_size = 3
    uses_seed = False

    def __init__(self):
        self.pairs = 0

    def compare(self, batch, first, second, ctx=None):
        prob, verdicts = [], []
        for i, j in zip(first.tolist(), second.tolist(), strict=True):
            self.pairs += 1
            more = len(batch.responses[i].split()) - len(batch.responses[j].split())
            fair = 0.5 + 0.05 * max(-5, min(5, more))
            orders = [min(1.0, fair + 0.1), max(0.0, fair - 0.1)]
            prob.append(sum(orders) / 2)
            verdicts.append([Verdict(value=orders[0], order=(0, 1)), Verdict(value=orders[1], order=(1, 0))])
        return Preferences(first, second, torch.tensor(prob), verdicts=verdicts)


class GroupRank(BaseReward):
    """Rank of each response by length within its group, 0 for the shortest."""

    name = "group-rank"
    batch_size = 2
    uses_seed = False

    def score_group(self, batch, ctx=None):
        values = torch.zeros(len(batch))
        for rows in batch.group_rows():
            for rank, row in enumerate(sorted(rows, key=lambda row: len(batch.responses[row]))):
                values[row] = rank
        return Scores(values)
