"""Where labelled pairs come from: a judge's verdicts, answers that a rule has checked; and splits that keep kin together."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from plaudit.data.row import Row, rows_to_batch
from plaudit.fitting.seeds import derive_seed
from plaudit.types import Batch, Context, Prompt, Reward, Status
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from plaudit.types import Preferences

TIE_MARGIN = 1e-6
CHUNK = 256
"""Rows that are judged at once; a stream is never held as a whole."""


@dataclass(frozen=True)
class LabelReport:
    """labelled: pairs that got a winner. ties: pairs that did not, and are left out. left_out: the others, by status."""

    labelled: int = 0
    ties: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Every field by name."""
        return asdict(self)


def judged_pairs(
    rows: Iterable[Row], reward: Reward, ctx: Context | None = None, *, rows_at_once: int = CHUNK
) -> Iterator[tuple[Row, float | None, Status]]:
    """(row, P(first beats second), status) of each row, judged in chunks; None where there is no probability.

    Rows that do not have exactly two responses are NOT_APPLICABLE: they are not judged.
    """
    stream = iter(rows)
    while chunk := list(islice(stream, rows_at_once)):
        pairs = [row for row in chunk if len(row.responses) == 2]
        found = iter(_compared(pairs, reward, ctx))
        for row in chunk:
            prob, status = next(found) if len(row.responses) == 2 else (math.nan, int(Status.NOT_APPLICABLE))
            yield row, None if math.isnan(prob) else prob, Status(status)


def _compared(pairs: Sequence[Row], reward: Reward, ctx: Context | None) -> Iterator[tuple[float, int]]:
    if pairs:
        import torch

        first = torch.arange(0, 2 * len(pairs), 2)
        found: Preferences = reward.compare(rows_to_batch(pairs), first, first + 1, ctx)
        yield from zip(found.prob.tolist(), found.status.tolist(), strict=True)


def label_pairs(
    rows: Iterable[Row], reward: Reward, *, draw: int | None = None, ctx: Context | None = None
) -> tuple[list[Row], LabelReport]:
    """Pairs labelled by a reward or a judge: gold (1, 0) where the first wins, (0, 1) where the second does.

    draw: a seed; the winner is then drawn with the judge's probability, as a person with noise would choose, and there are no
    ties. None: the likelier one wins, and P = 0.5 is a tie. Ties and pairs without a verdict are left out, and counted.
    """
    generator = None if draw is None else random.Random(derive_seed(draw, "labels"))
    labelled: list[Row] = []
    ties, left_out = 0, Counter[str]()
    for row, prob, status in judged_pairs(rows, reward, ctx):
        if prob is None:
            left_out[status.label] += 1
        elif generator is None and abs(prob - 0.5) <= TIE_MARGIN:
            ties += 1
        else:
            first = prob > 0.5 if generator is None else generator.random() < prob
            labelled.append(replace(row, gold=(1.0, 0.0) if first else (0.0, 1.0)))
    return labelled, LabelReport(len(labelled), ties, dict(sorted(left_out.items())))


@dataclass(frozen=True)
class FactoryReport:
    """prompts: different ones. pairs: made. all_right, all_wrong: prompts without a contrast; unjudged: without any verdict.

    repeated: responses that their prompt had already. left_out: responses without a verdict, by status. capped: possible pairs
    that were not made because their prompt had enough.
    """

    prompts: int = 0
    pairs: int = 0
    all_right: int = 0
    all_wrong: int = 0
    unjudged: int = 0
    repeated: int = 0
    capped: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Every field by name."""
        return asdict(self)


@dataclass
class _Answers:
    """The answers to one prompt: right and wrong ones, each with the row it came from."""

    prompt: Prompt
    row: Row
    right: list[Any] = field(default_factory=list)
    wrong: list[Any] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)


def pairs_from_checks(
    rows: Iterable[Row], checker: Reward | None = None, *, threshold: float = 0.5, per_prompt: int = 4, seed: int = 0
) -> tuple[list[Row], FactoryReport]:
    """Right against wrong answers of the same prompt, as a verifier saw them.

    checker: a rule reward that scores every response, with the row's references; None: the rows' gold values are read. Right is
    a value above `threshold`. per_prompt: the most pairs of a prompt; answers are used as evenly as the cap allows, no pair
    twice. Rows of equal prompts are put together. A response without a verdict is neither right nor wrong: it is counted.
    Pairs show the right answer first; shuffle orders when a judge is to see them. Raises ValueError for per_prompt < 1.
    """
    if per_prompt < 1:
        raise ValueError(f"per_prompt must be at least 1, not {per_prompt}")
    prompts: dict[str, _Answers] = {}
    repeated, left_out = 0, Counter[str]()
    for row, place, value, status in _checked(rows, checker):
        answers = prompts.setdefault(content_key(row.prompt), _Answers(row.prompt, row))
        key = content_key(row.responses[place])
        if key in answers.seen:
            repeated += 1
            continue
        answers.seen.add(key)
        if value is None:
            left_out[status.label] += 1
        else:
            (answers.right if value > threshold else answers.wrong).append(row.responses[place])
    made: list[Row] = []
    for key, answers in prompts.items():
        made += _contrasts(key, answers, per_prompt, seed)
    counts = Counter((bool(answers.right), bool(answers.wrong)) for answers in prompts.values())
    possible = sum(len(answers.right) * len(answers.wrong) for answers in prompts.values())
    unjudged, capped = counts[False, False], possible - len(made)
    report = FactoryReport(len(prompts), len(made), counts[True, False], counts[False, True], unjudged, repeated, capped)
    return made, replace(report, left_out=dict(sorted(left_out.items())))


def _checked(rows: Iterable[Row], checker: Reward | None) -> Iterator[tuple[Row, int, float | None, Status]]:
    """(row, place, value, status) of every response."""
    stream = iter(rows)
    while chunk := list(islice(stream, CHUNK)):
        if checker is None:
            for row in chunk:
                for place in range(len(row.responses)):
                    yield row, place, *((None, Status.ABSTAINED) if row.gold is None else (row.gold[place], Status.OK))
            continue
        batch: Batch = rows_to_batch(chunk)
        scores = checker.score(batch)
        columns = zip(scores.values.tolist(), scores.status.tolist(), strict=True)
        for (row, place), (value, status) in zip(_responses(chunk), columns, strict=True):
            yield row, place, None if math.isnan(value) else value, Status(status)


def _responses(rows: Sequence[Row]) -> Iterator[tuple[Row, int]]:
    return ((row, place) for row in rows for place in range(len(row.responses)))


def _contrasts(key: str, answers: _Answers, most: int, seed: int) -> Iterator[Row]:
    """Up to `most` different (right, wrong) pairs, every answer as often as the others."""
    right, wrong = list(answers.right), list(answers.wrong)
    draw = random.Random(derive_seed(seed, "factory", key))
    draw.shuffle(right)
    draw.shuffle(wrong)
    if not right or not wrong:
        return
    period = math.lcm(len(right), len(wrong))
    for number in range(min(most, len(right) * len(wrong))):
        # walks along the diagonals of the table of pairs: each pair once, rows and columns evenly
        chosen = (right[number % len(right)], wrong[(number + number // period) % len(wrong)])
        references = None if answers.row.references is None else (answers.row.references[0],) * 2
        yield Row(
            f"{answers.row.id}:{number}", answers.prompt, chosen, references, (1.0, 0.0), answers.row.section, answers.row.user
        )


@dataclass(frozen=True)
class SplitReport:
    """Rows and different keys on either side. without_key: rows of the first side that have no key."""

    train_rows: int
    test_rows: int
    train_keys: int
    test_keys: int
    without_key: int = 0

    def to_json(self) -> dict[str, Any]:
        """Every field by name."""
        return asdict(self)


def split_by(
    rows: Sequence[Row], key: Callable[[Row], Hashable | None], *, held_out: float = 0.2, seed: int = 0
) -> tuple[list[Row], list[Row], SplitReport]:
    """(train, test): all rows of one key on the same side, so that nothing of the test side was seen in training.

    The keys are put in an order of their own content and the seed; the first `held_out` of them (rounded, at least one key on
    either side) are the test side. Rows whose key is None stand for nobody: they go to the train side, and are counted.
    Raises ValueError for a share outside (0, 1), or fewer than two keys.
    """
    if not 0.0 < held_out < 1.0:
        raise ValueError(f"held_out must lie in (0, 1), not {held_out}")
    keys = {named: content_key(seed, "split", named) for row in rows if (named := key(row)) is not None}
    if len(keys) < 2:
        raise ValueError(f"a split needs at least two different keys, there are {len(keys)}")
    count = min(len(keys) - 1, max(1, round(held_out * len(keys))))
    test_keys = set(sorted(keys, key=lambda named: keys[named])[:count])
    train = [row for row in rows if key(row) not in test_keys]
    test = [row for row in rows if key(row) in test_keys]
    gone = sum(key(row) is None for row in rows)
    return train, test, SplitReport(len(train), len(test), len(keys) - count, count, gone)


def split_users(rows: Sequence[Row], *, held_out: float = 0.2, seed: int = 0) -> tuple[list[Row], list[Row], SplitReport]:
    """`split_by` the user: the test side holds users that training never met."""
    return split_by(rows, lambda row: None if row.user is None else content_key(row.user), held_out=held_out, seed=seed)


def split_prompts(rows: Sequence[Row], *, held_out: float = 0.2, seed: int = 0) -> tuple[list[Row], list[Row], SplitReport]:
    """`split_by` the prompt: also what pairs of one tree need, which depend on each other."""
    return split_by(rows, lambda row: content_key(row.prompt), held_out=held_out, seed=seed)
