"""Requests as rows of token ids on their way through a model: tokenised, measured against the context, each with its status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from plaudit.engines.decoding import row_seed
from plaudit.types import ContinuationLogProbs, NextToken, Status

if TYPE_CHECKING:
    from torch import Tensor

    from plaudit.engines.encoding import Codec
    from plaudit.types import Request


@dataclass
class Row:
    """One request on its way through a model: token ids, and what became of it."""

    prompt: list[int] = field(default_factory=list)
    continuation: list[int] = field(default_factory=list)
    status: Status = Status.OK
    detail: str = ""

    @property
    def ids(self) -> list[int]:
        """Prompt and continuation."""
        return self.prompt + self.continuation

    def fail(self, status: Status, detail: str) -> None:
        """Take this row out, and say why."""
        self.status, self.detail = status, detail


def prepare_rows(
    codec: Codec,
    requests: Sequence[Request],
    continuations: Sequence[str] | None = None,
    *,
    context: int,
    vocabulary: int | None = None,
    spare: int = 0,
) -> list[Row]:
    """Tokenised rows; those that the template refuses or that do not fit, with `spare` more tokens, carry a status.

    context: longest input in tokens. vocabulary: how many ids the model can read, None where the tokenizer is the model's own.
    """
    rows = []
    for number, request in enumerate(requests):
        row = Row()
        rows.append(row)
        try:
            row.prompt = codec.encode_prompt(request)
            if continuations is not None:
                row.continuation = codec.encode_continuation(continuations[number])
        except ValueError as error:
            row.fail(Status.FAILED, str(error))
            continue
        if vocabulary is not None and max(row.ids, default=0) >= vocabulary:
            # on CUDA such an id would not fail this row but end the process's use of the device
            row.fail(Status.FAILED, f"token {max(row.ids)} is not in the model's vocabulary")
            continue
        if len(row.ids) + spare > context:
            what = "prompt and continuation" if continuations is not None else "prompt"
            needed = f"{len(row.ids)} tokens" + (f" plus {spare} to generate" if spare else "")
            row.fail(Status.TOO_LONG, f"the {what} takes {needed}, the model's context is {context}")
    return rows


def row_seeds(rows: Sequence[Row], seed: int) -> list[int]:
    """A seed for each row, decided by the sampling seed, the row's own tokens, and how many equal rows stand before it."""
    seen: Counter[tuple[int, ...]] = Counter()
    seeds = []
    for row in rows:
        key = tuple(row.prompt)
        seeds.append(row_seed(seed, " ".join(map(str, key)), seen[key]))
        seen[key] += 1
    return seeds


def gather_options(rows: Sequence[Row], found: Mapping[int, Tensor], width: int, floor: float | None = None) -> NextToken:
    """The answer of `next_token` from the [K] log-probabilities of the rows that have them.

    width: K. floor: the log-probability below which this engine tells no numbers; None where there is no such limit.
    """
    import torch

    missing = torch.full((width,), torch.nan)
    values = torch.stack([found.get(number, missing) for number in range(len(rows))]) if rows else torch.empty(0, width)
    _mark_not_finite(rows, values.isnan().any(dim=1))
    floors = None if floor is None else torch.full((len(rows),), floor)
    return NextToken(values, [row.status for row in rows], [row.detail for row in rows], floors)


def gather_continuations(rows: Sequence[Row], found: Mapping[int, Tensor]) -> ContinuationLogProbs:
    """The answer of `log_probs` from the log-probabilities of each token of the rows that have them."""
    import torch

    if not rows:
        return ContinuationLogProbs(torch.empty(0), [], [], [])
    nothing, missing = torch.empty(0), torch.tensor(torch.nan)
    tokens = [found.get(number, nothing) for number in range(len(rows))]
    total = torch.stack([found[number].sum() if number in found else missing for number in range(len(rows))])
    _mark_not_finite(rows, total.isnan())
    return ContinuationLogProbs(total, tokens, [row.status for row in rows], [row.detail for row in rows])


def check_lengths(requests: Sequence[Request], continuations: Sequence[str]) -> None:
    """Raise ValueError if there is not one continuation for each request."""
    if len(requests) != len(continuations):
        raise ValueError(f"{len(requests)} requests, but {len(continuations)} continuations")


def _mark_not_finite(rows: Sequence[Row], is_nan: Tensor) -> None:
    """A row that the model gave NaN for has failed."""
    for row, bad in zip(rows, is_nan.tolist(), strict=True):
        if bad and row.status is Status.OK:
            row.fail(Status.FAILED, "the model gave NaN for this row")
