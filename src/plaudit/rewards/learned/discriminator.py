"""`PolicyDiscriminator`: does a candidate come from the policy that wrote the reference? (POLAR, arXiv 2507.05197, card 45.)

A decoder reads `prompt reference <|reward|> prompt candidate [reward]`; a linear head on the last state is the score. The same
class serves pre-training on triples of a pool of policies (`plaudit.curation.policy_triples`) and fitting on preferences against
a reference: both are -log sigmoid(r(p, reference, chosen) - r(p, reference, rejected)). Scores are unbounded, and comparable
for one prompt and reference only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from plaudit.fitting.seeds import seeded
from plaudit.rewards.learned.base import LearnedReward
from plaudit.rewards.learned.decoder import TokenDecoder
from plaudit.rewards.learned.goal_reward import token_decoder
from plaudit.types import Batch, Prompt, Status, UserError, prompt_text

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

Wrapper = Literal["pretrain", "sft"]
Side = Literal["left", "right"]
Several = Literal["mean", "max"]
BETWEEN, LAST = "<|reward|>", "[reward]"
"""The marks between the two parts and at the end; the decoder must know both (`TokenDecoder(marks=MARKS)`)."""
MARKS = (BETWEEN, LAST)
SPECIAL = 3
"""Tokens of a row that belong to no text: what begins it, and the two marks. The "sft" wrapper has two newlines more."""


class PolicyDiscriminator(LearnedReward):
    """r(prompt, reference, candidate), unbounded; higher is more like the reference's policy.

    backbone: a `TokenDecoder` with `marks=MARKS`, or its settings. wrapper: "pretrain" joins prompt and response as they are,
    "sft" by a newline (which the alphabet then needs). max_response: tokens of reference and candidate each; longer ones are cut
    on `cut`, both on the same side, and the prompt keeps its last tokens in what remains of max_length. several: how the scores
    against several references (a list or tuple) of a row become one. max_length: None for the decoder's context.
    A leading <think> block of the candidate is not read; one that is not closed is. Rows without a reference, or with an empty
    one, are MISSING_REFERENCE. Raises UserError for settings that cannot work.
    """

    kind: ClassVar[str] = "policy-discriminator"

    def __init__(
        self,
        backbone: TokenDecoder | Mapping[str, Any],
        *,
        wrapper: Wrapper = "pretrain",
        max_length: int | None = None,
        max_response: int = 4096,
        cut: Side = "right",
        several: Several = "mean",
        seed: int = 0,
    ) -> None:
        import torch

        self.decoder = token_decoder(backbone)
        self.backbone = self.decoder
        for value, known in ((wrapper, Wrapper), (cut, Side), (several, Several)):
            if value not in get_args(known):
                raise UserError(f"'{value}' is none of {', '.join(get_args(known))}")
        if missing := [mark for mark in MARKS if mark not in self.decoder.settings["marks"]]:
            raise UserError(f"the decoder does not know the marks {', '.join(missing)}: make it with marks=MARKS")
        self.max_length = min(max_length or self.decoder.context, self.decoder.context)
        self._special = SPECIAL + 2 * (wrapper == "sft")
        self.max_response = min(max_response, (self.max_length - self._special) // 2)
        if self.max_response < 1:
            raise UserError(f"{self.max_length} tokens have no room for a reference and a candidate")
        self.wrapper, self.cut, self.several, self.name = wrapper, cut, several, self.kind
        self.settings = {
            "backbone": self.decoder.settings, "wrapper": wrapper, "max_length": self.max_length,
            "max_response": self.max_response, "cut": cut, "several": several, "seed": seed,
        }  # fmt: skip
        self.head = torch.nn.Linear(self.decoder.width, 1, bias=False)
        with seeded(seed):
            torch.nn.init.normal_(self.head.weight, std=1 / (self.decoder.width + 1))

    def modules(self) -> dict[str, Module]:
        """The head."""
        return {"head": self.head}

    def status(self, batch: Batch) -> Tensor:
        """[B] int8: MISSING_REFERENCE where there is nothing to compare with. Nothing is too long: it is cut."""
        import torch

        given = batch.references or [None] * len(batch)
        known = torch.tensor([bool(references_of(one)) for one in given], dtype=torch.bool)
        return torch.where(known, int(Status.OK), int(Status.MISSING_REFERENCE)).to(torch.int8)

    def tokens(self, prompt: Prompt, reference: str, candidate: str) -> list[int]:
        """The row that the decoder reads: begin, p, reference, <|reward|>, p, candidate, [reward]."""
        read = self.decoder.tokens
        joint = read("\n") if self.wrapper == "sft" else []
        theirs, ours = self._cut(read(reference)), self._cut(read(without_thoughts(candidate)))
        room = (self.max_length - self._special - len(theirs) - len(ours)) // 2
        whole = read(conversation(prompt))
        asked = [*whole[max(0, len(whole) - room) :], *joint]
        between, last = self.decoder.mark(BETWEEN), self.decoder.mark(LAST)
        return [self.decoder.begin, *asked, *theirs, between, *asked, *ours, last]

    def _cut(self, tokens: list[int]) -> list[int]:
        return tokens[: self.max_response] if self.cut == "right" else tokens[-self.max_response :]

    def logit(self, batch: Batch) -> Tensor:
        """[B] with gradient. Raises UserError for rows without a reference."""
        import torch

        rows, owner = [], []
        for row, (prompt, text, given) in enumerate(
            zip(batch.prompts, batch.require_responses(), batch.references or [None] * len(batch), strict=True)
        ):
            known = references_of(given)
            if not known:
                raise UserError("a policy discriminator compares with a reference, and a row has none")
            rows += [self.tokens(prompt, reference, str(text)) for reference in known]
            owner += [row] * len(known)
        each = self.head(self.decoder.last_states(rows))[:, 0]
        if len(rows) == len(batch):
            return each  # type: ignore[no-any-return]
        found = [each[torch.tensor(owner) == row] for row in range(len(batch))]
        return torch.stack([part.mean() if self.several == "mean" else part.max() for part in found])


def references_of(given: Any) -> list[str]:
    """The references of a row as texts; empty ones, and None, are none."""
    listed: Sequence[Any] = given if isinstance(given, (list, tuple)) else [given]
    return [str(one) for one in listed if one is not None and str(one)]


def conversation(prompt: Prompt) -> str:
    """A prompt as text: the turns of a chat one a line, without their roles."""
    if isinstance(prompt, (str, Mapping)):
        return prompt_text(prompt)
    return "\n".join(message["content"] for message in prompt)


def without_thoughts(text: str) -> str:
    """The text after a leading <think> block; the whole text where there is none, it is not closed, or nothing follows."""
    begun = text.lstrip().startswith("<think>")
    _, closed, rest = text.partition("</think>")
    return rest.lstrip() if begun and closed and rest.strip() else text
