"""`TokenRows`: the tokens of trajectories, so that nothing is tokenised twice; and the spans of their parts."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Span = tuple[int, int]
Segmenter = Callable[[str], Sequence[Span]]
"""Gives the (start, end) characters of a response's parts, in order."""
_SENTENCE = re.compile(r"[^.!?。！？\n]*(?:[.!?。！？]+[\"')\]]*|\n|$)\s*")
_LINE = re.compile(r"[^\n]*(?:\n+|$)")


@dataclass
class TokenRows:
    """B rows of token ids, without padding. completions: what was made, the token that ended it included.

    A step is a token of the completion; the step's state is everything before it.
    """

    prompts: list[list[int]]
    completions: list[list[int]]

    def __len__(self) -> int:
        return len(self.prompts)

    def select(self, rows: Sequence[int]) -> TokenRows:
        """The given rows, in the given order."""
        return TokenRows([self.prompts[row] for row in rows], [self.completions[row] for row in rows])

    @property
    def width(self) -> int:
        """T: the longest completion, at least 1, so that a column is there even where nothing was made."""
        return max((len(tokens) for tokens in self.completions), default=1) or 1

    def mask(self, width: int | None = None) -> Tensor:
        """[B, T] bool: where there is a token."""
        import torch

        lengths = torch.tensor([len(tokens) for tokens in self.completions], dtype=torch.int64)
        return torch.arange(width or self.width)[None] < lengths[:, None]


def spread_rows(values: Sequence[float] | Tensor, mask: Tensor) -> Tensor:
    """[B, T] with the values, row after row, where the mask holds, and 0 elsewhere; keeps the graph."""
    import torch

    flat = values if isinstance(values, torch.Tensor) else torch.tensor(values, dtype=torch.float32)
    return torch.zeros(mask.shape, dtype=flat.dtype).masked_scatter(mask, flat)


def sentences(text: str) -> list[Span]:
    """Sentences: up to a full stop, a question or exclamation mark, or the end of the line, with the spaces behind it."""
    return _spans(_SENTENCE, text)


def lines(text: str) -> list[Span]:
    """Lines, with the line breaks behind them."""
    return _spans(_LINE, text)


def _spans(pattern: re.Pattern[str], text: str) -> list[Span]:
    return [match.span() for match in pattern.finditer(text) if match.end() > match.start()]


SEGMENTERS: dict[str, Segmenter] = {"sentences": sentences, "lines": lines}


def step_spans(spans: Sequence[Span], tokens: Sequence[int], decode: Callable[[Sequence[int]], str], steps: int) -> list[Span]:
    """The (start, end) steps of each part of a text. A token belongs to the part that holds its last character.

    spans: of characters, in order. tokens: those of the text. steps: of the row; what ends the text belongs to the last part.
    A part that owns no token has an empty span.
    """
    reached = _reached(tokens, decode)
    found: list[Span] = []
    for number, (start, end) in enumerate(spans):
        first = bisect_left(reached, start + 1)
        last = steps if number == len(spans) - 1 else bisect_left(reached, end + 1)
        found.append((first, max(first, last)))
    return found


def steps_inside(spans: Sequence[Span], tokens: Sequence[int], decode: Callable[[Sequence[int]], str]) -> list[int]:
    """Numbers of the tokens that hold a character of one of the (start, end) spans of the text.

    A token that the text outside shares with a span counts as the span's: what is masked must not leak into what is trained.
    """
    reached = _reached(tokens, decode)
    starts = [0, *reached[:-1]]
    places = enumerate(zip(starts, reached, strict=True))
    return [place for place, (low, high) in places if any(low < end and high > start for start, end in spans)]


def _reached(tokens: Sequence[int], decode: Callable[[Sequence[int]], str]) -> list[int]:
    """How many characters of the text are there after each token."""
    reached = [len(decode(tokens[: place + 1])) for place in range(len(tokens))]
    for place in range(len(reached) - 2, -1, -1):  # half a character may be decoded as more than the whole one
        reached[place] = min(reached[place], reached[place + 1])
    return reached
