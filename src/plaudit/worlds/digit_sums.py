"""`DigitSums`: check digits of sums modulo 10 with their working, and judges of the final digit alone (card 28).

`381726=` is answered by `3129173`: the running sums from the first digit on, then the check digit, which makes the sum 0. It is
the answer; all before it is the working. A judge sees the question and an answer without its working, `381726=` and `3`, and
writes `3645240>+` (it began with the answer, added all digits and came to 0: right), `3645240,3645240>+` (it checked twice), or
only `>+`. Each digit so stands at one distance from the sum that adds it; an answer added last stands at another, and a tiny
decoder does not learn that one addition in the time in which it learns all others.

All digits are added: a subtracted digit is its complement, so signs would only lengthen the texts.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from plaudit.fitting import derive_seed
from plaudit.rewards.generative import Contract, contract_from_mapping
from plaudit.rewards.rules.base import Judged, RuleReward
from plaudit.types import Batch, Prompt, Sampling, Status, prompt_text
from plaudit.worlds.base import Decoder, Level, TextWorld, in_split

if TYPE_CHECKING:
    from plaudit.generators.language import LanguageGenerator

MARKS = ("<q>", "</q>", "<a>", "</a>")
_ASKED = re.compile(r"<q>\n(\d+)=\n</q><a>\n(\d)\n</a>")
_MOST_DIGITS = 9


def running_sums(digits: str, errors: Sequence[int] = ()) -> str:
    """The running sums modulo 10, from the first digit to the answer; errors: what each later one is off by, carried on."""
    total, found = int(digits[0]), [int(digits[0])]
    for place, digit in enumerate(digits[1:]):
        total = (total + int(digit) + (errors[place] if place < len(errors) else 0)) % 10
        found.append(total)
    return "".join(map(str, found))


def check_digit(digits: str) -> str:
    """The digit with which the sum is 0 modulo 10."""
    return str(-sum(map(int, digits)) % 10)


def final_digit(response: str) -> str | None:
    """The answer of a response, its last character; None where that is no digit."""
    last = response[-1:]
    return last if last.isascii() and last.isdigit() else None


class LastDigit(RuleReward):
    """1 if the response ends with the reference, else 0; one that ends with no digit is wrong, or UNPARSABLE."""

    name = "truth"
    needs_reference = True

    def __init__(self, *, unparsable: bool = False) -> None:
        self.unparsable = unparsable
        self.settings = {"unparsable": unparsable}

    def judge_one(self, prompt: Prompt, response: str, reference: str) -> Judged:  # noqa: ARG002
        """One row."""
        answer = final_digit(response)
        if answer is None:
            return Status.UNPARSABLE if self.unparsable else 0.0
        return float(answer == str(reference))


class DigitSums(TextWorld):
    """Sums of `terms` digits. Questions belong to one split by their content; start models imitate right responses.

    One number of terms: a tiny decoder then finds each digit at a fixed distance, and spends its steps on sums.
    """

    name = "digit-sums"
    characters = "0123456789=,>+-\n"
    levels: ClassVar[Mapping[str, Level]] = {"start": Level(64 * 70, 1), "strong": Level(64 * 150, 1)}
    decoder = Decoder(layers=2, width=96, heads=4, context=64)

    def __init__(self, terms: int = 6) -> None:
        if not 2 <= terms <= _MOST_DIGITS:
            raise ValueError(f"terms must be from 2 to {_MOST_DIGITS}, not {terms}")
        self.terms, self.truth = terms, LastDigit()
        self.settings = {"terms": terms}
        self.sampling = Sampling(max_tokens=terms + 2, temperature=1.0)
        self.judging = Sampling(max_tokens=2 * terms + 8, temperature=1.0)
        """How judges that think write."""

    def prompts(self, split: str, n: int, seed: int) -> Batch:
        """n different questions of a split, with the answers as references."""
        draw = random.Random(derive_seed(seed, "digit sums", split))
        found: dict[str, None] = {}
        while len(found) < n:
            question = "".join(str(draw.randrange(10)) for _ in range(self.terms))
            if in_split(question, split):
                found[question] = None
        return Batch(
            prompts=[f"{question}=" for question in found],
            references=[check_digit(question) for question in found],
            ids=list(found),
        )

    def exact(self) -> Callable[[str], str]:
        """The function from a prompt to its right response."""

        def solve(prompt: str) -> str:
            question = prompt.removesuffix("=")
            return running_sums(question) + check_digit(question)

        return solve

    def demonstrations(self, n: int, seed: int) -> Batch:
        """n right responses to training questions."""
        batch, solve = self.prompts("train", n, seed), self.exact()
        batch.responses = [solve(prompt_text(prompt)) for prompt in batch.prompts]
        return batch

    def untrained(self, seed: int) -> LanguageGenerator:
        """A decoder with random weights, of the deviation from which sums are learned quickly."""
        from dataclasses import asdict

        from plaudit.generators.language import tiny_decoder

        size = asdict(self.decoder)
        return tiny_decoder(self.characters, seed=derive_seed(seed, "weights"), marks=MARKS, deviation=0.06, chat=False, **size)

    @cached_property
    def contract(self) -> Contract:
        """What a judge is asked: the question, the answer without its working, and a verdict after `>`."""
        text = {
            "labels": {"correct": {"value": 1, "spellings": ["+"]}, "incorrect": {"value": 0, "spellings": ["-"]}},
            "strict": "[0-9,]*>(?P<verdict>[+-])",
            "mode": "strict",
            "max_tokens": self.judging.max_tokens,
        }
        marks = {"prompt": MARKS[:2], "response": MARKS[2:]}
        fields = {"user": "{{ prompt }}{{ response }}", "layout": "text", "delimiters": marks, "readout": {"text": text}}
        return contract_from_mapping("digit-sums", fields)


class Checker:
    """Writes judgements of `DigitSums`: adds all digits to the answer, once or twice, and says whether that comes to 0.

    wrong: share of running sums that are off. twice: share of judgements that check twice (the second check decides).
    A writer in the sense of `curation.traces`.
    """

    def __init__(self, wrong: float = 0.05, twice: float = 0.5) -> None:
        self.wrong, self.twice = wrong, twice

    def __call__(self, prompts: Batch, n: int, seed: int) -> Batch:
        """n judgements of each judging prompt. Raises ValueError for prompts of another contract."""
        import torch

        draw = random.Random(derive_seed(seed, "judgements"))
        places = [row for row in range(len(prompts)) for _ in range(n)]
        made = prompts.select(places)
        made.responses = [self.judgement(prompt_text(prompt), draw) for prompt in made.prompts]
        made.groups = torch.tensor(places, dtype=torch.int64)
        return made

    def judgement(self, prompt: str, draw: random.Random) -> str:
        """One judgement."""
        asked = _ASKED.fullmatch(prompt)
        if asked is None:
            raise ValueError(f"{prompt!r} is no question of the contract 'digit-sums'")
        checks: list[str] = []
        for _ in range(2 if draw.random() < self.twice else 1):
            errors = [draw.randint(1, 9) if draw.random() < self.wrong else 0 for _ in asked[1]]
            checks.append(running_sums(asked[2] + asked[1], errors))
        return f"{','.join(checks)}>{'+' if checks[-1][-1] == '0' else '-'}"


def solver_series(
    world: DigitSums, levels: Sequence[float], *, steps: int, every: int, rows: int, rate: float, seed: int
) -> dict[float, LanguageGenerator]:
    """Copies of one decoder as its training first passes each share of right samples; 1.0: as it is in the end.

    Checked every so many steps on 100 validation questions. A level that is never passed is not there.
    """
    import copy

    from plaudit.fitting import FitConfig, TrainProgress
    from plaudit.fitting.imitation import fit_to_samples

    solver, found = world.untrained(seed), dict[float, "LanguageGenerator"]()
    check = world.prompts("validation", 100, derive_seed(seed, "levels"))

    def watch(progress: TrainProgress) -> None:
        if progress.step % every == 0 and len(found) < len(levels):
            share = right_share(world, solver, check, 1, seed)
            for level in levels:
                if level not in found and level <= share:
                    found[level] = copy.deepcopy(solver)

    fit = FitConfig(learning_rate=rate, schedule="cosine", warmup_steps=10)
    data = world.demonstrations(steps * rows, derive_seed(seed, "demonstrations"))
    fit_to_samples(solver, data, fit, batch_rows=rows, seed=seed, progress=watch)
    return {**found, 1.0: solver}


def right_share(world: DigitSums, solver: LanguageGenerator, prompts: Batch, samples: int, seed: int) -> float:
    """Share of right answers among so many samples a prompt."""
    import torch

    with torch.no_grad():
        drawn = solver.rollout(prompts, samples, how=world.sampling, seed=derive_seed(seed, "right share"))
    return float(world.truth.score(drawn.batch).values.mean())
