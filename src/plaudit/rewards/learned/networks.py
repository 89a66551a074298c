"""Small networks of learned rewards: a multilayer perceptron, and means and deviations that are kept with the weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def mlp(widths: Sequence[int], *, seed: int, dropout: float = 0.0, bias: bool = True, zero_last: bool = False) -> Module:
    """Linear layers with GELU and dropout between them: torch's initial weights of a seed; the global generator stays as it was.

    widths: of the input, the hidden layers and the output. bias: of the last layer. zero_last: that layer starts at 0.
    """
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[Module] = []
        for width, following in pairwise(widths[:-1]):
            layers += [nn.Linear(width, following), nn.GELU(), *([nn.Dropout(dropout)] if dropout else [])]
        last = nn.Linear(widths[-2], widths[-1], bias=bias)
    if zero_last:
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
    return nn.Sequential(*layers, last)


class Standardiser:
    """Makes `module`: (x - mean) / deviation with mean and deviation as buffers [d], 0 and 1 until `module.set` is called.

    `module.inverse` takes it back. A class of its own would need torch when it is imported.
    """

    def __init__(self, width: int) -> None:
        import torch

        class Scaling(torch.nn.Module):
            mean: Tensor
            deviation: Tensor

            def __init__(self) -> None:
                super().__init__()
                self.register_buffer("mean", torch.zeros(width))
                self.register_buffer("deviation", torch.ones(width))

            def forward(self, values: Tensor) -> Tensor:
                return (values - self.mean) / self.deviation

            def inverse(self, values: Tensor) -> Tensor:
                return values * self.deviation + self.mean

            def set(self, mean: Tensor, deviation: Tensor) -> None:
                self.mean.copy_(mean)
                self.deviation.copy_(deviation)

        self.module: Any = Scaling()


def moments(parts: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """([d] mean, [d] deviation) over the rows of matrices [.., d], NaN left out, in float64 and in one pass.

    The deviation of a constant column, and of one without numbers, is 1; the mean of one without numbers is 0.
    Sums are taken about the first part's means, so that a large mean does not swallow a small deviation.
    """
    import torch

    count = total = squares = shift = None
    for part in parts:
        values, known = part.detach().double(), ~part.isnan()
        if count is None or total is None or squares is None or shift is None:
            shift = values.nanmean(0).nan_to_num()
            count, total, squares = torch.zeros_like(shift), torch.zeros_like(shift), torch.zeros_like(shift)
        centred = torch.where(known, values - shift, 0.0)
        count, total, squares = count + known.sum(0), total + centred.sum(0), squares + centred.square().sum(0)
    if count is None or total is None or squares is None or shift is None:
        raise ValueError("there are no rows to take moments of")
    mean = total / count.clamp(min=1)
    variance = squares / count.clamp(min=1) - mean.square()
    deviation = torch.where(variance > 1e-20 * (1 + (mean + shift).square()), variance.clamp(min=0).sqrt(), 1.0)
    return (mean + shift).float(), deviation.float()
