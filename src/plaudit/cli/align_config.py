"""A training run as a file of settings: names become generator, objective, source, reward and the rest.

world:      {name: digits, ...}                      optional: gives prompts, a truth and start models
generator:  NAME | {name: NAME, ...} | {base: LEVEL, seed: N} (of the world) | FILE.py:NAME
objective:  NAME | {name: NAME, ...} | FILE.py:NAME   (ppo: critic: copy | head | network | {kind:, clip: ...} | FILE.py:NAME)
source:     {prompts: N (of the world) | FILE.jsonl | {contract: NAME, rows: LABELLED FILE} (what a judge is trained on),
             rows_per_draw: N, samples_per_prompt: N, how: {...}, split:, seed:}
reward:     truth | anything that `plaudit judge --reward` takes, compositions included
shaper:     NAME | {name: NAME, references: N, ...} | FILE.py:NAME
reference_policy: frozen copy | ema
monitors:   [NAME | {name: NAME, ...}]               classes of plaudit.trust.monitors
evaluation: {prompts:, reward:, every:, samples_per_prompt:, how:}
run:        settings of `RunConfig`                   fit: settings of `FitConfig`
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from plaudit.rewards.catalogue import Resolver
from plaudit.rewards.composition import parse_yaml
from plaudit.types import Batch, DataError, Sampling, SpecError, UserError

KEYS = (
    "world", "generator", "objective", "source", "reward", "shaper", "reference_policy", "monitors", "evaluation", "run", "fit",
)  # fmt: skip
NEEDED = ("generator", "objective", "source", "reward")


def read_config(
    path: Path, changes: Sequence[str] = (), keys: Sequence[str] = KEYS, needed: Sequence[str] = NEEDED
) -> dict[str, Any]:
    """The settings in a YAML file, with `a.b=value` changes (values are YAML). Raises SpecError, naming the place."""
    try:
        document = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise SpecError(f"{path}: expected settings by name, such as {' and '.join(needed[:2])}")
    return changed(document, changes, keys, needed, str(path))


def changed(
    document: dict[str, Any], changes: Sequence[str], keys: Sequence[str], needed: Sequence[str], where: str
) -> dict[str, Any]:
    """The document with `a.b=value` changes. Raises SpecError for settings that there are not, or that are missing."""
    for change in changes:
        _change(document, change)
    unknown = [str(key) for key in document if key not in keys]
    missing = [key for key in needed if key not in document]
    if unknown:
        raise SpecError(f"{where}: unknown setting '{unknown[0]}'; expected some of {', '.join(keys)}")
    if missing:
        raise SpecError(f"{where}: {', '.join(missing)} must be given")
    return document


def _change(document: dict[str, Any], change: str) -> None:
    place, equals, value = change.partition("=")
    if not equals or not place:
        raise SpecError(f"--set {change}: expected KEY=VALUE, such as run.steps=10")
    *path, last = place.split(".")
    for key in path:
        inner = document.get(key)
        if isinstance(inner, str):
            inner = {"name": inner}  # `objective: grpo` with objective.low=0.1
        if inner is not None and not isinstance(inner, dict):
            raise SpecError(f"--set {change}: '{key}' has no settings of its own")
        document[key] = document = inner or {}
    document[last] = parse_yaml(value, f"--set {place}")


class Parts:
    """Builds what a run needs from settings. Raises SpecError or UserError, in one sentence, for what cannot be built."""

    def __init__(self, document: Mapping[str, Any], resolver: Resolver) -> None:
        self.document, self.resolver = document, resolver
        self.world = self._world()
        self.generator = self._generator()
        self.reward = self._reward(document["reward"])
        self.objective = self._objective(document["objective"])
        self.source = self._source()

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `Run`, apart from its folder."""
        document = self.document
        found: dict[str, Any] = {
            "reward": self.reward,
            "reference_policy": document.get("reference_policy"),
            "monitors": [_monitor(one) for one in document.get("monitors") or ()],
            "config": run_config(document),
        }
        if document.get("shaper") is not None:
            found["shaper"] = self._shaper(document["shaper"])
        if document.get("evaluation") is not None:
            found["evaluation"] = self._evaluation(document["evaluation"])
        return found

    def _world(self) -> Any:
        spec = self.document.get("world")
        return None if spec is None else named(spec, "world", catalogue_builder("plaudit.worlds.catalogue", "build_world"))

    def _generator(self) -> Any:
        spec = self.document["generator"]
        if isinstance(spec, Mapping) and "base" in spec:
            settings = {name: value for name, value in spec.items() if name != "base"}
            return _called(self._of_world("base").base, "generator", spec["base"], **{"seed": 0, **settings})
        return named(spec, "generator", catalogue_builder("plaudit.generators.catalogue", "build_generator"))

    def _objective(self, spec: Any) -> Any:
        """An objective; one with a critic may have it from the user's file, else it is built for the generator."""
        if isinstance(spec, Mapping) and ".py:" in str(_name_of(spec.get("critic"))):
            critic = spec["critic"]
            own = dict(critic) if isinstance(critic, Mapping) else {"name": critic}
            spec = {**spec, "critic": named({**own, "generator": self.generator}, "critic", _no_names("critic"))}
        build = catalogue_builder("plaudit.objectives.catalogue", "build_objective")
        return named(spec, "objective", partial(build, generator=self.generator))

    def _reward(self, spec: Any) -> Any:
        if spec == "truth":
            return self._of_world("truth").truth
        if spec == "world":
            found = getattr(self._of_world("world"), "reward", None)
            if found is None:
                raise SpecError("this world has no reward but its truth: write `reward: truth`")
            return found
        return self.resolver.resolve(spec if isinstance(spec, str) else json.dumps(spec))

    def _source(self) -> Any:
        from plaudit.training import OnPolicy

        spec = self.document["source"]
        if isinstance(spec, str):
            return named(spec, "source", _no_names("source"))
        settings = dict(spec)
        prompts = self._prompts(settings.pop("prompts", None), settings.pop("split", "train"), settings.get("seed", 0))
        settings["how"] = self._how(settings.get("how"))
        return _called(OnPolicy, "source", prompts, **settings)

    def _evaluation(self, spec: Mapping[str, Any]) -> Any:
        from plaudit.training import Evaluation

        settings = dict(spec)
        prompts = self._prompts(settings.pop("prompts", None), settings.pop("split", "test"), settings.get("seed", 0))
        reward = self._reward(settings.pop("reward", "truth"))
        settings["how"] = self._how(settings.get("how"))
        return _called(Evaluation, "evaluation", prompts, reward, **settings)

    def _shaper(self, spec: Any) -> Any:
        """A shaper; `references: N` lets the frozen start write N reference answers a prompt."""
        if isinstance(spec, Mapping) and "references" in spec:
            from plaudit.rewards.shaping import ReferenceRewards
            from plaudit.training.reference import frozen_generator

            answers = {"m": int(spec["references"]), "how": self.source.how}
            references = ReferenceRewards(self.reward, frozen_generator(self.generator), **answers)
            spec = {**spec, "references": references}
        return named(spec, "shaper", _shaper_named)

    def _prompts(self, spec: Any, split: str, seed: int) -> Batch:
        if isinstance(spec, str):
            return read_prompts(Path(spec))
        if isinstance(spec, Mapping):
            from plaudit.cli.align_judging import labelled_prompts

            return _called(labelled_prompts, "prompts", self.generator, **spec)  # type: ignore[no-any-return]
        if not isinstance(spec, int) or isinstance(spec, bool):
            raise SpecError("prompts: expected a .jsonl file, how many prompts of the world, or a contract and labelled rows")
        found: Batch = _called(self._of_world("prompts").prompts, "prompts", split, spec, seed)
        return found

    def _of_world(self, what: str) -> Any:
        if self.world is None:
            raise SpecError(f"'{what}' is asked of a world, and no world is named")
        return self.world

    def _how(self, spec: Mapping[str, Any] | None) -> Any:
        """Sampling settings: of the generator's own kind where it has one, else `Sampling` at temperature 1."""
        own = getattr(self.generator, "sampling", None)
        if is_dataclass(own) and not isinstance(own, type):
            return own if spec is None else _called(replace, "how", own, **spec)
        return _called(Sampling, "how", **{"temperature": 1.0, **(spec or {})})


def run_config(document: Mapping[str, Any]) -> Any:
    """`RunConfig` from the sections `run` and `fit`."""
    from plaudit.training.folder import config_from_json

    content = {**(document.get("run") or {}), "fit": document.get("fit") or {}}
    return _called(config_from_json, "run and fit", content)


def read_prompts(path: Path) -> Batch:
    """Prompts from a .jsonl file: each line has `prompt` (a text or a chat), and may have `reference`; other fields are extras.

    Raises DataError, with the line, for what cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(str(path), None, f"cannot be read: {error}") from error
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(str(path), number, "is not JSON") from error
        if not isinstance(row, dict) or not isinstance(row.get("prompt"), str | list | dict):
            raise DataError(str(path), number, "has no prompt", "an object with a `prompt`")
        rows.append(row)
    if not rows:
        raise DataError(str(path), None, "holds no prompts")
    names = dict.fromkeys(name for row in rows for name in row if name not in ("prompt", "reference"))
    references = [row.get("reference") for row in rows]
    extras: dict[str, Sequence[Any]] = {name: [row.get(name) for row in rows] for name in names}
    has = any(one is not None for one in references)
    return Batch([row["prompt"] for row in rows], references=references if has else None, extras=extras)


def _name_of(spec: Any) -> Any:
    return spec.get("name") if isinstance(spec, Mapping) else spec


def catalogue_builder(module: str, name: str) -> Callable[..., Any]:
    """A catalogue's own builder, imported when it is used."""

    def build(*arguments: Any, **settings: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*arguments, **settings)

    return build


def _no_names(what: str) -> Callable[..., Any]:
    def build(name: str, **_: Any) -> Any:
        raise SpecError(f"unknown {what} '{name}'; expected settings, or FILE.py:NAME")

    return build


def _shaper_named(name: str, **settings: Any) -> Any:
    from plaudit.rewards.shaping import SHAPERS

    if name not in SHAPERS:
        raise SpecError(f"unknown shaper '{name}'; expected one of {', '.join(sorted(SHAPERS))}")
    return _called(SHAPERS[name], f"shaper '{name}'", **settings)


def _monitor(spec: Any) -> Any:
    from plaudit.trust import monitors

    def build(name: str, **settings: Any) -> Any:
        kind = getattr(monitors, name, None)
        if not isinstance(kind, type) or not hasattr(kind, "observe"):
            raise SpecError(f"unknown monitor '{name}'; see plaudit.trust.monitors")
        return kind(**settings)

    return named(spec, "monitor", build)


def named(spec: Any, what: str, build: Callable[..., Any]) -> Any:
    """What a name (with settings) stands for; FILE.py:NAME is a class or function of the user's, called with the settings."""
    settings = {"name": spec} if isinstance(spec, str) else dict(spec) if isinstance(spec, Mapping) else {}
    name = settings.pop("name", None)
    if not isinstance(name, str):
        raise SpecError(f"{what}: expected a name, or settings with a name")
    if ".py:" not in name:
        return _called(build, what, name, **settings)
    file, _, attribute = name.rpartition(":")
    found = getattr(_module(Path(file)), attribute, None)
    if found is None:
        raise SpecError(f"{file} defines no '{attribute}'")
    if inspect.isclass(found) or inspect.isfunction(found):
        return found if what == "shaper" and inspect.isfunction(found) else _called(found, what, **settings)
    return found


def _called(build: Callable[..., Any], what: str, *arguments: Any, **settings: Any) -> Any:
    """Call a builder; settings that it does not take are the user's to mend."""
    try:
        return build(*arguments, **settings)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise SpecError(f"{what}: {error}") from error


def _module(file: Path) -> Any:
    """Import the user's own file once, under a name that dataclasses and checkpoints find again."""
    name = f"plaudit_user_{file.stem}"
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(file.resolve()):
        return known
    spec = importlib.util.spec_from_file_location(name, file.resolve())
    if not file.is_file() or spec is None or spec.loader is None:
        raise SpecError(f"{file}: file not found; expected a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise SpecError(f"{file} cannot be imported: {type(error).__name__}: {error}") from error
    return module
