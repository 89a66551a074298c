"""Sources and containers: every kind of file gives the same rows."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from plaudit.data import Row, read_records, read_rows
from plaudit.types import DataError

RECORDS = [
    {"prompt": 'Say "hi",\nplease', "response": "hi\tthere, ümläut 🎉", "label": 1.0},
    {"prompt": "Again", "response": "", "label": 0.0},
]


def write(path: Path) -> None:
    name = path.name.removesuffix(".gz")
    text = io.StringIO(newline="")
    if name.endswith(".jsonl"):
        text.write("".join(json.dumps(record) + "\n" for record in RECORDS))
    elif name.endswith(".json"):
        json.dump(RECORDS, text, ensure_ascii=False, indent=1)
    else:
        writer = csv.DictWriter(text, list(RECORDS[0]), delimiter="\t" if name.endswith(".tsv") else ",")
        writer.writeheader()
        writer.writerows(RECORDS)
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)


def seen(rows: list[Row]) -> list[object]:
    return [(row.prompt, row.responses, row.gold, row.number, row.notes) for row in rows]


EXPECTED = [
    ('Say "hi",\nplease', ("hi\tthere, ümläut 🎉",), (1.0,), 1, ()),
    ("Again", ("",), (0.0,), 2, ("empty response",)),
]


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv", ".tsv", ".jsonl.gz", ".json.gz", ".csv.gz", ".tsv.gz"])
def test_every_kind_of_text_file(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"data{ending}"
    write(path)
    rows = read_rows(path)
    assert seen(list(rows)) == EXPECTED
    assert [row.id for row in rows] == ["data:1", "data:2"]
    assert rows.count() == 2


def test_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(RECORDS * 300), tmp_path / "data.parquet", row_group_size=100)
    rows = read_rows(tmp_path / "data.parquet")
    assert rows.count() == 600
    assert seen(rows.head(2)) == EXPECTED
    assert [row.number for row in rows] == list(range(1, 601))


def test_parquet_lists_and_nulls(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = {"prompt": ["p", "q"], "responses": [["a", "b"], ["c", None]], "labels": [[1.0, 0.0], [0.0, 1.0]]}
    pq.write_table(pa.table(table), tmp_path / "l.parquet")
    rows = iter(read_rows(tmp_path / "l.parquet"))
    assert next(rows).gold == (1.0, 0.0)
    with pytest.raises(DataError, match=r"l\.parquet, row 2: the response in column 'responses' is null"):
        next(rows)


def test_records_in_memory() -> None:
    rows = read_records(RECORDS)
    assert seen(list(rows)) == seen(list(rows)) == EXPECTED
    assert (rows.count(), rows.layout, rows.head(1)[0].id) == (2, "prompt_response_label", "records:1")
    with pytest.raises(DataError, match="records, row 1: the response in column 'response' is null"):
        read_records([{"prompt": "p", "response": None}]).validate()


def test_json_file_with_lines_and_compressed_file_without_the_ending(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").rename(tmp_path / "b.json")
    write(tmp_path / "c.jsonl.gz")
    (tmp_path / "c.jsonl.gz").rename(tmp_path / "d.jsonl")
    assert seen(list(read_rows(tmp_path / "b.json"))) == EXPECTED
    assert seen(list(read_rows(tmp_path / "d.jsonl"))) == EXPECTED


def test_csv_lists_are_json_and_empty_labels_are_none(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text('prompt,responses,labels\np,"[""a"", ""b""]","[1, 0]"\np,"[""a"", ""b""]",\n')
    rows = read_rows(tmp_path / "l.csv")
    assert [(row.responses, row.gold) for row in rows] == [(("a", "b"), (1.0, 0.0)), (("a", "b"), None)]
    assert rows.notes == {"no label": 1}


def test_standard_input_can_be_validated_and_then_read(tmp_path: Path) -> None:
    code = (
        "from plaudit.data import read_rows\n"
        "rows = read_rows('-')\n"
        "print(rows.layout, rows.validate(), rows.count(), [row.id for row in rows])"
    )
    data = "".join(json.dumps(record) + "\n" for record in RECORDS).encode()
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert done.stdout.decode().strip() == "prompt_response_label 2 2 ['stdin:1', 'stdin:2']"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_read_like_standard_input(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    data = "".join(json.dumps(record) + "\n" for record in RECORDS)
    writer = threading.Thread(target=lambda: pipe.write_text(data))
    writer.start()
    rows = read_rows(pipe)
    assert seen(list(rows)) == seen(list(rows)) == EXPECTED
    writer.join()


def test_known_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "llmbar").mkdir()
    write(tmp_path / "llmbar" / "natural.jsonl")
    monkeypatch.delenv("PLAUDIT_DATA", raising=False)
    monkeypatch.chdir(tmp_path.parent)
    with pytest.raises(DataError, match=r"llmbar: file not found.*PLAUDIT_DATA"):
        read_rows("llmbar")
    monkeypatch.setenv("PLAUDIT_DATA", str(tmp_path))
    assert [row.source for row in read_rows("llmbar")] == ["llmbar/natural.jsonl"] * 2
    assert len(list(read_rows("llmbar/natural.jsonl"))) == 2


def test_importing_and_reading_json_lines_loads_nothing_heavy(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl")
    code = (
        "import sys\nfrom plaudit.data import read_rows\n"
        f"assert len(list(read_rows({str(tmp_path / 'a.jsonl')!r}))) == 2\n"
        "print([name for name in ('torch', 'pyarrow', 'datasets', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.decode().strip() == "[]"
