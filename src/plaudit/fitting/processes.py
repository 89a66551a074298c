"""What the processes of one run tell each other, through accelerate. One process is the usual case and costs nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from plaudit.types import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Processes:
    """The processes that `accelerate launch` started, or this one alone.

    index: of this process. count: of all. main: whether this one writes files.
    Raises UserError if accelerate is not installed.
    """

    def __init__(self) -> None:
        try:
            import accelerate  # type: ignore[import-untyped]  # it has no types
            from accelerate import utils
        except ImportError as error:
            raise UserError("training needs accelerate: install plaudit[train]") from error
        self._operations = utils
        self._state = _joined(accelerate)
        self.index: int = self._state.process_index
        self.count: int = self._state.num_processes
        self.main: bool = self._state.is_main_process
        self.device: torch.device = self._state.device

    def sum_number(self, number: float) -> float:
        """The sum of a number over processes."""
        if self.count == 1:
            return number
        import torch

        return float(self._operations.reduce(torch.tensor(number, dtype=torch.float64, device=self.device), reduction="sum"))

    def any_flags(self, flags: Sequence[bool]) -> list[bool]:
        """For each flag, whether it is set in some process."""
        if self.count == 1 or not flags:
            return list(flags)
        import torch

        found = self._operations.reduce(torch.tensor(flags, device=self.device).int(), reduction="sum")
        return [number > 0 for number in found.tolist()]

    def sum_gradients(self, parameters: Sequence[Any]) -> None:
        """Replace each parameter's gradient by its sum over processes; one that has none anywhere keeps none.

        Generators call their modules themselves, so no wrapper sees the forward pass; one exchange an update is cheaper than
        one a mini-batch anyway.
        """
        if self.count == 1:
            return
        import torch

        present = self.any_flags([parameter.grad is not None for parameter in parameters])
        used = [parameter for parameter, one in zip(parameters, present, strict=True) if one]
        for dtype in sorted({parameter.dtype for parameter in used}, key=str):
            own = [parameter for parameter in used if parameter.dtype == dtype]
            flat = torch.cat([_gradient(parameter).flatten() for parameter in own]).to(self.device)
            summed = self._operations.reduce(flat, reduction="sum").split([parameter.numel() for parameter in own])
            for parameter, gradient in zip(own, summed, strict=True):
                parameter.grad = gradient.view_as(parameter).to(parameter.device)

    def share_weights(self, tensors: Sequence[Tensor]) -> None:
        """Copy the main process's tensors into every process's."""
        if self.count == 1:
            return
        for tensor in tensors:
            tensor.data.copy_(self._operations.broadcast(tensor.detach().to(self.device).contiguous()))

    def gather(self, thing: Any) -> list[Any]:
        """Everyone's thing, in the order of the processes."""
        if self.count == 1:
            return [thing]
        return list(self._operations.gather_object([thing]))

    def agree(self, thing: Any) -> Any:
        """The main process's thing."""
        if self.count == 1:
            return thing
        return self._operations.broadcast_object_list([thing])[0]

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            self._state.wait_for_everyone()


def _joined(accelerate: Any) -> Any:
    """accelerate's state: of the processes that its launcher started, if any; on a machine without an accelerator over gloo.

    accelerate looks for a GPU first and, without one, would leave each process alone: all would do the whole run.
    """
    import torch

    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.accelerator.is_available():
        return accelerate.PartialState(cpu=True)
    return accelerate.PartialState()


def _gradient(parameter: Any) -> Tensor:
    import torch

    gradient: Tensor = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    return gradient
