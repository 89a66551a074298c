"""Compositions as data (YAML or JSON): the algebra in declarative form.

A reward is a name ("yes-token"), a mapping with a name and its settings ({name: length, target: 100}), or a mapping with one
operation:

  sum:         {PART: {weight: W, reward: REWARD} | W, ..., on_missing: POLICY, normalise: HOW}   PART: W stands for the reward
               called PART
  product:     {PART: REWARD, ..., on_missing: POLICY}
  ensemble:    {members: {PART: REWARD, ...} | [REWARD, ...], reduce: mean | median | min | lcb, k: 1.0, on_missing: POLICY}
  gate:        {gate: REWARD, reward: REWARD, threshold: 0.5, otherwise: 0.0 | null}
  otherwise:   {reward: REWARD, fallback: REWARD}
  route:       {column: NAME, rewards: {VALUE: REWARD, ...}, default: REWARD}
  normalised:  {reward: REWARD, how: HOW, floor:, equal:, mean:, std:}
  symmetrised: REWARD          both orders of a pairwise reward
  shuffled:    {reward: REWARD, shuffles: N | all}
  constant:    NUMBER

POLICY is row, drop_for_group, or a number; HOW a name of `normalise.How`, or a mapping of `Normalisation`'s fields.
Errors say where: `sum.helpful.weight: expected a number, found 'a lot'`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from plaudit.rewards import algebra
from plaudit.rewards.base import BaseReward
from plaudit.rewards.normalise import Normalisation
from plaudit.rewards.ordering import Shuffled, Symmetrised
from plaudit.types import Reward, SpecError

Resolve = Callable[[Any], Reward]
"""Turns a leaf into a reward: it is given the leaf as written, a name or a mapping that has a `name`."""
_SUM_KEYS = ("on_missing", "normalise")


def build(spec: Any, resolve: Resolve, name: str | None = None) -> BaseReward:
    """The reward that a document describes.

    resolve: gives the reward of a leaf. name: replaces the name that the composition gives itself.
    Raises SpecError, in one sentence with the place in the document.
    """
    reward = _Builder(resolve).reward(spec, "")
    if name is not None:
        reward.name = name
    return reward


def load(path: str | Path, resolve: Resolve) -> BaseReward:
    """The composition in a YAML file, called after the file. Raises SpecError if it cannot be read or is no composition."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} cannot be read: {error}") from error
    return build(parse_yaml(text, str(path)), resolve, Path(path).stem)


def parse_yaml(text: str, place: str) -> Any:
    """A YAML document; unlike `yaml.safe_load`, a key that is written twice is an error: one part would vanish in silence."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            double = [key for key in keys if keys.count(key) > 1]
            if double:
                raise SpecError(f"{place}: the key '{double[0]}' is written twice, in line {node.start_mark.line + 1} or below")
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader=Loader)
    except yaml.YAMLError as error:
        raise SpecError(f"{place} is not valid YAML: {' '.join(str(error).split())}") from error


class _Builder:
    """Walks a document; `path` is the place in it, for messages."""

    def __init__(self, resolve: Resolve) -> None:
        self.resolve = resolve
        self.operations: dict[str, Callable[[Any, str], BaseReward]] = {
            "sum": self._sum,
            "product": self._product,
            "ensemble": self._ensemble,
            "gate": self._gate,
            "otherwise": self._otherwise,
            "route": self._route,
            "normalised": self._normalised,
            "symmetrised": lambda spec, path: Symmetrised(self.reward(spec, path)),
            "shuffled": self._shuffled,
            "constant": lambda spec, path: algebra.Constant(_number(spec, path)),
        }

    def reward(self, spec: Any, path: str) -> BaseReward:
        """The reward at one place of the document."""
        if isinstance(spec, str) or (isinstance(spec, Mapping) and "name" in spec):
            return self._leaf(spec, path)
        known = ", ".join(self.operations)
        if not isinstance(spec, Mapping) or len(spec) != 1:
            found = f"the keys {', '.join(map(str, spec))}" if isinstance(spec, Mapping) else repr(spec)
            raise SpecError(f"{_at(path)}: expected a reward's name, {{name: NAME, ...}}, or one of {known}; found {found}")
        ((operation, inner),) = spec.items()
        if operation not in self.operations:
            raise SpecError(
                f"{_at(path)}: unknown operation '{operation}'; expected one of {known}, or {{name: NAME, ...}} for a reward"
            )
        place = _join(path, operation)
        with _located(place):
            return self.operations[operation](inner, place)

    def _leaf(self, spec: str | Mapping[str, Any], path: str) -> BaseReward:
        name = spec if isinstance(spec, str) else spec["name"]
        if not isinstance(name, str) or not name:
            raise SpecError(f"{_join(path, 'name')}: expected a reward's name, found {name!r}")
        with _located(path):
            found = self.resolve(spec)
        if not isinstance(found, BaseReward):
            raise SpecError(f"{_at(path)}: '{name}' is a {type(found).__name__}, not a reward")
        return found

    def _sum(self, spec: Any, path: str) -> BaseReward:
        terms = _mapping(spec, path)
        parts: dict[str, tuple[float, Reward]] = {}
        for name, term in terms.items():
            if name in _SUM_KEYS:
                continue
            place = _join(path, name)
            if isinstance(term, Mapping):
                _known(term, place, ("weight", "reward"), needed=("weight",))
                weight = _number(term["weight"], _join(place, "weight"))
                parts[name] = (weight, self.reward(term.get("reward", name), _join(place, "reward")))
            else:
                parts[name] = (_number(term, place), self.reward(name, place))
        with _located(_join(path, "normalise")):
            normalise = _normalisation(terms.get("normalise"), _join(path, "normalise"))
        return algebra.WeightedSum(parts, on_missing=terms.get("on_missing", "row"), normalise=normalise)

    def _product(self, spec: Any, path: str) -> BaseReward:
        factors = _mapping(spec, path)
        parts = {name: self.reward(part, _join(path, name)) for name, part in factors.items() if name != "on_missing"}
        return algebra.Product(parts, on_missing=factors.get("on_missing", "row"))

    def _ensemble(self, spec: Any, path: str) -> BaseReward:
        given = _known(spec, path, ("members", "reduce", "k", "on_missing"), needed=("members",))
        place = _join(path, "members")
        members: Any
        if isinstance(given["members"], list):
            members = [self.reward(member, f"{place}[{index}]") for index, member in enumerate(given["members"])]
        else:
            members = {name: self.reward(one, _join(place, name)) for name, one in _mapping(given["members"], place).items()}
        k = _number(given.get("k", 1.0), _join(path, "k"))
        return algebra.Ensemble(members, given.get("reduce", "mean"), k=k, on_missing=given.get("on_missing", "row"))

    def _gate(self, spec: Any, path: str) -> BaseReward:
        given = _known(spec, path, ("gate", "reward", "threshold", "otherwise"), needed=("gate", "reward"))
        closed = given.get("otherwise", 0.0)
        return algebra.Gate(
            self.reward(given["gate"], _join(path, "gate")),
            self.reward(given["reward"], _join(path, "reward")),
            _number(given.get("threshold", 0.5), _join(path, "threshold")),
            None if closed is None else _number(closed, _join(path, "otherwise")),
        )

    def _otherwise(self, spec: Any, path: str) -> BaseReward:
        given = _known(spec, path, ("reward", "fallback"), needed=("reward", "fallback"))
        reward, fallback = (self.reward(given[key], _join(path, key)) for key in ("reward", "fallback"))
        return algebra.Otherwise(reward, fallback)

    def _route(self, spec: Any, path: str) -> BaseReward:
        given = _known(spec, path, ("column", "rewards", "default"), needed=("column", "rewards"))
        if not isinstance(given["column"], str):
            raise SpecError(f"{_join(path, 'column')}: expected a column's name, found {given['column']!r}")
        place = _join(path, "rewards")
        if not isinstance(given["rewards"], Mapping):
            raise SpecError(f"{place}: expected a mapping, found {given['rewards']!r}")
        rewards = {value: self.reward(reward, _join(place, value)) for value, reward in given["rewards"].items()}
        default = self.reward(given["default"], _join(path, "default")) if "default" in given else None
        return algebra.Route(given["column"], rewards, default)

    def _normalised(self, spec: Any, path: str) -> BaseReward:
        keys = ("reward", "how", "floor", "equal", "mean", "std")
        given = dict(_known(spec, path, keys, needed=("reward",)))
        reward = self.reward(given.pop("reward"), _join(path, "reward"))
        how = _normalisation({"how": "group_zscore", **given}, path)
        return algebra.Normalised(reward, how or "group_zscore")

    def _shuffled(self, spec: Any, path: str) -> BaseReward:
        given = _known(spec, path, ("reward", "shuffles"), needed=("reward",))
        shuffles = given.get("shuffles", 1)
        if shuffles != "all" and (isinstance(shuffles, bool) or not isinstance(shuffles, int)):
            raise SpecError(f"{_join(path, 'shuffles')}: expected a whole number or all, found {shuffles!r}")
        return Shuffled(self.reward(given["reward"], _join(path, "reward")), shuffles)


def _normalisation(spec: Any, path: str) -> Normalisation | None:
    if spec is None or isinstance(spec, str):
        return None if spec is None else Normalisation.of(spec)
    given = _known(spec, path, ("how", "floor", "equal", "mean", "std"), needed=("how",))
    numbers = {key: _number(value, _join(path, key)) for key, value in given.items() if key in ("floor", "mean", "std")}
    return Normalisation(given["how"], equal=given.get("equal", "status"), **numbers)


def _mapping(spec: Any, path: str) -> Mapping[str, Any]:
    """A mapping whose keys are text."""
    if not isinstance(spec, Mapping):
        raise SpecError(f"{_at(path)}: expected a mapping, found {spec!r}")
    for key in spec:
        if not isinstance(key, str):
            raise SpecError(f"{_at(path)}: the key {key!r} is not text; put it in quotes")
    return spec


def _known(spec: Any, path: str, keys: tuple[str, ...], needed: tuple[str, ...]) -> Mapping[str, Any]:
    """A mapping with the needed keys and no others than the known ones."""
    given = _mapping(spec, path)
    for key in given:
        if key not in keys:
            raise SpecError(f"{_join(path, key)}: unknown key; expected {', '.join(keys)}")
    for key in needed:
        if key not in given:
            raise SpecError(f"{_at(path)}: the key '{key}' is missing")
    return given


def _number(value: Any, path: str) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SpecError(f"{_at(path)}: expected a number, found {value!r}{_hint(value)}")
    return float(value)


def _hint(value: Any) -> str:
    """YAML 1.1 reads 1e-3 as text; 1.0e-3 is a number."""
    try:
        return f" (YAML needs a point: write {float(value):.1e})" if isinstance(value, str) else ""
    except ValueError:
        return ""


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def _at(path: str) -> str:
    return path or "the composition"


@contextmanager
def _located(path: str) -> Iterator[None]:
    """Errors of constructors and of the resolver, with the place in the document in front."""
    try:
        yield
    except SpecError as error:
        message = str(error)
        raise SpecError(message if message.startswith(path) else f"{path}: {message}") from error
    except (TypeError, ValueError) as error:
        raise SpecError(f"{_at(path)}: {error}") from error
