"""Judging on a real local Ray cluster: the same bytes as a single process, whoever is killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from plaudit.cli.main import main
from plaudit.data import read_rows
from plaudit.judging import Runner, Summary
from plaudit.judging.output import dump
from plaudit.scale.ray_cluster import cluster
from plaudit.scale.ray_judging import Job, RayRun, RewardSpec
from plaudit.scale.reading import Source
from plaudit.store import Store
from plaudit.types import Context, UserError
from tests.scale.inputs import folder_of_files, lines, records, write_rewards

pytest.importorskip("ray")


@pytest.fixture(scope="module", autouse=True)
def four_processors():
    with cluster("local", 4):
        yield


def single(file, reward, seed=0, **reading):
    """What one process writes and counts."""
    summary, text = Summary(), ""
    for result in Runner(reward, context=Context(seed=seed)).run(read_rows(file, **reading)):
        summary.add(result)
        text += dump(result.to_json()) + "\n"
    return text, summary.to_json()


def finish(job):
    """A run to its end; its numbers of parts judged now."""
    run = RayRun(job, job.reward())
    return run, [done.part for done in run.run(run.prepare())]


def written(folder):
    return "".join(path.read_text() for path in sorted(folder.glob("part-*.jsonl")))


@pytest.mark.parametrize(("name", "workers"), [("brevity", 2), ("Noted", 4), ("Ranked", 1), ("Drawn", 1)])
def test_the_bytes_and_the_summary_are_those_of_one_process(tmp_path, name, workers):
    source = Source(str(folder_of_files(tmp_path / "in")))
    reward = RewardSpec(name if name == "brevity" else f"{write_rewards(tmp_path)}:{name}")
    job = Job(source, reward, tmp_path / "out", workers, seed=3, part_rows=None if name == "brevity" else 16)
    run, parts = finish(job)
    text, summary = single(source.file, reward(), seed=3)
    assert written(job.out) == text
    assert run.summary().to_json() == summary
    assert len(parts) == run.manifest.parts >= (1 if name == "brevity" else 9)
    assert run.progress.rows == run.manifest.reading.rows


def test_a_run_goes_on_with_the_parts_that_are_missing(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines(records(64)))
    reward = RewardSpec(f"{write_rewards(tmp_path)}:Noted")
    job = Job(Source(str(tmp_path / "a.jsonl")), reward, tmp_path / "out", 2, part_rows=8)
    run, _ = finish(job)
    before, summary = written(job.out), run.summary().to_json()
    for part in ("part-00002", "part-00007"):
        (job.out / f"{part}.jsonl").unlink()
    kept = (job.out / "part-00000.jsonl").stat().st_mtime_ns
    (tmp_path / "processes").unlink()
    again, parts = finish(job)
    assert sorted(parts) == [2, 7]
    assert len((tmp_path / "processes").read_text().split()) == 2  # one batch a part
    assert (written(job.out), again.summary().to_json()) == (before, summary)
    assert (job.out / "part-00000.jsonl").stat().st_mtime_ns == kept
    assert finish(job)[1] == []


def test_bad_rows_get_the_sentence_of_one_process_before_anything_is_written(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines(records(20)) + b'{"prompt": "half\n')
    job = Job(Source(str(tmp_path / "a.jsonl")), RewardSpec("brevity"), tmp_path / "out", 2)
    with pytest.raises(UserError) as error:
        finish(job)
    with pytest.raises(UserError) as wanted:
        read_rows(job.source.file).validate()
    assert str(error.value) == str(wanted.value)
    assert not job.out.exists()


def test_a_worker_killed_in_the_middle_loses_nothing(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines(records(240)))
    reward = RewardSpec(f"{write_rewards(tmp_path)}:Slow")
    job = Job(Source(str(tmp_path / "a.jsonl")), reward, tmp_path / "out", 2, part_rows=24)
    killed = []

    def kill_one():
        noted = tmp_path / "processes"
        while not noted.exists() or len(noted.read_text().split()) < 8:
            time.sleep(0.02)
        killed.append(int(noted.read_text().split()[-1]))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    run, parts = finish(job)
    killer.join()
    text, summary = single(job.source.file, reward())
    assert written(job.out) == text
    assert run.summary().to_json() == summary
    assert sorted(parts) == list(range(10))
    judged_by = (tmp_path / "processes").read_text().split()
    assert len(judged_by) > 2 * 240 // 8, "the kill came too late: no batch was judged twice"
    assert not list(job.out.glob(".*"))


def test_a_row_that_kills_its_process_ends_the_run_with_a_sentence(tmp_path):
    rows = records(24)
    rows[9]["chosen"] = "deadly"
    (tmp_path / "a.jsonl").write_bytes(lines(rows))
    reward = RewardSpec(f"{write_rewards(tmp_path)}:Noted")
    job = Job(Source(str(tmp_path / "a.jsonl")), reward, tmp_path / "out", 1, part_rows=8)
    run = RayRun(job, reward())
    missing = run.prepare()
    (job.out / ".begun-00001").write_bytes(b"....")  # four workers have died of it already
    with pytest.raises(UserError, match=r"part-00001\.jsonl was begun 5 times"):
        list(run.run(missing))
    assert not (job.out / "part-00001.jsonl").exists()


def test_an_engine_that_is_gone_stops_the_run_and_keeps_whole_parts(tmp_path):
    rows = records(24)
    for row in rows[8:]:
        row["chosen"] = row["rejected"] = "unplugged"
    (tmp_path / "a.jsonl").write_bytes(lines(rows))
    reward = RewardSpec(f"{write_rewards(tmp_path)}:Noted")
    job = Job(Source(str(tmp_path / "a.jsonl")), reward, tmp_path / "out", 1, part_rows=8)
    run, parts = finish(job)
    assert parts in ([0], [])  # two answers that are there at once come in either order, and the run ends with the bad one
    assert run.progress.stopped == "the engine cannot be reached any more"
    assert run.summary().rows == 8
    assert sorted(path.name for path in job.out.glob("*part*")) == ["part-00000.jsonl", "part-00000.summary.json"]


def test_problems_of_the_reward_are_one_sentence(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines(records(24)))
    file = write_rewards(tmp_path)
    job = Job(Source(str(tmp_path / "a.jsonl")), RewardSpec(f"{file}:Noted"), tmp_path / "out", 1, part_rows=8)
    run = RayRun(job, job.reward())
    missing = run.prepare()
    file.write_text(file.read_text() + "\n# changed after the driver has read it\n")
    with pytest.raises(UserError, match="is not the driver's"):
        list(run.run(missing))


def test_a_local_store_is_shared_and_a_cluster_refuses_it(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines(records(64)))
    reward = RewardSpec(f"{write_rewards(tmp_path)}:Noted")
    job = Job(Source(str(tmp_path / "a.jsonl")), reward, tmp_path / "out", 2, part_rows=8, store=str(tmp_path / "v.sqlite"))
    first, _ = finish(job)
    assert first.progress.judged >= sum(entry.verdicts for entry in Store(job.store).rewards()) > 0
    elsewhere = Job(job.source, reward, tmp_path / "other", 1, part_rows=16, store=job.store)
    second, _ = finish(elsewhere)
    assert second.progress.judged == 0
    assert written(elsewhere.out) == written(job.out)
    with pytest.raises(UserError, match="postgresql"):
        job.check("10.0.0.1:6379")


@pytest.mark.model
def test_the_embedded_model_gives_the_numbers_of_one_process(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines(records(34)))
    job = Job(Source(str(tmp_path / "a.jsonl")), RewardSpec("yes-token"), tmp_path / "out", 2, part_rows=1)
    run, parts = finish(job)
    text, _ = single(job.source.file, job.reward())
    ours, theirs = (
        [one["value"] for line in found.splitlines() for one in json.loads(line)["responses"]]
        for found in (written(job.out), text)
    )
    assert len(parts) == run.manifest.parts > 1
    assert ours == pytest.approx(theirs, abs=1e-5)


def test_the_command_is_interrupted_and_goes_on(tmp_path, monkeypatch, capsys):
    (tmp_path / "a.jsonl").write_bytes(lines(records(96)))
    write_rewards(tmp_path)
    common = ["judge", "a.jsonl", "--reward", "rewards.py:Slow", "--json", "--out"]
    on_ray = [*common, "out", "--ray", "local", "--workers", "2", "--part-rows", "8"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    running = subprocess.Popen(
        [sys.executable, "-m", "plaudit", *on_ray], cwd=tmp_path, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    while not list((tmp_path / "out").glob("part-*.jsonl")) and running.poll() is None:
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does it: to every process in front
    shown, said = running.communicate(timeout=120)
    assert (running.returncode, shown) == (130, ""), said
    assert "ray" not in said.lower()
    whole = {path: path.read_text() for path in (tmp_path / "out").glob("part-*.jsonl")}
    assert 0 < len(whole) < 12
    monkeypatch.chdir(tmp_path)
    assert main(on_ray) == 0
    shown = capsys.readouterr().out
    assert all(path.read_text() == text for path, text in whole.items())
    assert main([*common, "rows.jsonl", "--store", "none"]) == 0
    assert capsys.readouterr().out == shown
    assert written(tmp_path / "out") == (tmp_path / "rows.jsonl").read_text()


OPTIONS = {
    "a folder is needed": (["--ray", "local"], "--out FOLDER"),
    "no file": (["--ray", "local", "--out", "rows.jsonl"], "--out FOLDER"),
    "one process only": (["--ray", "local", "--out", "out", "--votes", "3"], "--votes is for a single process"),
    "without Ray": (["--workers", "3"], "go with --ray"),
    "no workers": (["--ray", "local", "--out", "out", "--workers", "0"], "expected 1 or more"),
    "how many on a cluster": (["--ray", "auto", "--out", "out"], "needs --workers"),
    "a file as store": (["--ray", "auto", "--workers", "2", "--out", "out", "--store", "v.sqlite"], "file of one machine"),
    "unknown reward": (["--ray", "local", "--out", "out", "--reward", "nothing"], "unknown reward"),
    "no input": (["--ray", "local", "--out", "out", "b.jsonl"], "b.jsonl: file not found"),
}


@pytest.mark.parametrize(("options", "said"), OPTIONS.values(), ids=OPTIONS)
def test_options_that_do_not_fit_are_one_sentence(tmp_path, monkeypatch, capsys, options, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_bytes(lines(records(4)))
    file = [] if "b.jsonl" in options else ["a.jsonl"]
    reward = [] if "--reward" in options else ["--reward", "brevity"]
    assert main(["judge", *file, *reward, *options]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("plaudit.scale.ray_cluster.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'plaudit\[ray\]'"), cluster("local", 1):
        pass


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:10001"])
def test_an_address_without_a_cluster_is_one_sentence(tmp_path, address):
    (tmp_path / "a.jsonl").write_bytes(lines(records(4)))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    on_ray = ["judge", "a.jsonl", "--reward", "brevity", "--ray", address, "--workers", "2", "--out", "out"]
    done = subprocess.run(
        [sys.executable, "-m", "plaudit", *on_ray], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(
        f"plaudit: there is no Ray cluster at {address}" if "ray:" not in address else "plaudit: ray://"
    )
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
