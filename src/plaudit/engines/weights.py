"""Where weights lie and which weights they are: folders, hub ids, and a fingerprint that is computed once.

Nothing here imports torch, so that a command that is answered from the store knows the weights' fingerprint at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from plaudit.types import EngineError
from plaudit.types.paths import cache_dir

FINGERPRINT_FILE = ".plaudit-fingerprint.json"
WEIGHT_PATTERNS = ("*.safetensors", "*.gguf")
PICKLED_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt")
TEXT_PATTERNS = (
    "config.json",
    "generation_config.json",
    "tokenizer*.json",
    "tokenizer.model",
    "*.tiktoken",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.*",
    "additional_chat_templates/*",
)
"""Files that decide, together with the weights, which numbers come out."""
HUB_PATTERNS = (*TEXT_PATTERNS, "*.safetensors", "*.safetensors.index.json")


def _matching(folder: Path, patterns: Iterable[str]) -> list[Path]:
    """Files of the folder that match any pattern, each once, sorted by name."""
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def weight_files(folder: str | Path) -> list[Path]:
    """The safetensors and GGUF files of a model folder, sorted by name.

    Raises EngineError if the folder is not there, holds no weights, or holds only pickled ones, which could run code.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise EngineError(f"model folder '{folder}' does not exist")
    found = _matching(folder, WEIGHT_PATTERNS)
    if found:
        return found
    if _matching(folder, PICKLED_PATTERNS):
        raise EngineError(f"model folder '{folder}' holds pickled weights: plaudit reads weights only as safetensors or GGUF")
    raise EngineError(f"model folder '{folder}' holds no weights (*.safetensors or *.gguf)")


def write_atomically(path: Path, text: str) -> None:
    """Write a small UTF-8 file so that a reader sees all of it or the one before. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _read_cached(path: Path, stamps: dict[str, list[int]]) -> str | None:
    """The fingerprint kept in `path`, if it was taken of files with these sizes and times."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(kept, dict) or kept.get("files") != stamps:
        return None
    fingerprint = kept.get("fingerprint")
    return fingerprint if isinstance(fingerprint, str) and len(fingerprint) == 64 else None


def _hash_files(folder: Path, files: Iterable[Path]) -> str:
    """sha256 over the names and contents of the files, in the given order."""
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()} {digest}\n".encode())
    return total.hexdigest()


def weights_fingerprint(folder: str | Path) -> str:
    """64 hex digits (sha256) over a model folder's weights, config, tokenizer and chat template.

    The result is kept beside the weights with the size and modification time of each file, so that a second call reads
    no weights; if the folder cannot be written, it is kept in `cache_dir()`. Raises EngineError as `weight_files` does.
    """
    folder = Path(folder)
    files = sorted({*weight_files(folder), *_matching(folder, TEXT_PATTERNS)})
    return _fingerprint(folder, files, folder / FINGERPRINT_FILE)


def file_fingerprint(path: str | Path) -> str:
    """64 hex digits (sha256) over the content of one weight file, whatever lies beside it; kept in `cache_dir()`.

    Raises EngineError if there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise EngineError(f"model file '{path}' does not exist")
    return _fingerprint(path.parent, [path])


def _fingerprint(folder: Path, files: Sequence[Path], kept_in: Path | None = None) -> str:
    """The fingerprint of some files below a folder, as kept or taken now."""
    stamps = {}
    for path in files:
        stat = path.stat()
        stamps[path.relative_to(folder).as_posix()] = [stat.st_size, stat.st_mtime_ns]
    named = str(folder.resolve()) if kept_in is not None else str(files[0].resolve())
    key = hashlib.sha256(named.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    elsewhere = cache_dir() / "fingerprints" / f"{key}.json"
    places = [elsewhere] if kept_in is None else [kept_in, elsewhere]
    for place in places:
        if (kept := _read_cached(place, stamps)) is not None:
            return kept
    fingerprint = _hash_files(folder, files)
    text = json.dumps({"files": stamps, "fingerprint": fingerprint}, indent=1, sort_keys=True)
    for place in places:
        try:
            write_atomically(place, text)
        except OSError:
            continue
        break
    return fingerprint


def resolve_folder(model: str | Path) -> Path:
    """The local folder of a model: the folder itself, or the snapshot of a hub id, downloaded if it is not there yet.

    HF_HUB_OFFLINE and the other huggingface_hub settings hold. Raises EngineError, one sentence, if there is no such model.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    name = str(model)
    if isinstance(model, Path) or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise EngineError(f"model folder '{model}' does not exist")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True, allow_patterns=list(HUB_PATTERNS)))
    except HFValidationError as error:
        raise EngineError(f"'{name}' is neither a model folder nor a hub id") from error
    except LocalEntryNotFoundError:
        pass
    try:
        return Path(snapshot_download(name, allow_patterns=list(HUB_PATTERNS)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EngineError(
            f"model '{name}' is not a folder, not in the local hub cache, and could not be downloaded ({reason})"
        ) from error
