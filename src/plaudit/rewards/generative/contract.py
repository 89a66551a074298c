"""`Contract`: what a judge is asked and how its answer is read. It is data: templates, a readout, and a few stated rules.

Vocabulary: the *template* makes the messages, the *readout* makes a number of the answer. A readout by `OptionsReadout`
takes the probabilities of the next token; one by `TextReadout` generates and parses (`plaudit.rewards.generative.parsing`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from plaudit.types import Sampling, SpecError

Kind = Literal["pointwise", "pairwise", "listwise", "itemised"]
Layout = Literal["chat", "text", "turn"]
ReferenceUse = Literal["unused", "optional", "needed"]
ParseMode = Literal["strict", "lenient"]

READING_VERSION = 1
"""Raised whenever quoting, parsing or the reading of probabilities changes: stored verdicts are then asked for again."""

VARIABLES: Mapping[Kind, frozenset[str]] = MappingProxyType(
    {
        "pointwise": frozenset({"prompt", "response", "reference", "criterion", "low", "high"}),
        "pairwise": frozenset({"prompt", "first", "second", "reference"}),
        "listwise": frozenset({"prompt", "responses", "count", "reference", "low", "high"}),
        "itemised": frozenset({"prompt", "response", "items", "count", "format", "format_name", "reference"}),
    }
)
"""What the templates of each kind may use."""

SHOWN: Mapping[Kind, tuple[str, ...]] = MappingProxyType(
    {"pointwise": ("response",), "pairwise": ("first", "second"), "listwise": ("responses",), "itemised": ("response", "items")}
)
"""What the templates of each kind must use: a judge that never sees the response judges nothing."""

DEFAULT_DELIMITERS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "prompt": ("<prompt>", "</prompt>"),
        "response": ("<response>", "</response>"),
        "reference": ("<reference>", "</reference>"),
        "first": ("<response_a>", "</response_a>"),
        "second": ("<response_b>", "</response_b>"),
    }
)
"""Variable -> the marks around it. Judged text cannot close them (`plaudit.rewards.generative.quoting`)."""


def spellings_of(label: str) -> tuple[str, ...]:
    """All spellings of a label by rule: lower, Capitalised and UPPER case, each with and without a leading space.

    One-letter labels and numbers keep their case: " a" is an article, not the verdict A.
    """
    cases = (label,) if len(label) == 1 or not label.isalpha() else (label.lower(), label.capitalize(), label.upper())
    return tuple(space + word for word in dict.fromkeys(cases) for space in ("", " "))


@dataclass(frozen=True)
class Label:
    """One possible answer. value: what it is worth; of pairs: 1 the first shown wins, 0 the second, 0.5 a tie.

    spellings: how it may be written; empty: by the readout's own rule.
    """

    name: str
    value: float
    spellings: tuple[str, ...] = ()


@dataclass(frozen=True)
class OptionsReadout:
    """Read the next token's distribution over labels: value = sum of p(label) * value(label), p normalised over the labels.

    labels: at least two; the spellings of each are summed. minimum_mass: the least total probability of all labels; below it
    the judge was not answering the question, and the row is unparsable.
    """

    labels: tuple[Label, ...]
    minimum_mass: float = 0.05

    @property
    def spellings(self) -> list[tuple[str, ...]]:
        """Spellings of each label, by rule (`spellings_of`) where none are given."""
        return [label.spellings or spellings_of(label.name) for label in self.labels]

    def validate(self) -> None:
        """Raise SpecError if the labels cannot be told apart."""
        _validate_labels(self.labels, minimum=2)
        if not 0 <= self.minimum_mass <= 1:
            raise SpecError(f"readout.minimum_mass is {self.minimum_mass:g}, expected a probability")
        seen: dict[str, str] = {}
        for label, spellings in zip(self.labels, self.spellings, strict=True):
            for spelling in spellings:
                if seen.setdefault(spelling, label.name) != label.name:
                    raise SpecError(f"readout: {spelling!r} is a spelling of both '{seen[spelling]}' and '{label.name}'")


@dataclass(frozen=True)
class TextReadout:
    """Generate, then parse the final verdict line, by default `MARKER: LABEL`.

    labels: what the verdict may be. numbers: (low, high), instead of labels: a number in this range is its own value.
    undecided: what a judge writes to decline; the row then abstains. mode: how much decoration is read.
    bare: lenient also reads an answer that is nothing but a label, for contracts that ask for no reasoning.
    strict, lenient: line patterns with a group `verdict`, in place of those made from the marker.
    function: "module:name" of a function in place of all of the above: (text) -> Parsed, or (text, count) -> ParsedList where
    several things are judged in one answer; a parameter `strict`, where it has one, is given the mode.
    max_tokens, temperature, stop: sampling where the judge is given none.
    """

    labels: tuple[Label, ...] = ()
    numbers: tuple[float, float] | None = None
    marker: str = "Verdict"
    undecided: tuple[str, ...] = ("undecided",)
    mode: ParseMode = "lenient"
    bare: bool = False
    strict: str | None = None
    lenient: str | None = None
    function: str | None = None
    max_tokens: int = 256
    temperature: float = 0.0
    stop: tuple[str, ...] = ()

    @property
    def sampling(self) -> Sampling:
        """The contract's own sampling."""
        return Sampling(max_tokens=self.max_tokens, temperature=self.temperature, stop=self.stop)

    def validate(self) -> None:
        """Raise SpecError if the verdict could not be read."""
        import re

        if self.function is not None:
            if self.mode not in ("strict", "lenient"):
                raise SpecError(f"readout.text.mode is '{self.mode}', expected strict or lenient")
            load_function(self.function)
            return
        if self.numbers is None:
            _validate_labels(self.labels, minimum=1)
        elif self.labels or not self.numbers[0] < self.numbers[1]:
            raise SpecError("readout.text.numbers: expected low below high, and no labels beside them")
        if self.mode not in ("strict", "lenient"):
            raise SpecError(f"readout.text.mode is '{self.mode}', expected strict or lenient")
        if self.strict is None and not self.marker.strip():
            raise SpecError("readout.text.marker is empty: the verdict needs a line that can be found")
        for name in ("strict", "lenient"):
            pattern = getattr(self, name)
            try:
                if pattern is not None and "verdict" not in re.compile(pattern).groupindex:
                    raise SpecError(f"readout.text.{name} has no group named 'verdict': write (?P<verdict>...)")
            except re.error as error:
                raise SpecError(f"readout.text.{name} is no regular expression: {error}") from error


@dataclass(frozen=True)
class Criterion:
    """One question of a rubric; `weight` > 0 is its share of the weighted mean."""

    name: str
    question: str
    weight: float = 1.0


@dataclass(frozen=True)
class Contract:
    """What a judge is asked and how its answer is read.

    kind: one response ("pointwise"), two ("pairwise"), a group of them in one question ("listwise": `responses` are shown
    shuffled under masked names, and a function reads one value for each), or one response against a list of `items`
    ("itemised", `NuggetJudge`).
    system, user: Jinja2 templates over `VARIABLES[kind]`; texts arrive in them already quoted between their delimiters;
    `reference` is none where the row has none. prefix: forced first characters of the answer.
    delimiters: variable -> (opening, closing) mark around its text; what is not given is as in `DEFAULT_DELIMITERS`.
    reference: "needed" gives rows without one the status MISSING_REFERENCE; "optional" shows it where it is there.
    criteria: a rubric; the question is asked once per criterion, as `criterion`; parts are named after the criteria.
    on_missing: what a criterion without a number does: "row" gives the row its status; "drop_for_group" leaves the
    criterion out for the whole group; a number stands in for it.
    columns: name -> "optional" or "needed": extra columns of the batch that the template shows, quoted like all texts.
    layout: "chat": system and user messages. "text": the user template is continued as it is, without a chat (base models).
    "turn": the response is shown as the model's own turn after its prompt, and `user` is what is asked next.

    Raises SpecError if anything does not fit together.
    """

    name: str
    user: str
    readout: OptionsReadout | TextReadout
    description: str = ""
    kind: Kind = "pointwise"
    system: str = ""
    prefix: str = ""
    reference: ReferenceUse = "unused"
    delimiters: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    criteria: tuple[Criterion, ...] = ()
    on_missing: str | float = "row"
    columns: Mapping[str, str] = field(default_factory=dict)
    layout: Layout = "chat"

    def __post_init__(self) -> None:
        from plaudit.rewards.generative import templates

        own = {name: (f"<{name}>", f"</{name}>") for name in (*self.columns, *(["items"] if self.kind == "itemised" else []))}
        object.__setattr__(self, "delimiters", {**DEFAULT_DELIMITERS, **own, **self.delimiters})
        if self.kind not in VARIABLES:
            raise SpecError(f"contract '{self.name}': kind is '{self.kind}', expected one of {', '.join(VARIABLES)}")
        try:
            self.readout.validate()
            self._validate_rules()
            templates.validate(self)
        except SpecError as error:
            raise SpecError(f"contract '{self.name}': {error}") from error

    def _validate_rules(self) -> None:
        if self.reference not in ("unused", "optional", "needed"):
            raise SpecError(f"reference is '{self.reference}', expected unused, optional or needed")
        if isinstance(self.on_missing, str) and self.on_missing not in ("row", "drop_for_group"):
            raise SpecError(f"on_missing is '{self.on_missing}', expected row, drop_for_group or a number")
        if self.criteria and self.kind != "pointwise":
            raise SpecError("criteria belong to pointwise contracts")
        self._validate_layout()
        for criterion in self.criteria:
            if not (math.isfinite(criterion.weight) and criterion.weight > 0):
                raise SpecError(f"criteria.{criterion.name}.weight is {criterion.weight:g}, expected a number above 0")
        if len({criterion.name for criterion in self.criteria}) < len(self.criteria):
            raise SpecError("two criteria have the same name")
        if self.kind == "pairwise" and isinstance(self.readout, TextReadout) and self.readout.numbers:
            raise SpecError("a pairwise contract reads labels worth 1, 0 or 0.5, not numbers")
        for label in self.readout.labels if self.kind == "pairwise" else ():
            if label.value not in (0.0, 0.5, 1.0):
                raise SpecError(
                    f"label '{label.name}' is worth {label.value:g}, expected 1 (first wins), 0 (second) or 0.5 (tie)"
                )
        for variable, (opening, closing) in self.delimiters.items():
            if min(len(opening), len(closing)) < 3 or {"\\", "\n"} & set(opening + closing):
                raise SpecError(f"delimiters.{variable}: expected at least 3 characters, no backslash and no line break")

    def _validate_layout(self) -> None:
        if self.kind in ("listwise", "itemised") and not (isinstance(self.readout, TextReadout) and self.readout.function):
            raise SpecError(f"a contract of the kind {self.kind} is read by a function (readout.text.function)")
        if self.layout not in ("chat", "text", "turn"):
            raise SpecError(f"layout is '{self.layout}', expected chat, text or turn")
        if self.layout == "turn" and (self.kind != "pointwise" or self.criteria):
            raise SpecError("layout 'turn' shows one response as a turn of its own: the kind must be pointwise, without criteria")
        if self.layout == "text" and self.system:
            raise SpecError("layout 'text' has no system message: put what it says into user")
        for name, use in self.columns.items():
            if use not in ("optional", "needed"):
                raise SpecError(f"columns.{name} is '{use}', expected optional or needed")
            if name in VARIABLES[self.kind] or not name.isidentifier():
                raise SpecError(f"columns.{name}: the name is taken, or is no name for a template")

    def content(self) -> dict[str, Any]:
        """Everything that decides the numbers, as JSON-able data; the name and the description do not count."""
        record = asdict(self)
        record.pop("name")
        record.pop("description")
        if not self.columns:  # fields that came later count only where they are used: older verdicts keep their keys
            record.pop("columns")
        if self.layout == "chat":
            record.pop("layout")
        record["reading_version"] = READING_VERSION
        if isinstance(self.readout, OptionsReadout):
            record["readout"]["spellings"] = self.readout.spellings
        elif self.readout.function is not None:
            record["readout"]["function_source"] = function_source_key(self.readout.function)
        return record


def _validate_labels(labels: tuple[Label, ...], *, minimum: int) -> None:
    if len(labels) < minimum:
        raise SpecError(f"the readout has {len(labels)} labels, expected at least {minimum}")
    if len({label.name for label in labels}) < len(labels):
        raise SpecError("two labels of the readout have the same name")
    for label in labels:
        if not math.isfinite(label.value) or not label.name.strip() or "" in label.spellings:
            raise SpecError(f"label '{label.name}': expected a name, a finite value and no empty spelling")


def load_function(path: str) -> Callable[[str], Any]:
    """The function named "module:name". Raises SpecError if it cannot be found."""
    import importlib

    module, _, name = path.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SpecError(f"readout.text.function '{path}' cannot be imported ({error}), expected module:name") from error
    if not callable(function):
        raise SpecError(f"readout.text.function '{path}' is not a function")
    return function  # type: ignore[no-any-return]


def function_source_key(path: str) -> str:
    """Hash of the source of the file that the function stands in, so that an edited helper counts too.

    Raises SpecError where the source cannot be read: its verdicts could not be told apart.
    """
    from plaudit.rewards.rules.source import module_source

    source = module_source(load_function(path).__module__)
    if source is None:
        raise SpecError(f"the source of '{path}' cannot be read, so its verdicts cannot be stored safely")
    return hashlib.sha256(source.encode()).hexdigest()
