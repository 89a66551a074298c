"""`ChainWorld`: sums whose steps are written out, right and with one corrupted step whose error is carried on (card 40).

`7-4+9=` is answered by `7-4=3;3+9=12`. A corrupted response has the result of one step off by 1 to 9, and goes on from there.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from typing import ClassVar

from plaudit.fitting import derive_seed
from plaudit.types import Batch, Preferences, Sampling, prompt_text
from plaudit.worlds.arithmetic import SEPARATOR, ArithmeticWorld
from plaudit.worlds.base import Decoder, Level

_TERM = re.compile(r"[+-]?\d+")
_ERRORS = tuple(off for off in range(-9, 10) if off)


def written_steps(expression: str, *, wrong_step: int | None = None, error: int = 0) -> list[str]:
    """The steps of a chain of numbers joined by + and -, each `a+b=c`; from `wrong_step` (0-based) on results are off by `error`.

    Raises ValueError for anything but such a chain of two numbers or more.
    """
    terms = _TERM.findall(expression)
    if len(terms) < 2 or "".join(terms) != expression:
        raise ValueError(f"'{expression}' is no chain of two numbers or more joined by + and -")
    total, steps = int(terms[0]), []
    for number, term in enumerate(terms[1:]):
        found = total + int(term) + (error if number == wrong_step else 0)
        steps.append(f"{total}{term}={found}")
        total = found
    return steps


class ChainWorld(ArithmeticWorld):
    """Chains of `terms` numbers of one digit (fewest, most). `pairs` gives a right and a corrupted response a question.

    Start models imitate right responses only; how often a sample of theirs is right depends on the level.
    """

    name = "chains"
    levels: ClassVar[Mapping[str, Level]] = {
        "start": Level(demonstrations=2500, epochs=8),
        "strong": Level(demonstrations=8000, epochs=8),
    }
    decoder = Decoder(layers=3, width=96, heads=4, context=96)

    def __init__(self, *, terms: tuple[int, int] = (3, 4)) -> None:
        super().__init__("chain_sum", terms=terms, digits=(1, 1), wrong=0.0, worked=True)
        self.sampling = Sampling(max_tokens=8 * (terms[1] - 1) + 2, temperature=1.0)

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

        `extras["wrong_from"]`: the character of a corrupted response at which its first wrong result begins, -1 for a right one.
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
            wrong_from += [-1, len(SEPARATOR.join(wrong[: step + 1])) - len(wrong[step].split("=")[1])]
        rows = [row for row in range(n) for _ in range(2)]
        batch = questions.select(rows)
        batch.responses, batch.extras["wrong_from"] = responses, wrong_from
        batch.groups = torch.tensor(rows, dtype=torch.int64)
        first = torch.arange(0, 2 * n, 2)
        return batch, Preferences(first, first + 1, torch.ones(n))
