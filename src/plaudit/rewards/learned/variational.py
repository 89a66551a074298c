"""`VariationalReward`: the kind of user is a latent z, inferred from a few of their comparisons (VPL, card 34).

Poddar et al., "Personalizing reinforcement learning from human feedback with variational preference learning", arXiv 2408.10075.
P(a beats b | z) = s(r(a, z) - r(b, z)), z ~ N(0, I), and q(z | comparisons) = N(mean, diag exp(log variance)) by a set encoder.
The encoder reads (winner, loser), so a swapped pair with a swapped label is the same pair; the order of the pairs is not read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from plaudit.fitting.seeds import derive_seed
from plaudit.rewards.learned.base import Backbone, LearnedReward, Units, pairs_of
from plaudit.rewards.learned.data import FitData
from plaudit.rewards.learned.localizing import backbone_of, numbered, pair_users, usable, user_names
from plaudit.rewards.learned.networks import mlp
from plaudit.types import Batch, Loss, Preferences, Scores, UserError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass
class Posterior:
    """What is believed of U users: diagonal normals over z. mean, log_variance: [U, latent], finite."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """mean + deviation x noise, the reparameterised draw; noise: [..., U, latent] standard normal."""
        return self.mean + (self.log_variance / 2).exp() * noise

    def divergence(self) -> Tensor:
        """[U] KL to N(0, I): 1/2 sum (mean^2 + variance - 1 - log variance)."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance).sum(1)


def cyclical(step: int, period: int, *, lowest: float = 0.0, rising: float = 0.5) -> float:
    """Share of the KL's weight at a step (0-based): a cosine from `lowest` to 1 over a period's first `rising` part, then 1.

    Fu et al., "Cyclical annealing schedule", arXiv 1903.10145: restarts let the latent be used again after it was ignored.
    """
    done = min(1.0, (step % period) / (rising * period))
    return lowest + (1 - lowest) * 0.5 * (1 - math.cos(math.pi * done))


class VariationalReward(LearnedReward):
    """r(s, z) on a backbone, fitted by minus the ELBO: sum -log P(label | z) + beta x KL(q(z | context) || N(0, I)) a user.

    latent, hidden: of z and of the networks. encoder: "mlp": mean of the pairs' codes; "attention": one head of self-attention
    between a user's pairs, then the mean. context: (least, most) pairs that a user's context has in an update, its number and
    pairs drawn anew each time. targets: "all": every pair of the user is predicted, those of the context too, as in the control
    experiments; "others": only pairs outside the context, so that z cannot pass on its own labels (language experiments).
    beta: of the KL; it is that times `cyclical` with `period` updates (None: constant), `lowest` and `rising`. clamp: mean and
    log variance are held to [-clamp, clamp] (1 in the language version); the log variance always to [-10, 10]. draws: of z for a
    score's spread, 0 for none. users: whose posteriors are kept, for `score`; others have the prior, mean 0.
    A tie says nothing to the encoder and is a target of 0.5. Networks have GELU (published: LeakyReLU).
    """

    kind: ClassVar[str] = "variational"
    units: ClassVar[Units] = "users"
    name = "variational"

    def __init__(
        self,
        backbone: Backbone | Mapping[str, Any],
        *,
        latent: int = 32,
        hidden: int = 64,
        encoder: Literal["mlp", "attention"] = "attention",
        context: tuple[int, int] | Sequence[int] = (2, 8),
        targets: Literal["all", "others"] = "others",
        beta: float = 0.1,
        period: int | None = None,
        lowest: float = 0.0,
        rising: float = 0.5,
        clamp: float | None = None,
        draws: int = 16,
        users: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        least, most = context
        if encoder not in ("mlp", "attention") or targets not in ("all", "others") or not 0 <= least <= most or beta < 0:
            raise UserError(
                f"a variational reward has no encoder='{encoder}', targets='{targets}', context={context}, beta={beta}"
            )
        self.backbone: Backbone = backbone_of(backbone)
        self.settings = {
            "backbone": dict(self.backbone.settings), "latent": latent, "hidden": hidden, "encoder": encoder,
            "context": [least, most], "targets": targets, "beta": beta, "period": period, "lowest": lowest, "rising": rising,
            "clamp": clamp, "draws": draws, "users": list(users), "seed": seed,
        }  # fmt: skip
        self.known: Any
        self._build()

    def _build(self) -> None:
        """Modules with the initial weights of the seed."""
        import torch
        from torch import nn

        given, width = self.settings, self.backbone.width
        hidden, latent, seed = given["hidden"], given["latent"], given["seed"]
        self.pair = mlp((2 * width, hidden, hidden, hidden), seed=derive_seed(seed, "pair"))
        heads: dict[str, Module] = {"moments": mlp((hidden, 2 * latent), seed=derive_seed(seed, "moments"))}
        if given["encoder"] == "attention":
            heads |= {name: mlp((hidden, hidden), seed=derive_seed(seed, name)) for name in ("query", "key", "value")}
        self.set = nn.ModuleDict(heads)
        self.decoder = mlp((width + latent, hidden, hidden, 1), seed=derive_seed(seed, "decoder"))
        self.known = nn.Module()  # buffers: they are kept with the weights, and not fitted
        self.known.register_buffer("updates", torch.zeros(1))
        self._know(torch.zeros(len(given["users"]), latent), torch.zeros(len(given["users"]), latent))

    def _know(self, mean: Tensor, log_variance: Tensor) -> None:
        """Take these tables [users, latent] as what is known."""
        self.known.register_buffer("mean", mean)
        self.known.register_buffer("log_variance", log_variance)

    @property
    def users(self) -> tuple[str, ...]:
        """Those whose posterior is kept."""
        return tuple(self.settings["users"])

    def modules(self) -> dict[str, Module]:
        """Pair encoder, set encoder, decoder, and what is known: posteriors of users, and the number of updates."""
        return {"pair": self.pair, "set": self.set, "decoder": self.decoder, "known": self.known}

    def encode_sets(self, winners: Tensor, losers: Tensor, owner: Tensor, count: int) -> Posterior:
        """q(z | pairs) of `count` users. winners, losers: [P, d] vectors; owner: [P] int64 whose pair it is.

        A user without pairs has the prior. Pairs never see those of another user.
        """
        import torch

        codes = self.pair(torch.cat([winners, losers], 1))
        sizes = torch.bincount(owner, minlength=count)
        pooled = codes.new_zeros(count, codes.shape[1]).index_add(0, owner, self._attended(codes, owner, sizes))
        mean, log_variance = self.set["moments"](pooled / sizes.clamp(min=1)[:, None]).chunk(2, 1)
        limit = self.settings["clamp"]
        if limit is not None:
            mean, log_variance = mean.clamp(-limit, limit), log_variance.clamp(-limit, limit)
        some = (sizes > 0)[:, None]
        return Posterior(torch.where(some, mean, 0.0), torch.where(some, log_variance.clamp(-10, 10), 0.0))

    def _attended(self, codes: Tensor, owner: Tensor, sizes: Tensor) -> Tensor:
        """[P, hidden] the codes after self-attention within each owner's pairs, or as they are."""
        import torch
        from torch.nn.functional import scaled_dot_product_attention

        if self.settings["encoder"] == "mlp" or not len(codes):
            return codes
        order = owner.argsort(stable=True)
        starts = sizes.cumsum(0) - sizes
        place = torch.arange(len(codes)) - starts[owner[order]]
        padded = codes.new_zeros(len(sizes), int(sizes.max()), codes.shape[1])
        padded[owner[order], place] = codes[order]
        there = torch.arange(padded.shape[1]) < sizes.clamp(min=1)[:, None]  # a user without pairs attends to a row of zeros
        query, key, value = (self.set[name](padded) for name in ("query", "key", "value"))
        found: Tensor = scaled_dot_product_attention(query, key, value, attn_mask=there[:, None, :])
        return torch.empty_like(codes).index_copy(0, order, found[owner[order], place])

    def posterior(self, data: FitData) -> tuple[list[str], Posterior]:
        """(users in the order of their first row, what their pairs say), with gradient; ties and unusable pairs say nothing."""
        names, row_owner = numbered(user_names(data.batch))
        told = pairs_of(data)
        decided = (told.ok & (told.prob != 0.5)).nonzero()[:, 0]
        return names, self._posterior(self.encode(data.batch), told, decided, row_owner[told.first[decided]], len(names))

    def _posterior(self, vectors: Tensor, told: Preferences, pairs: Tensor, owner: Tensor, count: int) -> Posterior:
        """From the given pairs, none of them a tie; owner: whose set each of them is in."""
        import torch

        first, second, wins = told.first[pairs], told.second[pairs], told.prob[pairs] > 0.5
        winner, loser = torch.where(wins, first, second), torch.where(wins, second, first)
        return self.encode_sets(vectors[winner], vectors[loser], owner, count)

    def decode(self, vectors: Tensor, latents: Tensor) -> Tensor:
        """r(s, z): [..., d] vectors and [..., latent] -> [...]."""
        import torch

        found: Tensor = self.decoder(torch.cat([vectors, latents], -1))[..., 0]
        return found

    def prepare(self, data: FitData, units: Sequence[int]) -> FitData:  # noqa: ARG002  # every pair is looked at
        """Raises UserError where rows have no users, or a pair is of two people."""
        pair_users(data)
        return data

    def gaps(self, data: FitData) -> Tensor:
        """[P] log-odds at z = mean, each pair judged by the posterior from the same user's other pairs, the first `most` of them.

        So a held-out pair never tells its own label.
        """
        import torch

        told, most = pairs_of(data), self.settings["context"][1]
        names, row_owner = numbered(user_names(data.batch))
        owner, decided = row_owner[told.first], told.prob != 0.5
        of_user = [((owner == number) & decided).nonzero()[:, 0].tolist() for number in range(len(names))]
        others = [[other for other in of_user[number] if other != pair][:most] for pair, number in enumerate(owner.tolist())]
        pairs = torch.tensor([other for listed in others for other in listed], dtype=torch.int64)
        target = torch.tensor([pair for pair, listed in enumerate(others) for _ in listed], dtype=torch.int64)
        vectors = self.encode(data.batch)
        latents = self._posterior(vectors, told, pairs, target, len(told)).mean
        return self.decode(vectors[told.first], latents) - self.decode(vectors[told.second], latents)

    def loss(self, data: FitData) -> Loss:
        """Minus the ELBO, summed over users. Outside training: z = mean, and a user's first pairs are the context."""
        import torch

        from plaudit.rewards.learned.losses import pair_accuracy, pair_losses

        told, training = pairs_of(data), self.decoder.training
        names, row_owner = numbered(user_names(data.batch))
        owner, vectors = row_owner[told.first], self.encode(data.batch)
        inside = self._context(owner, len(names), training)
        chosen = (inside & (told.prob != 0.5)).nonzero()[:, 0]
        found = self._posterior(vectors, told, chosen, owner[chosen], len(names))
        latents = found.sample(torch.randn_like(found.mean)) if training else found.mean
        rewards = self.decode(vectors, latents[row_owner])
        gaps = rewards[told.first] - rewards[told.second]
        losses = pair_losses(gaps, told.prob)
        losses = losses if told.weight is None else losses * told.weight.to(losses)
        target = torch.ones_like(inside) if self.settings["targets"] == "all" else ~inside
        parts = {"labels": losses[target].sum(), "kl": found.divergence().sum()}
        stats = {
            "accuracy": pair_accuracy(gaps[target].detach(), told.prob[target]),
            "kl": float(found.divergence().detach().mean()),
        }
        total = parts["labels"] + self._beta(training) * parts["kl"]
        return Loss(total, {name: part.detach() for name, part in parts.items()}, stats)

    def _beta(self, training: bool) -> float:
        """The KL's weight now; counts the update. Outside training the whole of it."""
        given = self.settings
        if not training or given["period"] is None:
            return float(given["beta"])
        step = int(self.known.updates)
        self.known.updates += 1
        return float(given["beta"]) * cyclical(step, given["period"], lowest=given["lowest"], rising=given["rising"])

    def _context(self, owner: Tensor, count: int, training: bool) -> Tensor:
        """[P] bool: which pairs their user's context has: so many drawn by chance, or the first ones outside training.

        With targets "others" at least one pair of every user is left to be predicted.
        """
        import torch

        least, most = self.settings["context"]
        keys = torch.rand(len(owner)) if training else torch.arange(len(owner)) / max(1, len(owner))
        order = (owner + keys.double()).argsort()
        sizes = torch.bincount(owner, minlength=count)
        rank = torch.empty_like(owner)
        rank[order] = torch.arange(len(owner)) - (sizes.cumsum(0) - sizes)[owner[order]]
        wanted = torch.randint(least, most + 1, (count,)) if training else torch.full((count,), most)
        if self.settings["targets"] == "others":
            wanted = torch.minimum(wanted, sizes - 1)
        return rank < wanted[owner]

    def logit(self, batch: Batch) -> Tensor:
        """[B] r(s, mean of the row's user); a user who is not known has z = 0."""
        return self.decode(self.encode(batch), self.latents(user_names(batch)).mean)

    def latents(self, users: Sequence[str]) -> Posterior:
        """[B, latent] what is kept of users; the prior for those who are not known."""
        import torch

        place = {user: number for number, user in enumerate(self.users)}
        rows = [place.get(user, len(place)) for user in users]
        prior = torch.zeros(1, self.settings["latent"])
        return Posterior(torch.cat([self.known.mean, prior])[rows], torch.cat([self.known.log_variance, prior])[rows])

    def score_rows(self, batch: Batch) -> Scores:
        """Logits at the mean; spread: standard deviation of r(s, z) over draws z ~ q, the same noise for all rows of a user."""
        import torch

        vectors, names = self.encode(batch), user_names(batch)
        known = self.latents(names)
        values = self.decode(vectors, known.mean) / self.temperature
        if self.settings["draws"] < 2:
            return Scores(values)
        noise = torch.Generator().manual_seed(derive_seed(self.settings["seed"], "spread"))
        shape = (self.settings["draws"], 1, self.settings["latent"])
        latents = known.sample(torch.randn(shape, generator=noise).expand(-1, len(batch), -1))
        drawn = self.decode(vectors.expand(len(latents), -1, -1), latents) / self.temperature
        return Scores(values, spread=drawn.std(0))

    def remember(self, data: FitData) -> list[str]:
        """Infer and keep the posterior of every user of the data from all their pairs there; who they were."""
        import torch

        with torch.no_grad():
            names, found = self.posterior(usable(data))
        self._keep(names, found)
        return names

    def localize(self, user: str, data: FitData) -> None:
        """Keep q(z | pairs) for one user, without any fitting; without usable pairs they have the prior."""
        import torch

        batch = Batch(data.batch.prompts, data.batch.responses, extras=data.batch.extras, users=[user] * len(data.batch))
        prior = torch.zeros(1, self.settings["latent"])
        if not self.remember(FitData(batch, pairs_of(data))):
            self._keep([user], Posterior(prior, prior))

    def _keep(self, users: Sequence[str], found: Posterior) -> None:
        import torch

        place = {user: number for number, user in enumerate(self.users)}
        strange = [user for user in users if user not in place]
        place |= {user: len(place) + number for number, user in enumerate(strange)}
        rows, more = [place[user] for user in users], torch.zeros(len(strange), self.settings["latent"])
        mean, log_variance = torch.cat([self.known.mean, more]), torch.cat([self.known.log_variance, more])
        mean[rows], log_variance[rows] = found.mean, found.log_variance
        self.settings["users"] = list(place)
        self._know(mean, log_variance)
