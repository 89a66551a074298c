"""Linear layers with packed weights, for decoding on a CPU.

A decoding step multiplies few rows by every weight matrix, and each product first brings the matrix into the order that the
processor's kernels read. `packed_linears` does that once for the steps of one call. Packed products sum in another order, as
products of another number of rows do: numbers agree to float32's last digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

PATIENCE = 8
"""Steps before a matrix is packed: packing costs about two steps, and saves a quarter to a third of each."""
MOST_ROWS = 64
"""Rows of a product beyond which packing gains nothing."""
LEAST_WEIGHTS = 2**16
"""Elements of a matrix below which a product costs less than choosing how to do it."""
MOST_BYTES = 2**31
"""Packed matrices lie beside the model's own; a model with more than this in its layers is left as it is."""


@contextmanager
def packed_linears(model: Any) -> Iterator[None]:
    """Within, the wide linear layers of a model in float32 on a CPU are packed after a few steps; elsewhere nothing changes.

    The weights must stay as they are within. Without gradient only.
    """
    layers = [module for module in model.modules() if _can_be_packed(module)]
    if not layers or sum(layer.weight.nbytes for layer in layers) > MOST_BYTES or not _available():
        yield
        return
    for layer in layers:
        layer.forward = _Packed(layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's own is seen again, and the packed matrix is gone


def _available() -> bool:
    import torch

    known: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch gives it no types
    return known and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")


def _can_be_packed(module: Any) -> bool:
    """A plain linear layer whose forward nobody has replaced, wide enough to be worth it."""
    import torch

    if type(module) is not torch.nn.Linear or "forward" in vars(module):
        return False
    weight = module.weight
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.numel() >= LEAST_WEIGHTS


class _Packed:
    """The forward pass of one linear layer within `packed_linears`."""

    def __init__(self, layer: Any) -> None:
        self.weight, self.bias, self.plain = layer.weight, layer.bias, layer.forward
        self.seen, self.packed = 0, None

    def __call__(self, input: Tensor) -> Tensor:
        import torch

        rows = input.numel() // input.shape[-1]
        if rows > MOST_ROWS or input.dtype != torch.float32 or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            result: Tensor = self.plain(input)
            return result
        self.seen += 1
        if self.seen <= PATIENCE:
            result = self.plain(input)
            return result
        if self.packed is None:
            self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight, rows)
        result = torch.ops.mkldnn._linear_pointwise(input, self.packed, self.bias, "none", [], "")
        return result
