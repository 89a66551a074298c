"""Uncertainty of learned rewards: several heads on one backbone, and the disagreement of two random passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from plaudit.fitting.seeds import derive_seed, seeded
from plaudit.rewards.base import BaseReward
from plaudit.rewards.learned.base import Backbone, LearnedReward, pairs_of
from plaudit.rewards.learned.data import FitData
from plaudit.rewards.learned.heads import HeadReward
from plaudit.rewards.learned.networks import mlp
from plaudit.types import Batch, Context, Loss, Scores, Status, prompt_text
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

DRAWS = "plaudit.draws"
"""Name of the extra column [B, M] that says how often each member of an ensemble sees a row's prompt."""


class EnsembleReward(HeadReward):
    """M heads on one backbone; the score is their mean, `spread` their standard deviation (n - 1), over the temperature.

    bootstrap: each member sees each prompt as often as a Poisson(1) draw says, decided by the prompt's text and `seed`
    (Oza and Russell, 2001): without it linear heads would all find the same optimum. Prompts that no member drew cost nothing.
    """

    kind = "ensemble"

    def __init__(
        self, backbone: Backbone | Mapping[str, Any], *, members: int = 5, bootstrap: bool = True, **settings: Any
    ) -> None:
        if members < 2:
            raise ValueError(f"an ensemble has two members or more, not {members}")
        from torch.nn import ModuleList

        super().__init__(backbone, **settings)
        self.members, self.bootstrap = members, bootstrap
        widths, seed = (self.backbone.width, *self.settings["hidden"], 1), self.settings["seed"]
        self.head = ModuleList(
            mlp(widths, dropout=self.dropout, bias=False, seed=derive_seed(seed, "member", number), zero_last=True)
            for number in range(members)
        )
        self.settings = {**self.settings, "members": members, "bootstrap": bootstrap}

    def logits(self, batch: Batch) -> Tensor:
        """[B, M] of each member, with gradient."""
        import torch

        inputs = self.inputs(batch)
        heads: Any = self.head
        return torch.cat([head(inputs) for head in heads], dim=1)

    def logit(self, batch: Batch) -> Tensor:
        """[B] mean over the members."""
        return self.logits(batch).mean(1)

    def score_rows(self, batch: Batch) -> Scores:
        """Mean and spread."""
        values = self.logits(batch) / self.temperature
        return Scores(values.mean(1), spread=values.std(1))

    def prepare(self, data: FitData, units: Sequence[int]) -> FitData:
        """Draw who sees which prompt; held-out prompts count once for each member."""
        import torch

        data = super().prepare(data, units)
        if not self.bootstrap:
            return data
        texts = [prompt if isinstance(prompt, str) else prompt_text(prompt) for prompt in data.batch.prompts]
        fitted = {texts[row] for row in data.rows(units).tolist()}
        draws = {text: self._draws(text) if text in fitted else torch.ones(self.members) for text in set(texts)}
        column: Any = torch.stack([draws[text] for text in texts])
        return replace(data, batch=replace(data.batch, extras={**data.batch.extras, DRAWS: column}))

    def _draws(self, text: str) -> Tensor:
        import torch

        generator = torch.Generator().manual_seed(derive_seed(self.settings["seed"], "draws", text))
        return torch.poisson(torch.ones(self.members), generator=generator)

    def loss(self, data: FitData) -> Loss:
        """Sum over pairs of the members' mean Bradley-Terry loss, each times how often it drew the prompt."""
        import torch

        from plaudit.rewards.learned.losses import pair_accuracy, pair_losses

        told, logits = pairs_of(data), self.logits(data.batch)
        gaps = logits[told.first] - logits[told.second]
        losses = pair_losses(gaps, told.prob[:, None].expand_as(gaps))
        draws: Any = data.batch.extras.get(DRAWS)
        if draws is not None:
            losses = losses * draws[told.first]
        weight = torch.ones(len(told)) if told.weight is None else told.weight
        return Loss((losses.mean(1) * weight).sum(), stats={"accuracy": pair_accuracy(gaps.detach().mean(1), told.prob)})


class TwoPassReward(BaseReward):
    """A learned reward read twice with its randomness (dropout) on: the mean, and how far the two passes lie apart.

    `spread` is the standard deviation of the two, |d| / sqrt(2); parts: `disagreement` |d| and `weight` exp(-scale |d|), by which
    a loss or an advantage may be multiplied (Ctrl-U, arXiv 2410.11236; there the two passes are neighbouring noise levels).
    The passes draw from `ctx.seed`, by their order in the batch: same seed and batch, same numbers. A reward without
    randomness has disagreement 0 and weight 1.
    """

    name = "two-pass"
    uses_seed = True

    def __init__(self, inner: LearnedReward, *, scale: float = 1.0) -> None:
        self.inner, self.scale = inner, scale
        self.name = f"two-pass {inner.name}"
        self.batch_size = inner.batch_size
        self.settings = {"scale": scale}

    def fingerprint(self) -> str:
        """Of the inner reward and the scale."""
        return content_key("two-pass", self.inner.fingerprint(), self.scale)

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:
        """[B] mean of two passes, with spread and parts."""
        import torch

        from plaudit.rewards.learned.losses import disagreement_weight

        ctx = ctx or Context()
        ctx.budget.spend(reward_calls=2 * len(batch))
        status = self.inner.status(batch)
        rows = (status == Status.OK).nonzero()[:, 0].tolist()
        passes = torch.full((2, len(batch)), torch.nan)
        if rows:
            passes[:, rows] = torch.stack([self._pass(batch.select(rows), derive_seed(ctx.seed, "pass", n)) for n in range(2)])
        apart = (passes[0] - passes[1]).abs()
        parts = {"disagreement": apart, "weight": disagreement_weight(apart, self.scale)}
        return Scores(passes.mean(0), status, parts, spread=apart / 2**0.5)

    def _pass(self, batch: Batch, seed: int) -> Tensor:
        """[B] one pass in training mode, without gradient."""
        import torch

        modules: list[Module] = list(self.inner.fitted_modules().values())
        for module in modules:
            module.train()
        try:
            with torch.no_grad(), seeded(seed):
                return self.inner.score_rows(batch).values
        finally:
            for module in modules:
                module.eval()
