"""Rendering small scenes, and reading them back: 16 x 16 RGB pictures of coloured shapes on grey, in [-1, 1].

A scene has `grid` x `grid` cells, each empty or with one shape in one colour. The style (brightness of the ground, size of the
shapes, a frame, noise) is what no prompt names. `read_scenes` inverts the renderer for scenes of one cell: analysis by synthesis,
the scene without noise that explains a picture best, so that a generator's picture has attributes too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from plaudit.types.batch import select_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

SIDE = 16
SHAPE = (3, SIDE, SIDE)
SHAPES = ("square", "disc", "triangle", "cross")
COLOURS = ("red", "green", "blue", "yellow")
EMPTY = -1
SIZES = (0.45, 0.6, 0.8)
"""Half of a shape's extent, as a share of half a cell."""
_RGB = ((1.0, -1.0, -1.0), (-1.0, 1.0, -1.0), (-1.0, -1.0, 1.0), (1.0, 1.0, -1.0))
FRAME = (1.0, -1.0, 1.0)
"""Colour of a frame: magenta, which no shape has."""


@dataclass
class SceneBatch:
    """B scenes. shape, colour: [B, cells] int64, cells row by row, EMPTY (-1) for none. brightness: [B] of the ground, 0 black to
    1 white. size: [B] place in `SIZES`. frame: [B] bool. noise: [B] standard deviation of the noise in each element."""

    shape: Tensor
    colour: Tensor
    brightness: Tensor
    size: Tensor
    frame: Tensor
    noise: Tensor

    def __len__(self) -> int:
        return len(self.shape)

    def select(self, rows: Sequence[int]) -> SceneBatch:
        """The given scenes."""
        return SceneBatch(**{name: select_rows(getattr(self, name), rows) for name in self.__dataclass_fields__})


def plain_scenes(shape: Tensor, colour: Tensor) -> SceneBatch:
    """Scenes [B, cells] in the plainest style: black ground, the largest shapes, no frame, no noise."""
    import torch

    rows = len(shape)
    zero = torch.zeros(rows)
    size = torch.full((rows,), len(SIZES) - 1, dtype=torch.int64)
    return SceneBatch(shape, colour, zero, size, torch.zeros(rows, dtype=torch.bool), zero.clone())


@lru_cache(maxsize=8)
def _masks(grid: int) -> Tensor:
    """[shapes, sizes, s, s] 1 where a shape covers a pixel's centre, in a cell of s = 16 / grid pixels."""
    import torch

    pixels = SIDE // grid
    at = (torch.arange(pixels) + 0.5) / pixels * 2 - 1
    v, u = torch.meshgrid(at, at, indexing="ij")  # v grows downwards
    masks = []
    for half in SIZES:
        inside = (u.abs() <= half) & (v.abs() <= half)
        arms = (u.abs() <= half / 3) | (v.abs() <= half / 3)
        masks.append(torch.stack([inside, u.square() + v.square() <= half**2, inside & (2 * u.abs() <= v + half), inside & arms]))
    return torch.stack(masks, dim=1).float()


@lru_cache(maxsize=1)
def _frame() -> Tensor:
    """[16, 16] 1 on the outermost pixels."""
    import torch

    frame = torch.ones(SIDE, SIDE)
    frame[1:-1, 1:-1] = 0
    return frame


def render(scenes: SceneBatch, *, seed: int = 0) -> Tensor:
    """[B, 3, 16, 16] in [-1, 1]. seed: of the noise, which the range cuts off. Raises ValueError unless cells form a square."""
    import torch

    rows, cells = scenes.shape.shape
    grid = round(cells**0.5)
    if grid * grid != cells or SIDE % grid:
        raise ValueError(f"{cells} cells are no square grid that divides {SIDE} pixels")
    there = (scenes.shape != EMPTY).float()
    covered = _masks(grid)[scenes.shape.clamp_min(0), scenes.size[:, None]] * there[..., None, None]
    tint = torch.tensor(_RGB)[scenes.colour.clamp_min(0)]
    cell = SIDE // grid
    ground = (2 * scenes.brightness - 1)[:, None, None, None].expand(rows, 3, SIDE, SIDE)

    def laid_out(parts: Tensor) -> Tensor:  # [B, cells, C, s, s] -> [B, C, 16, 16]
        blocks = parts.reshape(rows, grid, grid, -1, cell, cell)
        return blocks.permute(0, 3, 1, 4, 2, 5).reshape(rows, -1, SIDE, SIDE)

    cover = laid_out(covered[:, :, None])
    picture = ground * (1 - cover) + laid_out(tint[..., None, None] * covered[:, :, None])
    edge = _frame() * scenes.frame[:, None, None, None]
    picture = picture * (1 - edge) + torch.tensor(FRAME)[:, None, None] * edge
    random = torch.Generator().manual_seed(seed)
    noise = torch.randn(picture.shape, generator=random) * scenes.noise[:, None, None, None]
    return (picture + noise).clamp(-1, 1)


@lru_cache(maxsize=1)
def _templates() -> tuple[SceneBatch, Tensor, Tensor]:
    """Every scene of one cell without noise: (scenes [T], its ground [T, 256] as 0 or 1, all else [T, 768] with black 0)."""
    import torch

    parts = [range(len(SHAPES)), range(len(COLOURS)), range(len(SIZES)), range(2)]
    shape, colour, size, frame = torch.cartesian_prod(*(torch.tensor(list(part)) for part in parts)).T
    zero = torch.zeros(len(shape))
    scenes = SceneBatch(shape[:, None], colour[:, None], zero, size, frame.bool(), zero)
    black, white = render(scenes), render(replace(scenes, brightness=zero + 1))
    ground = ((white - black)[:, 0] > 0).float()  # red is -1 on a black ground and 1 on a white one, else it does not change
    return scenes, ground.flatten(1), (black * (1 - ground[:, None])).flatten(1)


def read_scenes(images: Tensor) -> SceneBatch:
    """The scenes of one cell that explain pictures [B, 3, 16, 16] best in squared error; the ground's grey is fitted too.

    brightness: of that ground, within [0, 1]. noise: [B] root mean square of what is left unexplained, in units of an element.
    Pictures must be finite.
    """
    scenes, ground, rest = _templates()
    flat = images.reshape(len(images), -1).double()  # float32 loses small residuals to cancellation
    ground, rest = ground.double(), rest.double()
    count = 3 * ground.sum(1)
    total = flat.reshape(len(flat), 3, -1).sum(1) @ ground.T  # [B, T] sum over the ground's elements
    grey = (total / count).clamp(-1, 1)
    of_rest = flat.square().sum(1, keepdim=True) - 2 * flat @ rest.T + rest.square().sum(1)
    left, best = (of_rest - 2 * grey * total + grey.square() * count).min(dim=1)
    brightness = (grey.gather(1, best[:, None])[:, 0] + 1) / 2
    noise = (left.clamp_min(0) / flat.shape[1]).sqrt()
    return replace(scenes.select(best.tolist()), brightness=brightness.float(), noise=noise.float())
