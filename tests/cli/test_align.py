import json
import shutil

import pytest

from plaudit.cli.align_config import read_config, read_prompts
from plaudit.training import read_metrics
from plaudit.types import DataError, SpecError

MINE = """
from tests.training.small import Broken, GroupGradient, Match, Words

def doubled(scores, batch):
    from plaudit.types import Scores
    return Scores(scores.values * 2)

def critic(generator, clip=0.2):
    import torch
    from plaudit.objectives.policy_gradient import ModuleCritic
    linear = torch.nn.Linear(1, 1)
    return ModuleCritic(linear, lambda t: t.payload["letters"][..., None].float(), clip=clip)

class Bright(Match):
    def score(self, batch, ctx=None):
        from plaudit.types import Scores
        return Scores(batch.responses.mean(1))
"""
SETTINGS = """
generator: {name: "mine.py:Words", seed: 1}
objective: mine.py:GroupGradient
source: {prompts: prompts.jsonl, rows_per_draw: 24, samples_per_prompt: 8}
reward: mine.py:Match
shaper: mine.py:doubled
reference_policy: frozen copy
monitors: [KLToReference, {name: InvalidShare, window: 2}]
evaluation: {prompts: prompts.jsonl, reward: "mine.py:Match", every: 2}
run: {steps: 4, checkpoint_every: 2}
fit: {learning_rate: 0.1, mini_batch_rows: 8, betas: [0.9, 0.99]}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "small.yaml").write_text(SETTINGS)
    lines = [json.dumps({"prompt": str(number), "level": number}) for number in range(6)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_a_run_from_a_file_and_its_continuation(plaudit, folder):
    code, said, notes = plaudit("align", "small.yaml")
    assert code == 0, notes
    assert "4 steps, reward" in said
    assert "independent reward" in said
    run = folder / "runs" / "small"
    lines = read_metrics(run)
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4]
    assert lines[0]["draw/shaped_mean"] == pytest.approx(2 * lines[0]["draw/reward_mean"])
    assert "kl/mean" in lines[0]
    assert (run / "run.html").is_file()
    code, _, notes = plaudit("align", "small.yaml")
    assert code == 2
    assert "--resume" in notes
    code, said, _ = plaudit("align", "--resume", "runs/small", "--set", "run.steps=6", "--json")
    assert code == 0
    assert json.loads(said)["done"] == 6
    assert read_metrics(run)[:4] == lines[:4]


def test_a_run_resumed_in_the_middle_equals_one_that_went_through(plaudit, folder):
    assert plaudit("align", "small.yaml", "--out", "whole")[0] == 0
    assert plaudit("align", "small.yaml", "--out", "parts")[0] == 0
    shutil.rmtree(folder / "parts" / "checkpoints" / "000004")  # as if it had been killed after step 3
    assert plaudit("align", "--resume", "parts")[0] == 0
    assert read_metrics(folder / "parts") == read_metrics(folder / "whole")


def test_a_run_that_stops_early_says_why_and_exits_with_1(plaudit, folder):
    code, _, notes = plaudit("align", "small.yaml", "--set", "run.budget={reward_calls: 30}")
    assert code == 1
    assert "stopped: BudgetExceeded: reward_calls" in notes


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("generator=nothing", "unknown generator 'nothing'"),
        ("objective=nothing", "unknown objective 'nothing'"),
        ("reward=nothing", "unknown reward 'nothing'"),
        ("reward=truth", "'truth' is asked of a world"),
        ("world=nothing", "unknown world 'nothing'"),
        ("shaper=nothing", "unknown shaper 'nothing'"),
        ("objective=ppo", "no critic of the kind 'by default' for a Words"),
        ("objective={name: ppo, critic: big}", "unknown critic 'big'"),
        ("objective={name: ppo, critic: {kind: copy, depth: 3}}", "'depth'"),
        ("objective={name: ppo, critic: mine.py:nothing}", "defines no 'nothing'"),
        ("monitors=[nothing]", "unknown monitor 'nothing'"),
        ("reference_policy=nothing", "expected 'frozen copy', 'ema'"),
        ("generator.sead=2", "generator: "),
        ("run.stepps=2", "run and fit: "),
        ("run.steps=0", "steps must be at least 1"),
        ("fit.learning_rate=-1", "learning rates must be positive"),
        ("source.rows_per_draw=7", "must be a multiple"),
        ("source.prompts=none.jsonl", "none.jsonl"),
        ("objective=mine.py:Nothing", "defines no 'Nothing'"),
        ("objective=other.py:Nothing", "file not found"),
        ("extra=1", "unknown setting 'extra'"),
        ("nothing", "expected KEY=VALUE"),
        ("reward.part.weight=1", "has no settings of its own"),
    ],
)
def test_what_cannot_be_built_is_said_in_a_sentence(plaudit, folder, change, says):
    if change.startswith("reward.part"):
        text = (folder / "small.yaml").read_text()
        (folder / "small.yaml").write_text(text.replace("reward: mine.py:Match\n", "reward: [1]\n"))
    code, _, notes = plaudit("align", "small.yaml", "--set", change)
    assert code == 2
    assert says in notes


PPO = """
generator: {name: flow, shape: [4], width: 16, blocks: 1, steps: 4}
objective: {name: ppo, critic: {width: 16, blocks: 1}}
source: {prompts: prompts.jsonl, rows_per_draw: 24, samples_per_prompt: 8}
reward: mine.py:Bright
reference_policy: frozen copy
run: {steps: 4, checkpoint_every: 2}
fit: {learning_rate: 0.001, learning_rates: {critic: 0.01}}
"""


def test_ppo_by_name_has_its_critic_built_and_kept(plaudit, folder):
    (folder / "ppo.yaml").write_text(PPO)
    assert plaudit("align", "ppo.yaml", "--out", "whole")[0] == 0
    assert plaudit("align", "ppo.yaml", "--out", "parts")[0] == 0
    shutil.rmtree(folder / "parts" / "checkpoints" / "000004")
    assert plaudit("align", "--resume", "parts")[0] == 0
    lines = read_metrics(folder / "parts")
    assert lines == read_metrics(folder / "whole")
    assert lines[3]["lesson/rows_kept"] == 24


def test_ppo_with_a_critic_of_ones_own(plaudit, folder):
    changes = ("objective={name: ppo, critic: {name: mine.py:critic, clip: null}}", "reference_policy=frozen copy", "shaper=null")
    code, _, notes = plaudit("align", "small.yaml", *(word for change in changes for word in ("--set", change)))
    assert code == 0, notes
    lines = read_metrics(folder / "runs" / "small")
    assert all(line["update/loss"] == line["update/loss"] for line in lines[:4])


def test_settings_are_needed_and_changed_in_place(folder, monkeypatch):
    monkeypatch.chdir(folder)
    document = read_config(folder / "small.yaml", ["objective.low=0.1", "fit.mini_batch_rows=null", "run.trackers=[a, b]"])
    assert document["objective"] == {"name": "mine.py:GroupGradient", "low": 0.1}
    assert document["fit"]["mini_batch_rows"] is None
    assert document["run"]["trackers"] == ["a", "b"]
    (folder / "empty.yaml").write_text("generator: x\n")
    with pytest.raises(SpecError, match="objective, source, reward must be given"):
        read_config(folder / "empty.yaml")
    with pytest.raises(SpecError, match="cannot be read"):
        read_config(folder / "nothing.yaml")


def test_prompts_keep_references_and_other_fields(tmp_path):
    file = tmp_path / "p.jsonl"
    chat = [{"role": "user", "content": "hi"}]
    file.write_text(json.dumps({"prompt": "2 + 2", "reference": "4", "level": 1}) + "\n\n" + json.dumps({"prompt": chat}) + "\n")
    batch = read_prompts(file)
    assert batch.prompts == ["2 + 2", chat]
    assert batch.references == ["4", None]
    assert batch.extras == {"level": [1, None]}
    for bad, says in (('{"prompt": 3}\n', "row 1: has no prompt"), ("{\n", "is not JSON"), ("\n", "holds no prompts")):
        file.write_text(bad)
        with pytest.raises(DataError, match=says):
            read_prompts(file)
