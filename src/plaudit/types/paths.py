"""Where plaudit keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """$PLAUDIT_CACHE, or `plaudit` in the user's cache folder (XDG_CACHE_HOME, else ~/.cache)."""
    named = os.environ.get("PLAUDIT_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "plaudit"
