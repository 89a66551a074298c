"""`Votes`: the same judge asked k times, its verdicts counted, and the better half of them chosen by a meta reward.

Vocabulary: a *vote* is one verdict on a thing (a row, a pair, or all rows of a group), drawn with the seed ctx.seed + its number.
A vote without a number is dropped and counted; where none has one, the thing has the status that most of them have. In a group a
vote counts for all rows or for none: a sum over different votes for different rows would not be comparable.
Voting and the meta reward's filter: Liu et al. 2025, Inference-Time Scaling for Generalist Reward Modeling, sections 4.1 and 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

from plaudit.rewards.base import BaseReward, Native
from plaudit.rewards.generative.counting import group_shares, modal_value, moments_of_votes, status_of_votes, top_votes
from plaudit.rewards.generative.judge import Judge
from plaudit.rewards.generative.questions import question_of
from plaudit.types import Batch, Context, Preferences, Request, Reward, Scores, SpecError, Status, Verdict
from plaudit.types.keys import content_key
from plaudit.types.text import prompt_text

if TYPE_CHECKING:
    from torch import Tensor

Combine = Literal["mean", "majority", "sum"]
Unit = tuple[int, ...]
"""The rows that one vote speaks about: one, the two of a pair, or all of a group."""


@runtime_checkable
class Asked(Protocol):
    """Rewards that can say again what a verdict of theirs was the answer to: what a meta reward needs to see."""

    def asked(self, batch: Batch, rows: Sequence[int], verdicts: Sequence[Verdict]) -> list[str]:
        """One text a verdict. rows: those that the verdicts are about, in the caller's order."""
        ...


@dataclass
class _Ballot:
    """k votes on U things. values: [k, U, R], R numbers a thing (1, or as many as the largest group has rows; NaN beyond).

    status: [k, U] int8. kept: [k, U] bool, votes that count.
    """

    values: Tensor
    status: Tensor
    kept: Tensor
    meta: Tensor | None = None
    """[k, U] the meta reward's score of each vote, NaN where there is none."""


class Votes(BaseReward):
    """k votes of one reward, counted as one.

    reward: draws differently with another seed (a judge at a temperature above 0). combine: "mean" of the votes; "sum", the
    mean times the number of votes that should count (so that a dropped vote costs a row nothing); "majority": of scores the
    value that most votes name (the mean of several such), of pairs and groups the share of votes that the side or row wins,
    a tie shared. meta: a reward that scores (prompt = what the judge was asked, response = what it wrote). keep: how many
    votes it keeps, the best first, those of equal score by their number; default half of k, rounded down, at least 1.

    parts: `votes` that counted, and with a meta reward `meta_weighted`, the mean of all usable votes weighed by the sigmoid of
    their meta score: it breaks the ties that counting leaves. spread: standard deviation of the votes that count (divided by
    n). verdicts: every vote, dropped ones too, by name `vote 1` ...; those left out by the meta reward say so.
    Judging twice with seeds closer than k shares votes. A vote that found the engine gone makes the thing UNREACHABLE, so that it
    is judged again. Raises SpecError for numbers that make no sense and for a reward whose votes would all be the same.
    """

    def __init__(
        self,
        reward: BaseReward,
        k: int,
        combine: Combine = "mean",
        *,
        meta: Reward | None = None,
        keep: int | None = None,
        name: str | None = None,
    ) -> None:
        if combine not in get_args(Combine):
            raise SpecError(f"combine is '{combine}'; expected one of {', '.join(get_args(Combine))}")
        if k < 1:
            raise SpecError(f"k is {k}: at least one vote is needed")
        if k > 1 and not getattr(reward, "uses_seed", True):
            raise SpecError(f"'{reward.name}' draws nothing, so its {k} votes would be the same: give it a temperature above 0")
        if keep is not None and (meta is None or not 1 <= keep <= k):
            raise SpecError(f"keep is {keep}: expected 1 to {k} votes, and a meta reward that chooses them")
        if combine == "sum" and reward.native == "compare":
            raise SpecError(f"'{reward.name}' compares, and probabilities are not added up: combine by mean or majority")
        self.reward, self.k, self.combine, self.meta = reward, k, combine, meta
        self.keep = k if meta is None else keep or max(1, k // 2)
        self.name = name or f"{reward.name}, {k} votes"
        self.batch_size = max(1, reward.batch_size)
        self.uses_seed = getattr(reward, "uses_seed", True)
        self.higher_is_better = reward.higher_is_better or (combine == "majority" and reward.native == "score_group")
        self.needs_whole_batch = getattr(reward, "needs_whole_batch", False)
        self.link_temperature = getattr(reward, "link_temperature", 1.0) * (self.keep if combine == "sum" else 1)

    @property
    def native(self) -> Native:
        """As the reward that votes."""
        return self.reward.native

    def fingerprint(self) -> str:
        """The reward's and the meta reward's, with how votes are counted."""
        meta = None if self.meta is None else self.meta.fingerprint()
        return content_key("votes", self.reward.fingerprint(), self.k, self.combine, meta, self.keep)

    def check(self) -> None:
        """Raise what the reward or the meta reward raises."""
        self.reward.check()
        if isinstance(self.meta, BaseReward):
            self.meta.check()

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:
        """[B] votes counted row by row."""
        if self.native != "score":
            return super().score(batch, ctx)
        units: list[Unit] = [(row,) for row in range(len(batch))]
        return self._scores(batch, units, [self.reward.score(batch, one) for one in self._contexts(ctx)], ctx)

    def score_group(self, batch: Batch, ctx: Context | None = None) -> Scores:
        """[B] votes counted group by group."""
        if self.native != "score_group":
            return super().score_group(batch, ctx)
        units: list[Unit] = [tuple(rows) for rows in batch.group_rows()]
        return self._scores(batch, units, [self.reward.score_group(batch, one) for one in self._contexts(ctx)], ctx)

    def compare(self, batch: Batch, first: Tensor, second: Tensor, ctx: Context | None = None) -> Preferences:
        """[P] votes counted pair by pair. tie: its mean probability where every vote that counts gives one."""
        if self.native != "compare":
            return super().compare(batch, first, second, ctx)
        import torch

        units: list[Unit] = list(zip(first.tolist(), second.tolist(), strict=True))
        votes = [self.reward.compare(batch, first, second, one) for one in self._contexts(ctx)]
        said = [vote.verdicts or [[] for _ in units] for vote in votes]
        probs = torch.stack([vote.prob for vote in votes])
        ballot = self._counted(batch, units, probs[:, :, None], torch.stack([vote.status for vote in votes]), said, ctx)
        outcomes = probs if self.combine == "mean" else torch.where(probs == 0.5, 0.5, (probs > 0.5).to(probs.dtype))
        prob, _, _ = moments_of_votes(outcomes, ballot.kept)
        ties = [torch.full_like(vote.prob, torch.nan) if vote.tie is None else vote.tie for vote in votes]
        tie = torch.where(ballot.kept, torch.stack(ties), 0.0).sum(dim=0) / ballot.kept.sum(dim=0).clamp_min(1)
        status = _outcome(ballot)
        usable = bool(torch.isfinite(tie[status == Status.OK]).all()) and any(vote.tie is not None for vote in votes)
        verdicts = _verdicts(said, probs, range(len(units)), ballot, (ctx or Context()).seed)
        return Preferences(first, second, prob, status=status, tie=tie if usable else None, verdicts=verdicts)

    def _contexts(self, ctx: Context | None) -> list[Context]:
        ctx = ctx or Context()
        return [replace(ctx, seed=ctx.seed + vote) for vote in range(self.k)]

    def _scores(self, batch: Batch, units: Sequence[Unit], votes: Sequence[Scores], ctx: Context | None) -> Scores:
        import torch

        width = max(map(len, units), default=1)
        values = torch.full((self.k, len(units), width), torch.nan)
        status = torch.zeros(self.k, len(units), dtype=torch.int8)
        unit_of = [0] * len(batch)
        for unit, rows in enumerate(units):
            members = list(rows)
            for vote, scores in enumerate(votes):
                values[vote, unit, : len(rows)] = scores.values[members].detach()
                status[vote, unit] = next((code for code in scores.status[members].tolist() if code != Status.OK), 0)
            for row in rows:
                unit_of[row] = unit
        said = [scores.verdicts or [[] for _ in unit_of] for scores in votes]
        of_units = [[[verdict for row in rows for verdict in told[row]] for rows in units] for told in said]
        ballot = self._counted(batch, units, values, status, of_units, ctx)
        mean, spread, counted = moments_of_votes(values, ballot.kept[:, :, None])
        if self.combine == "majority":
            better = values if self.reward.higher_is_better else -values
            by_row = self.native == "score"
            mean = modal_value(values[:, :, 0], ballot.kept)[:, None] if by_row else group_shares(better, ballot.kept)
        columns = {"value": mean * (self.keep if self.combine == "sum" else 1), "spread": spread, "votes": counted}
        if ballot.meta is not None:
            columns["meta_weighted"] = _meta_weighted(ballot)
        flat = {name: torch.full((len(batch),), torch.nan) for name in columns}
        for unit, rows in enumerate(units):
            for name, column in columns.items():
                flat[name][list(rows)] = column[unit, : len(rows)].to(torch.float32)
        value, deviation = flat.pop("value"), flat.pop("spread")
        each = torch.stack([scores.values.detach() for scores in votes])
        return Scores(
            value,
            _outcome(ballot)[torch.tensor(unit_of, dtype=torch.int64)],
            flat,
            spread=deviation,
            verdicts=_verdicts(said, each, unit_of, ballot, (ctx or Context()).seed),
        )

    def _counted(
        self,
        batch: Batch,
        units: Sequence[Unit],
        values: Tensor,
        status: Tensor,
        said: list[list[list[Verdict]]],
        ctx: Context | None,
    ) -> _Ballot:
        """The votes, and which of them count. said: [k][U] what was said in a vote about a thing."""
        usable = status == int(Status.OK)
        if self.meta is None:
            return _Ballot(values, status, usable)
        meta = self._meta_scores(batch, units, said, usable, ctx)
        return _Ballot(values, status, top_votes(meta, usable & meta.isfinite(), self.keep), meta)

    def _meta_scores(
        self, batch: Batch, units: Sequence[Unit], said: list[list[list[Verdict]]], usable: Tensor, ctx: Context | None
    ) -> Tensor:
        """[k, U] mean score of what was written in each usable vote; NaN where a text of it has no score."""
        import torch

        assert self.meta is not None
        prompts: list[str] = []
        written: list[str] = []
        of_vote: list[tuple[int, int]] = []
        for vote, unit in usable.nonzero().tolist():
            verdicts = [verdict for verdict in said[vote][unit] if verdict.text is not None]
            for asked, verdict in zip(_asked(self.reward, batch, units[unit], verdicts), verdicts, strict=True):
                prompts.append(asked)
                written.append(verdict.text or "")
                of_vote.append((vote, unit))
        total, count = (torch.zeros(usable.shape, dtype=torch.float64) for _ in range(2))
        if written:
            scores = self.meta.score(Batch(prompts, responses=written), ctx)
            sign = 1.0 if getattr(self.meta, "higher_is_better", True) else -1.0
            places = tuple(torch.tensor(of_vote, dtype=torch.int64).T)
            total.index_put_(places, sign * scores.values.detach().double(), accumulate=True)
            count.index_put_(places, torch.ones(len(written), dtype=torch.float64), accumulate=True)
        return torch.where(count > 0, total / count.clamp_min(1), torch.nan)


def _verdicts(
    said: list[list[list[Verdict]]], values: Tensor, unit_of: Sequence[int], ballot: _Ballot, seed: int
) -> list[list[Verdict]]:
    """Per row or pair: what was said in each vote, or the vote's own number where nothing was said.

    said: [k][N]. values: [k, N]. unit_of: [N], the thing that a row or pair belongs to.
    """
    numbers, usable, kept = values.tolist(), (ballot.status == int(Status.OK)).tolist(), ballot.kept.tolist()
    told: list[list[Verdict]] = [[] for _ in unit_of]
    for vote, column in enumerate(said):
        for place, unit in enumerate(unit_of):
            ok = usable[vote][unit]
            left_out = "left out by the meta reward" if ok and not kept[vote][unit] else ""
            value, status = (numbers[vote][place], Status.OK) if ok else (None, Status(int(ballot.status[vote, unit])))
            for verdict in column[place] or [Verdict(value=value, status=status)]:
                told[place].append(
                    replace(
                        verdict,
                        name=f"vote {vote + 1}: {verdict.name}" if verdict.name else f"vote {vote + 1}",
                        detail="; ".join(part for part in (verdict.detail, left_out) if part),
                        seed=seed + vote if verdict.seed is None else verdict.seed,
                    )
                )
    return told


def _asked(reward: Any, batch: Batch, rows: Unit, verdicts: Sequence[Verdict]) -> list[str]:
    """What each verdict answers. Raises SpecError for a reward that cannot say it."""
    if not verdicts:
        return []
    if isinstance(reward, Asked):
        return reward.asked(batch, rows, verdicts)
    if not isinstance(reward, Judge):
        raise SpecError(f"'{reward.name}' cannot say what it asked, so no meta reward can read it: give it a method `asked`")
    if reward.contract.kind == "listwise":  # shown in an order of its own in each vote
        shown = [tuple(rows[place] for place in verdict.order or range(len(rows))) for verdict in verdicts]
        questions = [question_of(reward.contract, batch, order, reward.engine.control_strings) for order in shown]
        return [_request_text(question.request) for question in questions]
    texts = reward.render(batch, *rows)
    if len(texts) != len(verdicts):
        raise SpecError(f"'{reward.name}' asked {len(texts)} questions and wrote {len(verdicts)} answers")
    return texts


def _request_text(request: Request | None) -> str:
    if request is None or isinstance(request.messages, str):
        return "" if request is None else str(request.messages)
    return prompt_text(request.messages)


def _outcome(ballot: _Ballot) -> Tensor:
    """[U] int8: as `status_of_votes`, and ABSTAINED where votes are usable, but the meta reward has no score for any."""
    import torch

    found = [int(status_of_votes(column)) for column in ballot.status.T.tolist()]
    silent = (torch.tensor(found, dtype=torch.int8) == int(Status.OK)) & ~ballot.kept.any(dim=0)
    return torch.where(silent, int(Status.ABSTAINED), torch.tensor(found, dtype=torch.int8)).to(torch.int8)


def _meta_weighted(ballot: _Ballot) -> Tensor:
    """[U, R] mean of the usable votes, each weighed by the sigmoid of its meta score."""
    import torch

    assert ballot.meta is not None
    known = (ballot.status == int(Status.OK)) & ballot.meta.isfinite()
    weights = torch.where(known, ballot.meta.sigmoid(), 0.0)[:, :, None]
    total: Tensor = torch.where(known[:, :, None], ballot.values, 0.0).mul(weights).sum(dim=0) / weights.sum(dim=0)
    return total
