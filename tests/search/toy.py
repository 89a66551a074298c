"""A generator whose samples are numbers drawn by seed, and rewards that read them: small, real, with counters of their own."""

from __future__ import annotations

import json

import torch

from plaudit.fitting.seeds import derive_seed
from plaudit.rewards.base import BaseReward
from plaudit.types import Batch, EngineError, Generator, Scores, StepStats, Trajectories


class Numbers(Generator):
    """Whole numbers 0 .. 99 as texts, of one to two characters; like language models, a sample depends on the prompt, its number
    among equal prompts and the seed only. drawn, characters: what it really made."""

    def __init__(self):
        self.drawn = self.characters = 0

    def modules(self):
        return {}

    def rollout(self, prompts, n, *, how=None, start=None, seed):
        rows = [row for row in range(len(prompts)) for _ in range(n)]
        seen: dict[str, int] = {}
        texts = []
        for row in rows:
            prompt = str(prompts.prompts[row])
            seen[prompt] = seen.get(prompt, -1) + 1
            texts.append(str(derive_seed(seed, prompt, seen[prompt]) % 100))
        batch = prompts.select(rows)
        batch.responses, batch.groups = texts, torch.tensor(rows)
        batch.lengths, batch.finish = [len(text) for text in texts], ["complete"] * len(texts)
        self.drawn += len(texts)
        self.characters += sum(batch.lengths)
        return Trajectories(batch, torch.zeros(len(texts), 2), torch.ones(len(texts), 2, dtype=torch.bool), how=how)

    def encode(self, batch, *, seed):
        raise NotImplementedError

    def evaluate(self, t, *, need=("log_prob",), steps=None, part=None):
        return StepStats()


class Worth(BaseReward):
    """The number; NaN for those divisible by `broken`. calls: rows that it was asked about. dies_at: the call that fails."""

    name, settings, batch_size = "worth", {}, 16

    def __init__(self, broken=None, dies_at=None):
        self.broken, self.dies_at, self.calls = broken, dies_at, 0

    def score(self, batch: Batch, ctx=None) -> Scores:
        if self.dies_at is not None and self.calls + len(batch) > self.dies_at:
            raise EngineError("the judge is gone")
        self.calls += len(batch)
        numbers = [int(text) for text in batch.responses]
        return Scores(torch.tensor([float("nan") if self.broken and n % self.broken == 0 else float(n) for n in numbers]))


class Duel(BaseReward):
    """Compares: the larger number wins. pairs: how many it judged."""

    name, settings = "duel", {}

    def __init__(self):
        self.pairs = 0

    def compare(self, batch, first, second, ctx=None):
        from plaudit.types import Preferences

        self.pairs += len(first)
        ctx.budget.spend(reward_calls=len(first))
        values = torch.tensor([float(text) for text in batch.responses])
        return Preferences(first, second, torch.sigmoid(values[first] - values[second]))


def questions(count: int) -> Batch:
    return Batch([f"question {number}" for number in range(count)], references=[str(number) for number in range(count)])


def round_trip(state):
    """Through JSON, as a file keeps it."""
    return json.loads(json.dumps(state))


def same(first, second) -> bool:
    """Whether two results chose the same, for the same values."""
    return list(first.batch.responses) == list(second.batch.responses) and torch.equal(
        first.scores.values.nan_to_num(-1.0), second.scores.values.nan_to_num(-1.0)
    )
