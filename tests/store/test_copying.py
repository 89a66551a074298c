"""Verdicts move between databases, and a run that was begun on one goes on on the other."""

import json

import pytest

from plaudit.cli.main import main
from plaudit.store import Copied, Record, Store, StoreUnavailable, copy_verdicts
from plaudit.types import UserError


def filled(url, count=2500):
    store = Store(url)
    for reward in ("a" * 32, "b" * 32):
        body = {"value": 0.5, "text": "NUL \0, half a pair \ud800"}
        store.put(
            reward, f"name of {reward[0]}", [Record(f"{reward[0]}{n:031x}", "score", f"row\0{n}", body) for n in range(count)]
        )
    return store


@pytest.mark.parametrize("direction", ["to postgresql", "from postgresql", "sqlite"])
def test_everything_arrives_as_it_was(tmp_path, request, direction):
    one, other = f"sqlite:///{tmp_path}/one.sqlite", f"sqlite:///{tmp_path}/other.sqlite"
    if direction != "sqlite":
        other = request.getfixturevalue("postgres_url")
    if direction == "from postgresql":
        one, other = other, one
    source, target, seen = filled(one), Store(other), []
    assert copy_verdicts(source, target, progress=seen.append) == Copied(2, 5000, 5000)
    assert seen == [1000, 2000, 3000, 4000, 5000]
    assert list(target.records()) == list(source.records())
    assert target.rewards() == source.rewards()
    assert copy_verdicts(source, target) == Copied(2, 5000, 0)


def test_one_reward_and_what_is_there_stays(store_url, tmp_path):
    source, target = filled(tmp_path / "one.sqlite", 20), Store(store_url)
    mine = Record(f"b{7:031x}", "score", "mine", {"value": 1.0})
    target.put("b" * 32, "name of b", [mine])
    assert copy_verdicts(source, target, reward="bb") == Copied(1, 20, 19)
    assert target.get([mine.key]) == {mine.key: {"value": 1.0}}
    assert [(entry.fingerprint[0], entry.verdicts) for entry in target.rewards()] == [("b", 20)]
    with pytest.raises(UserError, match="no reward whose fingerprint begins with 'c'"):
        copy_verdicts(source, target, reward="c")
    with pytest.raises(UserError, match="cannot be copied to itself"):
        copy_verdicts(source, Store(tmp_path / "one.sqlite"))


def test_a_copy_that_was_stopped_is_taken_up(store_url, tmp_path):
    source, target = filled(tmp_path / "one.sqlite"), Store(store_url)

    def stop(read):
        if read == 2000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_verdicts(source, target, progress=stop)
    assert target.count() == 2000
    assert copy_verdicts(source, target) == Copied(2, 5000, 3000)


def test_a_target_that_goes_away_keeps_what_was_written(postgres, postgres_url, tmp_path):
    source, target = filled(tmp_path / "one.sqlite"), Store(postgres_url, patience=0)
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        copy_verdicts(source, target, progress=lambda read: postgres.stop() if read == 2000 else None)
    postgres.start()
    assert target.count() == 2000
    assert copy_verdicts(source, target).written == 3000


@pytest.fixture
def plaudit(tmp_path, monkeypatch, capsys):
    """Runs a command in the test's folder; what it said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLAUDIT_CACHE", str(tmp_path / "cache"))

    def run(*arguments, code=0):
        capsys.readouterr()
        found = main(arguments)
        said = capsys.readouterr()
        assert found == code, said.out + said.err
        assert "s3cret" not in said.out + said.err
        return said.err if code else said.out

    return run


REWARD = """
from plaudit import as_reward
def words(response):
    open("asked", "a").write(response + "\\n")
    return float(len(response.split()))
reward = as_reward(words, name="words")
"""


@pytest.mark.parametrize("direction", ["to postgresql", "from postgresql"])
def test_a_run_that_was_begun_on_one_database_goes_on_on_the_other(tmp_path, postgres_url, direction, plaudit):
    rows = [{"prompt": f"p {number}", "response": "word " * (number % 9 + 1) + str(number)} for number in range(60)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "words.py").write_text(REWARD)
    first, second = ("v.sqlite", postgres_url) if direction == "to postgresql" else (postgres_url, "v.sqlite")
    judge = ("judge", "rows.jsonl", "--reward", "words.py:reward", "--json")
    plaudit(*judge, "--limit", "40", "--store", first)
    copied = json.loads(plaudit("store", "copy", first, second, "--json"))
    assert (copied["rewards"], copied["read"], copied["written"], copied["present"]) == (1, 40, 40, 0)
    (tmp_path / "asked").unlink()
    moved = plaudit(*judge, "--store", second)
    assert [line.split()[-1] for line in (tmp_path / "asked").read_text().splitlines()] == [
        str(number) for number in range(40, 60)
    ]
    whole = plaudit(*judge, "--store", "none")
    assert moved == whole
    said = plaudit("store", "copy", first, second)
    assert "0 verdicts of 1 reward copied" in said
    assert "40 were there already" in said


def test_list_status_export_and_prune_on_every_database(tmp_path, store_url, plaudit, monkeypatch):
    filled(store_url, 3)
    status = json.loads(plaudit("store", "status", "--store", store_url, "--json"))
    assert (status["rewards"], status["verdicts"], status["schema"]) == (2, 6, "0002")
    monkeypatch.setenv("PLAUDIT_STORE", store_url)
    assert "6 verdicts of 2 rewards, schema 0002" in plaudit("store", "status")
    listed = json.loads(plaudit("store", "list", "--json", "--store", store_url))
    assert {entry["name"]: entry["verdicts"] for entry in listed} == {"name of a": 3, "name of b": 3}
    plaudit("store", "export", "out.jsonl", "--reward", "aa", "--store", store_url)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().decode("utf-8", "surrogatepass").splitlines()]
    assert lines == list(Store(store_url).records("aa"))
    assert "3 verdicts deleted" in plaudit("store", "prune", "--reward", "aa", "--store", store_url)
    assert [entry.name for entry in Store(store_url).rewards()] == ["name of b"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["copy", "none.sqlite", "to.sqlite"], "there is no verdict store at"),
        (["copy", "none", "to.sqlite"], "needs a store, not 'none'"),
        (["list", "--store", "none.sqlite"], "there is no verdict store at"),
        (["prune", "--reward", ""], "nothing to prune"),
        (["prune", "--older-than", "-1"], "expected days: 0 or more"),
        (["copy", "one.sqlite", "to.sqlite", "--reward", "zz"], "no reward whose fingerprint begins with 'zz'"),
        (["status", "--store", "postgresql://u:s3cret@127.0.0.1:1/d"], "cannot be opened"),
    ],
)
def test_bad_input_is_one_sentence_and_makes_no_file(tmp_path, arguments, sentence, plaudit):
    filled(tmp_path / "one.sqlite", 1).close()
    before = sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".sqlite")
    said = plaudit("store", *arguments, code=2)
    assert sentence in said
    assert said.startswith("plaudit: ")
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".sqlite") == before
