"""Weights, gradients and moments shared out over processes: torch's FSDP2 (`fully_shard`) under the one optimiser loop.

Each layer's weights lie in pieces, one a process. How a mini-batch finds them whole is the launcher's to say
(`fsdp_reshard_after_forward`): layer by layer, forward and backward, or all of them for the time of an update. Sampling and
everything else without gradient takes place `whole`, with all weights gathered once, so that processes may run as many or as
few passes as their rows need.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plaudit.types import UserError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from plaudit.fitting.processes import Processes

Part = Callable[[], "Tensor | None"]
"""Runs one mini-batch and gives what is differentiated; None where nothing is."""


@dataclass(frozen=True)
class ShardingPlan:
    """How weights are shared out. by_layer: a layer's weights are whole while it runs, else all are for a whole update.

    offload: pieces, gradients and moments lie in the memory of the host, and the optimiser's step runs there.
    """

    by_layer: bool = True
    offload: bool = False

    @classmethod
    def of_launcher(cls, processes: Processes) -> ShardingPlan | None:
        """What `accelerate launch` was told (`distributed_type: FSDP`); None without it, or in one process.

        Raises UserError for FSDP of version 1.
        """
        if processes.count == 1 or os.environ.get("ACCELERATE_USE_FSDP", "false").lower() != "true":
            return None
        from accelerate import FullyShardedDataParallelPlugin  # type: ignore[import-untyped]  # it has no types
        from torch.distributed.fsdp import CPUOffloadPolicy

        if os.environ.get("FSDP_VERSION", "1") != "2":
            raise UserError("FSDP of version 1 is not served: write `fsdp_version: 2` under fsdp_config in accelerate's file")
        told = FullyShardedDataParallelPlugin()
        return cls(bool(told.reshard_after_forward), isinstance(told.cpu_offload, CPUOffloadPolicy))


class Sharding:
    """Modules whose parameters are shared out over the processes until `release`.

    modules: everything whose weights are to be in pieces, frozen ones too; one that is an adapter brings the model that it
    sits in (`whole_model`). The parameters become DTensors in place; scalars stay whole everywhere, and are `apart`.
    """

    def __init__(self, modules: Sequence[Module], plan: ShardingPlan, processes: Processes) -> None:
        from torch.distributed.device_mesh import init_device_mesh

        self.plan, self._processes, self._depth = plan, processes, 0
        self._root = _root(_tops(modules))
        self._before = _Snapshot(self._root)
        parameters = list(self._root.parameters())
        self.apart = [parameter for parameter in parameters if parameter.dim() == 0]
        self._shard(init_device_mesh(processes.device.type, (processes.count,)))
        self._settle()  # which module is the root is decided by the first forward pass: it must be this one

    def _shard(self, mesh: Any) -> None:
        from torch.distributed.fsdp import CPUOffloadPolicy, OffloadPolicy, fully_shard

        settings: dict[str, Any] = {
            "mesh": mesh,
            "offload_policy": CPUOffloadPolicy() if self.plan.offload else OffloadPolicy(),
            "ignored_params": set(self.apart),
        }
        self._layers: list[Any] = layers_of(self._root)
        for layer in self._layers:
            fully_shard(layer, reshard_after_forward=self.plan.by_layer, **settings)
        fully_shard(self._root, reshard_after_forward=False, **settings)
        self._parts: list[Any] = [*self._layers, self._root]

    # -- whole weights without gradient ----------------------------------------------------------------------------------------

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Inside, every process has all weights as plain parameters; what is written to them is lost. May be nested.

        All processes enter and leave it together; inside, each does what it likes.
        """
        if self._depth == 0:
            self._gather()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._settle()

    def _gather(self) -> None:
        for part in self._parts:
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()

    def _settle(self) -> None:
        """Back to pieces, through the end of a backward pass of nothing, where FSDP forgets which layers ran."""
        import torch

        for layer in self._layers:
            layer.set_reshard_after_forward(self.plan.by_layer, recurse=False)
        with torch.enable_grad():
            nothing = torch.zeros((), device=self._processes.device, requires_grad=True)
            self._root(lambda: nothing * 1.0).backward()

    # -- gradients -------------------------------------------------------------------------------------------------------------

    def backward(self, parts: Sequence[Part], spare: Part | None, most: int) -> None:
        """Run mini-batches forward and backward; afterwards the pieces have the sum of all processes' gradients.

        FSDP takes the mean over processes (gloo knows no other), so what is differentiated is multiplied by their number.
        spare: a mini-batch that runs the model, the same in all processes. most: mini-batches of the process with most of them.
        Layer by layer, all processes must run as many passes: one that has fewer mini-batches, or one that needs no model, runs
        the spare times 0. Without a spare all weights are gathered for the time of the call.
        """
        if self.plan.by_layer and spare is not None:
            self._by_layer(parts, spare, most)
        else:
            self._at_once(parts)
        self._processes.sum_gradients(self.apart)
        for parameter in self.apart:
            if parameter.grad is not None:
                parameter.grad /= self._processes.count

    def _by_layer(self, parts: Sequence[Part], spare: Part, most: int) -> None:
        for number in range(most):
            total = self._root(parts[number]) if number < len(parts) else None
            if total is None:
                total = self._root(lambda: _times_zero(spare()))
            if total is not None:
                (total * self._processes.count).backward()

    def _at_once(self, parts: Sequence[Part]) -> None:
        self._gather()
        self._root.set_requires_gradient_sync(False)
        self._root.set_reshard_after_backward(False)
        for part in parts:
            total = part()
            if total is not None:
                (total * self._processes.count).backward()  # type: ignore[no-untyped-call]  # torch's own backward has no types
        self._fill_gradients()
        self._root.set_requires_gradient_sync(True)
        self._root.set_reshard_after_backward(True)
        self._settle()

    def _fill_gradients(self) -> None:
        """A parameter that got a gradient in some process gets zeros in the others, so that all reduce the same ones."""
        import torch

        apart = {id(parameter) for parameter in self.apart}
        trained = [one for one in self._root.parameters() if one.requires_grad and id(one) not in apart]
        for parameter, used in zip(trained, self._processes.any_flags([one.grad is not None for one in trained]), strict=True):
            if used and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    # -- the end ---------------------------------------------------------------------------------------------------------------

    def release(self) -> None:
        """Give the modules their plain parameters back, whole in every process, as if they had never been in pieces."""
        import torch

        self._gather()
        apart, plain = {id(parameter) for parameter in self.apart}, dict[int, Any]()
        places = [
            (module, name, parameter)
            for module in self._root.modules()
            for name, parameter in module._parameters.items()
            if parameter is not None and id(parameter) not in apart
        ]
        for _, _, parameter in places:  # a weight that modules share stays shared
            plain.setdefault(id(parameter), torch.nn.Parameter(parameter.detach().clone(), parameter.requires_grad))
        self._before.restore()
        for module, name, parameter in places:
            module._parameters[name] = plain[id(parameter)]


def layers_of(root: Module) -> list[Module]:
    """The layers of the transformers models in a module, inner ones first; of other models none: they are one part."""
    named = {name for module in root.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    return [module for module in reversed(list(root.modules())) if type(module).__name__ in named]


def _tops(modules: Sequence[Module]) -> list[Module]:
    """Modules that hold each parameter once; an adapter stands for the model that it sits in."""
    whole: list[Any] = [part.whole_model for module in modules for part in module.modules() if hasattr(part, "whole_model")]
    found: list[Module] = []
    covered: set[int] = set()

    def add(module: Module) -> None:
        own = {id(parameter) for parameter in module.parameters()}
        if own & covered and not own <= covered:
            for child in module.children():
                add(child)
        elif not own <= covered:
            covered.update(own)
            found.append(module)

    for module in (*whole, *modules):
        add(module)
    return found


def _root(tops: Sequence[Module]) -> Any:
    """One module over all others, whose forward pass is whatever it is given to run."""
    from torch.nn import Module, ModuleList

    class Everything(Module):
        def __init__(self) -> None:
            super().__init__()
            self.tops = ModuleList(tops)

        def forward(self, run: Part) -> Any:
            return run()

    return Everything()


def _times_zero(total: Tensor | None) -> Tensor | None:
    return None if total is None else total * 0.0


_HOOKS = (
    "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_forward_hooks", "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called", "_state_dict_pre_hooks", "_state_dict_hooks", "_load_state_dict_pre_hooks",
)  # fmt: skip


class _Snapshot:
    """Modules as they are before `fully_shard`, which has no way back of its own: classes, hooks and attributes."""

    def __init__(self, root: Module) -> None:
        self.kept = [
            (
                module,
                type(module),
                set(vars(module)),
                {name: vars(module)[name].copy() for name in _HOOKS if name in vars(module)},
            )
            for module in root.modules()
        ]

    def restore(self) -> None:
        from torch.distributed import _composable_state

        for module, kind, names, hooks in self.kept:
            module.__class__ = kind
            for name in set(vars(module)) - names:
                del vars(module)[name]
            vars(module).update(hooks)
            _composable_state._module_state_mapping.pop(module, None)
