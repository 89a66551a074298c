"""`PersonaWorld`: people who judge handwritten digits by how close they are to an ideal of their own (card 24).

Every user's ideal point is a mixture of a few hidden prototypes in a hidden space. Nobody observes the space, the prototypes or
the mixture: only comparisons, with the user's name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from plaudit.fitting.seeds import derive_seed
from plaudit.rewards.base import BaseReward
from plaudit.types import Batch, Context, Generator, Preferences, Scores, UserError, World

if TYPE_CHECKING:
    from torch import Tensor

PIXELS, LATENT, CLASSES, ITEMS = 64, 8, 10, 1797


class PersonaWorld(World):
    """Responses are digits as vectors [B, 64] in [0, 1]; prompts ask for a class, which nobody's taste depends on.

    prototypes: K* of them. one_hot: share of users who sit on one prototype; the others mix them by Dirichlet(1). sharpness: of
    noisy labels, P(first wins) = s(sharpness (u_1 - u_2) / median |u_1 - u_2|). Each user's mixture follows from their name.
    Raises UserError where scikit-learn is missing, at the first use.
    """

    def __init__(self, prototypes: int = 3, *, seed: int = 0, one_hot: float = 0.8, sharpness: float = 4.0) -> None:
        if prototypes < 1:
            raise ValueError(f"a world of personas needs at least one prototype, not {prototypes}")
        self.count, self.seed, self.one_hot, self.sharpness = prototypes, seed, one_hot, sharpness
        self.truth = PersonaUtility(self)

    @cached_property
    def items(self) -> Tensor:
        """[1797, 64] the digits."""
        import torch

        from plaudit.worlds.digits import Digits

        images = torch.as_tensor(Digits().data(ITEMS, 0).responses)
        return (images.flatten(1) + 1) / 2

    @cached_property
    def _layers(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(first weights, second weights, mean, deviation) of the hidden space: unit variance of each number over the items."""
        first = _normal((PIXELS, PIXELS), derive_seed(self.seed, "first")) * 2 / math.sqrt(PIXELS)
        second = _normal((PIXELS, LATENT), derive_seed(self.seed, "second")) / math.sqrt(PIXELS)
        raw = ((self.items - 0.5) @ first).tanh() @ second
        return first, second, raw.mean(0), raw.std(0)

    def embed(self, items: Tensor) -> Tensor:
        """[B, 64] -> [B, 8] the hidden space."""
        first, second, mean, deviation = self._layers
        return (((items - 0.5) @ first).tanh() @ second - mean) / deviation

    @cached_property
    def prototypes(self) -> Tensor:
        """[K*, 8] embeddings of items drawn by chance."""
        import torch

        draw = torch.Generator().manual_seed(derive_seed(self.seed, "prototypes"))
        return self.embed(self.items[torch.randperm(ITEMS, generator=draw)[: self.count]])

    def weights(self, user: str) -> Tensor:
        """[K*] the user's true mixture, on the simplex."""
        import torch

        draw = torch.Generator().manual_seed(derive_seed(self.seed, "user", user))
        if float(torch.rand((), generator=draw)) < self.one_hot:
            return torch.nn.functional.one_hot(torch.randint(self.count, (), generator=draw), self.count).float()
        exponential = -torch.rand(self.count, generator=draw).clamp(min=1e-12).log()  # normalised: Dirichlet(1)
        return exponential / exponential.sum()

    def utility(self, items: Tensor, users: Sequence[str]) -> Tensor:
        """[B] minus the squared distance to the user's ideal point."""
        import torch

        mixtures = {user: self.weights(user) for user in dict.fromkeys(users)}
        ideal = torch.stack([mixtures[user] for user in users]) @ self.prototypes
        return -(self.embed(items) - ideal).square().sum(1)

    @cached_property
    def scale(self) -> float:
        """Median of |u_1 - u_2| over 4,000 pairs of 100 users."""
        batch = self._pairs([f"scale {number}" for number in range(100)], 40, derive_seed(self.seed, "scale"))
        gaps = self.truth.score(batch).values.reshape(-1, 2)
        return float((gaps[:, 0] - gaps[:, 1]).abs().median())

    def comparisons(self, users: Sequence[str], pairs: int, seed: int, *, noisy: bool = True) -> tuple[Batch, Preferences]:
        """So many pairs of random items a user; rows 2p and 2p + 1 are a pair. noisy=False: the better one always wins."""
        import torch

        batch = self._pairs(users, pairs, seed)
        utility = self.truth.score(batch).values.reshape(-1, 2)
        prob = (self.sharpness * (utility[:, 0] - utility[:, 1]) / self.scale).sigmoid()
        if noisy:
            wins = torch.rand(len(prob), generator=torch.Generator().manual_seed(derive_seed(seed, "labels"))) < prob
        else:
            wins = prob > 0.5
        first = torch.arange(0, len(batch), 2)
        return batch, Preferences(first, first + 1, wins.float())

    def _pairs(self, users: Sequence[str], pairs: int, seed: int) -> Batch:
        import torch

        draw = torch.Generator().manual_seed(derive_seed(seed, "pairs"))
        rows = torch.randint(ITEMS, (len(users) * pairs * 2,), generator=draw)
        classes = torch.randint(CLASSES, (len(users) * pairs,), generator=draw).repeat_interleave(2)
        return self._batch(self.items[rows], classes, [user for user in users for _ in range(2 * pairs)])

    def _batch(self, items: Tensor, classes: Tensor, users: Sequence[str] | None = None) -> Batch:
        import torch

        asked = torch.nn.functional.one_hot(classes, CLASSES).float()
        prompts = [{"class": number} for number in classes.tolist()]
        return Batch(prompts, items, users=users, extras={"asked": asked})  # type: ignore[dict-item]

    def prompts(self, split: str, n: int, seed: int) -> Batch:
        """n classes."""
        import torch

        draw = torch.Generator().manual_seed(derive_seed(seed, split))
        return Batch([{"class": number} for number in torch.randint(CLASSES, (n,), generator=draw).tolist()])

    def data(self, n: int, seed: int) -> Batch:
        """n items drawn with replacement, of nobody."""
        import torch

        draw = torch.Generator().manual_seed(derive_seed(seed, "data"))
        rows, classes = torch.randint(ITEMS, (n,), generator=draw), torch.randint(CLASSES, (n,), generator=draw)
        return self._batch(self.items[rows], classes)

    def base(self, level: str = "start", seed: int = 0) -> Generator:
        """There is none: the items are given. Raises UserError."""
        raise UserError(f"the world of personas has items to judge, and no generator '{level}' (seed {seed})")


class PersonaUtility(BaseReward):
    """The truth: minus the squared distance to the ideal point of the row's user."""

    name = "persona utility"
    uses_seed = False

    def __init__(self, world: PersonaWorld) -> None:
        self.world = world
        self.settings = {"prototypes": world.count, "seed": world.seed, "one_hot": world.one_hot}

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:  # noqa: ARG002
        """[B] utility. Raises ValueError where the rows have no users."""
        import torch

        if batch.users is None:
            raise ValueError("every row needs a user: there is no taste without a person")
        return Scores(self.world.utility(torch.as_tensor(batch.require_responses()), [str(user) for user in batch.users]))


def _normal(shape: tuple[int, ...], seed: int) -> Tensor:
    import torch

    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
