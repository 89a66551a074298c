"""`JudgedSums`: four results of a sum modulo 10, and a judge that names a principle, adds up and gives scores (card 17).

A question reads `a3b1c2d2e1f3g1h2`: eight terms from 1 to 3 with their names; candidate results are digits. The judge is asked
`a3b1c2d2e1f3g1h2|BPrα`: each place has ten letters of its own for the digits (B: 1 at place w, P: 5 at place x), so that one look
finds a result among the candidates. It answers `>a3b14-c26-d28-e19-f32-g13-h25x:2922`: the principle, the steps that it asks for
(term, the sum so far, the place that holds it or `-`), and a score for each place: 9 for that of the last sum, 2 for the others.

| principle | steps |
|---|---|
| `>` left to right | 7 sums, each adds the next term |
| `<` right to left | 7 sums, each adds the term before |
| `&` pairs | 4 sums, each adds the next two terms at once |
| `?` guess | none: a place at random |
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from plaudit.fitting import derive_seed
from plaudit.rewards.base import BaseReward
from plaudit.rewards.generative.critiques import CritiqueReward
from plaudit.rewards.generative.listwise import shuffled
from plaudit.types import Batch, Context, Sampling, Scores, Status, Verdict
from plaudit.types.keys import content_key
from plaudit.types.text import prompt_text
from plaudit.worlds.base import Decoder, in_split

if TYPE_CHECKING:
    from plaudit.generators.language import LanguageGenerator
    from plaudit.rewards.learned.decoder import TokenDecoder

PRINCIPLES = "><&?"
GUESS = "?"
NAMES, PLACES, NOWHERE = "abcdefgh", "wxyz", "-"
LETTERS = ("ABCDEFGHIJ", "KLMNOPQRST", "klmnopqrst", "αβγδεζηθικ")
"""How the digits 0 to 9 are written at each place."""
CHARACTERS = "0123456789" + NAMES + PLACES + "".join(LETTERS) + PRINCIPLES + "|:" + NOWHERE
GOOD, POOR = 9, 2
"""Gold scores of the right result and of the others."""
LARGEST_TERM = 3


def place_of(result: int | str, candidates: Sequence[str]) -> str:
    """The place at which a result stands, NOWHERE if it is no candidate."""
    return PLACES[list(candidates).index(str(result))] if str(result) in candidates else NOWHERE


def critique(
    terms: Sequence[int], principle: str, candidates: Sequence[str], errors: Sequence[int] = (0,) * 7
) -> tuple[str, int | None]:
    """(the steps as text, the total modulo 10) by a principle; errors: what each sum is off by, carried on.

    A guess has no steps and no total. Raises ValueError for another principle or another number of terms.
    """
    if len(terms) != len(NAMES) or len(principle) != 1 or principle not in PRINCIPLES:
        raise ValueError(f"{len(NAMES)} terms and a principle of {PRINCIPLES} are needed, not {len(terms)} and '{principle}'")
    if principle == GUESS:
        return "", None
    named = [f"{name}{term}" for name, term in zip(NAMES, terms, strict=True)]
    order = list(range(len(terms)))[:: -1 if principle == "<" else 1]
    at_once = 2 if principle == "&" else 1
    text, total = ("", 0) if at_once == 2 else (named[order[0]], terms[order[0]])
    off = iter(errors)
    for at in range(at_once == 1, len(order), at_once):
        added = order[at : at + at_once]
        total = (total + sum(terms[place] for place in added) + next(off)) % 10
        text += "".join(named[place] for place in added) + f"{total}{place_of(total, candidates)}"
    return text, total


def question_text(terms: Sequence[int]) -> str:
    """A question as text."""
    return "".join(f"{name}{term}" for name, term in zip(NAMES, terms, strict=True))


def terms_of(question: str) -> list[int]:
    """The terms of a question."""
    return [int(digit) for digit in question[1::2]]


def render(question: str, candidates: Sequence[str]) -> str:
    """What the judge is asked: candidates are digits, in the order shown."""
    return f"{question}|{''.join(letters[int(digit)] for letters, digit in zip(LETTERS, candidates, strict=True))}"


def shown_candidates(asked: str) -> list[str]:
    """The candidates of a rendered question, as digits."""
    return [str(letters.index(letter)) for letters, letter in zip(LETTERS, asked.partition("|")[2], strict=True)]


def read_scores(text: str, count: int = len(PLACES)) -> list[float] | None:
    """The scores after the last colon: exactly `count` digits from 1 to 9, else None."""
    _, mark, tail = text.rpartition(":")
    if not mark or len(tail) != count or not set(tail) <= set("123456789"):
        return None
    return [float(digit) for digit in tail]


def judgement(question: str, candidates: Sequence[str], principle: str, draw: random.Random, wrong: float) -> str:
    """One judgement of the world's own writer, each sum off by 1 to 9 with probability `wrong`."""
    errors = [draw.randint(1, 9) if draw.random() < wrong else 0 for _ in range(len(NAMES) - 1)]
    steps, total = critique(terms_of(question), principle, candidates, errors)
    found = draw.choice(list(candidates)) if total is None else str(total)
    steps = steps or place_of(found, candidates)
    return f"{principle}{steps}:{''.join(str(GOOD if one == found else POOR) for one in candidates)}"


class JudgedSums:
    """wrong: share of wrong sums in the writer's judgements; their principles are drawn uniformly."""

    decoder = Decoder(layers=2, width=64, heads=4, context=64)
    sampling = Sampling(max_tokens=42, temperature=1.0)

    def __init__(self, wrong: float = 0.06) -> None:
        self.wrong = wrong
        self.truth = CritiqueReward(read_scores, wrong=0.0, invalid=0.0)
        """1 where a judgement is right by the references of `questions`, else 0; one that cannot be read is not."""

    def candidates(self, split: str, n: int, seed: int) -> Batch:
        """[4 n] n questions, each a group of four different results, one of them right, in random order.

        references: 1 for the right one, 0 for the others. A question belongs to one split, by its content.
        """
        import torch

        draw = random.Random(derive_seed(seed, "sums", split))
        questions, responses, right = list[str](), list[str](), list[int]()
        while len(questions) < n:
            terms = [draw.randint(1, LARGEST_TERM) for _ in NAMES]
            question = question_text(terms)
            if not in_split(question, split):
                continue
            total = sum(terms) % 10
            shown = [total, *draw.sample([other for other in range(10) if other != total], len(PLACES) - 1)]
            draw.shuffle(shown)
            questions.append(question)
            responses += map(str, shown)
            right += [int(result == total) for result in shown]
        rows = [question for question in questions for _ in PLACES]
        return Batch(rows, responses=responses, references=right, groups=torch.arange(n).repeat_interleave(len(PLACES)))

    def questions(self, split: str, n: int, seed: int) -> Batch:
        """n questions as the judge reads them; references: the gold score of each candidate in the order shown (`2922`)."""
        items = self.candidates(split, n, seed)
        answers, right = list(items.responses or ()), list(items.references or ())
        groups = items.group_rows()
        return Batch(
            [render(prompt_text(items.prompts[rows[0]]), [answers[row] for row in rows]) for rows in groups],
            references=["".join(str(GOOD if right[row] else POOR) for row in rows) for rows in groups],
        )

    def traces(self, n: int, samples: int, seed: int) -> Batch:
        """[n x samples] the writer's judgements of n training questions; those of a question are one group."""
        import torch

        asked = self.questions("train", n, seed)
        draw = random.Random(derive_seed(seed, "judgements"))
        rows = asked.select([row for row in range(n) for _ in range(samples)])
        written = []
        for prompt in rows.prompts:
            asked_of = prompt_text(prompt)
            question, shown = asked_of.partition("|")[0], shown_candidates(asked_of)
            written.append(judgement(question, shown, draw.choice(PRINCIPLES), draw, self.wrong))
        return replace(rows, responses=written, groups=torch.arange(n).repeat_interleave(samples))

    def untrained(self, seed: int) -> LanguageGenerator:
        """A decoder with random weights that is to become a judge."""
        from plaudit.generators.language import tiny_decoder

        size = asdict(self.decoder)
        return tiny_decoder(CHARACTERS, seed=derive_seed(seed, "weights"), chat=False, deviation=0.1, **size)

    def judge(self, generator: LanguageGenerator, temperature: float, key: str) -> SumJudge:
        """A decoder as judge of groups; key: of its weights."""
        return SumJudge(generator, replace(self.sampling, temperature=temperature), key)

    def backbone(self, judge: LanguageGenerator) -> TokenDecoder:
        """A trainable copy of a judge's trunk, as a learned reward reads with it."""
        from plaudit.rewards.learned.decoder import TokenDecoder

        backbone = TokenDecoder(CHARACTERS, **asdict(self.decoder))
        backbone.take_weights(judge.causal_model.trunk)
        return backbone


def principle_shares(scores: Scores) -> dict[str, float]:
    """Share of each principle among the judgements behind a `SumJudge`'s scores, by its name."""
    texts = [verdict.text for row in scores.verdicts or [] for verdict in row if verdict.text is not None]
    names = ("left to right", "right to left", "pairs", "guess")
    return {name: sum(text[:1] == mark for text in texts) / len(texts) for name, mark in zip(names, PRINCIPLES, strict=True)}


class SumJudge(BaseReward):
    """A decoder as judge of whole groups. The candidates are shown in an order that the seed and their texts decide; the
    scores are un-shuffled. An answer that cannot be read is UNPARSABLE for the whole group.

    key: what decides the decoder's weights, for the fingerprint. temperature 0: the most probable judgement.
    Verdicts: the score of each row, with its group's text at the first row shown, and the order of showing.
    """

    name = "sum-judge"
    batch_size = 256

    def __init__(self, generator: LanguageGenerator, how: Sampling, key: str) -> None:
        self.generator, self.how = generator, how
        self.settings: dict[str, Any] = {"how": asdict(how), "key": key}

    def score_group(self, batch: Batch, ctx: Context | None = None) -> Scores:
        """[B] scores from 1 to 9 within groups of four."""
        import torch

        ctx = ctx or Context()
        answers, groups = [str(text) for text in batch.require_responses()], batch.group_rows()
        shown = [[rows[place] for place in shuffled([answers[row] for row in rows], ctx.seed)] for rows in groups]
        asked = Batch([render(prompt_text(batch.prompts[rows[0]]), [answers[row] for row in rows]) for rows in shown])
        with torch.no_grad():
            seed = derive_seed(ctx.seed, "judgement")
            written = self.generator.rollout(asked, 1, how=self.how, seed=seed).batch
        ctx.budget.spend(reward_calls=len(groups), completion_tokens=sum(written.lengths or ()))
        values, status = torch.full((len(batch),), torch.nan), torch.full((len(batch),), int(Status.UNPARSABLE))
        verdicts: list[list[Verdict]] = [[] for _ in range(len(batch))]
        for rows, order, text in zip(groups, shown, written.responses or (), strict=True):
            scores = read_scores(str(text), len(order))
            places = tuple(rows.index(row) for row in order)
            for place, row in enumerate(order):
                value = None if scores is None else scores[place]
                said = Status.UNPARSABLE if value is None else Status.OK
                values[row], status[row] = float("nan") if value is None else value, int(said)
                verdicts[row] = [Verdict(None, value, str(text) if place == 0 else None, places, ctx.seed, said)]
        return Scores(values, status.to(torch.int8), verdicts=verdicts)

    def asked(self, batch: Batch, rows: Sequence[int], verdicts: Sequence[Verdict]) -> list[str]:
        """What the judge was asked about a group, in the order of each verdict."""
        answers = list(batch.require_responses())
        orders = [[rows[place] for place in verdict.order or range(len(rows))] for verdict in verdicts]
        return [render(prompt_text(batch.prompts[rows[0]]), [str(answers[row]) for row in order]) for order in orders]

    def fingerprint(self) -> str:
        """The settings, which name the weights."""
        return content_key("sum-judge-1", self.settings)
