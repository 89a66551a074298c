"""The network of `SceneJudge`. Importing this file imports torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from plaudit.worlds.scene_pairs import CELLS, COLOUR_PAIRS
from plaudit.worlds.scenes_render import COLOURS, SHAPES, SIDE

PATCH = 4
KINDS = 1 + len(SHAPES) * len(COLOURS)
COUNTS = len(CELLS) + 2
"""No count, and 0 to 4."""


class SceneVLM(nn.Module):
    """A transformer over 16 patches of 4 x 4 pixels and one query token, whose next token is the verdict "1" or "2".

    What an answer says of a cell is fused into the tokens of that cell's patches, what it counts into the query token; the two
    answers have tables of their own. width: divisible by 4.
    """

    def __init__(self, width: int, layers: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.patches = nn.Linear(3 * PATCH * PATCH, width)
        self.places = nn.Parameter(0.1 * torch.randn((SIDE // PATCH) ** 2, width))
        self.said = nn.ModuleList(nn.Embedding(KINDS, width) for _ in range(2))
        self.counted = nn.ModuleList(nn.Embedding(COUNTS, width) for _ in range(2))
        self.asked = nn.Embedding(len(COLOUR_PAIRS) + 1, width)
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.verdict = nn.Linear(width, 2)
        side = SIDE // PATCH
        row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        self.register_buffer("cell", (row // (side // 2) * 2 + column // (side // 2)).flatten(), persistent=False)
        self.cell: Tensor

    def forward(self, images: Tensor, objects: Tensor, counts: Tensor, colours: Tensor) -> Tensor:
        """[B, 2] log-probabilities of "1" and "2". images: [B, 3, 16, 16]. objects: [B, 2, 4] by answer and cell, counts: [B, 2]
        0 for none, else 1 + n; colours: [B] 0 for no count, else 1 + place in `COLOUR_PAIRS`."""
        patches = nn.functional.unfold(images, PATCH, stride=PATCH).transpose(1, 2)
        tokens = self.patches(patches) + self.places
        query = self.asked(colours)
        for number, (said, counted) in enumerate(zip(self.said, self.counted, strict=True)):
            tokens = tokens + said(objects[:, number])[:, self.cell]
            query = query + counted(counts[:, number])
        hidden = self.layers(torch.cat([query[:, None], tokens], 1))[:, 0]
        result: Tensor = self.verdict(self.norm(hidden)).log_softmax(-1)
        return result
