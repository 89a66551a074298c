"""Labels of atomic facts ("nuggets") in ten output formats (Search-Gen-V, arXiv 2510.14660), and the reward that trains such a
judge (card 04, step 12)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from plaudit.rewards.generative.parsing import ParsedList, after_thinking
from plaudit.types import Status

LABELS = ("support", "partial_support", "not_support")
LABEL_VALUES: Mapping[str, float] = MappingProxyType({"support": 1.0, "partial_support": 0.5, "not_support": 0.0})
"""What a label is worth; the strict variant counts a part as nothing."""
_LABEL = r"(?:support|partial_support|not_support)"
_BULLET = re.compile(r"\s{0,8}(?:[-*+\u2022]|(\d{1,3})[.):])\s{1,4}(\S.*?)\s*")
_TAGGED = re.compile(r"<(label|nugget|item)\b[^<>]{0,40}>([^<>]{0,80})</\1>", re.IGNORECASE)
_FENCE = re.compile(r"^\s*```[\w-]{0,20}[ \t]*$", re.MULTILINE)
_REASONING = re.compile(r"<reasoning>", re.IGNORECASE)
_BLOCK = re.compile(r"\s*<reasoning>(.*?)</reasoning>(.*)", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Format:
    """One way to write labels. write: labels -> text. instruction: what a judge is told. fits: whether a text is written so."""

    write: Callable[[Sequence[str]], str]
    instruction: str
    fits: Callable[[str], bool]


def _fits(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern.replace("LABEL", _LABEL))
    return lambda text: compiled.fullmatch(text) is not None


def _fits_json(text: str) -> bool:
    found = _load_json(text)
    listed = found.get("labels") if isinstance(found, dict) and len(found) == 1 else found
    return isinstance(listed, list) and bool(listed) and all(isinstance(label, str) and label in LABELS for label in listed)


def _fits_numbers(text: str) -> bool:
    lines = [re.fullmatch(rf"(\d{{1,3}})\. {_LABEL}", line) for line in text.split("\n")]
    return all(line is not None and int(line[1]) == number for number, line in enumerate(lines, 1))


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "json": Format(lambda labels: json.dumps(list(labels)), 'a JSON list: ["support", "not_support"]', _fits_json),
        "csv": Format(",".join, "one CSV line: support,not_support", _fits(r"LABEL(?:,LABEL)*")),
        "python_list": Format(
            lambda labels: repr(list(labels)),
            "a Python list: ['support', 'not_support']",
            _fits(r"\[(?:'LABEL'|\"LABEL\")(?:, ?(?:'LABEL'|\"LABEL\"))*\]"),
        ),
        "yaml": Format(
            lambda labels: "labels:" + "".join(f"\n- {label}" for label in labels),
            "YAML, a key `labels` and a line `- support` for each",
            _fits(r"(?:labels:\n)?(?: {0,4}- LABEL\n)* {0,4}- LABEL"),
        ),
        "markdown": Format(
            lambda labels: "\n".join(f"* {label}" for label in labels),
            "a Markdown list, a line `* support` for each",
            _fits(r"(?:[*-] LABEL\n)*[*-] LABEL"),
        ),
        "xml": Format(
            lambda labels: "<labels>" + "".join(f"<label>{label}</label>" for label in labels) + "</labels>",
            "XML: <labels><label>support</label><label>not_support</label></labels>",
            _fits(r"<labels>\s*(?:<label>LABEL</label>\s*)+</labels>"),
        ),
        "tsv": Format("\t".join, "one line, labels separated by tabs", _fits(r"LABEL(?:\tLABEL)*")),
        "numbered": Format(
            lambda labels: "\n".join(f"{number}. {label}" for number, label in enumerate(labels, 1)),
            "a numbered list, `1. support` and so on",
            _fits_numbers,
        ),
        "comma_separated": Format(", ".join, "one line: support, not_support", _fits(r"LABEL(?:, LABEL)*")),
        "pipe_separated": Format(" | ".join, "one line: support | not_support", _fits(r"LABEL(?: ?\| ?LABEL)*")),
    }
)
"""The ten formats. A single label is well formed where only separators make the format: one label has none."""


def write_labels(labels: Sequence[str], format: str = "json", *, reasoning: str | None = None) -> str:
    """The labels in a format, after a reasoning block where one is given. Raises KeyError for another format."""
    return ("" if reasoning is None else f"<reasoning>{reasoning}</reasoning>\n") + FORMATS[format].write(labels)


def obeys_format(text: str, format: str) -> bool:
    """Whether what follows the reasoning is labels in this format and nothing else. Raises KeyError for another format."""
    body = after_thinking(text)
    return body is not None and FORMATS[format].fits(body.strip(" \r\n"))


def read_entries(body: str) -> list[str] | None:
    """The entries of the first list that the text is, in order, whatever they say; None where it is no list.

    Tried in turn: JSON, a list in brackets (also one that was cut off), bullet or numbered lines, tags, then one line with
    pipes, tabs or commas. Numbers must count up from 1. A closed list is closed: `parse_nuggets` takes no part of it.
    """
    text = _FENCE.sub("", body).strip()
    if found := _from_json(text):
        return found
    if text.startswith(("[", "{")) and "[" in text:
        inside = text[text.index("[") + 1 :].split("]")[0]
        return [word.strip().strip("\"'") for word in inside.split(",")]
    lines = [line for line in text.split("\n") if line.strip() and not re.fullmatch(r"\s*labels?\s*:?\s*", line, re.IGNORECASE)]
    bullets = [_BULLET.fullmatch(line) for line in lines]
    if lines and all(bullets):
        numbers = [int(match[1]) for match in bullets if match and match[1]]
        if numbers and numbers != list(range(1, len(lines) + 1)):
            return None
        return [match[2] for match in bullets if match]
    if tagged := _TAGGED.findall(text):
        return [content.strip() for _, content in tagged]
    if len(lines) != 1:
        return None
    for separator in ("|", "\t", ","):
        if separator in lines[0]:
            return [word.strip().strip("\"'") for word in lines[0].strip().strip(separator).split(separator)]
    return [lines[0].strip().strip("\"'")]


def _load_json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _from_json(text: str) -> list[str] | None:
    found = _load_json(text)
    if isinstance(found, dict):
        found = found.get("labels")
    return [entry if isinstance(entry, str) else "" for entry in found] if isinstance(found, list) else None


def _as_label(entry: str) -> str | None:
    """The label that an entry is, in any case, with blanks or hyphens for underscores; None for anything else."""
    word = re.sub(r"[ -]", "_", entry.strip().strip("*`.").lower()) if entry.isascii() else ""
    return word if word in LABELS else None


def parse_labels(text: str, count: int, *, strict: bool = False) -> list[str | None] | None:
    """The label of each of `count` nuggets, None for one without; None alone where there is no list of labels.

    strict: what follows the reasoning must be `count` labels in one of the ten formats. Else a word that is no label leaves its
    own place empty and moves no other, and a list that was cut off lacks its end. More entries than nuggets, a closed list
    of fewer, or several reasoning blocks: it is not known which label belongs to which nugget, so there are none.
    """
    body = after_thinking(text)
    if body is None or len(_REASONING.findall(text)) > 1 or count < 1:
        return None
    if strict and not any(format.fits(body.strip(" \r\n")) for format in FORMATS.values()):
        return None
    entries = read_entries(body)
    if entries is None or len(entries) > count:
        return None
    labels = [_as_label(entry) for entry in entries]
    if len(labels) < count and (strict or re.search(r"[\]}]|</labels>", body)):
        return None
    return [*labels, *[None] * (count - len(labels))] if any(labels) else None


def nugget_labels(text: str, count: int, strict: bool = False) -> ParsedList:
    """`parse_labels` as the readout of a contract; the values are those of `LABEL_VALUES`."""
    labels = parse_labels(text, count, strict=strict)
    if labels is None:
        return ParsedList(Status.UNPARSABLE, detail=f"no list of {count} labels")
    values = tuple(None if label is None else LABEL_VALUES[label] for label in labels)
    gone = sum(label is None for label in labels)
    return ParsedList(Status.OK, values, tuple(labels), f"{gone} of {count} nuggets have no label" if gone else "")


def label_f1(predicted: Sequence[str | None], gold: Sequence[str]) -> float:
    """Macro F1 over the three labels; one that occurs on neither side counts 1. Raises ValueError for different lengths."""
    found = []
    for label in LABELS:
        hit = sum(p == g == label for p, g in zip(predicted, gold, strict=True))
        total = sum(p == label for p in predicted) + sum(g == label for g in gold)
        found.append(2 * hit / total if total else 1.0)
    return sum(found) / len(found)


def verdict_reward(text: str, gold: Sequence[str], format: str, *, reasoning: bool = True) -> float:
    """0.35 F1 + 0.35 exact + 0.20 reasoning + 0.10 format, in [0, 1] (card 04, step 12); 0 where labels and nuggets do not
    match one to one, several reasoning blocks are there, or F1 is 0.

    reasoning=False is for a contract that asks for labels alone: its part is then 1 without a block and 0 with one, so that the
    reward pays for what the judge was taught to write.
    """
    labels = parse_labels(text, len(gold))
    if labels is None or None in labels:
        return 0.0
    score = label_f1(labels, gold)
    if score == 0.0:
        return 0.0
    block = _BLOCK.fullmatch(text)
    if not reasoning:
        tagged = 0.0 if "<reasoning>" in text.lower() else 1.0
    elif block is None:
        tagged = 0.0
    else:
        tagged = 1.0 if block[1].strip() and block[2].strip() else 0.5
    return 0.35 * score + 0.35 * (list(labels) == list(gold)) + 0.20 * tagged + 0.10 * obeys_format(text, format)
