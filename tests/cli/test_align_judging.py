"""`plaudit align` trains a judge: prompts of a contract, a reward on the verdict."""

import json

import pytest

from plaudit.cli.align_config import Parts
from plaudit.cli.align_judging import labelled_prompts
from plaudit.generators.language.tiny import tiny_decoder
from plaudit.rewards.catalogue import Resolver
from plaudit.rewards.generative.judging_prompts import VerdictReward
from plaudit.training import read_metrics
from plaudit.types import UserError
from tests.rewards.generative.scripted import ScriptedEngine

CONTRACT = """
layout: text
user: "{{ prompt }}{{ response }}"
delimiters: {prompt: ["<<<", ">>>"], response: ["[[[", "]]]"]}
readout:
  text:
    labels: {correct: {value: 1, spellings: ["+"]}, incorrect: {value: 0, spellings: ["-"]}}
    strict: "(?P<verdict>[+-])"
    mode: strict
"""
MINE = """
def judge():
    from plaudit.generators.language.tiny import tiny_decoder
    return tiny_decoder("ab+-<>[]\\n", width=16, heads=2, layers=1, context=32, chat=False)
"""
SETTINGS = """
generator: mine.py:judge
objective: grpo
source: {prompts: {contract: same.yaml, rows: rows.jsonl}, rows_per_draw: 32, samples_per_prompt: 8, how: {max_tokens: 1}}
reward: {name: gold-verdict, contract: same.yaml, wrong: -1, unparsable: -1}
run: {steps: 3, checkpoint_every: 0}
fit: {learning_rate: 0.01}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "same.yaml").write_text(CONTRACT)
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "judge.yaml").write_text(SETTINGS)
    rows = [{"prompt": "a", "responses": ["a", "b"], "gold": [1, 0]}, {"prompt": "b", "responses": ["a", "b"], "gold": [0, 1]}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def test_a_judge_is_trained_from_a_file(plaudit, folder):
    code, _, notes = plaudit("align", "judge.yaml")
    assert code == 0, notes
    lines = read_metrics(folder / "runs" / "judge")
    assert -1.0 <= lines[0]["draw/reward_mean"] <= 1.0
    assert lines[0]["draw/rows"] == 32


def test_the_reward_by_name(folder):
    import yaml

    parts = Parts(yaml.safe_load(SETTINGS), Resolver(ScriptedEngine))
    assert isinstance(parts.reward, VerdictReward)
    assert (parts.reward.wrong, parts.reward.unparsable) == (-1.0, -1)
    assert parts.source.prompts.references == ["correct", "incorrect", "incorrect", "correct"]


def test_pairs_in_both_orders(folder):
    generator = tiny_decoder("ab", width=16, heads=2, layers=1)
    prompts = labelled_prompts(generator, contract="verdict-text", rows="rows.jsonl")
    assert prompts.references == ["A", "B", "B", "A"]
    assert len(set(map(str, prompts.prompts))) == 4
    (folder / "bare.jsonl").write_text(json.dumps({"prompt": "a", "response": "b"}))
    with pytest.raises(UserError, match="no labelled rows"):
        labelled_prompts(generator, contract="verdict-text", rows="bare.jsonl")
