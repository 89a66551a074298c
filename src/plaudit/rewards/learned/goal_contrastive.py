"""Goal-conditioned representations of a reward model: hidden states that predict which end a response is heading to (card 40).

A contrastive loss pulls states of a chosen response towards later states of the same response (its goals) and pushes them away
from states of the rejected one. Afterwards the cosine Q_t = cos(h_t, g) of a token's state and a goal g, the mean end state of
good training responses, says early on whether a response will end well. Nath et al., arXiv 2407.13887.

The sampler, as published: a place is counted from the end of the response, offset = floor((1 + (p - 1) u) n + 1) with u uniform,
so p = 0 draws from the whole response, and p > 0 leaves out its last share p. The two uniforms of a draw are sorted, so within a
draw the source is never after the goal; but the loss pairs every source with every goal, and a source lies after another draw's
goal with probability 1/6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from plaudit.types import UserError
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from torch import Tensor

FLOOR = 0.6265233750364456
"""The least value of the contrastive term: -2 log sigmoid(1), reached where all positive cosines are 1 and all negative -1."""


def places_from_end(uniform: Tensor, lengths: Tensor, skip_end: float) -> Tensor:
    """[B, K] places 0 .. n - 1 within a response, from uniforms [B, K] in [0, 1] and its lengths n [B], each at least 1.

    u = 0 gives the first place, u = 1 the last one before the share `skip_end` of the end.
    """
    import torch

    length = lengths[:, None]
    offset = torch.floor((1 + (skip_end - 1) * uniform) * length + 1).long()
    return length - torch.minimum(offset, length)  # u = 0 would be one token before the response


@dataclass
class Contrast:
    """What `GoalContrastive` found. total: the loss, summed over the `kept` pairs, with gradient; 0 where none is kept.

    positive, negative: mean sigmoid of the cosines, NaN where no pair is kept. equal, short: pairs left out because both
    responses are the same, or because one has fewer than two tokens.
    """

    total: Tensor
    positive: Tensor
    negative: Tensor
    kept: int
    equal: int
    short: int


@dataclass(frozen=True)
class GoalContrastive:
    """The auxiliary loss beta (-log S+ - log(1 - S-)), attachable to any reward that gives a state a token.

    S+: mean over pairs and over k_pos x k_pos (source, goal) places of sigmoid(cos), both of the chosen response. S-: the same
    with k_neg sources of the chosen and goals of the rejected response. skip_source, skip_goal: the share of the end that is
    never drawn (p of the sampler). average_goal: the drawn goal states are averaged before the cosine.
    skip_shared: the negative term draws only from where the two responses differ. Before that a causal decoder has the very same
    states for both, which the published loss pulls together in S+ and pushes apart in S-.
    """

    beta: float = 0.5
    k_pos: int = 16
    k_neg: int = 16
    skip_source: float = 0.0
    skip_goal: float = 0.0
    average_goal: bool = False
    skip_shared: bool = False

    def __post_init__(self) -> None:
        if self.beta < 0 or self.k_pos < 1 or self.k_neg < 1:
            raise UserError("the contrastive loss needs beta >= 0, k_pos >= 1 and k_neg >= 1")
        if not (0 <= self.skip_source < 1 and 0 <= self.skip_goal < 1):
            raise UserError("skip_source and skip_goal are shares of a response in [0, 1)")

    def settings(self) -> dict[str, Any]:
        """Every field by name; `GoalContrastive(**settings)` rebuilds it."""
        return asdict(self)

    def __call__(
        self,
        chosen: Tensor,
        rejected: Tensor,
        chosen_mask: Tensor,
        rejected_mask: Tensor,
        *,
        seed: int,
        equal: Tensor | None = None,
        shared: Tensor | None = None,
    ) -> Contrast:
        """chosen [P, L, H], rejected [P, M, H]: states; masks [P, L], [P, M]: tokens of the responses, wherever the padding is.

        equal: [P] bool, pairs whose responses are the same text. shared: [P] how many tokens their responses begin with alike;
        only `skip_shared` reads it. The same seed draws the same places.
        """
        import torch

        same = torch.zeros(len(chosen), dtype=torch.bool) if equal is None else equal.bool()
        short = ((chosen_mask.sum(1) < 2) | (rejected_mask.sum(1) < 2)) & ~same
        kept = (~same & ~short).nonzero()[:, 0]
        left_out = {"equal": int(same.sum()), "short": int(short.sum())}
        if not len(kept):
            nothing = torch.full((), torch.nan)
            return Contrast((chosen.sum() + rejected.sum()) * 0.0, nothing, nothing, 0, **left_out)
        alike = shared[kept] if self.skip_shared and shared is not None else torch.zeros(len(kept), dtype=torch.int64)
        draw = torch.Generator().manual_seed(seed)
        both = torch.rand((2, len(kept), self.k_pos), generator=draw).sort(dim=0).values
        loose = torch.rand((2, len(kept), self.k_neg), generator=draw)
        ours, theirs = _Response(chosen[kept], chosen_mask[kept]), _Response(rejected[kept], rejected_mask[kept])
        positive = self._similarity(ours.at(both[0], self.skip_source), ours.at(both[1], self.skip_goal))
        negative = self._similarity(ours.at(loose[0], self.skip_source, alike), theirs.at(loose[1], self.skip_goal, alike))
        total = self.beta * len(kept) * (-positive.log() - (1 - negative).log())
        return Contrast(total, positive.detach(), negative.detach(), len(kept), **left_out)

    def _similarity(self, sources: Tensor, goals: Tensor) -> Tensor:
        """[] mean of sigmoid(cos) over all pairs of [P, K, H] sources and goals; in [0.27, 0.73], so its logs are finite."""
        goals = goals.mean(1, keepdim=True) if self.average_goal else goals
        return (unit(sources) @ unit(goals).transpose(1, 2)).sigmoid().mean()


def unit(states: Tensor) -> Tensor:
    """[..., H] states of length 1, in float32 at least (bfloat16 cosines are too coarse); a zero state stays zero."""
    import torch

    precise = states if states.dtype == torch.float64 else states.float()
    return torch.nn.functional.normalize(precise, dim=-1, eps=1e-8)


class _Response:
    """States [P, L, H] of responses, found by their place in the response, whichever side is padded."""

    def __init__(self, states: Tensor, mask: Tensor) -> None:
        self.states, self.lengths = states, mask.sum(1)
        self.columns = (~mask).long().argsort(dim=1, stable=True)

    def at(self, uniform: Tensor, skip_end: float, first: Tensor | None = None) -> Tensor:
        """[P, K, H] states at sampled places; with `first` [P], only places from there on, else the last one."""
        import torch

        start = torch.zeros_like(self.lengths) if first is None else torch.minimum(first, self.lengths - 1)
        places = start[:, None] + places_from_end(uniform, self.lengths - start, skip_end)
        return self.states[torch.arange(len(places))[:, None], self.columns.gather(1, places)]


@dataclass
class GoalState:
    """The mean end state of good training responses: a running mean, in float64.

    key: of the weights that gave the states; states of other weights are refused. prompts: content keys of the prompts that went
    in, so that a leak into an evaluation is seen (`leaked`).
    """

    key: str = ""
    count: int = 0
    total: Tensor | None = None
    prompts: set[str] = field(default_factory=set)

    def update(self, end_states: Tensor, prompts: Sequence[Any] = (), key: str = "") -> None:
        """Take in [B, H] end states. Raises ValueError for states of other weights, and for states that are not finite."""
        import torch

        if self.count and key != self.key:
            raise ValueError("the backbone has changed: a goal is a mean of states of one and the same weights; start a new one")
        if not bool(torch.isfinite(end_states).all()):
            raise ValueError("an end state is not finite")
        if not len(end_states):
            return
        added = end_states.detach().double().sum(0)
        self.total = added if self.total is None else self.total + added
        self.count += len(end_states)
        self.key = key
        self.prompts |= {content_key(prompt) for prompt in prompts}

    @property
    def vector(self) -> Tensor:
        """[H] float32. Raises ValueError where nothing went in."""
        if self.total is None or not self.count:
            raise ValueError("no end state was given: a goal is the mean over at least one training response")
        return (self.total / self.count).float()

    def leaked(self, prompts: Sequence[Any]) -> int:
        """How many of these prompts the goal was made from."""
        return sum(content_key(prompt) in self.prompts for prompt in prompts)

    def q(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """[B, L] cosine of each token's state [B, L, H] with the goal; NaN outside of the mask."""
        import torch

        cosine = unit(hidden) @ unit(self.vector)
        return torch.where(mask, cosine, torch.nan)
