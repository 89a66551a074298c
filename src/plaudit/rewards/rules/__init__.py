"""Rules: rewards that a program decides. Importing them imports neither torch nor a checker's own libraries."""

from plaudit.rewards.rules.answers import extract_answer
from plaudit.rewards.rules.base import FunctionReward, Judged, RuleReward, as_reward, response_text, reward, rule
from plaudit.rewards.rules.code import CodeTests
from plaudit.rewards.rules.language import AnswerLanguage
from plaudit.rewards.rules.length import Brevity, Length, Overlong, Repetition, overlong_penalty
from plaudit.rewards.rules.math_answer import MathAnswer
from plaudit.rewards.rules.pool import ProcessPool
from plaudit.rewards.rules.text_format import ExactMatch, JsonSchemaFormat, RegexFormat, TagFormat, ThinkFormat

RULES: dict[str, type[RuleReward]] = {
    kind.name: kind
    for kind in (
        MathAnswer,
        ExactMatch,
        RegexFormat,
        JsonSchemaFormat,
        TagFormat,
        ThinkFormat,
        Length,
        Brevity,
        Overlong,
        Repetition,
        AnswerLanguage,
        CodeTests,
    )
}
"""The rules by name; the first line of each docstring says what it does."""

__all__ = [
    "RULES",
    "AnswerLanguage",
    "Brevity",
    "CodeTests",
    "ExactMatch",
    "FunctionReward",
    "JsonSchemaFormat",
    "Judged",
    "Length",
    "MathAnswer",
    "Overlong",
    "ProcessPool",
    "RegexFormat",
    "Repetition",
    "RuleReward",
    "TagFormat",
    "ThinkFormat",
    "as_reward",
    "extract_answer",
    "overlong_penalty",
    "response_text",
    "reward",
    "rule",
]
