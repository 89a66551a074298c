from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from plaudit.engines.weights import FINGERPRINT_FILE, resolve_folder, weight_files, weights_fingerprint
from plaudit.types import EngineError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLAUDIT_CACHE", str(tmp_path / "cache"))
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"weights" * 1000)
    (model / "config.json").write_text("{}")
    (model / "tokenizer.json").write_text("{}")
    return model


def test_every_file_that_decides_numbers_counts(folder: Path) -> None:
    before = weights_fingerprint(folder)
    assert len(before) == 64
    assert weights_fingerprint(folder) == before
    seen = {before}
    for name in ("model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"):
        (folder / name).write_text(f"changed {name}")
        now = weights_fingerprint(folder)
        assert now not in seen
        seen.add(now)
    (folder / "README.md").write_text("words")
    assert weights_fingerprint(folder) == now


def test_the_second_call_reads_no_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    before, stat = weights_fingerprint(folder), weights.stat()
    weights.write_bytes(b"WEIGHTS" * 1000)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert weights_fingerprint(folder) == before, "size and time are the same, so the file must not have been read"
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert weights_fingerprint(folder) != before


def test_equal_contents_have_equal_fingerprints_wherever_they_lie(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    assert weights_fingerprint(copy) == weights_fingerprint(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"files": {}, "fingerprint": 3}'])
def test_a_broken_cache_file_is_replaced(folder: Path, text: str) -> None:
    before = weights_fingerprint(folder)
    (folder / FINGERPRINT_FILE).write_text(text)
    assert weights_fingerprint(folder) == before
    assert json.loads((folder / FINGERPRINT_FILE).read_text())["fingerprint"] == before


def test_a_folder_that_cannot_be_written_is_cached_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # permissions do not stop root, so a directory stands where the file should go
    (folder / FINGERPRINT_FILE).mkdir()
    before = weights_fingerprint(folder)
    assert list((folder.parent / "cache" / "fingerprints").glob("*.json"))
    monkeypatch.setattr("plaudit.engines.weights._hash_files", lambda *_: pytest.fail("the weights were read again"))
    assert weights_fingerprint(folder) == before


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickled_weights_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(EngineError, match="only as safetensors or GGUF"):
        weight_files(tmp_path)


def test_missing_folders_and_weights(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="does not exist"):
        weights_fingerprint(tmp_path / "nothing")
    with pytest.raises(EngineError, match="holds no weights"):
        weights_fingerprint(tmp_path)
    with pytest.raises(EngineError, match="does not exist"):
        resolve_folder(str(tmp_path / "nothing"))


def test_a_hub_id_that_is_not_cached_is_one_sentence(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom plaudit.engines.weights import resolve_folder\nfrom plaudit.types import EngineError\n"
        "try:\n    resolve_folder(sys.argv[1])\nexcept EngineError as error:\n    print(error)\n"
        "assert 'torch' not in sys.modules\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = [
        subprocess.run([sys.executable, "-c", code, name], env=environment, capture_output=True, text=True, check=True)
        for name in ("nobody/nothing", "not an id!")
    ]
    assert "'nobody/nothing' is not a folder, not in the local hub cache" in done[0].stdout
    assert "neither a model folder nor a hub id" in done[1].stdout
    assert all(one.stdout.count("\n") == 1 for one in done)


def test_a_cached_hub_id_is_found_offline(folder: Path, tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "hub" / "models--some--model"
    commit = "0" * 40
    (repository / "snapshots").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    folder.rename(repository / "snapshots" / commit)
    code = "import sys\nfrom plaudit.engines.weights import *\nprint(weights_fingerprint(resolve_folder('some/model')))"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == weights_fingerprint(repository / "snapshots" / commit)
