"""`hub:` sources: data sets read through the `datasets` library, streamed (extra `hub`)."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import IO, Any

from plaudit.data.cells import BadRow, Record
from plaudit.data.containers import Container, Numbered
from plaudit.types import DataError, UserError

_SPLITS = ("train", "test", "validation", "dev", "eval", "val")


class HubSet(Container):
    """`owner/name[:config][:split]`, or a local folder in place of `owner/name`.

    A single part after the name is the split if it is train, test, validation, val, dev or eval, otherwise the configuration.
    Without a split, the set must have only one. Raises UserError without the `datasets` package or when the set cannot be had.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name, _no_bytes)
        self.path, self.config, self.split = parse_hub_name(name)
        if find_spec("datasets") is None:
            raise UserError(f"{name}: reading from the hub needs the 'datasets' package; install plaudit[hub]")

    def records(self) -> Iterator[Numbered]:
        """See Container."""
        rows = self._open()
        number = 0
        try:
            for record in rows:
                number += 1
                yield number, _checked(record)
        except Exception as error:  # whatever the library's file readers raise
            if isinstance(error, UserError):
                raise
            raise DataError(self.name, number + 1, f"the data set cannot be read on ({_first_line(error)})") from error

    def _open(self) -> Any:
        import datasets

        try:
            loaded = datasets.load_dataset(self.path, self.config, split=self.split, streaming=True)
        except Exception as error:  # network, configuration, missing files: the library has no common base
            raise UserError(f"{self.name}: the data set cannot be opened ({_first_line(error)})") from error
        if not isinstance(loaded, dict):
            return loaded
        if len(loaded) == 1:
            return next(iter(loaded.values()))
        names = ", ".join(map(str, loaded))
        raise UserError(f"{self.name}: the data set has the splits {names}; name one, as in hub:owner/name:config:split")

    def count(self) -> int | None:
        """None: the library does not always know."""
        return None


def parse_hub_name(name: str) -> tuple[str, str | None, str | None]:
    """(path, configuration, split) of `hub:PATH[:CONFIG][:SPLIT]`. Raises UserError on anything else."""
    path, *rest = name.removeprefix("hub:").split(":")
    if not path or len(rest) > 2:
        raise UserError(f"{name}: not understood; expected hub:owner/name, hub:owner/name:config or hub:owner/name:config:split")
    if len(rest) == 1 and rest[0] in _SPLITS:
        return path, None, rest[0]
    config, split = (*rest, "", "")[:2]
    return path, config or None, split or None


def _checked(record: Any) -> Record | BadRow:
    return record if isinstance(record, dict) else BadRow(f"the row is a {type(record).__name__}", "columns with names")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _no_bytes() -> IO[bytes]:
    raise NotImplementedError("a hub set is read through the datasets library, not as bytes")
