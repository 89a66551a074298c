"""Keeping transformers' own progress bars off the terminal: plaudit shows one bar of its own."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Switch transformers' progress bars off inside the block, and back on after it if they were on.

    Its GGUF reader asks no setting, so the standard error stream is set aside too; exceptions pass.
    """
    from transformers.utils import logging

    were_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        if were_on:
            logging.enable_progress_bar()
