"""`SwitchedAdapter`: a low-rank adapter beside a model, which takes part only while it is switched on.

It is no part of the model: what the model is when the adapter is off (its weights, its own adapters, what is saved, what is
trained) is what it was before, to the last bit. So a model can judge itself with weights of its own and write as ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plaudit.engines.lora import LoRA
from plaudit.types import UserError
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module, ModuleDict

    from plaudit.engines.forward import CausalModel

FILE = "switched_adapter.safetensors"


class SwitchedAdapter:
    """W x + alpha / rank * B A x in every adapted linear layer, B = 0 at the start (Hu et al., arXiv 2106.09685).

    lora: rank, alpha and targets (the ends of the layers' names, or "all-linear" for all but the head). head: whether the head is
    adapted besides, without which a model can hardly learn to say tokens that it never said. seed: of A.
    Raises UserError where no layer of the model has such a name.
    """

    def __init__(self, causal_model: CausalModel, lora: LoRA, *, head: bool = False, seed: int = 0) -> None:
        self.causal_model, self.lora, self.head, self.seed = causal_model, lora, head, seed
        self.is_on = False

    @cached_property
    def layers(self) -> dict[str, Any]:
        """The adapted layers by name."""
        import torch

        head = self.causal_model.head
        found = {}
        for name, module in self.causal_model.model.named_modules():
            if not isinstance(module, torch.nn.Linear) or ".lora_" in name:
                continue
            named = self.lora.targets == "all-linear" or name.split(".")[-1] in self.lora.targets
            if self.head if module is head else named:
                found[name] = module
        if not found:
            raise UserError(f"no linear layer of the model is named {self.lora.targets}")
        return found

    @cached_property
    def weights(self) -> ModuleDict:
        """The adapter's own weights, on the model's device and in its dtype; not trained unless someone asks for it."""
        import torch

        parts = torch.nn.ModuleDict()
        draw = torch.Generator().manual_seed(self.seed)
        for name, layer in self.layers.items():
            place = {"device": layer.weight.device, "dtype": layer.weight.dtype}
            down = torch.nn.Linear(layer.in_features, self.lora.rank, bias=False, **place)
            up = torch.nn.Linear(self.lora.rank, layer.out_features, bias=False, **place)
            bound = layer.in_features**-0.5
            with torch.no_grad():
                drawn = torch.rand(down.weight.shape, generator=draw, dtype=torch.float64)
                down.weight.copy_((2 * drawn - 1) * bound)  # as a linear layer starts, and peft's A does
                up.weight.zero_()
            parts[name.replace(".", "/")] = torch.nn.ModuleDict({"A": down, "B": up})
        return parts.requires_grad_(False)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Within, the model runs with the adapter. Other threads wait for the model; kept prefixes are left aside."""
        model = self.causal_model
        with model.lock:
            if self.is_on:
                yield
                return
            prefixes, model.prefixes = model.prefixes, None  # keys and values of the model without the adapter
            hooks = [layer.register_forward_hook(self._added(name)) for name, layer in self.layers.items()]
            self.is_on = True
            try:
                yield
            finally:
                self.is_on = False
                for hook in hooks:
                    hook.remove()
                model.prefixes = prefixes

    @contextmanager
    def trained(self) -> Iterator[Module]:
        """Within, the adapter is on and the only thing with gradients; gives its weights."""
        parameters = list(self.causal_model.model.parameters())
        wanted = [parameter.requires_grad for parameter in parameters]
        for parameter in parameters:
            parameter.requires_grad_(False)
        try:
            with self.on():
                yield self.weights.requires_grad_(True)
        finally:
            self.weights.requires_grad_(False)
            for parameter, flag in zip(parameters, wanted, strict=True):
                parameter.requires_grad_(flag)

    def key(self) -> str:
        """Content key of the adapter's weights."""
        state = self.weights.state_dict()
        numbers = {name: weight.detach().float().cpu().contiguous().numpy().tobytes().hex() for name, weight in state.items()}
        return content_key(self.lora.alpha, numbers)

    def save(self, folder: str | Path) -> None:
        """Write the adapter's weights to a folder, as safetensors."""
        from safetensors.torch import save_file

        Path(folder).mkdir(parents=True, exist_ok=True)
        save_file({name: weight.contiguous() for name, weight in self.weights.state_dict().items()}, str(Path(folder) / FILE))

    def load(self, folder: str | Path) -> None:
        """Take the weights that `save` wrote. Raises UserError if the folder holds none that fit."""
        from safetensors.torch import load_file

        if not (Path(folder) / FILE).is_file():
            raise UserError(f"'{folder}' holds no adapter ({FILE})")
        try:
            self.weights.load_state_dict(load_file(str(Path(folder) / FILE)))
        except RuntimeError as error:
            raise UserError(f"the adapter in '{folder}' does not fit this model: {str(error).splitlines()[0]}") from error

    def _added(self, name: str) -> Any:
        part: Any = self.weights[name.replace(".", "/")]
        scale = self.lora.alpha / self.lora.rank

        def hook(_module: Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            added: Tensor = output + scale * part["B"](part["A"](inputs[0]))
            return added

        return hook
