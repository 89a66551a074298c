"""`FollowUps`: a bank of happy and unhappy things that a user may say next. It is data, and the user's to replace."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from plaudit.types import SpecError

_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'})
SIDES = ("positive", "negative")


@dataclass(frozen=True)
class FollowUps:
    """positive, negative: sentences by category; the two may have different numbers of them, since means are taken.

    Curly quotes become straight ones: other quotes are other tokens. A sentence that stands twice in a category counts twice,
    and is warned about. Raises SpecError where a category lacks a side or has none.
    """

    positive: Mapping[str, tuple[str, ...]]
    negative: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        if not self.positive or set(self.positive) != set(self.negative):
            raise SpecError("a bank of follow-ups needs categories, each with positive and negative sentences")
        for side in SIDES:
            table = {
                name: tuple(text.translate(_QUOTES).strip() for text in texts) for name, texts in getattr(self, side).items()
            }
            for name, texts in table.items():
                if not texts or not all(texts):
                    raise SpecError(f"follow-ups: the category '{name}' has no {side} sentences, or an empty one")
            object.__setattr__(self, side, table)
        for name in self.categories:
            counts = Counter([*self.positive[name], *self.negative[name]])
            if twice := [text for text, count in counts.items() if count > 1]:
                warnings.warn(f"follow-ups: '{twice[0]}' stands twice in '{name}' and counts twice", stacklevel=2)

    @property
    def categories(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(self.positive)

    @property
    def sentences(self) -> tuple[str, ...]:
        """All sentences, positive before negative in each category."""
        return tuple(text for name in self.categories for text in (*self.positive[name], *self.negative[name]))

    @classmethod
    def default(cls) -> FollowUps:
        """plaudit's own 120: six categories of ten and ten."""
        return _default()

    @classmethod
    def from_file(cls, path: str | Path) -> FollowUps:
        """A YAML file of `category: {positive: [...], negative: [...]}`. Raises SpecError where it is something else."""
        import yaml

        try:
            found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise SpecError(f"follow-ups '{path}' cannot be read: {' '.join(str(error).split())}") from error
        if not isinstance(found, dict) or not all(_is_entry(entry) for entry in found.values()):
            raise SpecError(f"follow-ups '{path}': expected 'category: {{positive: [texts], negative: [texts]}}' lines")
        return cls(*({str(name): tuple(entry[side]) for name, entry in found.items()} for side in SIDES))

    def only(self, categories: Sequence[str] | None = None, each: int | None = None) -> FollowUps:
        """Some categories (None: all), and of each side its first `each` sentences (None: all).

        Raises SpecError for a category that is not there.
        """
        names = self.categories if categories is None else tuple(categories)
        if unknown := [name for name in names if name not in self.positive]:
            raise SpecError(f"follow-ups: no category is called '{unknown[0]}', expected one of {', '.join(self.categories)}")
        return FollowUps(*({name: getattr(self, side)[name][:each] for name in names} for side in SIDES))

    def reversed(self) -> FollowUps:
        """Happy and unhappy exchanged: every score changes its sign."""
        return FollowUps(self.negative, self.positive)

    def content(self) -> dict[str, Any]:
        """As JSON-able data."""
        return {side: {name: list(texts) for name, texts in getattr(self, side).items()} for side in SIDES}


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and set(entry) == set(SIDES)
        and all(isinstance(entry[side], list) and all(isinstance(text, str) for text in entry[side]) for side in SIDES)
    )


@cache
def _default() -> FollowUps:
    return FollowUps.from_file(Path(__file__).parent / "follow_ups.yaml")
