"""Judged texts are quoted between delimiters that they cannot close, and cannot speak in the chat template's own tokens.

This stops a text from leaving its place in the prompt. It does not stop a model from believing what the text says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plaudit.rewards.generative.contract import Contract

THINK_TAGS = ("<think>", "</think>", "<thinking>", "</thinking>", "<reasoning>", "</reasoning>")
"""Broken in texts shown to a judge that generates: a quoted end-of-think tag would move the start of the verdict."""

_TAG = re.compile(r"</?\s*([A-Za-z][\w-]*)\s*>")


@dataclass(frozen=True)
class Quotation:
    """block: the text between its delimiters. shown: the text as it stands there. escapes: how many strings were broken."""

    block: str
    shown: str
    escapes: int


def reserved_strings(contract: Contract) -> tuple[str, ...]:
    """What no text may contain as it is: all delimiters of the contract, and think tags where the judge generates."""
    from plaudit.rewards.generative.contract import TextReadout

    own = [mark for pair in contract.delimiters.values() for mark in pair]
    return tuple(dict.fromkeys(own + (list(THINK_TAGS) if isinstance(contract.readout, TextReadout) else [])))


@lru_cache(maxsize=64)
def _pattern(reserved: tuple[str, ...]) -> re.Pattern[str]:
    """Any reserved string in any case; tags also as opening or closing tag and with blanks inside: models read those alike."""
    tags = sorted({match[1] for text in reserved if (match := _TAG.fullmatch(text))})
    others = sorted((text for text in reserved if not _TAG.fullmatch(text)), key=len, reverse=True)
    parts = [re.escape(text) for text in others]
    if tags:
        parts.append(rf"<\s{{0,8}}/?\s{{0,8}}(?:{'|'.join(map(re.escape, tags))})\s{{0,8}}/?>")
    return re.compile("|".join(parts) or r"(?!)", re.IGNORECASE)


def break_reserved(text: str, reserved: tuple[str, ...]) -> tuple[str, int]:
    """Put a backslash after the first character of every reserved string, so that everybody sees it and nothing closes early.

    No delimiter holds a backslash, so what is broken stays broken. A text without reserved strings comes back as it is.
    """
    count = 0
    while True:  # more than once: breaking the first three of four quotation marks leaves three
        text, broken = _pattern(reserved).subn(lambda match: match[0][0] + "\\" + match[0][1:], text)
        if not broken:
            return text, count
        count += broken


def quote(text: str, delimiters: tuple[str, str], reserved: tuple[str, ...], control: Sequence[str] = ()) -> Quotation:
    """The text between its delimiters, each on a line of its own; reserved and control strings inside are broken."""
    shown, escapes = text, 0
    if control:
        from plaudit.engines.control import neutralise

        shown, escapes = neutralise(shown, control)
    shown, broken = break_reserved(shown, reserved)
    opening, closing = delimiters
    return Quotation(f"{opening}\n{shown}\n{closing}", shown, escapes + broken)
