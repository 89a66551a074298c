"""Contracts are data: built in, from YAML, or in Python; what is wrong with one is said in a sentence."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from plaudit.rewards.generative import (
    Contract,
    Criterion,
    Label,
    OptionsReadout,
    TextReadout,
    contract_from_mapping,
    contract_names,
    load_contract,
    rubric_contract,
    scale_contract,
)
from plaudit.rewards.generative.contract import spellings_of
from plaudit.types import SpecError

POLITE_YAML = """\
description: "Is the response polite?"
user: |
  {{ prompt }}
  {{ response }}
  Is the response polite? Answer yes or no.
readout:
  options: {yes: 1, no: 0}
"""

POLITE = Contract(
    name="polite",
    description="Is the response polite?",
    user="{{ prompt }}\n{{ response }}\nIs the response polite? Answer yes or no.\n",
    readout=OptionsReadout((Label("yes", 1.0), Label("no", 0.0))),
)


def test_a_new_contract_is_a_few_lines_of_yaml_or_python(tmp_path: Path) -> None:
    file = tmp_path / "polite.yaml"
    file.write_text(POLITE_YAML, encoding="utf-8")
    assert load_contract(str(file)) == POLITE
    assert load_contract(str(file)).content() == POLITE.content()


@pytest.mark.parametrize("name", contract_names())
def test_built_in_contracts_load_and_describe_themselves(name: str) -> None:
    contract = load_contract(name)
    assert contract.name == name
    assert contract.description.endswith(".")
    assert "\n" not in contract.description
    assert contract.content() == load_contract(name).content()


def test_content_leaves_out_only_name_and_description() -> None:
    contract = load_contract("yes-token")
    assert rubric_contract(["Is it short?"], name="a").content() == rubric_contract(["Is it short?"], name="b").content()
    seen = [contract.content()]
    changes = [{"prefix": "Answer:"}, {"system": "x"}, {"delimiters": {"response": ["<r>", "</r>"]}}, {"on_missing": 0.5}]
    changes += [{"readout": {"options": {"yes": 1, "no": 0}, "minimum_mass": 0.5}}]
    for change in changes:
        seen.append(contract_from_mapping("yes-token", {"base": "yes-token", **change}).content())
    assert all(seen.count(content) == 1 for content in seen)


def test_spellings_follow_the_rule() -> None:
    assert set(spellings_of("yes")) == {"yes", " yes", "Yes", " Yes", "YES", " YES"}
    assert spellings_of("A") == ("A", " A")
    assert spellings_of("3") == ("3", " 3")


def test_rubrics_and_scales_in_python() -> None:
    rubric = rubric_contract({"Is it correct?": 3, "Is it brief?": 1}, on_missing="drop_for_group")
    assert rubric.criteria == (Criterion("Is it correct?", "Is it correct?", 3.0), Criterion("Is it brief?", "Is it brief?", 1.0))
    assert rubric.on_missing == "drop_for_group"
    scale = scale_contract(7).readout
    assert isinstance(scale, OptionsReadout)
    assert [label.value for label in scale.labels] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "triple"}, "kind is 'triple'"),
        ({"kind": "listwise"}, "read by a function"),
        ({"user": "{{ prompt }}"}, "never shows 'response'"),
        ({"user": "{{ response }} {{ answer }}"}, "uses 'answer'"),
        ({"user": "{{ response }} {% if %}"}, "user, line 1"),
        ({"user": 3}, "user is int"),
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"reference": "maybe"}, "reference is 'maybe'"),
        ({"reference": "needed"}, "never shows 'reference'"),
        ({"user": "{{ response }}{{ reference }}"}, "expected reference: optional or needed"),
        ({"readout": {"options": {"yes": 1}}}, "1 labels, expected at least 2"),
        ({"readout": {"options": {"yes": 1, "Yes": 0}}}, "spelling of both"),
        ({"readout": {"options": {"yes": "one", "no": 0}}}, "readout.options.yes is 'one'"),
        ({"readout": {"options": {"yes": 1, "no": 0}, "text": {}}}, "expected exactly one"),
        ({"readout": {"options": {"yes": 1, "no": 0}, "minimum_mass": 2}}, "expected a probability"),
        ({"readout": {"scale": {"low": 1, "high": 10}}}, "from 1 to 10"),
        ({"readout": {"text": {"labels": {"good": 1}, "mode": "loose"}}}, "mode is 'loose'"),
        ({"readout": {"text": {"labels": {"good": 1}, "strict": "(", "marker": "V"}}}, "no regular expression"),
        ({"readout": {"text": {"labels": {"good": 1}, "lenient": "good"}}}, "no group named 'verdict'"),
        ({"readout": {"text": {"function": "nowhere_at_all:parse"}}}, "cannot be imported"),
        ({"readout": {"text": {"labels": {"good": 1}, "numbers": {"low": 1, "high": 2}}}}, "no labels beside"),
        ({"criteria": {"short": "Is it short?"}}, "never shows 'criterion'"),
        ({"user": "{{ response }}{{ criterion }}", "criteria": {"short": {"question": "?", "weight": 0}}}, "weight is 0"),
        ({"on_missing": "zero"}, "on_missing is 'zero'"),
        ({"delimiters": {"response": ["<r>"]}}, "an opening and a closing mark"),
        ({"delimiters": {"response": ["<r>", "\\end"]}}, "no backslash"),
        ({"base": "nothing"}, "base is 'nothing'"),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, object], message: str) -> None:
    good: dict[str, object] = {"user": "{{ prompt }} {{ response }}", "readout": {"options": {"yes": 1, "no": 0}}}
    contract_from_mapping("mine", good)
    with pytest.raises(SpecError) as caught:
        contract_from_mapping("mine", {**good, **change})
    assert message in str(caught.value)
    assert "'mine'" in str(caught.value)


def test_files_that_are_no_contracts(tmp_path: Path) -> None:
    for name, text, message in [
        ("a.yaml", "user: [", "no YAML"),
        ("b.yaml", "- x", "expected fields"),
        ("c.yaml", "{}", "'user' is missing"),
    ]:
        (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises(SpecError, match=message):
            load_contract(tmp_path / name)
    (tmp_path / "d.yaml").write_bytes(b"\xff\xfe\x00user")
    for missing in (tmp_path / "d.yaml", tmp_path / "e.yaml"):
        with pytest.raises(SpecError, match="cannot be read"):
            load_contract(missing)
    with pytest.raises(SpecError, match="no contract is called 'yes-tokens'"):
        load_contract("yes-tokens")


def test_pairs_are_worth_one_nought_or_a_half() -> None:
    with pytest.raises(SpecError, match="is worth 2"):
        Contract("c", "{{ first }}{{ second }}", OptionsReadout((Label("A", 2.0), Label("B", 0.0))), kind="pairwise")
    with pytest.raises(SpecError, match="not numbers"):
        Contract("c", "{{ first }}{{ second }}", TextReadout(numbers=(1.0, 5.0)), kind="pairwise")


def test_loading_and_fingerprinting_import_no_torch() -> None:
    code = (
        "import sys\n"
        "from plaudit.rewards.generative import Judge\n"
        "from tests.rewards.generative.scripted import ScriptedEngine\n"
        "[Judge(ScriptedEngine(), name).fingerprint() for name in ('yes-token', 'rubric', 'reason-then-verdict')]\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


def test_examples_of_the_documentation_load_and_run(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "contracts.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"^```(yaml|python)\n(.*?)^```", page, re.DOTALL | re.MULTILINE)[:2])
    (tmp_path / "polite.yaml").write_text(blocks["yaml"], encoding="utf-8")
    space: dict[str, Contract] = {}
    exec(blocks["python"], space)
    assert space["polite"].kind == load_contract(tmp_path / "polite.yaml").kind
    assert blocks["yaml"].count("\n") < 25
    assert blocks["python"].count("\n") < 25
    for name in contract_names():
        assert f"`{name}`" in page
