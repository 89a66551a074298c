"""Continuing texts token by token, so that a row's continuation depends on nothing but the row and the seed.

Random numbers: each row has its own stream, seeded by the sampling seed and the row's own key, and a token is drawn by
the Gumbel-max rule (arg max of log-probability plus Gumbel noise). Neither the other rows of the batch nor the order of
near-equal tokens can therefore change what is drawn. Noise is made on the CPU, so devices agree too.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from plaudit.engines.batches import pad_left
from plaudit.types import Finish, Sampling

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Decode = Callable[[Sequence[int]], str]


def row_seed(seed: int, key: str, occurrence: int) -> int:
    """A 63-bit seed from the sampling seed, the row's text, and which of several equal rows of one call it is."""
    digest = hashlib.sha256(f"{seed}\0{occurrence}\0{key}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass
class Continuation:
    """One row while it is continued. room: most tokens that may still be made. text: final, without the stop string."""

    prompt: Sequence[int]
    seed: int
    room: int
    tokens: list[int] = field(default_factory=list)
    finish: Finish = "truncated"
    text: str = ""

    def restart(self) -> None:
        """Forget what was made, so that a failed batch can be tried again."""
        self.tokens, self.finish, self.text = [], "truncated", ""


def nucleus(log_probs: Tensor, top_p: float) -> Tensor:
    """[B, V] log-probabilities with everything outside the smallest set of mass `top_p` set to minus infinity.

    The most likely token always stays (Holtzman et al., 2020).
    """
    import torch

    if top_p >= 1.0:
        return log_probs
    ordered, order = log_probs.sort(dim=-1, descending=True)
    probs = ordered.exp()
    before = probs.cumsum(dim=-1) - probs
    outside = torch.zeros_like(before, dtype=torch.bool).scatter(1, order, (before >= top_p) & (before > 0))
    return log_probs.masked_fill(outside, float("-inf"))


def pick_tokens(logits: Tensor, how: Sampling, streams: Sequence[torch.Generator]) -> list[int]:
    """The next token of each row of [B, V] logits: the most likely one, or one drawn from the row's own stream."""
    import torch

    if how.temperature <= 0:
        choice: list[int] = logits.argmax(dim=-1).tolist()
        return choice
    kept = nucleus(torch.log_softmax(logits.float() / how.temperature, dim=-1).cpu(), how.top_p)
    uniform = torch.stack([torch.rand(kept.shape[1], generator=stream) for stream in streams])
    # 0 and 1 would give infinite noise
    noise = -torch.log(-torch.log(uniform.clamp(1e-9, 1 - 1e-7)))
    drawn: list[int] = (kept + noise).argmax(dim=-1).tolist()
    return drawn


def cut_at_stop(text: str, stops: Sequence[str]) -> str | None:
    """The text before its first stop string, or None if it holds none."""
    places = [place for stop in stops if stop and (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else None


def _has_stopped(row: Continuation, stops: Sequence[str], decode: Decode) -> bool:
    """Whether the last token completed a stop string; decodes only as many last tokens as that can take."""
    if not stops:
        return False
    # one character may take four tokens (its bytes), and a few tokens more cannot hurt
    window = 4 * max(len(stop) for stop in stops) + 4
    return cut_at_stop(decode(row.tokens[-window:]), stops) is not None


def _end_row(row: Continuation, token: int, how: Sampling, ends: frozenset[int], decode: Decode) -> bool:
    """Take one token into a row; True if the row is finished."""
    if token in ends:
        row.finish = "complete"
        return True
    row.tokens.append(token)
    if _has_stopped(row, how.stop, decode):
        row.finish = "complete"
        return True
    return len(row.tokens) >= row.room


def continue_batch(
    model: Any, rows: Sequence[Continuation], how: Sampling, *, ends: frozenset[int], pad: int, decode: Decode
) -> None:
    """Continue all rows of one padded batch in place; finished rows leave the batch.

    model: a transformers causal language model. ends: ids that end a text. Runs without gradient.
    Raises RuntimeError if the model gives NaN.
    """
    import torch

    for row in rows:
        row.restart()
    live = [row for row in rows if row.room > 0]
    if live:
        with torch.no_grad():
            _continue_live(model, live, how, ends, pad, decode)
    for row in rows:
        whole = decode(row.tokens)
        cut = cut_at_stop(whole, how.stop)
        row.text = whole if cut is None else cut


def _continue_live(model: Any, live: list[Continuation], how: Sampling, ends: frozenset[int], pad: int, decode: Decode) -> None:
    """The loop over tokens; one forward pass of the rows that are still going on, for one token each."""
    import torch

    # the prompt's other logits are of no use, and would be the largest tensor of the run
    last_only = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
    streams = [torch.Generator().manual_seed(row.seed) for row in live]
    ids, mask = (part.to(model.device) for part in pad_left([row.prompt for row in live], pad))
    cache: Any = None
    while True:
        position = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        step = model(
            input_ids=ids, attention_mask=mask, position_ids=position, past_key_values=cache, use_cache=True, **last_only
        )
        cache = step.past_key_values
        logits = step.logits[:, -1]
        if bool(logits.isnan().any()):
            raise RuntimeError("it gave NaN")
        chosen = pick_tokens(logits, how, streams)
        ended = [_end_row(row, token, how, ends, decode) for row, token in zip(live, chosen, strict=True)]
        stay = [place for place, over in enumerate(ended) if not over]
        if not stay:
            return
        if len(stay) < len(live):
            index = torch.tensor(stay, dtype=torch.int64, device=model.device)
            live, streams = [live[place] for place in stay], [streams[place] for place in stay]
            mask = mask[index]
            cache.batch_select_indices(index)
        ids = torch.tensor([[chosen[place]] for place in stay], dtype=torch.int64, device=model.device)
        mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)
