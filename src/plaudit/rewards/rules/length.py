"""Length, brevity and repetition."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from plaudit.rewards.rules.base import Judged, RuleReward
from plaudit.types import Batch, SpecError, Status

Unit = Literal["characters", "words", "tokens"]


class _Measured(RuleReward):
    """Rules on the number of units in a response. A subclass gives `value_of(count)`."""

    abstract = True

    def __init__(self, unit: Unit, tokenizer: str | Path | None) -> None:
        if unit not in ("characters", "words", "tokens"):
            raise SpecError(f"unit must be characters, words or tokens, not '{unit}'")
        if tokenizer is not None and unit != "tokens":
            raise SpecError("a tokenizer is only of use with unit='tokens'")
        self.unit: Unit = unit
        self.tokenizer = tokenizer
        self._count_tokens: Callable[[Sequence[str]], list[int]] | None = None
        self.settings = {"unit": unit, "tokenizer": _tokenizer_key(tokenizer) if tokenizer is not None else None}

    def value_of(self, count: int) -> Judged:
        """The value of a response with so many units."""
        raise NotImplementedError

    def judge_one(self, prompt: Any, response: str, reference: Any) -> Judged:  # noqa: ARG002
        """The value of one response. Raises SpecError for tokens without a tokenizer."""
        return self.value_of(self._counts([response])[0])

    def judge_rows(self, batch: Batch) -> list[Judged]:
        """[B] values; without a tokenizer, tokens are those of the batch's own `lengths`."""
        if self.unit == "tokens" and self.tokenizer is None and batch.lengths is not None:
            batch.require_responses()
            return [self.value_of(int(count)) for count in batch.lengths]
        texts = [text for _, text, _ in self.text_rows(batch)]
        counts = iter(self._counts([text for text in texts if not isinstance(text, Status)]))
        return [text if isinstance(text, Status) else self.value_of(next(counts)) for text in texts]

    def _counts(self, texts: Sequence[str]) -> list[int]:
        if self.unit == "characters":
            return [len(text) for text in texts]
        if self.unit == "words":
            return [len(text.split()) for text in texts]
        if self._count_tokens is None:
            self._count_tokens = _token_counter(self.tokenizer)
        return self._count_tokens(texts)


def _tokenizer_file(tokenizer: str | Path) -> Path | None:
    path = Path(tokenizer)
    file = path / "tokenizer.json" if path.is_dir() else path
    return file if file.is_file() else None


def _tokenizer_key(tokenizer: str | Path) -> str:
    file = _tokenizer_file(tokenizer)
    return hashlib.sha256(file.read_bytes()).hexdigest() if file is not None else str(tokenizer)


def _token_counter(tokenizer: str | Path | None) -> Callable[[Sequence[str]], list[int]]:
    """Counts without special tokens. Raises SpecError if there is no such tokenizer."""
    if tokenizer is None:
        raise SpecError("to count tokens, name a tokenizer (a folder, a tokenizer.json or a hub id) or give the batch lengths")
    from tokenizers import Tokenizer

    file = _tokenizer_file(tokenizer)
    try:
        loaded = Tokenizer.from_file(str(file)) if file is not None else Tokenizer.from_pretrained(str(tokenizer))
    except Exception as error:  # the library raises bare Exception
        raise SpecError(f"no tokenizer at '{tokenizer}': {error}") from error
    loaded.no_truncation()
    loaded.no_padding()
    return lambda texts: [len(item) for item in loaded.encode_batch(list(texts), add_special_tokens=False)]


class Length(_Measured):
    """The length of a response, or how well it keeps within limits.

    Without limits: the number of units itself. With `minimum` and / or `maximum` (or `target`, which is both): 1 inside, and
    outside 1 minus the distance to the limit over `tolerance`, not below 0; tolerance 0 is a hard limit.
    unit: "characters" (Unicode code points), "words" (between white space), "tokens" (of `tokenizer`, or the batch's `lengths`).
    """

    name = "length"

    def __init__(
        self,
        unit: Unit = "characters",
        *,
        minimum: int | None = None,
        maximum: int | None = None,
        target: int | None = None,
        tolerance: float = 0.0,
        tokenizer: str | Path | None = None,
    ) -> None:
        super().__init__(unit, tokenizer)
        if target is not None:
            if minimum is not None or maximum is not None:
                raise SpecError("give either a target or a minimum and a maximum")
            minimum = maximum = target
        if tolerance < 0 or (minimum is not None and maximum is not None and minimum > maximum):
            raise SpecError(f"limits must satisfy minimum <= maximum and tolerance >= 0: {minimum}, {maximum}, {tolerance:g}")
        self.minimum, self.maximum, self.tolerance = minimum, maximum, tolerance
        self.settings |= {"minimum": minimum, "maximum": maximum, "tolerance": tolerance}

    def value_of(self, count: int) -> Judged:
        """The count, or the share in [0, 1]."""
        if self.minimum is None and self.maximum is None:
            return float(count)
        below = 0 if self.minimum is None else self.minimum - count
        above = 0 if self.maximum is None else count - self.maximum
        distance = max(below, above, 0)
        if distance == 0:
            return 1.0
        return max(0.0, 1.0 - distance / self.tolerance) if self.tolerance > 0 else 0.0


class Brevity(_Measured):
    """2 to the power of -length / half_length: 1 for an empty response, a half at `half_length` units, never 0."""

    name = "brevity"

    def __init__(self, half_length: float = 100.0, unit: Unit = "words", *, tokenizer: str | Path | None = None) -> None:
        super().__init__(unit, tokenizer)
        if not (half_length > 0 and math.isfinite(half_length)):
            raise SpecError(f"half_length must be a positive number, not {half_length!r}")
        self.half_length = half_length
        self.settings |= {"half_length": half_length}

    def value_of(self, count: int) -> Judged:
        """A number in (0, 1]."""
        return max(math.exp2(-count / self.half_length), 1e-30)  # float32 would round an endless text to an exact zero


def overlong_penalty(length: float, expected: float, maximum: float) -> float:
    """0 up to `expected`, falling linearly to -1 at `maximum`, -1 beyond; a step where the two are equal.

    Source: Libra, arXiv 2507.21645, eq. 4.
    Raises ValueError unless 0 <= expected <= maximum.
    """
    if not 0 <= expected <= maximum:
        raise ValueError(f"expected 0 <= expected <= maximum, not {expected:g} and {maximum:g}")
    if length <= expected:
        return 0.0
    return -1.0 if length >= maximum else -(length - expected) / (maximum - expected)


class Overlong(_Measured):
    """`overlong_penalty` of a response, 0 to -1; give it no more weight than a right answer is worth.

    A weight above that would rank a right long answer below a wrong short one. unit: by default the tokens of the batch's
    own `lengths`. Raises SpecError unless 0 <= expected <= maximum.
    """

    name = "overlong"

    def __init__(self, expected: int, maximum: int, unit: Unit = "tokens", *, tokenizer: str | Path | None = None) -> None:
        super().__init__(unit, tokenizer)
        if not 0 <= expected <= maximum:
            raise SpecError(f"overlong needs 0 <= expected <= maximum, not {expected} and {maximum}")
        self.expected, self.maximum = expected, maximum
        self.settings |= {"expected": expected, "maximum": maximum}

    def value_of(self, count: int) -> Judged:
        """A number in [-1, 0]."""
        return overlong_penalty(count, self.expected, self.maximum)


class Repetition(RuleReward):
    """The share of n-grams of words that occurred before in the same response: 0 is none, near 1 a loop. Less is better.

    A response with fewer than n + 1 words abstains.
    """

    name = "repetition"
    higher_is_better = False

    def __init__(self, n: int = 3) -> None:
        if n < 1:
            raise SpecError(f"n must be at least 1, not {n}")
        self.n = n
        self.settings = {"n": n}

    def judge_one(self, prompt: Any, response: str, reference: Any) -> Judged:  # noqa: ARG002
        """A share in [0, 1), or None."""
        words = response.casefold().split()
        count = len(words) - self.n + 1
        if count < 2:
            return None
        return 1.0 - len(set(zip(*(words[start:] for start in range(self.n)), strict=False))) / count
