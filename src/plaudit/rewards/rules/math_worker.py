"""The comparison of two mathematical answers by math-verify, as it runs in a worker process."""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from typing import Any

SELF_TEST: tuple[tuple[tuple[str, str], str], ...] = (
    ((r"\frac{1}{2}", "0.5"), "right"),
    ((r"\frac{1}{2}", r"\frac{1}{3}"), "wrong"),
    ((r"(x+1)(x-1)", "x^2-1"), "right"),
    ((r"\{1,2\}", r"\{1,3\}"), "wrong"),
)


def compare_answers(gold: str, said: str) -> str:
    """ "right", "wrong", "no gold" or "no answer": the last two where math-verify can make nothing of one side."""
    from math_verify import verify

    # Without this math-verify sets signal alarms; the pool's own limit is hard and needs none.
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    gold_parsed = _parsed(gold)
    if not gold_parsed:
        return "no gold"
    said_parsed = _parsed(said)
    if not said_parsed:
        return "no answer"
    return "right" if verify(gold_parsed, said_parsed, timeout_seconds=None) else "wrong"


@lru_cache(maxsize=256)
def _parsed(text: str) -> list[Any]:
    """math-verify's expressions of an answer, without its text-only fallbacks; empty if it cannot read it."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    config = [LatexExtractionConfig(), ExprExtractionConfig()]
    inner = _as_latex(re.sub(r"^\s*\$+|(?<!\\)\$+\s*$", "", text.strip()))
    for attempt in (f"${inner}$", inner):
        found = parse(attempt, config, fallback_mode="no_fallback", parsing_timeout=None)
        found = [item for item in found if not isinstance(item, str)]
        if found:
            return list(found)
    return []


_SYMBOLS = {
    "π": r"\pi ",
    "∞": r"\infty ",
    "×": r"\times ",
    "·": r"\cdot ",
    "÷": "/",
    "−": "-",
    "²": "^2",
    "³": "^3",
    "≤": r"\le ",
    "≥": r"\ge ",
    "∪": r"\cup ",
    "∈": r"\in ",
    "±": r"\pm ",
    "½": r"\frac{1}{2}",
    "¼": r"\frac{1}{4}",
    "¾": r"\frac{3}{4}",
    "°": r"^\circ ",
    "**": "^",
}


def _as_latex(text: str) -> str:
    """Unicode signs and the words sqrt, pi and infinity as LaTeX; "1 or 2" and "1 and 2" as lists."""
    text = re.sub(r"\s+(?:or|and)\s+", ", ", text)
    for sign, command in _SYMBOLS.items():
        text = text.replace(sign, command)
    text = re.sub(r"√\s*(?:\(([^()]*)\)|(\w+))", lambda m: rf"\sqrt{{{m.group(1) or m.group(2)}}}", text)
    text = re.sub(r"(?<![\\A-Za-z])sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}", text)
    return re.sub(r"(?<![\\A-Za-z])(pi|infty|infinity)(?![A-Za-z])", lambda m: {"pi": r"\pi "}.get(m.group(1), r"\infty "), text)
