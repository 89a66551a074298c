r"""Finding the final answer in a solution, and comparing plain answers without a computer algebra system.

Published checkers differ most in this step: some read only the last 300 characters, some only one format, and rate good models
low for it. Here every format has a place in one written order (`extract_answer`), and a table of cases in the tests.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

Extraction = Literal["boxed-or-last", "marked", "boxed", "whole"]
Found = Literal["boxed", "hashes", "phrase", "whole", "leading", "last"]


@dataclass(frozen=True)
class Extracted:
    """An answer's text, without the marks around it, and how it was found."""

    text: str
    found: Found


_LAST_NUMBER = re.compile(
    r"(?<![\w.])[-+−]?\s?(?:\\?[$€£¥])?\s?(?:\d{1,3}(?:,\d{3})+(?![\d])|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?(?:\s*/\s*\d+(?![\d.]))?(?:\s*\\?%)?"
    r"|(?<![\w.])[-+−]?\.\d+(?:\s*\\?%)?"
)
_MATH_SPAN = re.compile(
    r"\$\$((?:[^$]|\$(?!\$))+?)\$\$|(?<!\\)\$((?:\\.|[^$\n\\])+?)\$|\\\(((?:(?!\\\().)+?)\\\)|\\\[((?:(?!\\\[).)+?)\\\]",
    re.DOTALL,
)
_WORDS = re.compile(r"(?<!\\)\b[A-Za-z]{2,}\b")
_NOT_PROSE = re.compile(
    r"\\(?:text|textbf|mathrm|mathbf|mbox|operatorname|begin|end)\s*\{[^{}]*\}"
    r"|(?<![\\A-Za-z])(?:pi|sqrt)(?![A-Za-z])"
)
_HASHES = re.compile(r"####[ \t]*([^\n]+)")
_PHRASE = re.compile(
    r"(?:(?:\bfinal\s+)?\banswer(?:\s+(?:to\s+[^.:\n]{1,80}?|here))?\s*[*_]*\s*(?:\bis\b|\bshould\s+be\b|\bmust\s+be\b|:|=|：)"
    r"|^[ \t>*_]*A\s*[:：])[ \t*_]*(?:\bis\b)?[:：]?[*_]*",
    re.IGNORECASE | re.MULTILINE,
)
_FILLER = re.compile(
    r"\A(?:(?:therefore|thus|approximately|about|equal to|simply|just|exactly|option|choice)\s+)+", re.IGNORECASE
)
_ATTACHED_UNIT = r"(?:[cmk]m|k?g|m[gl]|lbs?|oz|ft|hrs?|mins?|secs?|mph|km/h|[ap]m|st|nd|rd|th)(?![A-Za-z])"
_GOES_ON = re.compile(
    rf"(?!{_ATTACHED_UNIT})[A-Za-z]|\s*[-+*^/=\\(_×·π√]\s*[\w\\(]|\s?\\[a-zA-Z]|[π√]"
    r"|(?:\s*,|\s+(?:and|or))\s*(?:[-+]?[\d\\(.]|[b-hj-zB-HJ-Z]\b)"
)
# "12 minutes: 5 there and 7 back", "12, because ...": one line that says the answer first and the reason after it
_LEADING = re.compile(rf"\s*({_LAST_NUMBER.pattern})(?:\s+[A-Za-z]+)?(?:\s*:|,?\s+(?:because|since|as)\b)")
_SENTENCE_END = re.compile(
    r"(?<=[^\s.])[.!?;](?=\s|$|[*_])"
    r"|\s+(?:because|since|as|so|which|for)\s+(?![^$]*\$(?:[^$]*\$[^$]*\$)*[^$]*$)"
)


def extract_answer(text: str, how: Extraction = "boxed-or-last") -> Extracted | None:
    r"""The final answer of a solution, or None.

    The order, each taking its last occurrence: `\boxed{...}`; `#### ...`; a phrase (`answer is ...`, `Final answer: ...`,
    `A: ...`); the whole text, if it is nothing but an answer; a number that opens a one-line reason; the last number or formula.
    how: "marked" stops before the last three, "boxed" after the first, "whole" takes the text as it is. What stands before a
    closing </think> is not searched.
    """
    text = text.rpartition("</think>")[2].strip()
    if how == "whole":
        return Extracted(text, "whole") if text else None
    if (boxed := last_boxed(text)) is not None:
        return Extracted(boxed, "boxed")
    if how == "boxed":
        return None
    hashes = [found for found in _HASHES.findall(text) if found.strip(" *$.#")]
    if hashes:
        return Extracted(_clause(hashes[-1][:2000]), "hashes")
    for end in reversed([found.end() for found in _PHRASE.finditer(text)]):
        if clause := _clause(_line_after(text, end)):
            return Extracted(clause, "phrase")
    if how == "marked":
        return None
    if _is_bare(text):
        return Extracted(text.strip(" *").rstrip(" ."), "whole")
    if "\n" not in text and (leading := _LEADING.match(text)):
        return Extracted(leading.group(1).strip(), "leading")
    return _last_formula_or_number(text)


def _line_after(text: str, start: int) -> str:
    """The rest of the line, or the next line that holds something, where the mark stands alone."""
    return text[start : start + 2000].lstrip(" \t*_:\n").partition("\n")[0]


def last_boxed(text: str) -> str | None:
    r"""What the last complete \boxed{...} (or \fbox) holds; boxes joined by "and", "or" or a comma count as one list."""
    boxes = [box for box in _boxes(text) if box[2].strip()]
    if not boxes:
        return None
    joined = [boxes[-1]]
    for box in reversed(boxes[:-1]):
        between = text[box[1] : joined[0][0]]
        if not re.fullmatch(r"[\s$,]*(?:and|or|,|\\text\{\s*(?:and|or)\s*\})[\s$,]*", between):
            break
        joined.insert(0, box)
    return ", ".join(box[2].strip() for box in joined)


_BRACES = re.compile(r"\\(?:boxed|fbox)\s*(\{)|\\boxed\s+([^\s{}$.,\\]+)|\\.|[{}]", re.DOTALL)


def _boxes(text: str) -> list[tuple[int, int, str]]:
    """(start, end, content) of every complete box that is not within another, in order; one pass, whatever the nesting."""
    boxes: list[tuple[int, int, str]] = []
    opened: list[tuple[int, int]] = []  # where each open brace's command starts (-1: no box), and where its content starts
    for match in _BRACES.finditer(text):
        if match.group(2):
            boxes.append((match.start(), match.end(), match.group(2)))
        elif match.group(1):
            opened.append((match.start(), match.end()))
        elif match.group() == "{":
            opened.append((-1, match.end()))
        elif match.group() == "}" and opened:
            start, content = opened.pop()
            if start >= 0:
                while boxes and boxes[-1][0] > start:
                    boxes.pop()
                boxes.append((start, match.end(), text[content : match.start()]))
    return boxes


def _clause(text: str) -> str:
    """The answer within what follows a mark: a formula, a number at the front, else the words up to the end of the sentence."""
    text = text.replace("\\!", "").strip(" \t*_:")
    formula = _first_formula(text)
    if formula is not None:
        return formula
    rest = _FILLER.sub("", text)
    number = _LAST_NUMBER.match(rest)
    if number and not _GOES_ON.match(rest, number.end()):
        unit = re.match(r"\s*(?:\\?%|\\?°)", rest[number.end() :])
        return rest[: number.end() + (unit.end() if unit else 0)].strip()
    sentence = _SENTENCE_END.split(rest, maxsplit=1)[0].strip(" \t*_`\"'")
    if "\\" not in sentence and len(_prose(sentence)) > 3:
        numbers = [found.group() for found in _LAST_NUMBER.finditer(sentence)]
        if numbers:
            return numbers[-1].strip()
    return sentence.rstrip(" .,").strip()


def _first_formula(text: str) -> str | None:
    """A formula that opens the text, up to two words before it; dollar amounts are not formulas."""
    match = _MATH_SPAN.search(text)
    if match is None or len(text[: match.start()].split()) > 3 or not _is_formula(match):
        return None
    return next(group for group in match.groups() if group is not None).strip()


def _is_formula(match: re.Match[str]) -> bool:
    """Whether a $...$ span is one: "$5 and $" in a sentence about money is not."""
    if not match.group().startswith("$"):
        return True
    inner = next(group for group in match.groups() if group is not None)
    return not _prose(inner)


def _prose(text: str) -> list[str]:
    """The plain words of a text: no commands, no environments, no text within a formula."""
    return _WORDS.findall(_NOT_PROSE.sub("", text))


def _is_bare(text: str) -> bool:
    """Whether the text is nothing but an answer: one short line, one formula or at most three words."""
    if not text or "\n" in text or len(text) > 200 or "\\boxed" in text:
        return False
    words = _prose(text)
    return not words or (len(text.split()) <= 3 and (len(words) < 2 or not re.search(r"\d", text)))


def _last_formula_or_number(text: str) -> Extracted | None:
    number = formula = None
    for number in _LAST_NUMBER.finditer(text):  # noqa: B007  # the last one is wanted
        pass
    for match in _MATH_SPAN.finditer(text):
        formula = match if _is_formula(match) else formula
    if formula is not None and (number is None or formula.end() >= number.end()):
        inner = next(group for group in formula.groups() if group is not None)
        return Extracted(inner.strip(), "last")
    return Extracted(number.group().strip(), "last") if number is not None else None


_SPACING = re.compile(r"\\[,!;: ]|~|\\(?:left|right|displaystyle|quad|qquad)(?![a-zA-Z])|\\q?quad")
_UNIT = re.compile(
    r"(?:\\(?:text|mathrm|mbox|textrm)\s*\{[^{}]*\}(?:\^\{?[23]\}?)?|\^\s*\{?\s*\\circ\s*\}?|°"
    rf"|(?<=\d){_ATTACHED_UNIT}"
    r"|(?<=[\d.}%] )(?!(?:pi|sqrt|hundred|thousand|million|billion|dozen|mod|base|or|and)\b)"
    r"[A-Za-z]{2,}(?:[ /.-][A-Za-z]+){0,3}(?:\^[23])?)"
    r"\s*\.?$"
)
_TEX_FRACTION = re.compile(r"([-+]?)(\d+)?\s*\\[dtc]?frac\s*(?:\{\s*([-+]?\d+)\s*\}|(\d))\s*(?:\{\s*([-+]?\d+)\s*\}|(\d))$")
_PLAIN = re.compile(r"([-+]?)(?:(\d+)\s+)?(\d+(?:\.\d*)?|\.\d+)(?:[eE]([-+]?\d{1,3}))?(?:/(\d+(?:\.\d+)?))?$")


@dataclass(frozen=True)
class Number:
    """A plain number. exact: written as an integer or a fraction. percent: written with a percent sign (`value` is before it)."""

    value: Fraction
    exact: bool
    percent: bool


def strip_marks(text: str) -> str:
    """An answer without dollar signs, spacing commands, sizing commands, emphasis and a final full stop."""
    text = text.strip().strip("*_`").strip()
    text = _SPACING.sub(" ", text.replace("{,}", ",").replace("−", "-").replace("\\!", ""))
    text = re.sub(r"\\?[$€£¥]", "", text)
    return re.sub(r"\s+", " ", text).strip().rstrip(".,;:").strip()


def as_number(text: str) -> Number | None:
    r"""The value of a plain number: thousands commas, currency, percent, units, `\frac`, mixed numbers, `x = 5`; else None."""
    text = strip_marks(text)
    if len(text) > 100:
        return None
    text = right_side(text)
    text = re.sub(r"\s*(?:per ?cent|\\text\{\s*percent\s*\})$", "%", text)
    bare = re.sub(r"\s*\\?%$", "", text)
    percent = bare != text
    bare = _UNIT.sub("", bare).strip() or bare
    bare = re.sub(r"\s*\\?%$", "", bare)
    bare = re.sub(r"(?<=\d),\s?(?=\d{3}(?!\d))", "", bare) if re.match(r"[-+]?\d{1,3}(?:,\s?\d{3})+(?!\d)", bare) else bare
    bare = re.sub(r"^([-+])\s+", r"\1", re.sub(r"\s*/\s*", "/", bare))
    value = _tex_fraction(bare) if "\\" in bare else _plain(bare)
    return None if value is None else Number(value, "." not in bare and "e" not in bare.lower().replace("\\frac", ""), percent)


_LEFT = re.compile(
    r"\\text\{[^{}]*\}|\\?[A-Za-z]+(?:_\w|_\{\w+\})?(?:\([\w, ]{1,10}\))?|(?:[\d\s.,+*/()×·$-]|\\times|\\cdot|\\div)+"
)


def right_side(text: str) -> str:
    """What follows the last sign of equality, if a name or a calculation stands before it: "x = 5", "f(x) = x^2", "2 * 3 = 6"."""
    sides = re.split(r"(?<![<>!\\])=|\\approx(?![a-z])|≈", text)
    if len(sides) < 2 or not sides[-1].strip() or not all(_LEFT.fullmatch(side.strip()) for side in sides[:-1]):
        return text
    return sides[-1].strip()


def _tex_fraction(text: str) -> Fraction | None:
    match = _TEX_FRACTION.match(text)
    if match is None:
        return None
    sign, whole, *parts = match.groups()
    top, bottom = int(parts[0] or parts[1]), int(parts[2] or parts[3])
    if bottom == 0:
        return None
    value = Fraction(top, bottom) + int(whole or 0)
    return -value if sign == "-" else value


def _plain(text: str) -> Fraction | None:
    match = _PLAIN.match(text)
    if match is None:
        return None
    sign, whole, top, exponent, bottom = match.groups()
    if (whole and not bottom) or (exponent and abs(int(exponent)) > 60) or (bottom and Fraction(bottom) == 0):
        return None
    value = Fraction(top.rstrip(".") if top.endswith(".") else top)
    if exponent:
        value *= Fraction(10) ** int(exponent)
    value = (value / Fraction(bottom) if bottom else value) + int(whole or 0)
    return -value if sign == "-" else value


def numbers_agree(gold: Number, said: Number) -> bool:
    """Integers and fractions must be equal; where either is a decimal, equal to one part in a million of the gold value.

    A percent sign that only one of them has may be left out: 12% agrees with 12 and with 0.12.
    """
    pairs = [(gold.value, said.value)]
    if gold.percent != said.percent:
        pairs += [(gold.value / 100, said.value)] if gold.percent else [(gold.value, said.value / 100)]
    if gold.exact and said.exact:
        return any(a == b for a, b in pairs)
    return any(abs(a - b) <= abs(a) * Fraction(1, 1_000_000) for a, b in pairs)


def as_words(text: str) -> str | None:
    r"""A choice or a name in lower case ("(C)", "\text{even}", "Evelyn"), or None if the text is anything else."""
    text = re.sub(r"\\(?:text|textbf|mathrm|mbox|mathbf)\s*\{([^{}]*)\}", r"\1", strip_marks(text))
    text = re.sub(r"^\(\s*([A-Za-z])\s*\)\.?", r"\1", text.strip().rstrip(".")).strip()
    words = re.fullmatch(r"[A-Z]|[A-Za-z][a-z]+(?:[ '-][A-Za-z]+){0,4}|[a-z]{2,}(?:[ '-][a-z]+){0,4}", text)
    return text.lower() if words else None


def same_text(gold: str, said: str) -> bool:
    """Whether two answers are the same but for spacing, sizing commands and the names of the fraction commands."""
    tidy: Callable[[str], str] = lambda text: re.sub(r"\\[dt]frac", r"\\frac", strip_marks(text)).replace(" ", "")  # noqa: E731
    return bool(tidy(gold)) and tidy(gold) == tidy(said)
