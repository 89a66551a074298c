"""The answers that a judge may give as sets of token sequences, and their probabilities.

An option ("yes") is a list of spellings (" Yes", "Yes", "yes"). The rule, in full:

- A spelling of one token counts with that token's probability. Spellings that are the same tokens count once.
- A spelling of several tokens is represented by its first token if no other option has a spelling with that first token
  ("absolutely" by "abs"): the model has then decided. Otherwise it counts with the exact probability of all its tokens.
- Events are kept apart: where a spelling continues a shorter one of the same option it is already counted; where it
  continues a shorter one of another option ("10" after "1"), the longest match wins, so its probability is taken out of
  the shorter one's.

The probabilities of the options of one question therefore never add up to more than 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class OptionPlan:
    """Which token sequences make up each option.

    sequences: the S distinct sequences. added, removed: per option, the numbers of the sequences whose probability is
    added to it, and for each of those the numbers of the longer sequences that are taken out again.
    """

    sequences: tuple[Tokens, ...]
    added: tuple[tuple[int, ...], ...]
    removed: dict[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def single(self) -> list[int]:
        """Numbers of the sequences of one token: read from the next-token distribution."""
        return [number for number, tokens in enumerate(self.sequences) if len(tokens) == 1]

    @property
    def several(self) -> list[int]:
        """Numbers of the sequences that need a forward pass of their own."""
        return [number for number, tokens in enumerate(self.sequences) if len(tokens) > 1]

    @property
    def steps(self) -> dict[Tokens, list[int]]:
        """What must be known to score every sequence token by token: the tokens wanted after each beginning, shortest first."""
        wanted: dict[Tokens, set[int]] = {}
        for tokens in self.sequences:
            for place, token in enumerate(tokens):
                wanted.setdefault(tokens[:place], set()).add(token)
        return {before: sorted(wanted[before]) for before in sorted(wanted)}

    def chained(self, known: Mapping[Tokens, Mapping[int, float]]) -> list[float]:
        """Log-probability of each sequence from those of the tokens after each beginning."""
        return [sum(known[tokens[:place]][token] for place, token in enumerate(tokens)) for tokens in self.sequences]


def _encode_options(
    options: Sequence[Sequence[str]], encode: Callable[[str], Sequence[int]], unknown: int | None
) -> list[set[Tokens]]:
    """Per option its distinct usable token sequences."""
    encoded: list[set[Tokens]] = []
    for spellings in options:
        if isinstance(spellings, str):
            raise ValueError(f"option {spellings!r} must be a list of spellings, not one string")
        found = {tuple(encode(spelling)) for spelling in spellings}
        found = {tokens for tokens in found if tokens and unknown not in tokens}
        if not found:
            raise ValueError(f"option {list(spellings)!r} has no spelling that the tokenizer can write")
        encoded.append(found)
    return encoded


def _longest_prefix(tokens: Tokens, owner: dict[Tokens, int]) -> Tokens | None:
    """The longest sequence that `tokens` continues."""
    for length in range(len(tokens) - 1, 0, -1):
        if tokens[:length] in owner:
            return tokens[:length]
    return None


def plan_options(
    options: Sequence[Sequence[str]], encode: Callable[[str], Sequence[int]], unknown: int | None = None
) -> OptionPlan:
    """Turn K options into token sequences by the rule above.

    encode: a spelling as the tokens that continue a prompt. unknown: the tokenizer's id for "cannot be written".
    Raises ValueError, naming the option, if an option has no usable spelling or two options share one.
    """
    encoded = _encode_options(options, encode, unknown)
    owner: dict[Tokens, int] = {}
    for option, found in enumerate(encoded):
        others = {tokens[0] for other, theirs in enumerate(encoded) if other != option for tokens in theirs}
        for tokens in sorted(found):
            kept = tokens if tokens[0] in others else tokens[:1]
            if owner.setdefault(kept, option) != option:
                raise ValueError(f"options {list(options[owner[kept]])!r} and {list(options[option])!r} share a spelling")
    parent: dict[Tokens, Tokens] = {}
    for tokens in sorted(owner, key=len):
        shorter = _longest_prefix(tokens, owner)
        if shorter is None:
            continue
        if owner[shorter] == owner[tokens]:
            del owner[tokens]  # counted with the shorter one
        else:
            parent[tokens] = shorter
    sequences = sorted(owner, key=lambda tokens: (len(tokens), tokens))
    number = {tokens: index for index, tokens in enumerate(sequences)}
    removed = {
        number[shorter]: tuple(number[tokens] for tokens in sequences if parent.get(tokens) == shorter)
        for shorter in parent.values()
    }
    added = [tuple(number[tokens] for tokens in sequences if owner[tokens] == option) for option in range(len(options))]
    return OptionPlan(tuple(sequences), tuple(added), removed)


def option_log_probs(plan: OptionPlan, sequence_log_probs: Tensor) -> Tensor:
    """[B, K] log-probability of each option from the [B, S] log-probabilities of the plan's sequences; keeps the graph."""
    import torch

    columns = []
    for numbers in plan.added:
        parts = []
        for number in numbers:
            whole = sequence_log_probs[:, number]
            if inner := plan.removed.get(number):
                part = torch.logsumexp(sequence_log_probs[:, list(inner)], dim=1)
                # rounding can make the part as large as the whole: what remains is then tiny, never negative
                share = (part - whole).clamp(max=-1e-6)
                whole = whole + torch.log1p(-torch.exp(share))
            parts.append(whole)
        columns.append(torch.logsumexp(torch.stack(parts), dim=0))
    return torch.stack(columns, dim=1)
