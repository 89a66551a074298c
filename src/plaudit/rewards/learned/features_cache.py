"""Features on disk, by content: what a frozen model says about a row is computed once.

A folder holds chunks: safetensors files of `vectors` [n, d] float32, whose metadata names the n rows by content key. A chunk
appears under its name when it is complete, so a killed run loses at most the chunk that it was working on.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from plaudit.types import UserError
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from torch import Tensor


class FeatureCache:
    """The features that one model, read in one way, gave so far. folder: of this model and this way alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def _places(self) -> dict[str, tuple[Path, int]]:
        """Row key -> (file, row in it). Files that cannot be read are left out: their rows are computed again."""
        from safetensors import SafetensorError, safe_open

        found: dict[str, tuple[Path, int]] = {}
        for file in sorted(self.folder.glob("*.safetensors")):
            try:
                with safe_open(str(file), framework="pt") as opened:
                    keys = json.loads((opened.metadata() or {})["keys"])
                found.update((key, (file, row)) for row, key in enumerate(keys))
            except (OSError, SafetensorError, KeyError, ValueError) as error:
                logging.getLogger(__name__).warning("%s is no chunk of features and is not used: %s", file, error)
        return found

    def __len__(self) -> int:
        return len(self._places)

    def get(self, keys: Iterable[str]) -> dict[str, Tensor]:
        """[d] of each row that is there."""
        from safetensors.torch import load_file

        wanted: dict[Path, list[tuple[str, int]]] = {}
        for key in dict.fromkeys(keys):
            if (place := self._places.get(key)) is not None:
                wanted.setdefault(place[0], []).append((key, place[1]))
        found: dict[str, Tensor] = {}
        for file, rows in wanted.items():
            vectors = load_file(str(file))["vectors"]
            found.update((key, vectors[row].clone()) for key, row in rows)  # a view would keep the whole chunk in memory
        return found

    def put(self, vectors: Mapping[str, Tensor]) -> None:
        """Keep the features of a chunk of rows. Raises UserError where the folder cannot be written."""
        import torch
        from safetensors.torch import save_file

        if not vectors:
            return
        keys = list(vectors)
        file = self.folder / f"{content_key(keys)[:16]}.safetensors"
        temporary: Path | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.folder, prefix=".", suffix=".new")
            os.close(handle)
            temporary = Path(name)
            stacked = torch.stack([vectors[key].detach().float().cpu() for key in keys])
            save_file({"vectors": stacked}, str(temporary), metadata={"keys": json.dumps(keys)})
            os.replace(temporary, file)
        except OSError as error:
            raise UserError(f"features cannot be kept in {self.folder}: {error.strerror or error}") from error
        finally:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
        self._places.update((key, (file, row)) for row, key in enumerate(keys))


def chunks(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Row numbers in order, cut where a chunk has passed so many tokens: rows that stand together share their prompts."""
    found: list[list[int]] = []
    room = 0
    for row, length in enumerate(lengths):
        if room <= 0:
            found.append([])
            room = tokens
        found[-1].append(row)
        room -= length
    return found
