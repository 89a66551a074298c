"""Chains of sums written step by step, with wrong steps, some of which are corrected later; the truth of every step is known
(card 08).

`7-4+9=` is answered by `7-4=3;3+9=12`. A wrong step, `7-4=2`, is either carried on, or done again right in the next step. Numbers
of many digits, which nobody adds at a glance, make single steps to be checked.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, ClassVar

from plaudit.fitting import derive_seed
from plaudit.types import Batch, Sampling, UserError, prompt_text
from plaudit.worlds.arithmetic import SEPARATOR, solve
from plaudit.worlds.base import Decoder, Level, in_split
from plaudit.worlds.chains import ChainWorld

if TYPE_CHECKING:
    from plaudit.generators.language import LanguageGenerator

LARGEST = 9
DEVIATION = 0.06
"""Standard deviation of the first weights of tiny decoders."""
_TERM = re.compile(r"[+-]?\d+")
_STEP = re.compile(r"(-?\d+)([+-]\d+)=(-?\d+)")
_ERRORS = (-3, -2, -1, 1, 2, 3)


def step_spans(text: str) -> list[tuple[int, int]]:
    """The characters of each step, the mark after it left out; an empty text has none."""
    spans, start = [], 0
    for part in text.split(SEPARATOR):
        if part:
            spans.append((start, start + len(part)))
        start += len(part) + 1
    return spans


def step_truth(expression: str, response: str) -> list[bool]:
    """Whether each step states the true partial result of its term.

    A step goes on from the result before it with the next term, or does the last step again, which corrects it. A step that is
    not of this form is wrong, and so is one that starts from a wrong result without correcting it.
    """
    terms, truth = _TERM.findall(expression), solve(expression)
    done, found = 0, []
    for start, end in step_spans(response):
        match = _STEP.fullmatch(response[start:end])
        place = None
        if match:
            left, term, result = int(match[1]), match[2], int(match[3])
            again = done > 0 and term == terms[done] and left == truth[done - 1]
            goes_on = done + 1 < len(terms) and term == terms[done + 1]
            if goes_on and (left == truth[done] or not again):
                place = done + 1
            elif again:
                place = done
        found.append(place is not None and left == truth[place - 1] and result == truth[place])
        done = done if place is None else place
    return found


class FaultyChains(ChainWorld):
    """Chains of `terms` numbers of one digit (fewest, most), in whose demonstrations steps are wrong. True partial results lie
    between 0 and LARGEST, so that a tiny model can know all sums by heart.

    wrong: share of wrong steps. corrected: share of those that the next step does again, right; the others are carried on. A
    start model does the same, so a completer sometimes recovers from an error.
    """

    name = "faulty-chains"
    levels: ClassVar[Mapping[str, Level]] = {"start": Level(demonstrations=4000, epochs=4, batch_rows=32)}
    decoder = Decoder(layers=2, width=64, heads=4, context=96)

    def __init__(self, *, terms: tuple[int, int] = (6, 9), wrong: float = 0.05, corrected: float = 0.1) -> None:
        if not (0 <= wrong <= 1 and 0 <= corrected <= 1):
            raise UserError(f"wrong and corrected are shares between 0 and 1, not {wrong:g} and {corrected:g}")
        super().__init__(terms=terms)
        self.terms, self.wrong, self.corrected = terms, wrong, corrected
        self.settings = {**self.settings, "wrong": wrong, "corrected": corrected}
        self.sampling = Sampling(max_tokens=8 * terms[1], temperature=1.0)

    def untrained(self, seed: int) -> LanguageGenerator:
        """A decoder whose first weights are larger than usual: it learns sums in a fraction of the steps."""
        from plaudit.generators.language import tiny_decoder

        weights = derive_seed(seed, "weights")
        return tiny_decoder(self.characters, seed=weights, deviation=DEVIATION, **asdict(self.decoder))

    def prompts(self, split: str, n: int, seed: int) -> Batch:
        """n questions of a split, with answers as references."""
        draw = random.Random(derive_seed(seed, "faulty chains", split))
        found: list[str] = []
        while len(found) < n:
            expression = self._expression(draw)
            if in_split(expression, split):
                found.append(expression)
        return Batch(
            [f"{expression}=" for expression in found],
            references=[str(solve(expression)[-1]) for expression in found],
            ids=[f"{split}-{expression}" for expression in found],
        )

    def _expression(self, draw: random.Random) -> str:
        total = draw.randint(1, 9)
        text = str(total)
        for _ in range(draw.randint(*self.terms) - 1):
            term = draw.choice([size for size in range(-9, 10) if size and 0 <= total + size <= LARGEST])
            total, text = total + term, f"{text}{term:+d}"
        return text

    def demonstrations(self, n: int, seed: int) -> Batch:
        """n responses to training questions; `segments` are their steps, `extras["true"]` which of them are right."""
        batch = self.prompts("train", n, seed)
        draw = random.Random(derive_seed(seed, "faults"))
        responses = [self._written(prompt_text(prompt)[:-1], draw) for prompt in batch.prompts]
        return marked(replace(batch, responses=responses))

    def _written(self, expression: str, draw: random.Random) -> str:
        terms = _TERM.findall(expression)
        total, steps = int(terms[0]), []
        for term in terms[1:]:
            right = total + int(term)
            found = right + draw.choice(_ERRORS) if draw.random() < self.wrong else right
            steps.append(f"{total}{term}={found}")
            if found != right and draw.random() < self.corrected:
                steps.append(f"{total}{term}={right}")
                found = right
            total = found
        return SEPARATOR.join(steps)


def marked(batch: Batch) -> Batch:
    """The batch with the spans of its steps (`segments`) and their truth (`extras["true"]`)."""
    texts = [str(text) for text in batch.require_responses()]
    truth = [step_truth(prompt_text(prompt)[:-1], text) for prompt, text in zip(batch.prompts, texts, strict=True)]
    return replace(batch, segments=[step_spans(text) for text in texts], extras={**batch.extras, "true": truth})


def large_chains(n: int, seed: int, *, steps: tuple[int, int] = (5, 8), largest: int = 9999, flawed: float = 0.5) -> Batch:
    """n solutions over numbers up to `largest`, of which the share `flawed` has one wrong step whose error is carried on.

    An error changes a result by one digit at one place. `segments`, `extras["true"]` (each step's own sum), and
    `extras["first_error"]` (-1: none). Partial results stay positive.
    """
    draw = random.Random(derive_seed(seed, "large chains"))
    prompts, responses, truth, errors = [], [], [], []
    for number in range(n):
        count = draw.randint(*steps)
        wrong = draw.randrange(count) if number < round(flawed * n) else -1
        total = draw.randint(largest // 10, largest)
        expression, written = str(total), []
        for place in range(count):
            term = _term(draw, total, largest)
            found = _misread(draw, total + term) if place == wrong else total + term
            written.append(f"{total}{term:+d}={found}")
            expression, total = f"{expression}{term:+d}", found
        prompts.append(f"{expression}=")
        responses.append(SEPARATOR.join(written))
        truth.append([place != wrong for place in range(count)])
        errors.append(wrong)
    spans = [step_spans(text) for text in responses]
    return Batch(prompts, responses, segments=spans, extras={"true": truth, "first_error": errors})


def _term(draw: random.Random, total: int, largest: int) -> int:
    """A number to add or take away, so that the result stays between 1 and `largest`."""
    up, down = largest - total, total - 1
    size = max(1, largest // 100)
    ways = [way for way, room in ((1, up), (-1, down)) if room >= size]
    way = draw.choice(ways)
    return way * draw.randint(size, up if way > 0 else down)


def _misread(draw: random.Random, result: int) -> int:
    """The result with one digit changed; it stays a number of as many digits."""
    digits = str(result)
    place = draw.randrange(len(digits))
    wrong = draw.choice([digit for digit in "0123456789" if digit != digits[place] and not (place == 0 and digit == "0")])
    return int(digits[:place] + wrong + digits[place + 1 :])


def each_step(batch: Batch) -> tuple[list[str], list[bool]]:
    """(text, truth) of every step of marked solutions, one after another."""
    texts: Sequence[str] = [str(text) for text in batch.require_responses()]
    spans = batch.segments or []
    steps = [text[start:end] for text, own in zip(texts, spans, strict=True) for start, end in own]
    return steps, [right for own in batch.extras["true"] for right in own]


def flawed_half(batch: Batch, right: Sequence[bool], n: int) -> Batch:
    """n solutions, half with a right final answer and half with a wrong one, the first of each kind; fewer where one is rare.

    Solutions without any step are left out.
    """
    spans = batch.segments or [()] * len(batch)
    kinds = [[row for row in range(len(batch)) if right[row] is kind and spans[row]] for kind in (True, False)]
    size = min(n // 2, *map(len, kinds))
    return batch.select([row for rows in kinds for row in rows[:size]])
