"""Trackers (tensorboard, wandb, trackio ...) through accelerate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plaudit.types import UserError


class Trackers:
    """Sends metrics to trackers; with none it does nothing. names: as accelerate knows them, or objects of its `GeneralTracker`.
    Raises UserError for one that cannot be used."""

    def __init__(self, names: Sequence[Any], folder: Path, config: Mapping[str, Any]) -> None:
        self._accelerator: Any = None
        if not names:
            return
        from accelerate import Accelerator  # type: ignore[import-untyped]  # it has no types

        try:
            self._accelerator = Accelerator(log_with=list(names), project_dir=str(folder))
            self._accelerator.init_trackers("plaudit", config=_flat(config))
        except (ImportError, ValueError) as error:
            raise UserError(f"trackers {_listed(names)}: {error}") from error
        if len(self._accelerator.log_with) < len(set(names)):
            raise UserError(f"of the trackers {_listed(names)} some are not installed")

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """One step's numbers."""
        if self._accelerator is not None:
            self._accelerator.log(dict(metrics), step=step)

    def close(self) -> None:
        """Flush."""
        if self._accelerator is not None:
            self._accelerator.end_training()


def _listed(names: Sequence[Any]) -> str:
    return ", ".join(str(getattr(name, "name", name)) for name in names)


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings as one level of numbers and texts, which is all that some trackers take."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value if isinstance(value, int | float | str | bool) else str(value)
    return found
