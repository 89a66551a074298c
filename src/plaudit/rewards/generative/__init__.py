"""Rewards that ask a language model: `Judge` = engine + contract. Importing this package imports no torch."""

from plaudit.rewards.generative.contract import Contract, Criterion, Label, OptionsReadout, TextReadout
from plaudit.rewards.generative.judge import Judge
from plaudit.rewards.generative.library import (
    contract_from_mapping,
    contract_names,
    load_contract,
    rubric_contract,
    scale_contract,
)
from plaudit.rewards.generative.nuggets import Nugget, NuggetJudge, NuggetReward, exact_or_judge
from plaudit.rewards.generative.parsing import Parsed, ParsedList, parse

__all__ = [
    "Contract",
    "Criterion",
    "Judge",
    "Label",
    "Nugget",
    "NuggetJudge",
    "NuggetReward",
    "OptionsReadout",
    "Parsed",
    "ParsedList",
    "TextReadout",
    "contract_from_mapping",
    "contract_names",
    "exact_or_judge",
    "load_contract",
    "parse",
    "rubric_contract",
    "scale_contract",
]
