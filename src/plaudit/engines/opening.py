"""Opening a model to be trained: from a folder, the hub, or memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from plaudit.engines.encoding import Codec
from plaudit.engines.weights import resolve_folder
from plaudit.types import UserError

if TYPE_CHECKING:
    from plaudit.engines.forward import CausalModel


def opened(model: Any, tokenizer: Any, device: str | None, dtype: str) -> tuple[CausalModel, Codec]:
    """The model and its tokenizer, loaded or as given."""
    from plaudit.engines.forward import CausalModel

    if not isinstance(model, (str, Path)):
        if tokenizer is None:
            raise UserError("a model that is there already needs its tokenizer")
        codec = Codec(Path())
        codec.tokenizer = tokenizer
        return CausalModel(model), codec
    if model == "smollm2":
        from plaudit.engines.default_model import ensure_default_model

        model = ensure_default_model()
    folder = resolve_folder(model)
    return CausalModel(folder, dtype, device), Codec(folder)


def switch_dropout_off(model: Any) -> None:
    """Whatever mode the model is put into: it must give the same numbers twice."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if getattr(module, "attention_dropout", None):
            module.attention_dropout = 0.0


def new_value_head(model: CausalModel) -> Any:
    """A linear value of the last state, 0 everywhere at first."""
    import torch

    head = torch.nn.Linear(int(model.model.config.get_text_config().hidden_size), 1, device=model.device)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    return head
