"""Trainable weights of named modules: collecting, copying and averaging them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from plaudit.types import UserError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module, Parameter


def trainable_parameters(modules: Mapping[str, Module]) -> dict[str, Parameter]:
    """Parameters that require a gradient, by `MODULE/NAME`; one that several modules share comes once."""
    found: dict[str, Parameter] = {}
    seen: set[int] = set()
    for name, module in modules.items():
        for path, parameter in module.named_parameters():
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                found[f"{name}/{path}"] = parameter
    return found


def kept_weights(modules: Mapping[str, Module]) -> dict[str, Tensor]:
    """What a checkpoint holds: trainable parameters and persistent buffers. Frozen parameters are those of the start."""
    kept: dict[str, Tensor] = dict(trainable_parameters(modules))
    seen = {id(tensor) for tensor in kept.values()}
    for name, module in modules.items():
        passing = {  # read here, not from `state_dict`, which would take whole weights of shared out modules apart
            f"{where}.{own}" if where else own
            for where, inner in module.named_modules(remove_duplicate=False)
            for own in inner._non_persistent_buffers_set
        }
        for path, buffer in module.named_buffers():
            if path not in passing and id(buffer) not in seen:
                seen.add(id(buffer))
                kept[f"{name}/{path}"] = buffer
    return kept


def copy_weights(weights: Mapping[str, Tensor], *, keep: bool = True) -> dict[str, Tensor]:
    """Detached copies on the CPU, whole; those of shared out weights are gathered, for which all processes must ask.

    keep: False takes part in the gathering and keeps nothing.
    """
    wholes = ((name, whole(tensor.detach())) for name, tensor in weights.items())
    return {name: tensor.cpu().clone() for name, tensor in wholes if keep}


def whole(tensor: Tensor) -> Tensor:
    """The tensor, gathered if it lies in pieces."""
    gather = getattr(tensor, "full_tensor", None)
    found: Tensor = tensor if gather is None else gather()
    return found


def like(value: Tensor, tensor: Tensor) -> Tensor:
    """A whole value in pieces as those of a tensor, if that lies in pieces. Nothing is sent: every process has the value."""
    if getattr(tensor, "placements", None) is None:
        return whole(value)
    if getattr(value, "placements", None) is not None:
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(tensor, DTensor)
    placed = value.to(tensor.device_mesh.device_type)
    return distribute_tensor(placed, tensor.device_mesh, tensor.placements, src_data_rank=None)


def in_pieces(tensors: Iterable[Any]) -> list[list[Any]]:
    """The tensors that lie in pieces, and the others: torch's operations on many tensors take only one kind."""
    kinds: dict[bool, list[Any]] = {}
    for tensor in tensors:
        kinds.setdefault(hasattr(tensor, "placements"), []).append(tensor)
    return list(kinds.values())


def gradient_norm(gradients: Sequence[Tensor]) -> Tensor:
    """[] the norm over all gradients, whole ones and those in pieces."""
    import torch
    from torch.nn.utils import get_total_norm

    norms = [whole(get_total_norm(alike)) for alike in in_pieces(gradients)]
    return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))


def set_weights(weights: Mapping[str, Tensor], values: Mapping[str, Tensor], what: str) -> None:
    """Copy values into weights, in place. Raises UserError if names or shapes differ."""
    import torch

    if set(weights) != set(values):
        odd = sorted(set(weights) ^ set(values))
        raise UserError(f"{what} has other weights than the modules here: {', '.join(odd[:3])}{' ...' if len(odd) > 3 else ''}")
    for name, tensor in weights.items():
        if tensor.shape != values[name].shape:
            raise UserError(f"{what}: {name} has shape {tuple(values[name].shape)}, here it has {tuple(tensor.shape)}")
    with torch.no_grad():
        for name, tensor in weights.items():
            tensor.copy_(like(values[name], tensor))


@contextmanager
def swapped(weights: Mapping[str, Tensor], values: Mapping[str, Tensor], what: str) -> Iterator[None]:
    """Inside, the weights have other values; afterwards their own, bit by bit."""
    own = copy_weights(weights)
    set_weights(weights, values, what)
    try:
        yield
    finally:
        set_weights(weights, own, what)


class WeightAverage:
    """Exponential moving average, in float32: average = decay x average + (1 - decay) x weights.

    The first average is the weights it starts from. weights: by name; their values now.
    """

    def __init__(self, weights: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.values: dict[str, Tensor] = {name: tensor.detach().float().clone() for name, tensor in weights.items()}

    def update(self, weights: Mapping[str, Tensor]) -> None:
        """Take one step towards the weights."""
        import torch
        from torch.optim.swa_utils import get_ema_multi_avg_fn

        average = get_ema_multi_avg_fn(self.decay)  # type: ignore[no-untyped-call]  # torch's own, without types
        kinds: dict[bool, list[str]] = {}
        for name, value in self.values.items():
            kinds.setdefault(hasattr(value, "placements"), []).append(name)
        with torch.no_grad():
            for names in kinds.values():
                average([self.values[name] for name in names], [weights[name].detach().float() for name in names], 0)
