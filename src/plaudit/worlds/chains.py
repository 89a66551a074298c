"""`ChainWorld`: digits added and subtracted modulo 10, every step written out, right or with one corrupted step (card 40).

`7-9+4=` is answered by `7-9=8;8+4=2`. A corrupted response has the result of one step off by 1 to 3, and goes on from there.
Modulo 10 each step has six characters and there are 200 right ones: what a step must be is learned from few thousand examples.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Mapping
from typing import ClassVar

from plaudit.fitting import derive_seed
from plaudit.types import Batch, Preferences, Sampling, UserError, prompt_text
from plaudit.worlds.arithmetic import SEPARATOR, FinalNumber
from plaudit.worlds.base import Decoder, Level, TextWorld, in_split

_CHAIN = re.compile(r"\d(?:[+-]\d)+")
_ERRORS = (-3, -2, -1, 1, 2, 3)


def written_steps(chain: str, *, wrong_step: int | None = None, error: int = 0) -> list[str]:
    """The steps of a chain of digits joined by + and -, each `a+b=c` modulo 10; from `wrong_step` (0-based) on, off by `error`.

    Raises ValueError for anything but such a chain of two digits or more.
    """
    if not _CHAIN.fullmatch(chain):
        raise ValueError(f"'{chain}' is no chain of two digits or more joined by + and -")
    total, steps = int(chain[0]), []
    for number, place in enumerate(range(1, len(chain), 2)):
        term = int(chain[place + 1]) * (1 if chain[place] == "+" else -1)
        found = (total + term + (error if number == wrong_step else 0)) % 10
        steps.append(f"{total}{chain[place : place + 2]}={found}")
        total = found
    return steps


class ChainWorld(TextWorld):
    """Chains of `terms` digits (fewest, most). `pairs` gives a right and a corrupted response a question.

    Start models imitate right responses only; how often a sample of theirs is right depends on the level. Questions are split by
    content: none is both trained on and tested on.
    """

    name = "chains"
    characters = "0123456789+-=;"
    levels: ClassVar[Mapping[str, Level]] = {
        "start": Level(demonstrations=2000, epochs=5),
        "strong": Level(demonstrations=8000, epochs=4),
    }
    decoder = Decoder(layers=3, width=96, heads=4, context=64)

    def __init__(self, *, terms: tuple[int, int] = (4, 5)) -> None:
        if not 2 <= terms[0] <= terms[1]:
            raise UserError(f"a chain has two terms or more, and at least as many at most as at least: {terms}")
        self.terms, self.truth = terms, FinalNumber()
        self.settings = {"terms": list(terms)}
        self.sampling = Sampling(max_tokens=6 * (terms[1] - 1) + 1, temperature=1.0)

    def prompts(self, split: str, n: int, seed: int) -> Batch:
        """n questions of a split (train, validation, test), with answers as references; a question may come twice."""
        draw = random.Random(derive_seed(seed, "chains", split))
        found: list[str] = []
        for number in itertools.count():
            if len(found) >= n:
                break
            if number > 1000 * (n + 1):
                raise UserError(f"there are too few chains of {self.terms[0]} to {self.terms[1]} terms for a split '{split}'")
            rest = "".join(f"{draw.choice('+-')}{draw.randrange(10)}" for _ in range(draw.randint(*self.terms) - 1))
            if in_split(chain := f"{draw.randrange(10)}{rest}", split):
                found.append(chain)
        return Batch(
            prompts=[f"{chain}=" for chain in found],
            references=[written_steps(chain)[-1][-1] for chain in found],
            ids=[f"{split}-{chain}" for chain in found],
        )

    def demonstrations(self, n: int, seed: int) -> Batch:
        """n right responses to training questions."""
        batch, solve = self.prompts("train", n, seed), self.exact()
        batch.responses = [solve(prompt_text(prompt)) for prompt in batch.prompts]
        return batch

    def exact(self) -> Callable[[str], str]:
        """The function from a prompt to its right response."""
        return lambda prompt: SEPARATOR.join(written_steps(prompt.removesuffix("=")))

    def pairs(self, split: str, n: int, seed: int) -> tuple[Batch, Preferences]:
        """n questions of a split, each with a right response (row 2 i) and one with a corrupted step (row 2 i + 1).

        `extras["wrong_from"]`: the character of a corrupted response that is its first wrong result, -1 for a right one.
        """
        import torch

        questions = self.prompts(split, n, derive_seed(seed, "pairs", split))
        draw = random.Random(derive_seed(seed, "corrupted", split))
        responses, wrong_from = [], []
        for prompt in questions.prompts:
            chain = prompt_text(prompt)[:-1]
            right = written_steps(chain)
            step = draw.randrange(len(right))
            wrong = written_steps(chain, wrong_step=step, error=draw.choice(_ERRORS))
            responses += [SEPARATOR.join(right), SEPARATOR.join(wrong)]
            wrong_from += [-1, len(SEPARATOR.join(wrong[: step + 1])) - 1]
        rows = [row for row in range(n) for _ in range(2)]
        batch = questions.select(rows)
        batch.responses, batch.extras["wrong_from"] = responses, wrong_from
        batch.groups = torch.tensor(rows, dtype=torch.int64)
        first = torch.arange(0, 2 * n, 2)
        return batch, Preferences(first, first + 1, torch.ones(n))
