"""`PetsWorld`: short texts about four kinds of pets, and two kinds of people who rank the pets differently (card 34).

Everybody is asked about pairs on which the two kinds of people disagree, so that one reward for all is right by chance only.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any

from plaudit.fitting.seeds import derive_seed, permutation
from plaudit.types import Batch, Preferences

if TYPE_CHECKING:
    from torch import Tensor

    from plaudit.rewards.learned.base import Backbone

RANKINGS = (("bird", "cat", "dog", "rabbit"), ("cat", "bird", "rabbit", "dog"))
"""Of the two kinds of people, the favourite first. They disagree about bird and cat, and about dog and rabbit."""
DISPUTED = (("bird", "cat"), ("dog", "rabbit"))
PROMPT = "Tell me about a kind of pet that I could keep."
FORMS = (
    "You could keep a {animal}. It {trait}.",
    "How about a {animal}? A {animal} {trait}.",
    "Many people are fond of the {animal}, which {trait}.",
    "I would think of a {animal}: it {trait}.",
)
TRAITS = (
    "needs fresh water every day",
    "likes a quiet corner at home",
    "gets used to people within weeks",
    "should see a vet once a year",
    "can live for many years",
    "costs little to feed",
)


class PetsWorld:
    """Responses are vectors of texts: those of a language model, each number standardised over all texts.

    backbone: reads the texts; None: the embedded model, mean of the response's states. seed: of who is of which kind, and of the
    quarter of the texts that only `noisy=False` comparisons use. Raises EngineError where there is no such model.
    """

    def __init__(self, *, seed: int = 0, backbone: Backbone | None = None) -> None:
        self.seed, self.given = seed, backbone

    @cached_property
    def texts(self) -> dict[str, list[str]]:
        """The 24 texts about each animal."""
        filled = {animal: list(product(FORMS, TRAITS)) for animal in RANKINGS[0]}
        return {animal: [form.format(animal=animal, trait=trait) for form, trait in rows] for animal, rows in filled.items()}

    @cached_property
    def vectors(self) -> dict[str, Tensor]:
        """[24, d] the texts about each animal, as the backbone reads them."""
        import torch

        from plaudit.rewards.learned.backbones import TextBackbone

        backbone: Any = self.given or TextBackbone(pooling="mean", template="plain")
        listed = [text for texts in self.texts.values() for text in texts]
        with torch.no_grad():
            states = backbone.encode(Batch([PROMPT] * len(listed), listed))
        scaled = (states - states.mean(0)) / states.std(0).clamp(min=1e-6)
        return dict(zip(self.texts, scaled.chunk(len(self.texts)), strict=True))

    @property
    def width(self) -> int:
        """Of a response's vector."""
        return self.vectors[RANKINGS[0][0]].shape[1]

    def kind(self, user: str) -> int:
        """0 or 1, equally likely: whose ranking the user has."""
        return derive_seed(self.seed, "kind", user) % 2

    def comparisons(self, users: Sequence[str], pairs: int, seed: int, *, noisy: bool = True) -> tuple[Batch, Preferences]:
        """So many disputed pairs a user; rows 2p and 2p + 1 are a pair. noisy=False: texts that are used nowhere else.

        Labels have no noise in either case.
        """
        import torch

        order = permutation(len(FORMS) * len(TRAITS), derive_seed(self.seed, "held out"))
        allowed = torch.tensor(order[: len(order) // 4] if not noisy else order[len(order) // 4 :])
        draw = torch.Generator().manual_seed(derive_seed(seed, "pets"))
        shape = (len(users) * pairs,)
        dispute, swap = (torch.randint(2, shape, generator=draw) for _ in range(2))
        texts = allowed[torch.randint(len(allowed), (*shape, 2), generator=draw)]
        animals = torch.tensor([[RANKINGS[0].index(animal) for animal in pair] for pair in DISPUTED])[dispute]
        animals = torch.where(swap[:, None] == 1, animals.flip(1), animals)
        table = torch.stack([self.vectors[animal] for animal in RANKINGS[0]])
        rows = table[animals.flatten(), texts.flatten()]
        places = torch.tensor([[ranking.index(animal) for animal in RANKINGS[0]] for ranking in RANKINGS])
        kinds = torch.tensor([self.kind(user) for user in users]).repeat_interleave(pairs)
        wins = places[kinds, animals[:, 0]] < places[kinds, animals[:, 1]]
        first = torch.arange(0, len(rows), 2)
        named = [user for user in users for _ in range(2 * pairs)]
        return Batch([PROMPT] * len(rows), rows, users=named), Preferences(first, first + 1, wins.float())
