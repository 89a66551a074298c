"""Low-rank adapters through peft, put into the model in place: the rest of plaudit sees an ordinary transformers model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plaudit.engines.quiet import without_progress_bars
from plaudit.types import UserError


@dataclass(frozen=True)
class LoRA:
    """Low-rank adaptation (Hu et al., arXiv 2106.09685): W + alpha / rank * B A, with B = 0 at the start.

    targets: names of the linear layers that are adapted, or "all-linear" for all but the head. There is no dropout: a
    model must give the same numbers twice.
    """

    rank: int = 16
    alpha: float = 32.0
    targets: str | tuple[str, ...] = "all-linear"


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise UserError("LoRA needs peft: install plaudit[train]") from error
    return peft


def add_lora(model: Any, lora: LoRA, seed: int) -> None:
    """Put a fresh adapter into a model; only its weights are trained from then on."""
    import torch

    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    config = _peft().LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, target_modules=targets, lora_dropout=0.0, task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model.add_adapter(config)


def load_lora(model: Any, folder: Path) -> None:
    """Put a saved adapter (safetensors) into a model, to be trained further. Raises UserError if the folder holds none."""
    _peft()
    if not (folder / "adapter_model.safetensors").is_file():
        raise UserError(f"'{folder}' holds no adapter (adapter_model.safetensors)")
    with without_progress_bars():
        model.load_adapter(str(folder), is_trainable=True)


def adapter_layers(model: Any) -> dict[str, Any]:
    """The adapted layers by name; none where the model has no adapter."""
    if not getattr(model, "_hf_peft_config_loaded", False):
        return {}
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {name: layer for name, layer in model.named_modules() if isinstance(layer, BaseTunerLayer)}


def adapter_module(layers: dict[str, Any], model: Any) -> Any:
    """One torch module of all the adapters' own weights, so that a checkpoint holds them and not the whole model.

    Its `whole_model` is the model that they sit in, whose frozen weights are shared out with them where weights are.
    """
    import torch

    parts = torch.nn.ModuleDict()
    vars(parts)["whole_model"] = model  # not registered: the adapter's parameters are its own alone
    for name, layer in layers.items():
        for kind in ("lora_A", "lora_B"):
            for adapter, linear in getattr(layer, kind).items():
                parts[f"{name}/{kind}/{adapter}".replace(".", "/")] = linear
    return parts


@contextmanager
def without_adapter(layers: Sequence[Any]) -> Iterator[None]:
    """Within, the model is the one that it was before adapters were put in."""
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
