"""Digits to be sorted, by a decoder that can be asked whether it would do better if it started over."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, ClassVar

from plaudit.fitting import derive_seed
from plaudit.rewards.rules.text_format import ExactMatch
from plaudit.types import Batch, Sampling, UserError
from plaudit.worlds.base import Decoder, Level, TextWorld, in_split

if TYPE_CHECKING:
    from plaudit.generators.language import LanguageGenerator
    from plaudit.rewards.generative import Contract

TEMPLATE = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}"
"""A chat is its turns, one after the other: `5213=1235?`."""


class SelfJudgedSorting(TextWorld):
    """Prompts such as `5271=`, answered by the digits in order: `1257`; 1 for exactly that, else 0.

    digits: fewest and most, each number equally often, so that some prompts are easy and some are not. All demonstrations are
    right: what a start model gets wrong is its own slip, which another sample may avoid. Whether an answer is right takes no more
    than comparing it with the prompt, which a small model can learn to do; whether a sum is right takes as many layers as adding.

    Start models have the characters of the question, which they have never seen: self-evaluation must be learned.
    """

    name = "self-judged-sorting"
    characters = "0123456789=?yn"
    levels: ClassVar[Mapping[str, Level]] = {"half": Level(demonstrations=5000, epochs=1, learning_rate=2e-3)}
    decoder = Decoder(layers=3, width=96, heads=4, context=48)

    def __init__(self, digits: tuple[int, int] = (3, 8)) -> None:
        if not 1 <= digits[0] <= digits[1]:
            raise UserError(f"digits are the fewest and the most, not {digits}")
        self.digits, self.truth = digits, ExactMatch()
        self.settings = {"digits": list(digits)}
        self.sampling = Sampling(max_tokens=digits[1] + 1, temperature=1.0)

    def prompts(self, split: str, n: int, seed: int) -> Batch:
        """n questions of a split, with answers as references; no question is in two splits."""
        draw, found = random.Random(derive_seed(seed, "sorting", split)), list[str]()
        while len(found) < n:
            digits = "".join(draw.choices("0123456789", k=draw.randint(*self.digits)))
            if in_split(digits, split):
                found.append(digits)
        return Batch(prompts=[f"{digits}=" for digits in found], references=["".join(sorted(digits)) for digits in found])

    def demonstrations(self, n: int, seed: int) -> Batch:
        """n training questions with their right answers."""
        batch = self.prompts("train", n, seed)
        batch.responses = list(batch.references or [])
        return batch

    def untrained(self, seed: int) -> LanguageGenerator:
        """A decoder with random weights, of the deviation from which such a decoder learns to compare quickly."""
        from plaudit.generators.language import tiny_decoder

        return tiny_decoder(self.characters, seed=derive_seed(seed, "weights"), deviation=0.06, **asdict(self.decoder))

    def base(self, level: str = "half", seed: int = 0) -> LanguageGenerator:
        """The start model, which takes its prompts as plain text and chats as `TEMPLATE` says."""
        generator = super().base(level, seed)
        generator.codec.tokenizer.chat_template = TEMPLATE
        generator.chat = False
        return generator

    @staticmethod
    def contract() -> Contract:
        """The question after a response, `?`, answered by `y` (starting over would do better) or `n`."""
        from plaudit.rewards.generative import Contract
        from plaudit.rewards.generative.contract import Label, OptionsReadout

        answers = OptionsReadout((Label("yes", 0.0, ("y",)), Label("no", 1.0, ("n",))), minimum_mass=0.0)
        return Contract("start-over", "?", answers, layout="turn")
