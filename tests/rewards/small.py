"""Small complete rewards for the tests of adapters and compositions: their numbers are the responses themselves."""

from __future__ import annotations

import torch

from plaudit.rewards.base import BaseReward
from plaudit.types import Batch, Context, Preferences, Scores, Status, Verdict


def batch_of(*numbers: float | None, groups: list[int] | None = None, **columns: object) -> Batch:
    """Responses that are numbers; None is a response that nobody can judge."""
    return Batch(
        ["p"] * len(numbers),
        list(numbers),
        groups=None if groups is None else torch.tensor(groups),
        **columns,  # type: ignore[arg-type]
    )


class Value(BaseReward):
    """The number itself, scaled; None has the given status."""

    def __init__(self, name="value", scale=1.0, missing=Status.ABSTAINED, spread=None, lower=False):
        self.name, self.scale, self.missing, self.width = name, scale, missing, spread
        self.higher_is_better = not lower
        self.settings = {"scale": scale, "missing": int(missing)}
        self.seen: list[int] = []

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:
        self.seen.append(len(batch))
        numbers = [float("nan") if response is None else self.scale * response for response in batch.responses]
        status = torch.tensor([self.missing if response is None else Status.OK for response in batch.responses])
        spread = None if self.width is None else torch.full((len(batch),), self.width)
        return Scores(torch.tensor(numbers), status, spread=spread)


class Extra(BaseReward):
    """A column of the batch's extras; NaN where None, with ABSTAINED."""

    def __init__(self, column, spread=None, status=Status.ABSTAINED):
        self.name, self.width, self.missing = column, spread, status
        self.settings = {"column": column}

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:
        column = batch.extras[self.name]
        status = torch.tensor([self.missing if value is None else Status.OK for value in column])
        values = torch.tensor([float("nan") if value is None else float(value) for value in column])
        return Scores(values, status, spread=None if self.width is None else torch.full((len(batch),), self.width))


class Biased(BaseReward):
    """Compares numbers by the Bradley-Terry link, with `bias` in favour of what is shown first; None cannot be judged."""

    def __init__(self, bias=0.0, name="biased", temperature=1.0):
        self.bias, self.name, self.temperature = bias, name, temperature
        self.settings = {"bias": bias}
        self.asked: list[tuple[int, int]] = []

    def compare(self, batch, first, second, ctx=None) -> Preferences:
        prob, status, verdicts = [], [], []
        for one, two in zip(first.tolist(), second.tolist(), strict=True):
            self.asked.append((one, two))
            left, right = batch.responses[one], batch.responses[two]
            missing = left is None or right is None
            gap = 0.0 if missing else (left - right) / self.temperature + self.bias
            prob.append(torch.sigmoid(torch.tensor(gap, dtype=torch.float64)).item())
            status.append(Status.UNPARSABLE if missing else Status.OK)
            verdicts.append([Verdict(choice="A" if gap > 0 else "B", text=f"{left} against {right}")])
        return Preferences(first, second, torch.tensor(prob), status=torch.tensor(status), verdicts=verdicts)


class Listwise(BaseReward):
    """Number plus a bonus for the place in which a row is shown in its group."""

    name = "listwise"

    def __init__(self, bonus=0.0):
        self.bonus = bonus
        self.settings = {"bonus": bonus}

    def score_group(self, batch: Batch, ctx: Context | None = None) -> Scores:
        values = torch.full((len(batch),), float("nan"), dtype=torch.float64)
        for rows in batch.group_rows():
            for place, row in enumerate(rows):
                if batch.responses[row] is not None:
                    values[row] = batch.responses[row] - self.bonus * place
        return Scores(values)
