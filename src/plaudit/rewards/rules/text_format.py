"""Rules about the form of an answer: exact text, a pattern, a JSON schema, tags in order."""

from __future__ import annotations

import json
import re
import string
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from plaudit.rewards.rules.base import Judged, RuleReward
from plaudit.rewards.rules.rendered import RenderedRule
from plaudit.types import Engine, SpecError, Status, Verdict


class ExactMatch(RuleReward):
    """1 if the response equals the reference (or one of a list of references) after normalisation, else 0.

    mode: "equal", or "contains" (the reference occurs in the response as whole words). case, space, punctuation: False ignores
    differences of that kind. Unicode is compared in its NFKC form. No reference -> MISSING_REFERENCE.
    """

    name = "exact-match"
    needs_reference = True

    def __init__(
        self, *, mode: Literal["equal", "contains"] = "equal", case: bool = False, space: bool = False, punctuation: bool = True
    ) -> None:
        if mode not in ("equal", "contains"):
            raise SpecError(f"mode must be equal or contains, not '{mode}'")
        self.mode, self.case, self.space, self.punctuation = mode, case, space, punctuation
        self.settings = {"mode": mode, "case": case, "space": space, "punctuation": punctuation}

    def normalised(self, text: str) -> str:
        """The text as it is compared."""
        if not text.isascii():
            text = unicodedata.normalize("NFKC", text)
        if not self.case:
            text = text.casefold()
        if not self.punctuation:
            text = text.translate(_NO_PUNCTUATION)
        return text if self.space else " ".join(text.split())

    def judge_one(self, prompt: Any, response: str, reference: Any) -> Judged:  # noqa: ARG002
        """1, 0, or MISSING_REFERENCE for an empty list of references and for an empty text to look for."""
        accepted = [self.normalised(str(item)) for item in (reference if isinstance(reference, (list, tuple)) else [reference])]
        said = self.normalised(response)
        if self.mode == "equal":
            return said in accepted if accepted else Status.MISSING_REFERENCE
        accepted = [item for item in accepted if item]
        if not accepted:
            return Status.MISSING_REFERENCE
        return any(re.search(rf"(?<!\w){re.escape(item)}(?!\w)", said) is not None for item in accepted)


_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class RegexFormat(RenderedRule):
    """1 if the pattern fits the response, else 0.

    mode: "fullmatch" (the whole response, white space at its ends left out) or "search". flags: letters of i, m, s, x.
    timeout: seconds per row; a pattern that backtracks longer -> TIMED_OUT. `forced` and `engine`: see `RenderedRule`.
    Raises SpecError if the pattern cannot be compiled.
    """

    name = "regex"

    def __init__(
        self,
        pattern: str,
        *,
        mode: Literal["fullmatch", "search"] = "fullmatch",
        flags: str = "s",
        timeout: float = 1.0,
        forced: str | None = None,
        engine: Engine | None = None,
    ) -> None:
        super().__init__(forced=forced, engine=engine)
        import regex  # type: ignore[import-untyped]  # the standard library's patterns cannot be stopped once they backtrack

        if mode not in ("fullmatch", "search"):
            raise SpecError(f"mode must be fullmatch or search, not '{mode}'")
        if unknown := set(flags) - set("imsx"):
            raise SpecError(f"regex flags are letters of i, m, s, x; not '{''.join(sorted(unknown))}'")
        value = regex.V0
        for letter in flags:
            value |= getattr(regex, letter.upper())
        try:
            self.pattern = regex.compile(pattern, value)
        except regex.error as error:
            raise SpecError(f"the pattern {pattern!r} is not a regular expression: {error}") from error
        self.mode, self.timeout = mode, timeout
        self.settings |= {"pattern": pattern, "mode": mode, "flags": "".join(sorted(set(flags))), "timeout": timeout}

    def judge_text(self, text: str, forced_length: int) -> Judged:  # noqa: ARG002
        """1, 0, or TIMED_OUT."""
        try:
            if self.mode == "search":
                return self.pattern.search(text, timeout=self.timeout) is not None
            return self.pattern.fullmatch(text.strip(), timeout=self.timeout) is not None
        except TimeoutError:
            return Verdict(status=Status.TIMED_OUT, detail=f"the pattern did not finish within {self.timeout:g} s")


_FENCE = re.compile(r"\A\s*```[a-zA-Z]*[ \t]*\n(.*)\n[ \t]*```\s*\Z", re.DOTALL)


class JsonSchemaFormat(RuleReward):
    """1 if the response is JSON that the schema accepts, else 0 with the reason in the verdict.

    schema: a JSON schema, or the path of a file with one; {} accepts all JSON. fenced: a Markdown code fence around the whole
    answer is allowed. NaN and Infinity are not JSON.
    Raises SpecError if the schema itself is not valid.
    """

    name = "json-schema"

    def __init__(self, schema: Mapping[str, Any] | str | Path, *, fenced: bool = True) -> None:
        from jsonschema.exceptions import SchemaError
        from jsonschema.validators import validator_for

        content = _read_schema(schema) if isinstance(schema, (str, Path)) else dict(schema)
        try:
            kind = validator_for(content)
            kind.check_schema(content)
        except SchemaError as error:
            raise SpecError(f"not a valid JSON schema: {error.message}") from error
        self.validator = kind(content)
        self.fenced = fenced
        self.settings = {"schema": content, "fenced": fenced}

    def judge_one(self, prompt: Any, response: str, reference: Any) -> Judged:  # noqa: ARG002
        """1, or 0 with the first reason."""
        fence = _FENCE.match(response) if self.fenced else None
        try:
            value = json.loads(fence.group(1) if fence else response, parse_constant=_refuse_constant)
            problem = next(iter(self.validator.iter_errors(value)), None)
        except (ValueError, RecursionError) as error:
            return Verdict(value=0.0, detail=f"not JSON: {error or type(error).__name__}"[:300])
        if problem is None:
            return 1.0
        return Verdict(value=0.0, detail=f"{problem.json_path}: {problem.message}"[:300])


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _read_schema(path: str | Path) -> dict[str, Any]:
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SpecError(f"cannot read a JSON schema from {path}: {error}") from error
    if not isinstance(content, dict):
        raise SpecError(f"{path} holds no JSON schema: it must be an object")
    return content


class TagFormat(RenderedRule):
    """1 if the tags stand in the response once each, closed, in this order and not within one another, else 0 with the reason.

    outside: where other text may stand: "none", "after" (after the last tag) or "any". non_empty: each part must hold some text
    (a part that the template itself printed and closed is exempt). `forced` and `engine`: see `RenderedRule`.
    """

    name = "tags"

    def __init__(
        self,
        tags: Sequence[str] = ("think", "answer"),
        *,
        outside: Literal["none", "after", "any"] = "none",
        non_empty: bool = True,
        forced: str | None = None,
        engine: Engine | None = None,
    ) -> None:
        super().__init__(forced=forced, engine=engine)
        named = not isinstance(tags, str) and all(re.fullmatch(r"[\w:.-]+", str(tag)) for tag in tags)
        if not named or not tags or len(set(tags)) != len(tags):
            raise SpecError(f"tags must be a list of different names without brackets, not {tags!r}")
        if outside not in ("none", "after", "any"):
            raise SpecError(f"outside must be none, after or any, not '{outside}'")
        self.tags, self.outside, self.non_empty = tuple(tags), outside, non_empty
        self.settings |= {"tags": list(tags), "outside": outside, "non_empty": non_empty}

    def judge_text(self, text: str, forced_length: int) -> Judged:
        """1, or 0 with the reason."""
        place = 0
        for number, tag in enumerate(self.tags):
            opening, closing = f"<{tag}>", f"</{tag}>"
            for mark in (opening, closing):
                if (count := text.count(mark)) != 1:
                    return Verdict(value=0.0, detail=f"{mark} occurs {count} times, not once")
            start, end = text.index(opening), text.index(closing)
            if start < place or end < start:
                return Verdict(value=0.0, detail=f"{opening} ... {closing} is not in its place")
            if self.outside != "any" and text[place:start].strip():
                return Verdict(value=0.0, detail=f"text before {opening}")
            place = end + len(closing)
            if self.non_empty and place > forced_length and not text[start + len(opening) : end].strip():
                return Verdict(value=0.0, detail=f"{opening} holds nothing")
            if number == len(self.tags) - 1 and self.outside == "none" and text[place:].strip():
                return Verdict(value=0.0, detail=f"text after {closing}")
        return 1.0


class ThinkFormat(TagFormat):
    """1 if the response thinks once, in front, between <think> and </think>, else 0. The answer follows outside of tags."""

    name = "think"

    def __init__(self, *, non_empty: bool = True, forced: str | None = None, engine: Engine | None = None) -> None:
        super().__init__(("think",), outside="after", non_empty=non_empty, forced=forced, engine=engine)
