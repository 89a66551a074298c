"""`TokenDecoder`: a tiny causal decoder over characters, trained from nothing, that gives a state a token.

The backbone of rewards that read more than a text's last state. Texts are read as `<begin> prompt response <end>`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plaudit.engines.control import neutralise
from plaudit.engines.encoding import Codec
from plaudit.types import Batch, Loss, Status, UserError, prompt_text
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from plaudit.engines.forward import CausalModel

PAD = 0
"""Any id will do: a causal decoder never looks right, and padded places are never read."""
ROWS = 256
"""Rows of a forward pass without gradient."""
MOST_KNOWN = 100_000
"""Texts whose tokens are kept, so that fitting tokenises a text once and not in every epoch."""


class TokenDecoder:
    """A Llama decoder of `layers` x `width` over `characters`, at most `context` tokens. seed: of its first weights.

    marks: special tokens beyond the characters ("<|reward|>"). `settings` rebuild it without its weights. A row that is longer
    is TOO_LONG: what is cut, and from where, is for a reward to decide.
    """

    kind = "decoder"
    trainable = True

    def __init__(
        self,
        characters: str,
        *,
        marks: Sequence[str] = (),
        layers: int = 2,
        width: int = 96,
        heads: int = 4,
        context: int = 96,
        seed: int = 0,
    ) -> None:
        self.settings: dict[str, Any] = {
            "kind": "decoder", "characters": characters, "marks": list(marks), "layers": layers, "width": width, "heads": heads,
            "context": context, "seed": seed,
        }  # fmt: skip
        if layers < 1 or width < 1 or context < 2:
            raise UserError("a decoder needs layers >= 1, width >= 1 and context >= 2")
        self.width, self.context = width, context
        self._known: dict[str, list[int]] = {}

    @cached_property
    def codec(self) -> Codec:
        """Its tokenizer."""
        from plaudit.engines.tiny import character_tokenizer

        codec = Codec(Path())
        codec.tokenizer = character_tokenizer(self.settings["characters"], self.settings["marks"])
        return codec

    @cached_property
    def causal_model(self) -> CausalModel:
        """The model; made when it is first needed."""
        from plaudit.engines.forward import CausalModel
        from plaudit.engines.tiny import tiny_causal_model

        size = {name: self.settings[name] for name in ("layers", "width", "heads", "context", "seed")}
        return CausalModel(tiny_causal_model(self.codec.tokenizer, **size))

    def modules(self) -> dict[str, Module]:
        """`trunk`: what is trained. The unused language head is no part of it."""
        return {"trunk": self.causal_model.trunk}

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text, without what begins or ends a row. A mark in it is broken up: no text can be one."""
        if text not in self._known:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[text] = (
                list(self.codec.encode_continuation(neutralise(text, self.codec.control_strings)[0])) if text else []
            )
        return self._known[text]

    def mark(self, name: str) -> int:
        """The token of a mark. Raises KeyError for one that it was not made with."""
        if name not in self.settings["marks"]:
            raise KeyError(name)
        return int(self.codec.tokenizer.convert_tokens_to_ids(name))

    @property
    def begin(self) -> int:
        """The token that begins a row."""
        return int(self.codec.tokenizer.bos_token_id)

    @property
    def end(self) -> int:
        """The token that ends a finished row."""
        return int(self.codec.tokenizer.eos_token_id)

    def rows(self, batch: Batch) -> tuple[list[list[int]], list[int]]:
        """(tokens of each row: begin, prompt, response, end; how many of them are of the response, the end not counted)."""
        rows, counts = [], []
        for prompt, response in zip(batch.prompts, batch.require_responses(), strict=True):
            own = self.tokens(str(response))
            rows.append([self.begin, *self.tokens(prompt_text(prompt)), *own, self.end])
            counts.append(len(own))
        return rows, counts

    def status(self, batch: Batch) -> Tensor:
        """[B] int8: TOO_LONG for rows that do not fit the context."""
        import torch

        fits = torch.tensor([len(row) <= self.context for row in self.rows(batch)[0]], dtype=torch.bool)
        return torch.where(fits, int(Status.OK), int(Status.TOO_LONG)).to(torch.int8)

    def fingerprint(self) -> str:
        """Content key of its settings, which decide its first weights."""
        return content_key("token-decoder-1", self.settings)

    def states(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """[B, L, d] last states of rows of tokens, padded on the right; keeps the graph where gradients are enabled.

        Raises ValueError for a row that is longer than the context.
        """
        import torch

        if (longest := max(map(len, rows), default=0)) > self.context:
            raise ValueError(f"a row of {longest} tokens does not fit a context of {self.context}")
        if not rows:
            return torch.empty(0, 0, self.width)
        if torch.is_grad_enabled() or len(rows) <= ROWS:
            return self.causal_model.states(rows, PAD)
        parts = [self.causal_model.states(rows[at : at + ROWS], PAD) for at in range(0, len(rows), ROWS)]
        return torch.cat([torch.nn.functional.pad(part, (0, 0, 0, longest - part.shape[1])) for part in parts])

    def last_states(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """[B, d] the state at the last token of each row. Raises ValueError for a row without tokens."""
        import torch

        if not all(rows):
            raise ValueError("a row without tokens has no last state")
        if torch.is_grad_enabled() or len(rows) <= ROWS:
            return self.states(rows)[torch.arange(len(rows)), torch.tensor([len(row) - 1 for row in rows], dtype=torch.int64)]
        return torch.cat([self.last_states(rows[at : at + ROWS]) for at in range(0, len(rows), ROWS)])

    def encode(self, batch: Batch) -> Tensor:
        """[B, d] the state at the end of each row: what a head on one vector reads."""
        return self.last_states(self.rows(batch)[0])

    def take_weights(self, trunk: Module) -> None:
        """Start from the trunk of a language model of the same size and alphabet: what it can do need not be learned again.

        Raises UserError for a trunk of another size. Embeddings of marks beyond those that the model knows stay as they are.
        """
        own, given = self.causal_model.trunk.state_dict(), trunk.state_dict()
        for name, value in own.items():
            found = given.get(name)
            embedding = name.endswith("embed_tokens.weight")
            if found is None or found.shape[1:] != value.shape[1:] or (len(found) != len(value) and not embedding):
                raise UserError(f"the weights '{name}' are of another size: a decoder starts from a model like itself")
            value[: len(found)].copy_(found[: len(value)])

    def loss_of_texts(self, rows: Sequence[Sequence[int]]) -> Loss:
        """Minus the log-probability of each row's tokens after the first: a sum over tokens, for pre-training on texts."""
        import torch

        states = self.states(rows)
        ids = [torch.tensor(row, dtype=torch.int64) for row in rows]
        before = torch.cat([states[number, : len(row) - 1] for number, row in enumerate(ids)])
        logits = self.causal_model.head(before)
        return Loss(torch.nn.functional.cross_entropy(logits, torch.cat([row[1:] for row in ids]), reduction="sum"))
