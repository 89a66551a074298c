"""Judging every row K times: one runner a vote, in lock step, and one result out of the votes.

Each vote is an ordinary run with the seed seed, seed + 1 ..., so it is kept in the store under its own key: a second run asks
nothing, and more votes later ask for the missing ones only. Votes are counted as `plaudit.rewards.generative.voting` says.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import tee

from plaudit.data.row import Row
from plaudit.judging.results import PairResult, ResponseResult, RowResult
from plaudit.judging.runner import Progress, Runner
from plaudit.judging.units import number, wins
from plaudit.rewards.base import BaseReward, Native
from plaudit.rewards.generative.counting import group_shares, modal_value, moments_of_votes, status_of_votes
from plaudit.rewards.generative.voting import Combine
from plaudit.types import SpecError, Status, Verdict


@dataclass
class Voted(RowResult):
    """One result out of several votes on one row, which it keeps."""

    votes: list[RowResult] = field(default_factory=list)


def votes_of(result: RowResult) -> list[RowResult]:
    """The single votes behind a result: itself where it was judged once."""
    return result.votes if isinstance(result, Voted) else [result]


def at_temperature(reward: BaseReward, temperature: float) -> BaseReward:
    """The judge with another sampling temperature. Raises SpecError for a reward that samples nothing."""
    from plaudit.rewards.generative import Judge

    if not isinstance(reward, Judge) or reward.sampling is None:
        raise SpecError(f"'{reward.name}' writes nothing by itself, so it has no temperature: set it where its judges are made")
    warm = copy.copy(reward)
    warm.sampling = replace(reward.sampling, temperature=temperature)
    warm.uses_seed = reward.uses_seed or temperature > 0
    return warm


@dataclass
class VoteRunner(Runner):
    """A runner that judges each row `votes` times. combine: how votes are counted (`Votes`).

    Raises SpecError where the votes would all be the same, or are probabilities that are to be added up.
    """

    votes: int = 1
    combine: Combine = "mean"

    def __post_init__(self) -> None:
        if self.votes < 1:
            raise SpecError(f"votes is {self.votes}, expected 1 or more")
        if self.votes > 1 and not getattr(self.reward, "uses_seed", True):
            raise SpecError(
                f"'{self.reward.name}' draws nothing, so {self.votes} votes would be the same: judges that write need a "
                "temperature above 0"
            )
        if self.combine == "sum" and self.reward.native == "compare":
            raise SpecError(f"'{self.reward.name}' compares, and probabilities are not added up: combine by mean or majority")

    def run(self, rows: Iterable[Row]) -> Iterator[RowResult]:
        """Results in the order of the rows, each with its votes. A run ends with the first of its votes that ends early."""
        runners = [
            Runner(self.reward, self.store, replace(self.context, seed=self.context.seed + vote), self.pairs)
            for vote in range(self.votes)
        ]
        streams = tee(rows, self.votes)
        done = zip(*(one.run(stream) for one, stream in zip(runners, streams, strict=True)), strict=False)
        for results in done:
            self._update([one.progress for one in runners])
            yield results[0] if self.votes == 1 else count_votes(results, self.combine, self.reward)
        self._update([one.progress for one in runners])

    def _update(self, each: Sequence[Progress]) -> None:
        self.progress.rows = each[0].rows
        self.progress.judged = sum(one.judged for one in each)
        self.progress.reused = sum(one.reused for one in each)
        self.progress.judged_rows = max(one.judged_rows for one in each)
        self.progress.stopped = next((one.stopped for one in each if one.stopped is not None), None)


def count_votes(votes: Sequence[RowResult], combine: Combine, reward: BaseReward) -> Voted:
    """One row's votes as one result. Raises ValueError without votes."""
    if not votes:
        raise ValueError("there are no votes to count")
    row = votes[0].row
    if reward.native == "compare":
        pairs = [_pair([vote.pairs[place] for vote in votes], combine) for place in range(len(votes[0].pairs))]
        return Voted(row, wins(row, pairs), pairs, list(votes))
    responses = _responses(votes, combine, reward.native, higher_is_better=reward.higher_is_better)
    return Voted(row, responses, [], list(votes))


def _responses(votes: Sequence[RowResult], combine: Combine, native: Native, *, higher_is_better: bool) -> list[ResponseResult]:
    import torch

    codes = torch.tensor([[int(one.status) for one in vote.responses] for vote in votes])
    values = torch.tensor([[_float(one.value) for one in vote.responses] for vote in votes], dtype=torch.float64)
    used = codes == int(Status.OK)
    if native == "score_group":  # in a group a vote counts for all rows or for none
        used = used.all(dim=1, keepdim=True).expand_as(used)
    mean, spread, counted = moments_of_votes(values, used)
    if combine == "majority" and native == "score_group":
        better = values if higher_is_better else -values
        mean = group_shares(better[:, None], used[:, :1])[0]
    elif combine == "majority":
        mean = modal_value(values, used)
    elif combine == "sum":
        mean = mean * len(votes)
    results = []
    for place, column in enumerate(zip(*(vote.responses for vote in votes), strict=True)):
        failed = codes if native == "score_group" else codes[:, place : place + 1]
        status = status_of_votes([next((code for code in vote if code), 0) for vote in failed.tolist()])
        ok = status is Status.OK
        value, deviation = (number(float(found[place])) if ok else None for found in (mean, spread))
        parts = {
            "votes": float(counted[place]),
            **_mean_parts([one for one, on in zip(column, used[:, place], strict=True) if on]),
        }
        results.append(
            ResponseResult(value, status, parts, deviation, _named([(one.verdicts, one.value, one.status) for one in column]))
        )
    return results


def _mean_parts(counted: Sequence[ResponseResult]) -> dict[str, float | None]:
    """Mean of each named part over the votes that count; None where one of them has no such number."""
    found: dict[str, float | None] = {}
    for name in dict.fromkeys(name for one in counted for name in one.parts):
        values = [one.parts.get(name) for one in counted]
        known = [value for value in values if value is not None]
        found[name] = number(sum(known) / len(known)) if len(known) == len(values) else None
    return found


def _pair(votes: Sequence[PairResult], combine: Combine) -> PairResult:
    status = status_of_votes([int(vote.status) for vote in votes])
    counted = [vote for vote in votes if vote.prob is not None]
    probs = [float(vote.prob) for vote in counted if vote.prob is not None]
    if combine == "majority":
        probs = [0.5 if prob == 0.5 else float(prob > 0.5) for prob in probs]
    ties = [vote.tie for vote in counted if vote.tie is not None]
    orders = [vote.by_order for vote in counted if vote.by_order is not None]
    return PairResult(
        votes[0].first,
        votes[0].second,
        number(sum(probs) / len(probs)) if status is Status.OK else None,
        status,
        (_mean([order[0] for order in orders]), _mean([order[1] for order in orders])) if orders else None,
        _mean(ties) if ties and len(ties) == len(counted) else None,
        _named([(vote.verdicts, vote.prob, vote.status) for vote in votes]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return number(sum(known) / len(known)) if known else None


def _float(value: float | None) -> float:
    return float("nan") if value is None else value


def _named(said: Sequence[tuple[Sequence[Verdict], float | None, Status]]) -> list[Verdict]:
    """The verdicts of all votes, each with the number of its vote; where nothing was said, the vote's own number."""
    named: list[Verdict] = []
    for vote, (verdicts, value, status) in enumerate(said):
        for verdict in verdicts or [Verdict(value=value, status=status)]:
            named.append(replace(verdict, name=f"vote {vote + 1}: {verdict.name}" if verdict.name else f"vote {vote + 1}"))
    return named
