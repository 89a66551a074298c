"""`SelfPlayScale`: rewards of different people on one scale, as the probability of beating a random sample (SPO, card 34)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plaudit.rewards.shaping.shapers import mean_over
from plaudit.types import Batch, Reward, Scores, Status
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from torch import Tensor


class SelfPlayScale:
    """r(s, u) -> mean over anchors s' of sigmoid(r(s, u) - r(s', u)), in [0, 1], for the user u of each row.

    Bradley-Terry leaves a reward's scale to how surely a person's pairs are told apart, so that people whose pairs are sure would
    take most of a shared policy's training. Swamy et al., arXiv 2401.04056, as used by Poddar et al., arXiv 2408.10075. For one
    person it is monotone, and changes no ranking.

    reward: the raw reward; its numbers for the anchors are computed once a user. anchors: samples that everybody's rewards are
    compared with, a few hundred; their users are not read. Anchors without a number are left out; where none has one, rows get
    MISSING_REFERENCE. Equal anchors give finite, nearly constant rewards.
    """

    native = "score"
    bounds = (0.0, 1.0)

    def __init__(self, reward: Reward, anchors: Batch) -> None:
        if not len(anchors):
            raise ValueError("at least one anchor is needed")
        self.reward, self.anchors = reward, anchors
        self._known: dict[str, Tensor] = {}

    def anchor_rewards(self, user: str) -> Tensor:
        """[A] the user's rewards of the anchors, NaN where there is none."""
        if user not in self._known:
            columns = {
                **{name: column for name, column in self.anchors.columns() if "." not in name},
                "extras": self.anchors.extras,
            }
            given = Batch(**{**columns, "users": [user] * len(self.anchors)})
            self._known[user] = self.reward.score(given).values.detach()
        return self._known[user]

    def __call__(self, scores: Scores, batch: Batch) -> Scores:
        """[B] in [0, 1]; the raw ones are the part `raw`. Raises ValueError where the rows have no users."""
        import torch

        if batch.users is None:
            raise ValueError("rewards are scaled by person: every row needs a user")
        anchors = torch.stack([self.anchor_rewards(str(user)) for user in batch.users])
        lonely = scores.ok & anchors.isnan().all(1)
        status = torch.where(lonely, int(Status.MISSING_REFERENCE), scores.status).to(torch.int8)
        shaped = mean_over(scores.values, anchors, lambda gap: gap.sigmoid())
        return Scores(
            shaped, status, {**scores.parts, "raw": scores.values.detach()}, scores.segments, scores.spread, scores.verdicts
        )

    def state_dict(self) -> dict[str, Any]:
        """Nothing: what is known of the anchors follows from the reward."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: ARG002
        """Nothing to take back; the anchors are scored again."""
        self._known.clear()

    def fingerprint(self) -> str:
        """Of the reward and the anchors."""
        return content_key("self-play", self.reward.fingerprint(), [str(response) for response in self.anchors.responses or ()])
