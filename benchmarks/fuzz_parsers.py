"""Every parser of a built-in contract on many strange strings: none may raise, and none may read what the text does not contain.

    python -m benchmarks.fuzz_parsers --strings 100000 --seed 0

A string is random characters, a splice of marks and labels, or a valid answer with pieces cut, doubled, moved and changed. Each
goes through every contract in both modes, as the judge's whole answer. Broken promises are printed, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from plaudit.rewards.generative import Contract, Parsed, ParsedList, TextReadout, contract_names, load_contract, parse
from plaudit.rewards.generative.formats.nuggets import FORMATS, LABELS, write_labels
from plaudit.rewards.generative.functions import call_list_function
from plaudit.types import Status

COUNT = 3
"""How many things the listwise and itemised answers are about."""
NAMES = [f"response-{place}" for place in range(1, COUNT + 1)]
ANSWERS = (
    "It is right.\nVerdict: correct",
    "**Final verdict:** B.",
    "Reasons.\nScore: 4/5",
    "Score: 3",
    "Checked.\n\\boxed{correct}",
    "<think>maybe</think>\nVerdict: tie",
    "So the answer is \\boxed{incorrect}.",
    "$\\boxed{\\text{correct}}$",
    "Weights: 60, 40.\n\\boxed{7, 4, 10}",
    "<type>Chat</type><rubric>x <justify>y</justify></rubric><eval>z</eval><answer>[[B]]</answer>",
    "<type>Reasoning</type>\n<solution>4</solution>\n<eval>A is right</eval>\n<answer>[[A]]</answer>",
    "<analyze>ok</analyze>\n<verify>\n```python\nprint(4)\n```\n[Code Output]\n4\n</verify>\n<output>\\boxed{Yes}</output>",
    json.dumps({"scores": dict(zip(NAMES, (5, 2, 1), strict=True)), "best-to-worst": NAMES}),
    "{'scores': {response-1: 3, response-2: '4/5', response-3: 1,}, 'best-to-worse': [response-2]}",
    *(write_labels((LABELS[0], LABELS[2], LABELS[1]), name, reasoning="looked") for name in FORMATS),
)
MARKS = (
    *(
        "Verdict",
        "Score",
        ":",
        "\\boxed{",
        "}",
        "{",
        "[",
        "]",
        '"',
        "'",
        ",",
        "|",
        "\t",
        "\n",
        " ",
        "- ",
        "1. ",
        "2. ",
        "```",
        "**",
    ),
    *(f"<{slash}{tag}>" for tag in ("answer", "output", "think", "reasoning", "eval") for slash in ("", "/")),
)
SAID = ("A", "B", "tie", "correct", "incorrect", "undecided", "Yes", "No", "[[A]]", "[[B]]", "scores", "5", "7", "10", "4/5")
ODD = ("-1", "1e999", "NaN", "null", "\u2028", "\u0663", "\u017f", "\x00", "\ud800", "\U0001f600")
WORDS = (*LABELS, *NAMES, *MARKS, *SAID, *ODD)


def strange_text(draw: random.Random) -> str:
    """One string."""
    kind = draw.random()
    if kind < 0.2:
        return "".join(chr(draw.randrange(1, 0x3000)) for _ in range(draw.randrange(60)))
    if kind < 0.55:
        return "".join(draw.choices(WORDS, k=draw.randrange(1, 30)))
    text = draw.choice(ANSWERS)
    for _ in range(draw.randrange(5)):
        text = changed(text, draw)
    return text


def changed(text: str, draw: random.Random) -> str:
    """The text with a piece cut out, doubled, moved, changed in case, replaced or put in."""
    a, b = sorted((draw.randrange(len(text) + 1), draw.randrange(len(text) + 1)))
    piece = text[a:b]
    made = (
        text[:a] + text[b:],
        text[:b] + piece + text[b:],
        piece + text[:a] + text[b:],
        text[:a] + piece.swapcase() + text[b:],
        text[:a] + draw.choice(WORDS) + text[b:],
        text[:a] + draw.choice(WORDS) + text[a:],
        text + draw.choice(ANSWERS),
    )
    return draw.choice(made)


def in_order(words: Sequence[str], text: str) -> bool:
    """Whether the words stand in the text one after another, none within another."""
    place = 0
    for word in words:
        found = text.find(word, place)
        if found < 0:
            return False
        place = found + len(word)
    return True


def is_warranted(contract: Contract, text: str, found: Parsed | ParsedList) -> bool:
    """Whether what was read stands in the text, by a rule that knows nothing of the parser."""
    flat = text.lower()
    if isinstance(found, Parsed):
        label = (found.label or "").lower()
        marks = {"boxed-verdict": "\\boxed", "boxed-verdict-reference": "\\boxed", "step-check": "\\boxed"}
        if contract.name == "chain-of-rubrics":
            return f"[[{found.label}]]" in text
        spelled = {label}
        if isinstance(contract.readout, TextReadout):
            spelled |= {word.lower() for one in contract.readout.labels if one.name.lower() == label for word in one.spellings}
        mark = marks.get(contract.name, "" if getattr(contract.readout, "bare", False) else contract.readout.marker.lower())  # type: ignore[union-attr]
        place = flat.find(mark)
        number = re.sub(r"\.0+$", "", label)
        return place >= 0 and any(word in flat[place:] for word in (*spelled, number))
    labels = [label for label in found.labels if label is not None]
    if contract.name == "nuggets":
        return in_order(labels, re.sub(r"[ -]", "_", flat))
    if contract.name == "principled-scores":
        return len(labels) == COUNT and "\\boxed" in text and in_order(labels, text[text.rindex("\\boxed") :])
    return all(name in text and label in text for name, label in zip(NAMES, found.labels, strict=True) if label is not None)


@dataclass
class Outcome:
    """strings, parses: how many. broken: what was promised and not kept. read: verdicts by contract and mode."""

    strings: int = 0
    parses: int = 0
    broken: list[str] = field(default_factory=list)
    read: Counter[str] = field(default_factory=Counter)


def read(text: str, readout: TextReadout, several: bool) -> Parsed | ParsedList:
    """What a judge's answer says."""
    return call_list_function(readout, text, COUNT) if several else parse(text, readout)


def readers() -> list[tuple[Contract, str, Callable[[str], Parsed | ParsedList]]]:
    """(contract, mode, its parser) of every built-in contract that reads text."""
    found: list[tuple[Contract, str, Callable[[str], Parsed | ParsedList]]] = []
    for contract in map(load_contract, contract_names()):
        if isinstance(contract.readout, TextReadout):
            several = contract.kind in ("listwise", "itemised")
            for readout in (replace(contract.readout, mode="strict"), replace(contract.readout, mode="lenient")):
                found.append((contract, readout.mode, partial(read, readout=readout, several=several)))
    return found


def fuzz(strings: int, seed: int = 0) -> Outcome:
    """Every parser on so many strings."""
    draw, outcome = random.Random(seed), Outcome(strings)
    parsers = readers()
    for _ in range(strings):
        text, strict = strange_text(draw), None
        for contract, mode, reader in parsers:
            outcome.parses += 1
            try:
                found = reader(text)
            except Exception as error:  # the promise is that there is none
                outcome.broken.append(f"{contract.name}, {mode}: {type(error).__name__}: {error} on {text!r}")
                continue
            if found.status is Status.FAILED:
                outcome.broken.append(f"{contract.name}, {mode}: {found.detail} on {text!r}")
            if found.status is Status.OK:
                outcome.read[f"{contract.name}, {mode}"] += 1
                if not is_warranted(contract, text, found):
                    outcome.broken.append(f"{contract.name}, {mode}: reads {found} of {text!r}")
            if mode == "lenient" and strict is not None and strict.status is Status.OK and strict != found:
                outcome.broken.append(f"{contract.name}: strict reads {strict}, lenient {found} of {text!r}")
            strict = found if mode == "strict" else None
    return outcome


def main() -> int:
    """Print what was read by which contract, and every broken promise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strings", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    start = time.perf_counter()
    outcome = fuzz(given.strings, given.seed)
    for name, count in sorted(outcome.read.items()):
        print(f"{name}: {count} verdicts read")
    for line in outcome.broken[:50]:
        print(line)
    seconds = time.perf_counter() - start
    print(f"{outcome.strings} strings, {outcome.parses} parses, {len(outcome.broken)} broken promises, {seconds:.0f} s")
    return 1 if outcome.broken else 0


if __name__ == "__main__":
    sys.exit(main())
