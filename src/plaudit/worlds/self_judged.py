"""Sums worked out step by step, by a decoder that can be asked whether it would do better if it started over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from plaudit.worlds.arithmetic import ArithmeticWorld
from plaudit.worlds.base import Decoder, Level

if TYPE_CHECKING:
    from plaudit.generators.language import LanguageGenerator
    from plaudit.rewards.generative import Contract

TEMPLATE = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}"
"""A chat is its turns, one after the other: `4+7-2=4;11;9?`."""


class SelfJudgedSums(ArithmeticWorld):
    """Sums of 2 to 6 one-digit terms; responses give every partial result. All demonstrations are right, so what a start model
    gets wrong is its own slip, at any step, and nearly all of its wrong answers could have been avoided by another sample.

    Its start models have the characters of the question, which they have never seen: self-evaluation must be learned.
    """

    name = "self-judged-sums"
    characters = "0123456789+-*=;?yn"
    levels: ClassVar[Mapping[str, Level]] = {"half": Level(demonstrations=12000, epochs=3, learning_rate=2e-3)}
    decoder = Decoder(layers=4, width=96, heads=4, context=96)

    def __init__(self, terms: tuple[int, int] = (2, 6)) -> None:
        super().__init__("chain_sum", terms=terms, wrong=0.0, worked=True)

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
