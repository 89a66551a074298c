"""Rewards by name: what `--reward` accepts.

A reward is named by one of these, tried in this order:
  {a: YAML or JSON mapping}    a composition, inline
  FILE.yaml                    a composition, or a contract (it has a `kind`)
  FILE.py:OBJECT               a reward, or a plain function (prompt, response[, reference]) -> number, in the user's own file
  NAME                         one of `catalogue()`: a contract read by the engine, or a rule
  FOLDER                       a learned reward (it has a reward.json), as `plaudit fit` writes it
  http(s)://HOST:PORT[#NAME]   a reward of a plaudit service (its token: $PLAUDIT_TOKEN)
  FOLDER or OWNER/NAME         a scalar reward model (AutoModelForSequenceClassification)
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plaudit.rewards.base import BaseReward
from plaudit.types import Engine, SpecError

if TYPE_CHECKING:
    from plaudit.types import Reward


DEFAULT_CONTRACT = "yes-token"
"""What `judge` stands for."""
SMALL = {
    "plaudit-small": "A head of 0.3 MB on the embedded model, fitted on open preferences.",
    "plaudit-small-helpful": "As plaudit-small, fitted on labels of what is more helpful.",
    "plaudit-small-harmless": "As plaudit-small, fitted on labels of what is less harmful.",
}


@dataclass(frozen=True)
class Entry:
    """One line of the catalogue. family: judge, rule or learned. build: keyword arguments -> the reward."""

    name: str
    family: str
    description: str
    build: Callable[..., BaseReward]


def catalogue(engine: Callable[[], Engine] | None = None) -> list[Entry]:
    """Every reward that has a name, judges first.

    engine: opened when the first judge is built; without it the entries can be listed, but judges cannot be built.
    """
    from plaudit.rewards.generative import Judge, NuggetJudge, contract_names, load_contract
    from plaudit.rewards.generative.judging_prompts import VerdictReward
    from plaudit.rewards.rules import RULES

    def judge_of(name: str) -> Callable[..., BaseReward]:
        def build(**settings: Any) -> BaseReward:
            if engine is None:
                raise SpecError(f"the judge '{name}' needs an engine")
            kind = NuggetJudge if load_contract(name).kind == "itemised" else Judge
            return kind(engine(), name, **settings)

        return build

    judges = [Entry(name, "judge", load_contract(name).description, judge_of(name)) for name in contract_names()]
    judges.insert(0, Entry("judge", "judge", f"The default judge: {DEFAULT_CONTRACT}.", judge_of(DEFAULT_CONTRACT)))
    learned = [Entry(name, "learned", about, partial(small_reward, name)) for name, about in SMALL.items()]
    gold = Entry(VerdictReward.name, "rule", _first_line(VerdictReward), VerdictReward)
    return [*judges, *learned, gold] + [Entry(name, "rule", _first_line(rule), rule) for name, rule in RULES.items()]


def small_reward(name: str = "plaudit-small") -> BaseReward:
    """A learned reward that comes with the package; benchmarks/small_reward.py makes it, its README.md says what it is worth.

    Raises EngineError if the embedded model, which it reads states of, is not there and cannot be fetched.
    """
    from plaudit.rewards.learned.checkpoint import load_reward

    return load_reward(Path(str(files("plaudit") / "assets" / name)))


def _first_line(thing: Any) -> str:
    """What a class does, in the words of its docstring."""
    return (inspect.getdoc(thing) or "").split("\n")[0]


@dataclass
class Resolver:
    """Turns texts into rewards; judges share one engine, opened when the first of them is asked for."""

    open_engine: Callable[[], Engine]
    _engine: Engine | None = field(default=None, init=False)

    @property
    def engine(self) -> Engine:
        """The engine that all judges of this resolver use."""
        if self._engine is None:
            self._engine = self.open_engine()
        return self._engine

    def resolve(self, spec: str) -> BaseReward:
        """The reward that a text names. Raises SpecError, in one sentence, if there is none."""
        if spec.lstrip().startswith("{"):
            from plaudit.rewards.composition import parse_yaml

            return self._compose(parse_yaml(spec, "the inline reward"))
        if spec.startswith(("http://", "https://")):
            from plaudit.rewards.remote import RemoteReward

            url, _, name = spec.partition("#")
            return RemoteReward(url, name or None)
        if spec.endswith((".yaml", ".yml")):
            return self._from_yaml(Path(spec))
        if ".py:" in spec:
            return self._from_file(spec)
        if spec in self.entries:
            return self._build(spec, {})
        if Path(spec).is_dir() or (spec.count("/") == 1 and not spec.startswith(("/", "."))):
            from plaudit.rewards.learned.checkpoint import is_reward_folder, load_reward

            if is_reward_folder(spec):
                return load_reward(spec)
            from plaudit.rewards.learned.scalar import ScalarRewardModel

            return ScalarRewardModel(spec)
        names = ", ".join(sorted(self.entries))
        raise SpecError(
            f"unknown reward '{spec}'; expected one of {names}, a model folder, OWNER/NAME, a .yaml, FILE.py:OBJECT, "
            "or http://HOST:PORT#NAME of a service"
        )

    @property
    def entries(self) -> dict[str, Entry]:
        """The catalogue by name."""
        return {entry.name: entry for entry in catalogue(lambda: self.engine)}

    def _build(self, name: str, arguments: Mapping[str, Any]) -> BaseReward:
        entry = self.entries.get(name)
        if entry is None:
            raise SpecError(f"unknown reward '{name}'; expected one of {', '.join(sorted(self.entries))}")
        try:
            return entry.build(**arguments)
        except TypeError as error:
            raise SpecError(f"reward '{name}': {error}") from error

    def _compose(self, document: Any) -> BaseReward:
        from plaudit.rewards.composition import build

        return build(document, self._leaf)

    def _leaf(self, spec: str | Mapping[str, Any]) -> Reward:
        """A leaf of a composition: a text, or {name: NAME, arguments ...}."""
        if isinstance(spec, str):
            return self.resolve(spec)
        arguments = dict(spec)
        return self._build(str(arguments.pop("name", "")), arguments)

    def _from_yaml(self, path: Path) -> BaseReward:
        from plaudit.rewards.composition import parse_yaml

        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"{path} cannot be read: {error}") from error
        document = parse_yaml(text, str(path))
        if isinstance(document, Mapping) and "kind" in document:
            from plaudit.rewards.generative import Judge, NuggetJudge, load_contract

            contract = load_contract(str(path))
            return (NuggetJudge if contract.kind == "itemised" else Judge)(self.engine, contract)
        return self._compose(document)

    def _from_file(self, spec: str) -> BaseReward:
        from plaudit.rewards.rules import as_reward

        file, _, name = spec.rpartition(":")
        found = getattr(_load_module(Path(file)), name, None)
        if found is None:
            raise SpecError(f"{file} defines no '{name}'")
        if inspect.isclass(found):
            found = found()
        if isinstance(found, BaseReward):
            # the whole file decides what an object in it does, so it is part of the key under which verdicts are kept
            digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()
            found.settings = {**getattr(found, "settings", {}), "file": digest}
            return found
        if callable(found):
            return as_reward(found)
        raise SpecError(f"{spec} is a {type(found).__name__}; expected a reward or a function")


def _load_module(file: Path) -> Any:
    """Import the user's own file. Raises SpecError if it is not there or raises."""
    module_spec = importlib.util.spec_from_file_location(f"plaudit_user_{file.stem}", file)
    if not file.is_file() or module_spec is None or module_spec.loader is None:
        raise SpecError(f"{file}: file not found; expected a Python file")
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        raise SpecError(f"{file} cannot be imported: {type(error).__name__}: {error}") from error
    return module
