"""Control tokens of a chat template inside judged texts: made harmless before the text reaches a model."""

from __future__ import annotations

import re
from collections.abc import Sequence

_MOST_ROUNDS = 16


def _broken(match: re.Match[str]) -> str:
    """The matched string with a space after its first character; a single character becomes its code point in brackets."""
    text = match.group(0)
    return f"{text[0]} {text[1:]}" if len(text) > 1 else f"[U+{ord(text):04X}]"


def neutralise(text: str, strings: Sequence[str]) -> tuple[str, int]:
    """Break every occurrence of a control string in `text` so that no tokenizer reads it as a control token.

    `<|im_end|>` becomes `< |im_end|>`: visible to people, plain text to the model. Returns the text and how many
    occurrences were broken; a text without control strings comes back as it is. Strings of white space only are
    left alone, since breaking them would change ordinary text.
    """
    wanted = sorted({string for string in strings if string.strip()}, key=lambda string: (-len(string), string))
    if not wanted:
        return text, 0
    pattern = re.compile("|".join(re.escape(string) for string in wanted))
    broken = 0
    # breaking one occurrence can uncover another that overlapped it, hence the rounds
    for _ in range(_MOST_ROUNDS):
        text, count = pattern.subn(_broken, text)
        if not count:
            break
        broken += count
    return text, broken
