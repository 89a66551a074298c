"""A fit as a file of settings: names become the reward, the rows, and how it is fitted.

head:       NAME | {name: NAME, ...}            kinds of `plaudit.rewards.learned.catalogue.HEADS`
backbone:   MODEL | {model: MODEL, adaptation: frozen | lora | full, layers:, pooling:, template:, ...}   (`TextBackbone`)
data:       FILE | {file: FILE, limit:, skip_bad:, fields: {...}, aspects: [COLUMN], weight: COLUMN}
validation: FILE | {...}                        held-out rows of their own; without them a part of the data is held out
test:       FILE | {...} | [...]                rows that are only measured on, in the end
fit:        settings of `RewardFitConfig`; `optimiser` holds those of `FitConfig`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from plaudit.data import FieldMap, Row, read_rows
from plaudit.rewards.learned.backbones import EMBEDDED
from plaudit.types import SpecError, UserError

if TYPE_CHECKING:
    from plaudit.rewards.learned.base import LearnedReward
    from plaudit.rewards.learned.fit import RewardFitConfig
    from plaudit.rewards.learned.labels import LabelledRows, Labels

KEYS = ("head", "backbone", "data", "validation", "test", "fit")
NEEDED = ("head", "data")
DATA_KEYS = ("file", "limit", "skip_bad", "fields", "aspects", "weight")
MOST_LEVELS = 20
"""Different ratings from which on an ordinal head asks for its levels instead of taking all that occur."""
DEFAULTS: dict[str, dict[str, Any]] = {
    "frozen": {"epochs": 50, "batch_units": 32, "patience": 5, "optimiser": {"learning_rate": 1e-3, "weight_decay": 0.01}},
    "lora": {"epochs": 2, "batch_units": 8, "optimiser": {"learning_rate": 1e-3, "learning_rates": {"backbone": 2e-4}}},
    "full": {"epochs": 1, "batch_units": 8, "optimiser": {"learning_rate": 1e-3, "learning_rates": {"backbone": 1e-5}}},
}
"""Settings of the fit by adaptation, where nothing else is said."""


class FitParts:
    """Builds what a fit needs from settings. Raises SpecError or UserError, in one sentence, for what cannot be built."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.head_settings = _named(document["head"], "head")
        self.kind = str(self.head_settings.pop("name"))
        self.backbone_settings = _backbone(document.get("backbone"))
        self.config = self._config()
        self.data_settings = _data_settings(document["data"], "data")
        self.labels = _labels(self.kind, self.head_settings)
        self.aspects = tuple(self.data_settings.get("aspects") or self.head_settings.get("aspects") or ())

    def data(self) -> LabelledRows:
        """The rows that are fitted on."""
        return self.labelled(self.data_settings)

    def validation(self) -> LabelledRows | None:
        """The held-out rows, where they were named."""
        spec = self.document.get("validation")
        return (
            None if spec is None else self.labelled({**self.data_settings, "limit": None, **_data_settings(spec, "validation")})
        )

    def tests(self) -> dict[str, list[Row]]:
        """Rows to measure on, by the name of their file."""
        spec = self.document.get("test")
        listed = spec if isinstance(spec, list) else [] if spec is None else [spec]
        return {str(one["file"]): _rows(one) for one in (_data_settings(item, "test") for item in listed)}

    def labelled(self, settings: Mapping[str, Any]) -> LabelledRows:
        """Rows of a file, with what they teach this head."""
        from plaudit.rewards.learned.labels import labelled_rows

        try:
            return labelled_rows(_rows(settings), self.labels, aspects=self.aspects, weight=settings.get("weight"))
        except UserError as error:
            if type(error) is UserError:  # about all rows: say of which file
                raise UserError(f"{settings['file']}: {error}") from error
            raise

    def reward(self, data: LabelledRows) -> LearnedReward:
        """The reward before fitting; settings that the data decides are filled in."""
        from plaudit.rewards.learned.catalogue import build_backbone, build_head

        settings = dict(self.head_settings)
        if self.kind == "aspects":
            settings["aspects"] = list(self.aspects)
        if self.kind == "ordinal" and "levels" not in settings:
            settings["levels"] = _levels(data)
        backbone = build_backbone({"kind": "text", **self.backbone_settings})
        return build_head(self.kind, {"backbone": backbone, **settings})

    def _config(self) -> RewardFitConfig:
        from plaudit.fitting import FitConfig
        from plaudit.rewards.learned.fit import RewardFitConfig

        adaptation = str(self.backbone_settings.get("adaptation", "frozen"))
        given = self.document.get("fit") or {}
        if not isinstance(given, Mapping) or not isinstance(given.get("optimiser") or {}, Mapping):
            raise SpecError("fit: expected settings by name, such as epochs and optimiser")
        usual = DEFAULTS.get(adaptation, DEFAULTS["frozen"])
        optimiser = {**usual["optimiser"], **(given.get("optimiser") or {})}
        if "betas" in optimiser:
            optimiser["betas"] = tuple(optimiser["betas"])
        settings = {**usual, **given}
        try:
            return RewardFitConfig(**{**settings, "optimiser": FitConfig(**optimiser)})
        except (TypeError, ValueError) as error:
            raise SpecError(f"fit: {error}") from error


def _named(spec: Any, what: str, key: str = "name") -> dict[str, Any]:
    """Settings with a name out of a name or such settings."""
    settings = {key: spec} if isinstance(spec, str) else dict(spec) if isinstance(spec, Mapping) else {}
    if not isinstance(settings.get(key), str):
        raise SpecError(f"{what}: expected a name, or settings with a {key}")
    return settings


def _backbone(spec: Any) -> dict[str, Any]:
    """Settings of the backbone; without a model the embedded one."""
    return _named({"model": EMBEDDED, **spec} if isinstance(spec, Mapping) else spec or EMBEDDED, "backbone", "model")


def _labels(kind: str, settings: Mapping[str, Any]) -> Labels:
    """What a kind of head is fitted on."""
    from plaudit.rewards.learned.catalogue import HEADS

    if kind not in HEADS:
        raise SpecError(f"unknown head '{kind}'; expected one of {', '.join(HEADS)}")
    if kind == "aspects" or (kind == "bt" and settings.get("margin")):
        return "both"
    return "ratings" if HEADS[kind].units in ("rows", "groups") else "pairs"


def _data_settings(spec: Any, what: str) -> dict[str, Any]:
    settings = _named(spec, what, "file")
    unknown = [name for name in settings if name not in DATA_KEYS]
    if unknown:
        raise SpecError(f"{what}: unknown setting '{unknown[0]}'; expected some of {', '.join(DATA_KEYS)}")
    return settings


def _rows(settings: Mapping[str, Any]) -> list[Row]:
    """All rows of a file."""
    named = settings.get("fields") or None
    known = [item.name for item in fields(FieldMap)]
    if named is not None and (not isinstance(named, Mapping) or set(named) - set(known)):
        raise SpecError(f"fields: expected some of {', '.join(known)}")
    mapping = None if named is None else FieldMap(**named)
    stream = read_rows(
        settings["file"], fields=mapping, limit=settings.get("limit"), skip_bad=bool(settings.get("skip_bad", False))
    )
    return list(stream)


def _levels(data: LabelledRows) -> Sequence[float]:
    ratings = data.data.ratings
    if ratings is None or ratings.dim() != 1:
        raise UserError("head 'ordinal': expected one rating a response")
    levels = sorted(set(ratings[~ratings.isnan()].tolist()))
    if len(levels) > MOST_LEVELS:
        raise UserError(
            f"head 'ordinal': the ratings have {len(levels)} different values; name the levels, or take the head regression"
        )
    return levels
