"""Streams: limits, samples, ids, several files, constant memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from plaudit.data import read_rows, rows_to_batch, stream
from plaudit.types import DataError
from tests.data.helpers import write_jsonl


def pairs(count: int, **more: object) -> list[dict[str, object]]:
    return [{"prompt": f"p{index}", "response": f"r{index}", **more} for index in range(count)]


def test_a_stream_can_be_read_again(tmp_path: Path) -> None:
    rows = read_rows(write_jsonl(tmp_path / "a.jsonl", [*pairs(3), {"prompt": "p", "response": ""}]))
    assert list(rows) == list(rows)
    assert rows.notes == {"empty response": 1}
    assert rows.validate() == rows.count() == 4
    assert rows.layout == "prompt_response"


def test_limit_takes_the_first_rows(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [*pairs(5), {"bad": 1}])
    rows = read_rows(path, limit=5)
    assert [row.prompt for row in rows] == ["p0", "p1", "p2", "p3", "p4"]
    assert rows.count() == 5
    assert list(read_rows(path, limit=0)) == []
    with pytest.raises(ValueError, match="limit"):
        read_rows(path, limit=-1)


def test_a_seed_draws_the_same_sample_each_time(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", pairs(100))
    first = [row.number for row in read_rows(path, limit=10, seed=1)]
    assert first == [row.number for row in read_rows(path, limit=10, seed=1)]
    assert first == sorted(set(first))
    assert first != [row.number for row in read_rows(path, limit=10, seed=2)]
    assert first != list(range(1, 11))
    assert len(list(read_rows(path, limit=1000, seed=1))) == 100


def test_ids(tmp_path: Path) -> None:
    own = [{"id": 7}, {"id": "x"}, {"id": 7}, {"id": None}, {}]
    path = write_jsonl(tmp_path / "a.jsonl", [{**row, **more} for row, more in zip(pairs(5), own, strict=True)])
    rows = read_rows(path)
    assert [row.id for row in rows] == ["7", "x", "7@3", "a:4", "a:5"]
    assert rows.notes == {"duplicate id, row number added": 1}


def test_ids_stay_unique_beyond_what_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "CHECKED_IDS", 2)
    rows = read_rows(write_jsonl(tmp_path / "a.jsonl", [{**row, "id": i % 3} for i, row in enumerate(pairs(6))]))
    assert [row.id for row in rows] == ["0", "1", "2@3", "0@4", "1@5", "2@6"]


def test_a_folder_is_its_readable_files(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl"):
        write_jsonl(tmp_path / name, [{**row, "id": index} for index, row in enumerate(pairs(3))])
    write_jsonl(tmp_path / "recorded_judge.jsonl", [{"verdict": 1}])
    (tmp_path / "x_leaderboard.csv").write_text("model,win\n")
    (tmp_path / "SOURCE.md").write_text("# x")
    (tmp_path / "recorded_judges").mkdir()
    rows = read_rows(tmp_path)
    assert [row.id for row in rows] == ["a:0", "a:1", "a:2", "b:0", "b:1", "b:2"]
    assert [row.section for row in rows] == ["a", "a", "a", "b", "b", "b"]
    assert rows.count() == 6
    assert [row.id for row in read_rows(tmp_path, limit=3)] == ["a:0", "b:0", "a:1"]
    assert next(iter(rows)).source == str(tmp_path / "a.jsonl")


def test_an_empty_file_in_a_folder_is_an_error(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", pairs(1))
    (tmp_path / "b.jsonl").write_text("")
    with pytest.raises(DataError, match=r"b\.jsonl: no rows"):
        read_rows(tmp_path).validate()


def test_files_of_one_name_and_two_kinds_keep_ids_apart(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", pairs(1))
    (tmp_path / "a.csv").write_text("prompt,response\np,r\n")
    assert [row.id for row in read_rows(tmp_path)] == ["a.csv:1", "a.jsonl:1"]


def test_messages_of_skipped_rows_are_kept_up_to_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "KEPT_ERRORS", 5)
    path = write_jsonl(tmp_path / "a.jsonl", [*pairs(1), *({"prompt": "p"} for _ in range(20))])
    rows = read_rows(path, skip_bad=True)
    assert rows.validate() == 1
    assert (rows.skipped_count, len(rows.skipped)) == (20, 5)


def test_the_layout_is_found_behind_a_bad_first_row(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"x": 1}, *pairs(2)])
    rows = read_rows(path, skip_bad=True)
    assert rows.layout == "prompt_response"
    assert rows.validate() == 2
    with pytest.raises(DataError, match="row 1"):
        read_rows(path).validate()


@pytest.mark.skipif(sys.platform != "linux", reason="reads the process's resident memory as Linux reports it")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    line = json.dumps({"prompt": "What is %d + 1?", "response": "It is a number.", "label": 1, "note": "x" * 50}) + "\n"
    with path.open("w") as handle:
        handle.writelines(line.replace("%d", str(index)) for index in range(200_000))
    code = (
        "import resource, sys\nfrom plaudit.data import read_rows\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "for number, row in enumerate(read_rows(sys.argv[1]), start=1):\n"
        "    start = peak() if number == 1_000 else locals().get('start')\n"
        "print(number, peak() - start)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, check=True, text=True)
    rows, grown_megabytes = map(int, done.stdout.split())
    assert rows == 200_000
    assert grown_megabytes < 10


def test_rows_become_a_batch(tmp_path: Path) -> None:
    rows = list(
        read_rows(write_jsonl(tmp_path / "a.jsonl", [{"prompt": "p", "chosen": "a", "rejected": "b", "reference": "t"}] * 2))
    )
    batch = rows_to_batch(rows)
    assert batch.responses == ["a", "b", "a", "b"]
    assert batch.references == ["t"] * 4
    assert batch.group_rows() == [[0, 1], [2, 3]]
