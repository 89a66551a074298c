"""Tiny local engines, made once a test file."""

from __future__ import annotations

from pathlib import Path

import pytest

from plaudit.engines.local import LocalEngine
from tests.engines.tiny import save_tiny_model

FAMILIES = ["llama", "qwen2", "gpt2", "gemma2"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {family: save_tiny_model(root / family, family) for family in FAMILIES}


@pytest.fixture(scope="module", params=FAMILIES)
def engine(folders: dict[str, Path], request: pytest.FixtureRequest) -> LocalEngine:
    return LocalEngine(folders[request.param], device="cpu")


@pytest.fixture(scope="module")
def llama(folders: dict[str, Path]) -> LocalEngine:
    return LocalEngine(folders["llama"], device="cpu")
