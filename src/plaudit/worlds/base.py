"""Worlds of texts with a tiny decoder: start models that are trained from nothing once, and kept."""

from __future__ import annotations

import os
import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from plaudit.fitting import FitConfig, TrainResult, derive_seed
from plaudit.fitting.imitation import fit_to_samples
from plaudit.rewards.rules.source import module_source
from plaudit.types import Batch, Sampling, UserError, World
from plaudit.types.keys import content_key
from plaudit.types.paths import cache_dir

if TYPE_CHECKING:
    from plaudit.generators.language import LanguageGenerator

NUMERICS = "text-world-1"
"""Raised when a change here changes start models, so that old ones are not taken for new ones."""
SPLITS = {"train": range(8), "validation": range(8, 9), "test": range(9, 10)}
"""Which tenths of all prompts belong to a split; a prompt's own text decides its tenth."""


@dataclass(frozen=True)
class Decoder:
    """The size of a start model: a Llama decoder over characters."""

    layers: int = 2
    width: int = 64
    heads: int = 4
    context: int = 64


@dataclass(frozen=True)
class Level:
    """How far a start model is trained: imitation of so many demonstrations, for so many epochs."""

    demonstrations: int = 4000
    epochs: int = 2
    batch_rows: int = 64
    learning_rate: float = 3e-3


def in_split(text: str, split: str) -> bool:
    """Whether a prompt belongs to a split; no prompt belongs to two. Raises UserError for other splits."""
    if split not in SPLITS:
        raise UserError(f"a world has the splits {', '.join(SPLITS)}, not '{split}'")
    return int(content_key("split", text)[:8], 16) % 10 in SPLITS[split]


class TextWorld(World):
    """A world of short texts over a small alphabet. A subclass gives `characters`, `truth`, `prompts`, `data` and `levels`.

    sampling: how its policies write. settings: all that decides the world's prompts and data, JSON-able.
    """

    name: str
    characters: str
    levels: ClassVar[Mapping[str, Level]]
    decoder = Decoder()
    sampling = Sampling(max_tokens=16, temperature=1.0)
    settings: dict[str, Any]

    @abstractmethod
    def demonstrations(self, n: int, seed: int) -> Batch:
        """What start models learn from: responses of mixed quality to training prompts."""

    def data(self, n: int, seed: int) -> Batch:
        """The same as `demonstrations`, where a world has no other data."""
        return self.demonstrations(n, seed)

    def key(self, level: str, seed: int) -> str:
        """Content key of a start model: everything that decides its weights, the world's own source included."""
        given = (asdict(self.levels[level]), asdict(self.decoder), self.settings, module_source(type(self).__module__))
        return content_key(NUMERICS, self.name, given, level, seed)

    def untrained(self, seed: int) -> LanguageGenerator:
        """A decoder with random weights."""
        from plaudit.generators.language import tiny_decoder

        return tiny_decoder(self.characters, seed=derive_seed(seed, "weights"), **asdict(self.decoder))

    def base(self, level: str = "start", seed: int = 0) -> LanguageGenerator:
        """The start model of a level, trained on the first call and kept in the cache folder as safetensors.

        Two processes may call this at once: one works. Raises UserError for a level that the world does not have.
        """
        from filelock import FileLock

        from plaudit.generators.language import LanguageGenerator

        if level not in self.levels:
            raise UserError(f"the world '{self.name}' has the levels {', '.join(self.levels)}, not '{level}'")
        folder = cache_dir() / "worlds" / f"{self.name}-{level}-{self.key(level, seed)}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{folder.name}.lock"):
            if not (folder / "model.safetensors").is_file():
                self._make(folder, self.levels[level], seed)
        return LanguageGenerator(folder)

    def _make(self, folder: Path, level: Level, seed: int) -> None:
        """Train a start model under another name, and move it into place."""
        generator = self.untrained(seed)
        imitate(generator, self.demonstrations(level.demonstrations, derive_seed(seed, "demonstrations")), level, seed)
        with tempfile.TemporaryDirectory(dir=folder.parent) as work:
            generator.save(Path(work) / "model")
            if folder.exists():  # left incomplete by something else
                shutil.rmtree(folder)
            os.replace(Path(work) / "model", folder)


def imitate(generator: LanguageGenerator, demonstrations: Batch, level: Level, seed: int) -> TrainResult:
    """Supervised training on given responses: minus their log-probability, mean over tokens."""
    steps = level.epochs * -(-len(demonstrations) // level.batch_rows)
    fit = FitConfig(learning_rate=level.learning_rate, schedule="cosine", warmup_steps=10, total_steps=steps)
    return fit_to_samples(generator, demonstrations, fit, batch_rows=level.batch_rows, epochs=level.epochs, seed=seed)
