"""The page about rules: its example runs, and its table names every rule."""

from pathlib import Path

from plaudit.rewards.rules import RULES
from tests.test_docs import run_blocks

PAGE = Path(__file__).resolve().parents[3] / "docs" / "rules.md"


def test_the_example_runs():
    assert run_blocks(PAGE) == 2


def test_every_rule_is_on_the_page():
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name, kind in RULES.items() if f"| `{name}` | `{kind.__name__}` |" not in text] == []
