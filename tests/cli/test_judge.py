"""`plaudit judge` as a user runs it: a real process, its output, its files and its exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROWS = [
    {"prompt": "What is 2 + 2?", "chosen": "4", "rejected": "It is five, because two and two make five."},
    {"prompt": "Name a colour.", "chosen": "Blue is one.", "rejected": "No"},
    {"prompt": "Say hello.", "chosen": "Hello!", "rejected": "Good evening to all of you out there."},
]


def plaudit(*arguments, cwd, code=0, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "plaudit", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PLAUDIT_STORE": str(cwd / "store.sqlite"), "COLUMNS": "200", **environment},
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


def test_a_table_with_interval_chance_and_baseline(pairs, tmp_path):
    shown = plaudit("judge", pairs, "--reward", "brevity", cwd=tmp_path).stdout
    assert "66.7 %" in shown  # short answers are preferred in two of three rows
    assert "n = 3" in shown
    assert "chance 50 %" in shown
    assert "longest" in shown


def test_the_same_command_twice_gives_the_same_bytes_and_no_torch(pairs, tmp_path):
    command = ("judge", pairs, "--reward", "brevity", "--json", "--out", "rows.jsonl")
    first = plaudit(*command, cwd=tmp_path).stdout
    rows = (tmp_path / "rows.jsonl").read_bytes()
    (tmp_path / "torch.py").write_text("raise ImportError('torch was imported')")
    second = plaudit(*command, cwd=tmp_path, PYTHONPATH=str(tmp_path)).stdout
    assert second == first
    assert (tmp_path / "rows.jsonl").read_bytes() == rows
    report = json.loads(first)
    assert report["summary"]["labelled_pairs"]["accuracy"]["n"] == 3
    assert str(tmp_path) not in first


def test_the_order_of_rows_and_a_store_do_not_change_numbers(pairs, tmp_path):
    with_store = json.loads(plaudit("judge", pairs, "--reward", "brevity", "--json", cwd=tmp_path).stdout)
    without = json.loads(plaudit("judge", pairs, "--reward", "brevity", "--json", "--store", "none", cwd=tmp_path).stdout)
    assert with_store == without


def test_csv_columns_by_name_and_csv_out(tmp_path):
    table = 'frage,antwort\n"Was, bitte?","Nichts."\nNoch etwas?,"Ja, ""das"" hier."\n'
    (tmp_path / "a.csv").write_text(table, encoding="utf-8")
    fields = ("--prompt-field", "frage", "--response-field", "antwort")
    plaudit("judge", "a.csv", "--reward", "length", *fields, "--out", "o.csv", cwd=tmp_path)
    lines = (tmp_path / "o.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "id,response,value,status,gold,detail"
    assert [line.split(",")[2] for line in lines[1:]] == ["7.0", "15.0"]


BAD = {
    "missing file": ("absent.jsonl", None, "absent.jsonl: file not found"),
    "empty file": ("a.jsonl", b"", "no rows"),
    "truncated line": ("a.jsonl", b'{"prompt": "a", "response": "b"}\n{"prompt": "a", "resp', "row 2"),
    "wrong field": ("a.jsonl", b'{"text": "a"}\n', "row 1"),
    "null response": ("a.jsonl", b'{"prompt": "a", "response": "b"}\n{"prompt": "a", "response": null}\n', "row 2"),
    "mixed schemas": ("a.jsonl", b'{"prompt": "a", "response": "b"}\n{"prompt": "a", "chosen": "b", "rejected": "c"}\n', "row 2"),
    "invalid utf-8": ("a.jsonl", b'{"prompt": "a", "response": "b"}\n{"prompt": "\xff\xfe", "response": "b"}\n', "row 2"),
    "NaN label": ("a.jsonl", b'{"prompt": "a", "response": "b", "label": NaN}\n', "row 1"),
    "not json at all": ("a.jsonl", b"\x00\x01\x02", "row 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_exit_code_2(case, tmp_path):
    name, content, said = BAD[case]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    out = tmp_path / "out.jsonl"
    done = plaudit("judge", name, "--reward", "length", "--out", out, cwd=tmp_path, code=2)
    assert said in done.stderr
    assert name in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not out.exists()
    assert done.stdout == ""


def test_bad_rows_can_be_skipped_and_are_listed(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"prompt": "a", "response": "b"}\n{"prompt": "a", "response": null}\nnot json\n')
    done = plaudit("judge", "a.jsonl", "--reward", "length", "--skip-bad", "--json", cwd=tmp_path)
    report = json.loads(done.stdout)
    assert report["skipped_rows"] == 2
    assert [skipped["row"] for skipped in report["skipped"]] == [2, 3]
    assert report["summary"]["rows"] == 1


def test_a_response_of_a_megabyte(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": "a", "response": "x" * 1_000_000}) + "\n")
    report = json.loads(plaudit("judge", "a.jsonl", "--reward", "length", "--json", cwd=tmp_path).stdout)
    assert report["summary"]["values"]["mean"] == 1_000_000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--reward", "nonsense"), "unknown reward 'nonsense'"),
        (("--reward", "absent.yaml"), "absent.yaml"),
        (("--reward", "absent.py:thing"), "absent.py"),
        (("--reward", "{sum: {a: {weight: heavy, reward: length}}}"), "weight"),
        (("--reward", "yes-token", "--engine", "nonsense"), "unknown engine 'nonsense'"),
        (("--reward", "yes-token", "--engine", "http://127.0.0.1:9/v1#m"), "127.0.0.1:9"),
        (("--reward", "length", "--out", "rows.txt"), "rows.txt"),
        (("--reward", "length", "--out", "no/such/folder/rows.jsonl"), "cannot be written"),
        (("--reward", "length", "--store", "nonsense://x"), "cannot be opened"),
        (("--reward", "length", "--prompt-field", "nonsense"), "nonsense"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(arguments, said, pairs, tmp_path):
    done = plaudit("judge", pairs, *arguments, cwd=tmp_path, code=2)
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_rewards_from_the_users_own_file(pairs, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from plaudit import as_reward\n"
        "def commas(prompt, response):\n    return response.count(',')\n"
        "@as_reward\ndef odd(response):\n    return len(response) % 2 == 1\n"
        "number = 3\n"
    )
    report = json.loads(plaudit("judge", pairs, "--reward", "mine.py:commas", "--json", cwd=tmp_path).stdout)
    assert report["summary"]["values"] == {"n": 6, "mean": 0.166667, "std": 0.408248, "min": 0.0, "max": 1.0}
    plaudit("judge", pairs, "--reward", "mine.py:odd", cwd=tmp_path)
    assert "expected a reward or a function" in plaudit("judge", pairs, "--reward", "mine.py:number", cwd=tmp_path, code=2).stderr


def test_changing_the_users_file_changes_the_key(pairs, tmp_path):
    values = []
    for factor in (1, 2):
        (tmp_path / "mine.py").write_text(f"FACTOR = {factor}\ndef scaled(response):\n    return FACTOR * len(response)\n")
        report = json.loads(plaudit("judge", pairs, "--reward", "mine.py:scaled", "--json", cwd=tmp_path).stdout)
        values.append(report["summary"]["values"]["mean"])
    assert values[1] == pytest.approx(2 * values[0])


def test_a_composition_from_yaml_shows_its_parts(pairs, tmp_path):
    (tmp_path / "blend.yaml").write_text(
        "sum:\n  short: {weight: 0.5, reward: brevity}\n  full-stop: {weight: 0.5, reward: {name: regex, pattern: '.*[.!]'}}\n"
    )
    plaudit("judge", pairs, "--reward", "blend.yaml", "--out", "rows.jsonl", cwd=tmp_path)
    first = json.loads((tmp_path / "rows.jsonl").read_text().splitlines()[0])["responses"][0]
    assert set(first["parts"]) == {"short", "full-stop"}
    assert first["value"] == pytest.approx(0.5 * first["parts"]["short"] + 0.5 * first["parts"]["full-stop"], rel=1e-6)


def test_standard_input_and_limit(tmp_path):
    lines = "".join(json.dumps({"prompt": "p", "response": "x" * size}) + "\n" for size in range(1, 9))
    done = subprocess.run(
        [sys.executable, "-m", "plaudit", "judge", "-", "--reward", "length", "--limit", "3", "--json", "--store", "none"],
        input=lines,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    assert json.loads(done.stdout)["summary"]["values"]["max"] == 3


def test_store_commands(pairs, tmp_path):
    plaudit("judge", pairs, "--reward", "length", cwd=tmp_path)
    (entry,) = json.loads(plaudit("store", "list", "--json", cwd=tmp_path).stdout)
    assert (entry["name"], entry["verdicts"]) == ("length", 6)
    plaudit("store", "export", "all.jsonl", cwd=tmp_path)
    assert len(Path(tmp_path / "all.jsonl").read_text().splitlines()) == 6
    assert "nothing to prune" in plaudit("store", "prune", cwd=tmp_path, code=2).stderr
    assert "6 verdicts deleted" in plaudit("store", "prune", "--reward", entry["fingerprint"][:8], cwd=tmp_path).stdout


def test_version_rewards_and_help(tmp_path):
    assert plaudit("--version", cwd=tmp_path).stdout.startswith("plaudit 0.")
    names = {entry["name"] for entry in json.loads(plaudit("rewards", "--json", cwd=tmp_path).stdout)}
    assert {"yes-token", "verdict", "scale", "rubric", "reason-then-verdict", "math", "length"} <= names
    assert "--skip-bad" in plaudit("judge", "--help", cwd=tmp_path).stdout
    assert plaudit("judge", cwd=tmp_path, code=2).stderr != ""


def test_doctor(tmp_path):
    checks = json.loads(plaudit("doctor", "--json", cwd=tmp_path).stdout)
    assert {"python", "torch", "embedded model", "verdict store", "math checker"} <= {check["name"] for check in checks}
