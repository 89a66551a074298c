"""`GoalReward`: a Bradley-Terry reward over a decoder's last state, with the contrastive loss of card 40 if it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from plaudit.fitting.seeds import seeded
from plaudit.rewards.learned.base import LearnedReward, pairs_of
from plaudit.rewards.learned.data import FitData
from plaudit.rewards.learned.decoder import ROWS, TokenDecoder
from plaudit.rewards.learned.goal_contrastive import Contrast, GoalContrastive, GoalState
from plaudit.types import Batch, Loss, UserError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


class GoalReward(LearnedReward):
    """r = w . h at the last token, without bias (Nath et al., arXiv 2407.13887); the contrastive term shapes the states only.

    backbone: a `TokenDecoder`, or its settings. contrast: settings of `GoalContrastive`, or None for Bradley-Terry alone. The
    end token counts as the last one of a response, so that its state can be a goal. seed: of the head.
    While fitting, the places of the contrast come from torch's generator, as dropout does (`fitting.train` seeds it); without
    gradient they are the same each time, so that validation losses can be compared.
    """

    kind: ClassVar[str] = "goal-contrastive"

    def __init__(
        self,
        backbone: TokenDecoder | Mapping[str, Any],
        *,
        contrast: GoalContrastive | Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        import torch

        self.decoder = token_decoder(backbone)
        self.backbone = self.decoder
        self.contrast = GoalContrastive(**contrast) if isinstance(contrast, Mapping) else contrast
        self.name = self.kind
        self.settings = {
            "backbone": self.decoder.settings,
            "contrast": None if self.contrast is None else self.contrast.settings(),
            "seed": seed,
        }
        self.head = torch.nn.Linear(self.decoder.width, 1, bias=False)
        with seeded(seed):
            torch.nn.init.normal_(self.head.weight, std=1 / (self.decoder.width + 1))

    def modules(self) -> dict[str, Module]:
        """The head."""
        return {"head": self.head}

    def logit(self, batch: Batch) -> Tensor:
        """[B] with gradient."""
        values: Tensor = self.head(self.encode(batch))[:, 0]
        return values

    def loss(self, data: FitData) -> Loss:
        """Sum over pairs of Bradley-Terry, and of beta times the contrastive term where there is one.

        Ties have no chosen response: they take no part in the contrast. Stats count the pairs that it left out.
        """
        import torch

        from plaudit.rewards.learned.losses import bradley_terry_loss

        told = pairs_of(data)
        rows, counts = self.decoder.rows(data.batch)
        ends = torch.tensor([len(row) - 1 for row in rows], dtype=torch.int64)
        states = self.decoder.states(rows)
        found = bradley_terry_loss(self.head(states[torch.arange(len(rows)), ends])[:, 0], told)
        if self.contrast is None:
            return found
        decided = (told.prob != 0.5).nonzero()[:, 0]
        wins = told.prob[decided] > 0.5
        chosen = torch.where(wins, told.first[decided], told.second[decided])
        rejected = torch.where(wins, told.second[decided], told.first[decided])
        contrast = self._contrast(rows, states, _response_mask(ends, counts, states.shape[1]), chosen, rejected)
        parts = {"bradley_terry": found.total.detach(), "contrast": contrast.total.detach()}
        stats = {"positive": float(contrast.positive), "negative": float(contrast.negative)}
        stats |= {"pairs_equal": float(contrast.equal), "pairs_short": float(contrast.short)}
        return Loss(found.total + contrast.total, parts, {**found.stats, **stats})

    def _contrast(self, rows: list[list[int]], states: Tensor, mask: Tensor, chosen: Tensor, rejected: Tensor) -> Contrast:
        """The term over pairs of rows; both rows of a pair have one prompt, so what they share of their tokens begins with it."""
        import torch

        assert self.contrast is not None
        pairs = list(zip(chosen.tolist(), rejected.tolist(), strict=True))
        equal = torch.tensor([rows[a] == rows[b] for a, b in pairs], dtype=torch.bool)
        prompts = (~mask[chosen]).long().cumprod(1).sum(1)
        alike = torch.tensor([_common(rows[a], rows[b]) for a, b in pairs], dtype=torch.int64)
        seed = int(torch.randint(2**31 - 1, ())) if torch.is_grad_enabled() else 0
        return self.contrast(
            states[chosen], states[rejected], mask[chosen], mask[rejected],
            seed=seed, equal=equal, shared=(alike - prompts).clamp(min=0),
        )  # fmt: skip

    def goal(self, batch: Batch) -> GoalState:
        """The mean end state of responses that are known to be good; give it training data only."""
        import torch

        goal = GoalState()
        with torch.no_grad():
            goal.update(self.encode(batch), batch.prompts, self.fingerprint())
        return goal

    def q(self, batch: Batch, goal: GoalState) -> Tensor:
        """[B, T] cosine of the state after each of a response's tokens with the goal, NaN after its last one.

        Raises ValueError where the weights are no longer those that made the goal.
        """
        import torch

        if goal.key != self.fingerprint():
            raise ValueError("this goal was made by other weights: make it again after every change of the backbone")
        rows, counts = self.decoder.rows(batch)
        found = torch.full((len(rows), max(counts, default=0)), torch.nan)
        with torch.no_grad():
            for at in range(0, len(rows), ROWS):
                some, lengths = rows[at : at + ROWS], counts[at : at + ROWS]
                states = self.decoder.states(some)
                ends = torch.tensor([len(row) - 1 for row in some], dtype=torch.int64)
                inside = _response_mask(ends, lengths, states.shape[1]) & (torch.arange(states.shape[1]) < ends[:, None])
                values = goal.q(states, inside)
                for row, length in enumerate(lengths):
                    found[at + row, :length] = values[row][inside[row]]
        return found


def token_decoder(backbone: TokenDecoder | Mapping[str, Any]) -> TokenDecoder:
    """The decoder, made from its settings where these are given. Raises UserError for settings of another kind of backbone."""
    if isinstance(backbone, TokenDecoder):
        return backbone
    settings = dict(backbone)
    if settings.pop("kind", "decoder") != "decoder":
        raise UserError("this reward reads a state a token: its backbone must be of the kind 'decoder'")
    return TokenDecoder(**settings)


def _response_mask(ends: Tensor, counts: list[int], width: int) -> Tensor:
    """[B, width] bool: the tokens of each response and the end token, which is at `ends`."""
    import torch

    column = torch.arange(width)
    return (column <= ends[:, None]) & (column >= (ends - torch.tensor(counts, dtype=torch.int64))[:, None])


def _common(first: list[int], second: list[int]) -> int:
    """How many tokens two rows begin with alike."""
    return next((place for place, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second)))
