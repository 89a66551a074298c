"""The house rules that no linter knows: short files, short functions, light imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "tests").rglob("*.py")])
HEAVY = (
    "torch",
    "transformers",
    "sqlalchemy",
    "alembic",
    "psycopg",
    "fastapi",
    "ray",
    "aiohttp",
    "plotly",
    "pyarrow",
    "math_verify",
    "tyro",
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_short(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400, "a file over 400 lines: a concept is missing"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            assert node.end_lineno - node.lineno < 50, f"{node.name} has over 50 lines"


def loaded_after(statement: str) -> list[str]:
    code = f"import sys\n{statement}\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_importing_plaudit_is_light():
    assert loaded_after("import plaudit") == []


def test_the_runner_and_every_catalogue_come_without_torch():
    modules = "plaudit.judging, plaudit.store, plaudit.data, plaudit.engines.catalogue, plaudit.rewards.catalogue"
    assert loaded_after(f"import {modules}") == []
