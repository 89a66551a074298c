"""`ClipTowers`: a CLIP model of transformers as two towers whose upper layers can be tuned. Importing this file imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from plaudit.engines.weights import resolve_folder
from plaudit.types import EngineError


class ClipTowers(nn.Module):
    """clip: a folder or hub id with a CLIP model, its tokenizer and its image settings (safetensors only, no remote code).

    Images come in [-1, 1], of any size; they are resized to the model's and normalised as it was trained. Prompts longer than
    the text tower reads are cut; `truncated` counts them. Raises EngineError for a model that cannot be loaded.
    """

    def __init__(self, clip: str) -> None:
        super().__init__()
        from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

        folder = resolve_folder(clip)
        try:
            model: Any = CLIPModel.from_pretrained(str(folder), use_safetensors=True, local_files_only=True)
            self.tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
            images: Any = AutoImageProcessor.from_pretrained(str(folder), local_files_only=True)
        except (OSError, ValueError, KeyError, ImportError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise EngineError(f"the CLIP model in '{folder}' cannot be loaded: {reason}") from error
        self.model, self.truncated = model, 0
        self.longest = int(model.config.text_config.max_position_embeddings)
        self.side = int(model.config.vision_config.image_size)
        self.mean, self.deviation = (torch.tensor(numbers)[:, None, None] for numbers in (images.image_mean, images.image_std))

    @property
    def image_blocks(self) -> nn.ModuleList:
        """Layers of the vision transformer."""
        blocks: nn.ModuleList = self.model.vision_model.encoder.layers
        return blocks

    @property
    def image_norm(self) -> nn.Module:
        """The vision tower's last norm."""
        norm: nn.Module = self.model.vision_model.post_layernorm
        return norm

    @property
    def image_projection(self) -> nn.Module:
        """From the vision tower into the shared space."""
        projection: nn.Module = self.model.visual_projection
        return projection

    @property
    def text_blocks(self) -> nn.ModuleList:
        """Layers of the text transformer."""
        blocks: nn.ModuleList = self.model.text_model.encoder.layers
        return blocks

    @property
    def text_norm(self) -> nn.Module:
        """The text tower's last norm."""
        norm: nn.Module = self.model.text_model.final_layer_norm
        return norm

    @property
    def text_projection(self) -> nn.Module:
        """From the text tower into the shared space."""
        projection: nn.Module = self.model.text_projection
        return projection

    def encode_image(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] in [-1, 1] -> [B, e]."""
        resized = nn.functional.interpolate(images, size=(self.side, self.side), mode="bicubic", antialias=True)
        pixels = ((resized.clamp(-1, 1) + 1) / 2 - self.mean.to(images)) / self.deviation.to(images)
        pooled: Tensor = self.image_projection(self.model.vision_model(pixel_values=pixels).pooler_output)
        return pooled

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """[B, e]."""
        full = self.tokenizer(list(prompts))["input_ids"]
        self.truncated += sum(len(row) > self.longest for row in full)
        encoded = self.tokenizer(list(prompts), padding=True, truncation=True, max_length=self.longest, return_tensors="pt").to(
            self.model.device
        )
        pooled: Tensor = self.text_projection(self.model.text_model(**encoded).pooler_output)
        return pooled
