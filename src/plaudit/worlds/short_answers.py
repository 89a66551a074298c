"""Questions with short answers and four ways to answer: right, to another question, incomplete, and with a wrong number.

For rewards that read what a user would say next. Each answer has feedback of its own kind, written in words that the built-in
bank of follow-ups does not use, so that a scorer fitted on feedback cannot simply have learned the bank.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from plaudit.fitting.seeds import derive_seed
from plaudit.types import Batch
from plaudit.worlds.base import in_split

KINDS = ("right", "elsewhere", "incomplete", "wrong")
"""A right answer, a right answer to another question, one that breaks off or declines, and one with a wrong number."""
THINGS = ("apples", "books", "coins", "pens", "eggs", "stamps", "cups", "shells")
NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Felix", "Nora", "Paul")
WORDS = ("garden", "window", "table", "mountain", "music", "kitchen", "river", "teacher", "school", "holiday")
COUNTED = {
    "weeks": ("How many days are in {n} weeks?", "There are {number} days in {n} weeks.", 7),
    "days": ("How many hours are in {n} days?", "{n} days have {number} hours.", 24),
    "years": ("How many months are in {n} years?", "There are {number} months in {n} years.", 12),
    "spiders": ("How many legs do {n} spiders have?", "{n} spiders have {number} legs.", 8),
    "cars": ("How many wheels do {n} cars have?", "{n} cars have {number} wheels.", 4),
    "triangles": ("How many sides do {n} triangles have?", "{n} triangles have {number} sides.", 3),
    "hands": ("How many fingers are on {n} hands?", "There are {number} fingers on {n} hands.", 5),
    "guitars": ("How many strings do {n} guitars have?", "{n} guitars have {number} strings.", 6),
}
"""Things counted: question, answer, and how many there are of each."""
TOLD = {
    "sum": ("What is {few} plus {many}?", "{few} plus {many} is {number}.", "a sum", "left"),
    "difference": ("What is {left} minus {few}?", "{left} minus {few} is {number}.", "minus", "many"),
    "given": (
        "{name} has {left} {thing} and gives away {few}. How many {thing} are left?",
        "{name} has {number} {thing} left.",
        "{thing}",
        "many",
    ),
    "bought": (
        "{name} has {few} {thing} and buys {many} more. How many {thing} does {name} have?",
        "Now {name} has {number} {thing}.",
        "{thing}",
        "left",
    ),
    "letters": (
        "How many letters are in the word {word}?",
        "The word {word} has {number} letters.",
        "the word {word}",
        "letters",
    ),
    "age": (
        "{name} is {many} years old. How old will {name} be in {few} years?",
        "{name} will be {number} years old.",
        "the age of {name}",
        "left",
    ),
    "train": (
        "A train leaves at {few} o'clock and arrives at {left} o'clock. How many hours does it take?",
        "The train takes {number} hours.",
        "a train",
        "many",
    ),
}
"""Questions: question, answer, topic, and which number is the result; {left} is {few} plus {many}."""
DECLINED = ("I do not know.", "I am not sure about that.", "That is hard to say.")
FEEDBACK = {
    "right": (
        "Excellent, {result} is the number I had in mind.",
        "Lovely, {result} it is, and clearly said.",
        "Super, {result} agrees with my own count.",
    ),
    "elsewhere": (
        "Hm, this belongs to another question altogether.",
        "Strange, I was talking about {topic}, not about this.",
        "You drifted away to a different subject.",
    ),
    "incomplete": (
        "And? The number itself never came.",
        "You stopped before giving me any number.",
        "I am left without a result here.",
    ),
    "wrong": (
        "Oh no, it should be {result} instead.",
        "Careful, you miscounted: it is {result}.",
        "Not quite, the true number is {result}.",
    ),
}


@dataclass(frozen=True)
class Case:
    """A question and its answers by kind. topic: what it is about. result: the number asked for."""

    question: str
    answers: dict[str, str]
    topic: str
    result: int

    def feedback(self, kind: str, seed: int) -> str:
        """What its asker says about the answer of a kind."""
        said = random.Random(derive_seed(seed, self.question, kind)).choice(FEEDBACK[kind])
        return said.format(result=self.result, topic=self.topic)


@dataclass(frozen=True)
class _Asked:
    form: str
    question: str
    answer: str
    """With {number} where the result stands."""
    topic: str
    result: int


def cases(count: int, split: str, seed: int) -> list[Case]:
    """Different questions of a split ("train", "validation", "test"); no question is in two splits."""
    found: dict[str, Case] = {}
    stream = _questions(seed)
    while len(found) < count:
        asked, other = next(stream), next(stream)
        while other.form == asked.form or other.topic == asked.topic:
            other = next(stream)
        if in_split(asked.question, split) and asked.question not in found:
            found[asked.question] = _case(asked, other, derive_seed(seed, "answers", asked.question))
    return list(found.values())


def _case(asked: _Asked, other: _Asked, seed: int) -> Case:
    draw = random.Random(seed)
    shift = draw.choice([-3, -2, -1, 1, 2, 3])
    wrong = asked.result + (shift if asked.result + shift > 0 else -shift)
    broken = asked.answer.split("{number}")[0].strip() + " ..."
    answers = {
        "right": asked.answer.format(number=asked.result),
        "elsewhere": other.answer.format(number=other.result),
        "incomplete": draw.choice([broken, draw.choice(DECLINED)]),
        "wrong": asked.answer.format(number=wrong),
    }
    return Case(asked.question, answers, asked.topic, asked.result)


def _questions(seed: int) -> Iterator[_Asked]:
    """Endless questions over small numbers: counting, sums in words, times and ages."""
    draw = random.Random(derive_seed(seed, "questions"))
    while True:
        form = draw.choice(sorted(COUNTED) * 2 + list(TOLD))
        few, many = draw.randint(2, 9), draw.randint(3, 12)
        thing, name, word = draw.choice(THINGS), draw.choice(NAMES), draw.choice(WORDS)
        known = {"few": few, "many": many, "left": few + many, "letters": len(word)}
        named = {"thing": thing, "name": name, "word": word, "number": "{number}"}
        if form in COUNTED:
            question, answer, each = COUNTED[form]
            yield _Asked(form, question.format(n=few), answer.format(n=few, number="{number}"), form, each * few)
        else:
            question, answer, topic, result = TOLD[form]
            question, answer, topic = (text.format(**known, **named) for text in (question, answer, topic))
            yield _Asked(form, question, answer, topic, known[result])


def feedback_records(count: int, split: str, seed: int) -> list[tuple[str, str, str]]:
    """(question, answer, feedback), the kinds in turns: a right answer as often as each wrong kind of the same question."""
    found = cases(-(-count // len(KINDS)), split, seed)
    return [(case.question, case.answers[kind], case.feedback(kind, seed)) for case in found for kind in KINDS][:count]


def answered(found: Sequence[Case], kinds: Sequence[str] = KINDS) -> Batch:
    """Of each case its answers of the given kinds, next to each other and in one group."""
    import torch

    return Batch(
        [case.question for case in found for _ in kinds],
        [case.answers[kind] for case in found for kind in kinds],
        groups=torch.arange(len(found)).repeat_interleave(len(kinds)),
    )


def accuracy(values: Sequence[float], kind: str) -> float | None:
    """Share of cases whose right answer has a higher value than that of another kind, ties a half; None where a value is missing.

    values: of rows as `answered` gives them with all kinds.
    """
    pairs = list(zip(values[:: len(KINDS)], values[KINDS.index(kind) :: len(KINDS)], strict=True))
    if not pairs or any(math.isnan(value) for pair in pairs for value in pair):
        return None
    return sum(0.5 if right == other else float(right > other) for right, other in pairs) / len(pairs)
