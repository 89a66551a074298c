"""What engines share that run a transformers model out of a folder and tokenise by themselves."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from plaudit.engines.encoding import Codec
from plaudit.engines.weights import resolve_folder
from plaudit.types import Engine, Request


class FolderEngine(Engine):
    """An engine whose model is a folder or a hub id; `kind` comes before it in the engine's name."""

    kind: str

    def __init__(self, model: str | Path) -> None:
        self.model = model
        self.name = f"{self.kind}:{Path(model).name if Path(model).is_absolute() else model}"

    @cached_property
    def folder(self) -> Path:
        """The local folder of the model. Raises EngineError if there is none."""
        return resolve_folder(self.model)

    @cached_property
    def codec(self) -> Codec:
        """The tokenizer and chat template."""
        return Codec(self.folder)

    @property
    def control_strings(self) -> tuple[str, ...]:
        """Texts of the tokenizer's special tokens."""
        return self.codec.control_strings

    def render(self, request: Request) -> str:
        """The text that the model sees, chat template and forced prefix included. Raises ValueError if the template refuses."""
        return self.codec.render(request)
