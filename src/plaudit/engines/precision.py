"""Matrix products in bfloat16 on a CPU: faster than float32 and less exact, off unless it is asked for.

The weights of the trunk's linear layers are kept in bfloat16, and the trunk runs under torch's autocast: products and
attention in bfloat16, sums of products in float32 inside them, norms and the residual stream in float32. The head, whose
logits become probabilities, keeps the model's own precision, as do embeddings. Processors with matrix units for bfloat16
(AMX) or dot products (AVX512-BF16) gain; others would only lose, so they are refused.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal, get_args

from plaudit.types import EngineError

if TYPE_CHECKING:
    import torch

    from plaudit.engines.forward import CausalModel

Precision = Literal["full", "bfloat16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)


def why_no_bfloat16(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why matrix products in bfloat16 are not to be had for a model on this device; None if they are."""
    import torch

    if device.type != "cpu":
        return f"it is for CPUs, the model is on {device}; there, dtype bfloat16 does it"
    if dtype != torch.float32:
        return f"it is for models in float32, this one is in {str(dtype).removeprefix('torch.')}"
    if not (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()):
        return "this CPU has neither AMX nor AVX512-BF16, so it would be slower than float32"
    return None


def reduce_precision(model: Any, trunk: Any) -> None:
    """Turn the trunk of a transformers causal language model to bfloat16, in place; not to be undone, and not for training.

    Raises EngineError where the device cannot do it or would be slower.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    reason = why_no_bfloat16(model.device, model.dtype)
    if reason is not None:
        raise EngineError(f"precision 'bfloat16' is not possible: {reason}")
    for module in trunk.modules():
        if isinstance(module, torch.nn.Linear | Conv1D):
            module.weight = torch.nn.Parameter(module.weight.detach().bfloat16(), requires_grad=False)
    whole = trunk.forward

    @functools.wraps(whole)
    def forward(*args: Any, **options: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return whole(*args, **options)

    trunk.forward = forward


def reduce_where_faster(model: CausalModel) -> bool:
    """bfloat16 for a model's matrix products from now on where this machine gains by it; whether it does. Not to be undone."""
    if model.precision != "full" or why_no_bfloat16(model.device, model.model.dtype) is not None:
        return model.precision != "full"
    reduce_precision(model.model, model.trunk)
    model.precision = "bfloat16"
    return True
