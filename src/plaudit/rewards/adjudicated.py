"""`Adjudicated`: several pairwise judges, and one more that reads their votes where they do not agree (MOOSE-Chem2's ensembles).

A plain majority of judges is `Ensemble(judges, reduce="median")`, or `Votes` for one judge asked several times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from plaudit.rewards.base import BaseReward
from plaudit.types import Batch, Context, Preferences, Prompt, Status, prompt_text
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from torch import Tensor


class Adjudicated(BaseReward):
    """Members vote on a pair; what all prefer is the verdict, else the adjudicator decides, told of all votes.

    The adjudicator is asked about the same two responses under a prompt that lists each member's vote and what it said. A member
    without a verdict makes the pair disputed. A unanimous pair has the mean of the members' probabilities; a disputed one has the
    adjudicator's answer and status. Verdicts are those of the members by their names, then the adjudicator's.
    """

    def __init__(self, members: Mapping[str, BaseReward], adjudicator: BaseReward, *, name: str = "adjudicated") -> None:
        if len(members) < 2:
            raise ValueError(f"an ensemble needs at least two members, not {len(members)}")
        self.members, self.adjudicator, self.name = dict(members), adjudicator, name
        self.uses_seed = any(getattr(one, "uses_seed", True) for one in (*members.values(), adjudicator))
        self.settings = {"members": list(members)}

    def compare(self, batch: Batch, first: Tensor, second: Tensor, ctx: Context | None = None) -> Preferences:
        """[P] probabilities."""
        import torch

        votes = {name: member.compare(batch, first, second, ctx) for name, member in self.members.items()}
        probs = torch.stack([vote.prob for vote in votes.values()])
        agreed = (probs > 0.5).all(dim=0) | (probs < 0.5).all(dim=0)  # NaN is on neither side
        prob, status = probs.mean(dim=0), torch.zeros(len(first), dtype=torch.int8)
        verdicts = [
            [replace(one, name=name) for name, vote in votes.items() if vote.verdicts is not None for one in vote.verdicts[pair]]
            for pair in range(len(first))
        ]
        disputed = torch.nonzero(~agreed).flatten().tolist()
        if disputed:
            rows = [row for pair in disputed for row in (int(first[pair]), int(second[pair]))]
            told = batch.select(rows)
            told.prompts = [self._told(batch.prompts[row], votes, disputed[place // 2]) for place, row in enumerate(rows)]
            sides = torch.arange(0, len(rows), 2)
            decided = self.adjudicator.compare(told, sides, sides + 1, ctx)
            prob[disputed], status[disputed] = decided.prob, decided.status
            for place, pair in enumerate(disputed):
                said = decided.verdicts[place] if decided.verdicts is not None else []
                verdicts[pair] += [replace(one, name="adjudicator") for one in said]
        return Preferences(first, second, prob, status=status, verdicts=verdicts)

    def _told(self, prompt: Prompt, votes: Mapping[str, Preferences], pair: int) -> str:
        """The prompt with every vote, in words that do not depend on which response is shown first to the adjudicator."""
        lines = [f"- {name}: {_words(vote, pair)}" for name, vote in votes.items()]
        asked = [prompt_text(prompt), "Judges have compared two responses to this, which they call one and two, as follows."]
        return "\n".join([*asked, *lines, "Weigh their reasons, not their number."])

    def fingerprint(self) -> str:
        """Members' and adjudicator's fingerprints."""
        parts: Sequence[BaseReward] = [*self.members.values(), self.adjudicator]
        return content_key(super().fingerprint(), [part.fingerprint() for part in parts])

    def check(self) -> None:
        """Forwarded to all."""
        for part in (*self.members.values(), self.adjudicator):
            part.check()


def _words(vote: Preferences, pair: int) -> str:
    status, prob = Status(int(vote.status[pair])), float(vote.prob[pair])
    said = "; ".join(one.text.strip() for one in (vote.verdicts[pair] if vote.verdicts is not None else []) if one.text)
    choice = (
        f"no verdict ({status.label})" if status is not Status.OK else "a tie" if prob == 0.5 else "one" if prob > 0.5 else "two"
    )
    return f"{choice}. {said}" if said else choice
