"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

pytest_plugins = ["tests.store.postgres"]

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session")
def public_data() -> Callable[[str], Path]:
    """Find a public data set by name, or skip the test."""
    root = Path(os.environ.get("PLAUDIT_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))

    def find(name: str) -> Path:
        folder = root / name
        if not folder.is_dir():
            pytest.skip(f"public data set '{name}' is not there: set PLAUDIT_DATA to the folder that holds it")
        return folder

    return find
