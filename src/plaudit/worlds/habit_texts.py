"""The base model of card 45, a decoder that has read texts of many policies before it is asked to tell them apart; preferences.

POLAR starts from base language models. Ours reads documents of one author each: a prompt and an answer, a mark, the prompt and
another answer. The authors are neither in the pools that triples come from nor among the held-out policies.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from plaudit.curation.policy_triples import Triple, why_left_out
from plaudit.fitting import FitConfig, ShuffledRows, derive_seed, train
from plaudit.rewards.learned.decoder import TokenDecoder
from plaudit.rewards.learned.discriminator import BETWEEN, MARKS
from plaudit.types import Batch
from plaudit.types.keys import content_key
from plaudit.worlds.habits import LETTERS, LONGEST, PROMPT, HabitFamily, HabitPolicy, LikeTarget
from plaudit.worlds.kept import kept_weights

if TYPE_CHECKING:
    from torch.nn import Module

NUMERICS = "habit-texts-1"
"""Raised when a change here or in `worlds.habits` changes the base model, so that an old one is not taken for a new one."""
CONTEXT = 2 * (PROMPT + LONGEST) + 4


def decoder(seed: int, *, layers: int = 2, width: int = 96) -> TokenDecoder:
    """A decoder with random weights that fits a prompt, a reference and a candidate."""
    return TokenDecoder(LETTERS, marks=MARKS, layers=layers, width=width, heads=4, context=CONTEXT, seed=seed)


def documents(family: HabitFamily, reader: TokenDecoder, authors: int, each: int) -> list[list[int]]:
    """authors x each rows of tokens."""
    rows = []
    for number, author in enumerate(family.pool(authors, "authors")):
        prompts = family.prompts(each, derive_seed(family.seed, "documents", number))
        batch = author.rollout(prompts, 2, seed=derive_seed(family.seed, "written", number)).batch
        texts = [reader.tokens(f"{prompt}{text}") for prompt, text in zip(batch.prompts, batch.require_responses(), strict=True)]
        for first, second in zip(texts[0::2], texts[1::2], strict=True):
            rows.append([reader.begin, *first, reader.mark(BETWEEN), *second, reader.end])
    return rows


def base_model(family: HabitFamily, *, authors: int = 120, each: int = 50, epochs: int = 8) -> TokenDecoder:
    """The decoder after reading, trained on the first call and kept in the cache folder; each call gives an own copy."""
    reader = decoder(derive_seed(family.seed, "base"))
    model: Module = reader.causal_model.model
    key = content_key(NUMERICS, family.habits, family.seed, authors, each, epochs, reader.settings)

    def make() -> None:
        rows = documents(family, reader, authors, each)
        shuffled = ShuffledRows(len(rows), 128, derive_seed(family.seed, "order"))

        def batches(epoch: int) -> Iterator[list[list[int]]]:
            return ([rows[row] for row in chosen] for chosen in shuffled(epoch))

        fit = FitConfig(learning_rate=3e-3, warmup_steps=10, schedule="cosine", total_steps=epochs * len(shuffled))
        train(
            {"model": model},
            batches,
            reader.loss_of_texts,
            fit,
            epochs=epochs,
            units=lambda part: float(sum(map(len, part)) - len(part)),
        )

    kept_weights(f"habits-base-{key}", model, make)
    return reader


def preference_triples(family: HabitFamily, role: str, targets: int, n: int, seed: int) -> list[Triple]:
    """n triples of people who like the style of a target: the reference is an answer of one of the role's `targets` policies.

    Two policies whose styles lie part of the way towards the target's, by shares drawn alike, answer the same prompt. Chosen is
    the answer that is likelier a letter under the target (`LikeTarget`): the truth is known, and no label is wrong.
    """
    draw, known = random.Random(derive_seed(seed, "preferences")), family.seeds(targets, role)
    liked = [LikeTarget(family.policy(target)) for target in known]
    found: list[Triple] = []
    for number in itertools.count():
        if len(found) >= n:
            return found
        own, place = derive_seed(seed, "triple", number), draw.randrange(targets)
        prompt = family.prompts(1, own)
        shares = [draw.random(), draw.random()]
        writers = [
            family.policy(derive_seed(own, "writer", side), towards=known[place], share=share)
            for side, share in enumerate(shares)
        ]
        texts = [one.rollout(prompt, 1, seed=derive_seed(own, "text", side)).batch for side, one in enumerate(writers)]
        answers = [str(text) for batch in texts for text in batch.require_responses()]
        reference = str(liked[place].target.rollout(prompt, 1, seed=derive_seed(own, "reference")).batch.require_responses()[0])
        first, second = (float(liked[place].score(batch).values[0]) for batch in texts)
        chosen, rejected = answers if first > second else reversed(answers)
        if first != second and why_left_out(reference, chosen, rejected) is None:
            found.append(Triple(prompt.prompts[0], reference, chosen, rejected, place))
    return found


def shown_prompts(family: HabitFamily, target: HabitPolicy, n: int, seed: int) -> Batch:
    """n prompts, each with an answer of the target as its reference."""
    asked = family.prompts(n, seed)
    shown = target.rollout(asked, 1, seed=derive_seed(seed, "references")).batch
    return replace(asked, references=list(shown.require_responses()))
