"""`plaudit fit` on a tiny model: what comes out is measured, can be used at once, and mistakes cost a sentence."""

import json
import random

import pytest
import torch

from plaudit.rewards.learned.checkpoint import load_reward
from plaudit.types import Batch
from tests.engines.tiny import save_tiny_model

GOOD, BAD = ["yes", "right", "good four"], ["no", "wrong", "bad tie"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def folder(tmp_path):
    """60 prompts: pairs whose better one has a good word, by the users u0 and u1; and ratings of single answers."""
    draw = random.Random(0)
    pairs, ratings = [], []
    for number in range(60):
        good, bad = (f"{draw.choice(words)} {draw.randint(0, 9)}" for words in (GOOD, BAD))
        pairs.append({"prompt": f"question {number}", "chosen": good, "rejected": bad, "user": f"u{number % 2}"})
        ratings.append({"prompt": f"question {number}", "response": good if number % 3 else bad, "label": 2 if number % 3 else 0})
    write(tmp_path / "pairs.jsonl", pairs)
    write(tmp_path / "test.jsonl", [{**pair, "prompt": f"other {pair['prompt']}"} for pair in pairs[:20]])
    write(tmp_path / "ratings.jsonl", ratings)
    return tmp_path


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


@pytest.fixture
def fit(plaudit, model, monkeypatch, tmp_path):
    monkeypatch.setenv("PLAUDIT_CACHE", str(tmp_path / "cache"))

    def run(*arguments):
        return plaudit("fit", "--backbone", model, "--set", "backbone.pooling=mean", *arguments)

    return run


def test_pairs_from_the_command_line_to_judging(fit, folder, plaudit):
    code, said, notes = fit("--data", "pairs.jsonl", "--test", "test.jsonl", "--set", "fit.optimiser.learning_rate=0.02")
    assert code == 0, notes
    assert "plaudit judge pairs.jsonl --reward rewards/bt-pairs" in said
    assert "held-out part: accuracy" in said
    out = folder / "rewards" / "bt-pairs"
    assert {path.name for path in out.iterdir()} == {
        "reward.json", "model.safetensors", "README.md", "fit.json", "audit.json", "fit.html", "fit.yaml",
    }  # fmt: skip
    audit = json.loads((out / "audit.json").read_text())
    assert audit["audit"]["test.jsonl"]["accuracy"]["estimate"]["mean"] > 0.8
    assert audit["audit"]["test.jsonl"]["accuracy"]["estimate"]["n"] == 20
    assert audit["audit"]["held-out part"]["rows"] == audit["fit"]["held_out"] == 6
    assert 0 <= audit["audit"]["test.jsonl"]["longest"]["estimate"]["mean"] <= 1
    card = (out / "README.md").read_text()
    assert "## Audit" in card
    assert "picking the longest instead" in card
    assert "Loss by epoch" in (out / "fit.html").read_text()
    code, said, notes = plaudit("judge", "test.jsonl", "--reward", out, "--json")
    assert code == 0, notes
    judged = json.loads(said)["summary"]
    assert judged["labelled_pairs"]["accuracy"]["mean"] == pytest.approx(
        audit["audit"]["test.jsonl"]["accuracy"]["estimate"]["mean"]
    )


def test_equal_fits_give_equal_bytes_and_a_finished_one_is_not_overwritten(fit, folder):
    first = fit("--data", "pairs.jsonl", "--epochs", "3", "--out", "one", "--json")
    second = fit("--data", "pairs.jsonl", "--epochs", "3", "--out", "two", "--json")
    assert first[0] == second[0] == 0
    assert first[1].replace('"one"', '"two"') == second[1]
    weights = [(folder / name / "model.safetensors").read_bytes() for name in ("one", "two")]
    assert weights[0] == weights[1]
    code, _, notes = fit("--data", "pairs.jsonl", "--out", "one")
    assert code == 2
    assert "holds a fitted reward already" in notes
    (folder / "one" / "audit.json").unlink()  # as if it had been killed before the audit
    assert fit("--data", "pairs.jsonl", "--epochs", "3", "--out", "one", "--json")[1] == first[1]


@pytest.mark.parametrize("adaptation", ["lora", "full"])
def test_backbones_that_learn(fit, folder, adaptation):
    code, said, notes = fit(
        "--data", "pairs.jsonl", "--adaptation", adaptation, "--epochs", "2", "--out", "r", "--json",
        "--set", "fit.optimiser.learning_rate=0.01",
    )  # fmt: skip
    assert code == 0, notes
    losses = json.loads(said)["fit"]["losses"]
    assert losses[1] < losses[0]
    reward = load_reward(folder / "r")
    names = {name.split("/")[0] for name in reward.weights()}
    assert "backbone" in names
    values = reward.score(Batch(["question 1"] * 2, ["yes 1", "no 1"])).values
    assert torch.isfinite(values).all()


def test_an_interrupted_fit_goes_on_with_the_same_numbers(fit, folder, monkeypatch):
    from plaudit.cli.fit_progress import FitWatch

    command = ("--data", "pairs.jsonl", "--adaptation", "lora", "--epochs", "3", "--json", "--set", "fit.patience=null")
    whole = fit(*command, "--out", "whole")
    update = FitWatch.update

    def stop(self, progress):
        if progress.epoch == 2:
            raise KeyboardInterrupt
        update(self, progress)

    monkeypatch.setattr(FitWatch, "update", stop)
    assert fit(*command, "--out", "parts")[0] == 130
    assert not (folder / "parts").exists()
    monkeypatch.setattr(FitWatch, "update", update)
    seen = []
    monkeypatch.setattr(FitWatch, "update", lambda _, progress: seen.append(progress.epoch))
    parts = fit(*command, "--out", "parts")
    assert set(seen) == {2}  # the first two epochs were kept
    assert parts[1] == whole[1].replace('"whole"', '"parts"')
    assert (folder / "parts" / "model.safetensors").read_bytes() == (folder / "whole" / "model.safetensors").read_bytes()


def test_ratings_and_levels(fit, folder):
    code, said, notes = fit("--data", "ratings.jsonl", "--head", "regression", "--set", "fit.validation=0.4", "--json")
    assert code == 0, notes
    audit = json.loads(said)["audit"]["held-out part"]
    assert audit["accuracy"]["estimate"] is None
    assert audit["rank_correlation"]["estimate"] is not None
    code, said, notes = fit("--data", "ratings.jsonl", "--head", "ordinal", "--epochs", "2")
    assert code == 0, notes
    assert json.loads((folder / "rewards" / "ordinal-ratings" / "reward.json").read_text())["settings"]["levels"] == [0, 2]


def test_a_file_of_settings_with_aspects_and_held_out_rows(fit, folder):
    rows = [
        {"prompt": f"p{n}", "responses": ["yes", "no"], "labels": [1, 0], "clear": [3, 1], "kind": [2, None]} for n in range(20)
    ]
    write(folder / "aspects.jsonl", rows)
    write(folder / "more.jsonl", [{**row, "prompt": "more " + row["prompt"]} for row in rows[:5]])
    (folder / "small.yaml").write_text(
        "head: {name: aspects, gate_hidden: [4]}\n"
        "data: {file: aspects.jsonl, aspects: [clear, kind], limit: 15}\n"
        "validation: more.jsonl\n"
        "fit: {epochs: 3, calibrate: false}\n"
    )
    code, said, notes = fit("small.yaml", "--json")
    assert code == 0, notes
    found = json.loads(said)
    assert found["fit"]["fitted"] == 15
    assert found["fit"]["held_out"] == 5
    assert found["audit"]["held-out part"]["rows"] == 5
    scores = load_reward(folder / "rewards" / "small").score(Batch(["p"], ["yes"]))
    assert set(scores.parts) == {"clear", "kind"}


def test_edge_cases_are_said(fit, folder):
    write(folder / "one.jsonl", [{"prompt": "p", "chosen": "yes", "rejected": "no"}])
    code, said, notes = fit("--data", "one.jsonl", "--epochs", "1")
    assert code == 0
    assert "no validation part" in notes
    assert "accuracy" not in said
    ties = [{"prompt": f"p{n}", "responses": ["yes", "no"], "labels": "tie"} for n in range(5)]
    write(folder / "ties.jsonl", ties)
    code, _, notes = fit("--data", "ties.jsonl", "--epochs", "1")
    assert code == 0
    assert "all labels are ties" in notes
    rows = [{"prompt": f"p{n}", "chosen": "same", "rejected": "same" if n < 5 else "other"} for n in range(12)]
    write(folder / "same.jsonl", rows)
    code, said, _ = fit("--data", "same.jsonl", "--epochs", "1", "--out", "same")
    assert code == 0
    assert "5 equal samples" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give a file of settings, or --data"),
        (("--data", "nothing.jsonl"), "nothing.jsonl"),
        (("--data", "pairs.jsonl", "--head", "nothing"), "unknown head 'nothing'"),
        (("--data", "ratings.jsonl"), "ratings.jsonl: no row has two responses with labels"),
        (("--data", "pairs.jsonl", "--epochs", "0"), "fit: epochs"),
        (("--data", "pairs.jsonl", "--set", "fit.epoch=1"), "fit: "),
        (("--data", "pairs.jsonl", "--set", "fit.optimiser.learning_rate=-1"), "learning rates must be positive"),
        (("--data", "pairs.jsonl", "--set", "backbone.layers=9"), "the model has 2"),
        (("--data", "pairs.jsonl", "--set", "backbone.pooling=max"), "pooling must be"),
        (("--data", "pairs.jsonl", "--set", "backbone.colour=red"), "backbone 'text'"),
        (("--data", "pairs.jsonl", "--set", "head={name: bt, smoothing: 2}"), "head 'bt'"),
        (("--data", "pairs.jsonl", "--set", "data.colour=red"), "data: unknown setting 'colour'"),
        (("--data", "pairs.jsonl", "--set", "colour=red"), "unknown setting 'colour'"),
        (("--data", "pairs.jsonl", "--backbone", "nowhere/to/be/found"), "does not exist"),
        (("--data", "pairs.jsonl", "--precision", "bfloat16", "--adaptation", "lora"), "has no gradients"),
        (("--data", "same.jsonl"), "nothing can be learned from"),
        (("nothing.yaml",), "cannot be read"),
    ],
)
def test_mistakes_cost_a_sentence_and_leave_nothing(fit, folder, arguments, says):
    write(folder / "same.jsonl", [{"prompt": "p", "chosen": "same", "rejected": "same"}])
    before = {path.name for path in folder.iterdir()} | {"cache", "rewards"}
    code, _, notes = fit(*arguments)
    assert code == 2, notes
    assert says in notes
    assert {path.name for path in folder.iterdir()} <= before
    assert not list((folder / "rewards").glob("*")) if (folder / "rewards").is_dir() else True


def test_a_folder_with_other_things_is_left_alone(fit, folder):
    (folder / "mine").mkdir()
    (folder / "mine" / "notes.txt").write_text("x")
    code, _, notes = fit("--data", "pairs.jsonl", "--out", "mine")
    assert code == 2
    assert "not empty" in notes
    assert [path.name for path in (folder / "mine").iterdir()] == ["notes.txt"]
