"""Two towers, one for prompts and one for images, that end in the same space. Importing this file imports torch.

`Towers` says what a pair of towers has, so that the parts of it that are tuned can be named alike in a tiny network and in CLIP.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, pairwise
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

Tuned = Literal["upper", "visual upper", "visual", "all"]
"""What is trained: the upper blocks of both towers (Social Reward's own mode), of the image tower alone, the whole image tower,
or everything."""


class Towers(Protocol):
    """image_blocks, text_blocks: from the input upwards. Norms and projections follow the last block."""

    image_blocks: nn.ModuleList
    image_norm: nn.Module
    image_projection: nn.Module
    text_blocks: nn.ModuleList
    text_norm: nn.Module
    text_projection: nn.Module

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """[B, e], of any length."""
        ...

    def encode_image(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] in [-1, 1] -> [B, e], of any length."""
        ...


class _ImageBlock(nn.Module):
    """Convolution that halves the sides, and a second one beside a skip."""

    def __init__(self, inward: int, outward: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inward, outward, 3, stride=2, padding=1)
        self.second = nn.Conv2d(outward, outward, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = nn.functional.gelu(self.first(x))
        result: Tensor = hidden + nn.functional.gelu(self.second(hidden))
        return result


class _TextBlock(nn.Module):
    """Pre-norm residual MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first, self.second = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.second(nn.functional.gelu(self.first(self.norm(x))))
        return result


class TinyTowers(nn.Module):
    """A convolutional image tower and a tower over the mean of word embeddings.

    words: the vocabulary; any other word is one unknown word. side: of the images. channels: of each image block.
    width, blocks: of the text tower. size: of the shared space.
    """

    def __init__(
        self,
        words: Sequence[str],
        *,
        side: int = 16,
        channels: Sequence[int] = (16, 32),
        width: int = 32,
        blocks: int = 2,
        size: int = 32,
    ) -> None:
        super().__init__()
        self.places = {word: number + 1 for number, word in enumerate(words)}
        self.image_blocks = nn.ModuleList(_ImageBlock(*pair) for pair in pairwise((3, *channels)))
        read = channels[-1] * (side // 2 ** len(channels)) ** 2
        self.image_norm = nn.LayerNorm(read)
        self.image_projection = nn.Linear(read, size, bias=False)
        self.embedding = nn.Embedding(len(words) + 1, width)
        self.text_blocks = nn.ModuleList(_TextBlock(width) for _ in range(blocks))
        self.text_norm = nn.LayerNorm(width)
        self.text_projection = nn.Linear(width, size, bias=False)

    def encode_image(self, images: Tensor) -> Tensor:
        """[B, 3, side, side] -> [B, size]."""
        hidden = images
        for block in self.image_blocks:
            hidden = block(hidden)
        result: Tensor = self.image_projection(self.image_norm(hidden.flatten(1)))
        return result

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """[B, size]; a prompt without words is one unknown word. Each different prompt is encoded once."""
        distinct = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
        numbers = [[self.places.get(word, 0) for word in prompt.lower().split()] or [0] for prompt in distinct]
        hidden = torch.stack([self.embedding(torch.tensor(row, device=self.embedding.weight.device)).mean(0) for row in numbers])
        for block in self.text_blocks:
            hidden = block(hidden)
        encoded: Tensor = self.text_projection(self.text_norm(hidden))
        return encoded[[distinct[prompt] for prompt in prompts]]


def upper_layers(towers: Towers, image_blocks: int, text_blocks: int) -> list[nn.Parameter]:
    """Parameters of the last blocks of each tower, the norms above them and the text projection; the image projection stays.

    0 blocks of a tower: nothing of it. Social Reward tunes 3 of 24 image blocks and 2 of 12 text blocks of CLIP ViT-L/14.
    Raises ValueError for more blocks than there are.
    """
    for asked, there, name in ((image_blocks, towers.image_blocks, "image"), (text_blocks, towers.text_blocks, "text")):
        if not 0 <= asked <= len(there):
            raise ValueError(f"{asked} {name} blocks to tune, but the tower has {len(there)}")
    modules: list[nn.Module] = []
    if image_blocks:
        modules += [*towers.image_blocks[len(towers.image_blocks) - image_blocks :], towers.image_norm]
    if text_blocks:
        modules += [*towers.text_blocks[len(towers.text_blocks) - text_blocks :], towers.text_norm, towers.text_projection]
    return list(chain.from_iterable(module.parameters() for module in modules))


def train_only(module: nn.Module, chosen: Iterable[nn.Parameter]) -> None:
    """Freeze every parameter of `module` but the chosen ones.

    By `requires_grad_` on parameters: an attribute `requires_grad` set on a module does nothing.
    """
    module.requires_grad_(False)
    for parameter in chosen:
        parameter.requires_grad_(True)
