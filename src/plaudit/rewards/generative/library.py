"""Where contracts come from: the built-in YAML files beside this module, a user's own file, or a mapping in Python."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from plaudit.rewards.generative.contract import (
    DEFAULT_DELIMITERS,
    Contract,
    Criterion,
    Label,
    OptionsReadout,
    TextReadout,
)
from plaudit.types import SpecError

_FOLDER = Path(__file__).parent / "contracts"
_FIELDS = {item.name for item in fields(Contract)} - {"name"}
_TEXT_FIELDS = {item.name for item in fields(TextReadout)}


@cache
def _built_in() -> dict[str, Path]:
    return {path.stem: path for path in sorted(_FOLDER.glob("*.yaml"))}


def contract_names() -> list[str]:
    """Names of the built-in contracts, sorted."""
    return list(_built_in())


@cache
def _load_built_in(name: str) -> Contract:
    return contract_from_mapping(name, _mapping(_built_in()[name]))


def load_contract(name_or_path: str | Path) -> Contract:
    """A built-in contract by name, or one from a YAML file. Raises SpecError, in one sentence, if it cannot be read."""
    text = str(name_or_path)
    if text in _built_in():
        return _load_built_in(text)
    path = Path(text)
    if path.suffix not in (".yaml", ".yml"):
        raise SpecError(f"no contract is called '{text}', expected a .yaml file or one of {', '.join(contract_names())}")
    return contract_from_mapping(path.stem, _mapping(path))


def contract_from_mapping(name: str, mapping: Mapping[str, Any]) -> Contract:
    """A contract from the fields of its YAML form.

    base: name of a built-in contract whose other fields are taken over. Raises SpecError naming the field that is wrong.
    """
    given = dict(mapping)
    while "base" in given:
        base = str(given.pop("base"))
        if base not in _built_in():
            raise SpecError(f"contract '{name}': base is '{base}', expected one of {', '.join(contract_names())}")
        given = {**_mapping(_built_in()[base]), **given}
    if unknown := sorted(set(given) - _FIELDS):
        raise SpecError(f"contract '{name}': unknown field '{unknown[0]}', expected {', '.join(sorted(_FIELDS))} or base")
    for field in ("user", "readout"):
        if field not in given:
            raise SpecError(f"contract '{name}': the field '{field}' is missing")
    try:
        for field in ("user", "system", "prefix", "description", "kind", "reference", "layout"):
            if field in given and not isinstance(given[field], str):
                raise SpecError(f"{field} is {type(given[field]).__name__}, expected text")
        given["readout"] = _readout(given["readout"])
        given["criteria"] = _criteria(given.get("criteria", ()))
        given["columns"] = _columns(given.get("columns", {}))
        given["delimiters"] = _delimiters(given.get("delimiters", {}), given["columns"])
        if not isinstance(given.get("on_missing", "row"), str):
            given["on_missing"] = _number("on_missing", given["on_missing"])
    except SpecError as error:
        raise SpecError(f"contract '{name}': {error}") from error
    return Contract(name=name, **given)


def rubric_contract(
    criteria: Mapping[str, float] | Sequence[str], *, name: str = "rubric", base: str = "rubric", on_missing: str | float = "row"
) -> Contract:
    """A rubric of your own: the questions, with weights or equally weighted, each asked as in the contract `base`.

    Parts are named after the questions.
    """
    weights = criteria if isinstance(criteria, Mapping) else dict.fromkeys(criteria, 1.0)
    questions = tuple(Criterion(question, question, float(weight)) for question, weight in weights.items())
    if not questions:
        raise SpecError(f"contract '{name}': a rubric needs at least one criterion")
    return replace(load_contract(base), name=name, criteria=questions, on_missing=on_missing)


def scale_contract(high: int = 5, *, low: int = 1, name: str = "scale") -> Contract:
    """The built-in scale with other ends, 0 <= low < high <= 9."""
    return contract_from_mapping(name, {"base": "scale", "readout": {"scale": {"low": low, "high": high}}})


@cache
def _yaml_loader() -> type[Any]:
    """YAML with only true and false as booleans: `yes: 1` is a label, not `True: 1`."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))
    return Loader


def _mapping(path: Path) -> dict[str, Any]:
    import yaml

    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_yaml_loader())
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"contract file {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except yaml.YAMLError as error:
        raise SpecError(f"contract file {path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise SpecError(f"contract file {path} holds {type(data).__name__}, expected fields")
    return {str(key): value for key, value in data.items()}


def _section(place: str, value: Any, allowed: set[str]) -> dict[str, Any]:
    """A mapping with only the allowed keys."""
    if not isinstance(value, Mapping):
        raise SpecError(f"{place} is {type(value).__name__}, expected fields")
    if unknown := sorted({str(key) for key in value} - allowed):
        raise SpecError(f"{place}: unknown field '{unknown[0]}', expected {', '.join(sorted(allowed))}")
    return {str(key): item for key, item in value.items()}


def _number(place: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SpecError(f"{place} is {value!r}, expected a number")
    return float(value)


def _strings(place: str, value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(item, str) for item in items):
        raise SpecError(f"{place}: expected text or a list of texts")
    return tuple(items)


def _labels(place: str, value: Any) -> tuple[Label, ...]:
    """`label: value` or `label: {value: ..., spellings: [...]}`."""
    if not isinstance(value, Mapping):
        raise SpecError(f"{place} is {type(value).__name__}, expected 'label: value' lines")
    labels = []
    for name, item in value.items():
        where = f"{place}.{name}"
        if isinstance(item, Mapping):
            entry = _section(where, item, {"value", "spellings"})
            spellings = _strings(f"{where}.spellings", entry.get("spellings", []))
            labels.append(Label(str(name), _number(f"{where}.value", entry.get("value")), spellings))
        else:
            labels.append(Label(str(name), _number(where, item)))
    return tuple(labels)


def _readout(value: Any) -> OptionsReadout | TextReadout:
    section = _section("readout", value, {"options", "scale", "text", "minimum_mass"})
    if len(forms := section.keys() & {"options", "scale", "text"}) != 1:
        raise SpecError(f"readout has {len(forms)} of options, scale and text, expected exactly one")
    if "text" in section:
        return _text_readout(section["text"])
    labels = _labels("readout.options", section["options"]) if "options" in section else _scale(section["scale"])
    if "minimum_mass" not in section:
        return OptionsReadout(labels)
    return OptionsReadout(labels, _number("readout.minimum_mass", section["minimum_mass"]))


def _scale(value: Any) -> tuple[Label, ...]:
    """One label per whole number; one digit only, since the tokens of longer numbers begin like shorter ones."""
    section = _section("readout.scale", value, {"low", "high"})
    low, high = (int(_number(f"readout.scale.{end}", section.get(end))) for end in ("low", "high"))
    if not 0 <= low < high <= 9:
        raise SpecError(f"readout.scale goes from {low} to {high}, expected 0 <= low < high <= 9")
    return tuple(Label(str(score), float(score), (str(score),)) for score in range(low, high + 1))


def _text_readout(value: Any) -> TextReadout:
    section = _section("readout.text", value, _TEXT_FIELDS)
    if "labels" in section:
        section["labels"] = _labels("readout.text.labels", section["labels"])
    if "numbers" in section:
        ends = _section("readout.text.numbers", section["numbers"], {"low", "high"})
        section["numbers"] = tuple(_number(f"readout.text.numbers.{end}", ends.get(end)) for end in ("low", "high"))
    for name in ("undecided", "stop"):
        if name in section:
            section[name] = _strings(f"readout.text.{name}", section[name])
    if not isinstance(section.get("bare", False), bool):
        raise SpecError(f"readout.text.bare is {section['bare']!r}, expected true or false")
    for name in section.keys() & {"marker", "mode", "strict", "lenient", "function"}:
        if not isinstance(section[name], str):
            raise SpecError(f"readout.text.{name}: expected text")
    if "max_tokens" in section:
        section["max_tokens"] = int(_number("readout.text.max_tokens", section["max_tokens"]))
    if "temperature" in section:
        section["temperature"] = _number("readout.text.temperature", section["temperature"])
    return TextReadout(**section)


def _criteria(value: Any) -> tuple[Criterion, ...]:
    """`name: question` or `name: {question: ..., weight: ...}`."""
    if isinstance(value, tuple) and all(isinstance(item, Criterion) for item in value):
        return value
    if not isinstance(value, Mapping):
        raise SpecError(f"criteria is {type(value).__name__}, expected 'name: question' lines")
    criteria = []
    for name, item in value.items():
        entry = {"question": item} if isinstance(item, str) else _section(f"criteria.{name}", item, {"question", "weight"})
        question = entry.get("question")
        if not isinstance(question, str) or not question.strip():
            raise SpecError(f"criteria.{name}.question is missing")
        criteria.append(Criterion(str(name), question, _number(f"criteria.{name}.weight", entry.get("weight", 1.0))))
    return tuple(criteria)


def _columns(value: Any) -> dict[str, str]:
    """`name: optional` or `name: needed`."""
    if not isinstance(value, Mapping):
        raise SpecError(f"columns is {type(value).__name__}, expected 'name: optional' or 'name: needed' lines")
    return {str(name): str(use) for name, use in value.items()}


def _delimiters(value: Any, columns: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    section = _section("delimiters", value, {*DEFAULT_DELIMITERS, "items", *columns})
    pairs = {}
    for name, item in section.items():
        marks = _strings(f"delimiters.{name}", item)
        if len(marks) != 2:
            raise SpecError(f"delimiters.{name}: expected an opening and a closing mark")
        pairs[name] = (marks[0], marks[1])
    return pairs
