"""Everything that may be wrong with a file: one clear sentence with file, row and what was expected."""

from __future__ import annotations

import gzip
import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plaudit.data import FieldMap, Row, containers, read_rows
from plaudit.types import DataError
from tests.data.helpers import write_jsonl

GOOD = b'{"prompt": "p", "response": "r", "label": 1}\n'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"prompt": "p", "respon', "truncated or invalid JSON at column 17"),
        (b"not json\n", "truncated or invalid JSON at column 1"),
        (b"[1, 2]\n", "the row is a list"),
        (b'"text"\n', "the row is text"),
        (b'{"prompt": "\xff", "response": "r", "label": 1}\n', "invalid UTF-8 at byte 13"),
        (b'{"prompt": "p", "label": 1}\n', "column 'response' is missing"),
        (b'{"prompt": "p", "response": "r"}\n', "column 'label' is missing"),
        (b'{"prompt": "p", "response": null, "label": 1}\n', "the response in column 'response' is null"),
        (b'{"prompt": "p", "response": NaN, "label": 1}\n', "the response in column 'response' is nan"),
        (b'{"prompt": "p", "response": "r", "label": NaN}\n', "is NaN"),
        (b'{"prompt": "p", "response": "r", "label": -Infinity}\n', "is infinite"),
        (b'{"prompt": "p", "response": "r", "label": "nan"}\n', "is NaN"),
        (b'{"prompt": "p", "response": "r", "label": 1, "reference": "x"}\n', "column 'reference' is not in the first row"),
        (b'{"prompt": "p", "response": "\\ud83d", "label": 1}\n', "half a character"),
        (b"[" * 100_000 + b"\n", "cannot be read"),
        (b'{"prompt": ' + b"9" * 5000 + b"}\n", "cannot be read"),
    ],
)
def test_a_bad_row_is_named_or_skipped(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(GOOD + GOOD + line + (b"" if "truncated" in message and b"respon" in line else GOOD))
    stream = read_rows(path)
    with pytest.raises(DataError) as caught:
        stream.validate()
    assert str(caught.value).startswith(f"{path}, row 3: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)

    lenient = read_rows(path, skip_bad=True)
    assert len(list(lenient)) in (2, 3)
    assert lenient.skipped_count == 1
    assert [error.row for error in lenient.skipped] == [3]


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.jsonl: file not found; expected a file"):
        read_rows(tmp_path / "no.jsonl")


@pytest.mark.parametrize("name", ["e.jsonl", "e.csv", "e.json", "e.tsv"])
def test_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=f"{name}: no rows"):
        read_rows(tmp_path / name).validate()


def test_empty_array_and_header_alone(tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text("[]")
    (tmp_path / "e.csv").write_text("prompt,response\n")
    for name in ("e.json", "e.csv"):
        with pytest.raises(DataError, match="no rows"):
            read_rows(tmp_path / name).validate()


def test_a_file_with_bad_rows_only_says_why(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_bytes(b"x\ny\n")
    with pytest.raises(DataError, match="all 2 were skipped, the first one because: truncated"):
        read_rows(tmp_path / "b.jsonl", skip_bad=True).validate()


def test_unknown_kind_and_folders(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match="not a kind of file that can be read"):
        read_rows(tmp_path / "notes.txt")
    with pytest.raises(DataError, match="no readable data file in this folder"):
        read_rows(tmp_path)


def test_byte_order_mark_blank_lines_and_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD + b"\r\n \n" + GOOD.strip() + b"\r\n" + GOOD.strip())
    assert [row.number for row in read_rows(path)] == [1, 4, 5]
    assert read_rows(path).count() == 3


def test_large_response(tmp_path: Path) -> None:
    text = "word " * 250_000
    path = write_jsonl(tmp_path / "long.jsonl", [{"prompt": "p", "response": text}])
    assert next(iter(read_rows(path))).responses == (text,)
    (tmp_path / "long.csv").write_text(f"prompt,response\np,{text}\n")
    assert next(iter(read_rows(tmp_path / "long.csv"))).responses == (text,)


def test_endless_line_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "LONGEST_ROW", 1 << 20)
    (tmp_path / "l.jsonl").write_bytes(b'{"prompt": "' + b"x" * (1 << 21))
    with pytest.raises(DataError, match="row 1: the row is longer than 1 MB"):
        read_rows(tmp_path / "l.jsonl").validate()


def test_large_array_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "LARGEST_ARRAY", 1 << 20)
    rows = [{"prompt": "p", "response": "x" * 1000}] * 2000
    (tmp_path / "l.json").write_text(json.dumps(rows))
    with pytest.raises(DataError, match=r"expected the same as \.jsonl"):
        read_rows(tmp_path / "l.json").validate()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt,response\np\n", "row 1: the row has 1 cells; expected 2"),
        ("prompt,response\np,r,x\n", "row 1: the row has 3 cells; expected 2"),
        ("prompt,prompt\np,r\n", "two columns are called 'prompt'"),
        ('prompt,response\np,"r\n', "row 1: unexpected end of data"),
        ("prompt,response,label\np,r,maybe\n", "the text 'maybe'"),
    ],
)
def test_bad_csv(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError) as caught:
        read_rows(tmp_path / "t.csv").validate()
    assert message in str(caught.value)


def test_invalid_utf8_in_csv(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"prompt,response\np,r\np,\xff\np,s\n")
    with pytest.raises(DataError, match="row 2: invalid UTF-8"):
        read_rows(tmp_path / "t.csv").validate()
    stream = read_rows(tmp_path / "t.csv", skip_bad=True)
    assert [row.responses for row in stream] == [("r",), ("s",)]


def test_damaged_files(tmp_path: Path) -> None:
    whole = gzip.compress(GOOD * 5000)
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "not.parquet").write_bytes(b"PAR1 not really")
    (tmp_path / "cut.json").write_bytes(b'[{"prompt": "p", "response": "r"},')
    for name in ("cut.jsonl.gz", "not.parquet", "cut.json"):
        with pytest.raises(DataError, match=name):
            read_rows(tmp_path / name).validate()
        with pytest.raises(DataError, match=name):
            read_rows(tmp_path / name, skip_bad=True).validate()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=400), good_before=st.booleans(), name=st.sampled_from(["f.jsonl", "f.json", "f.csv", "f.jsonl.gz"])
)
def test_any_bytes_give_rows_or_a_data_error(tmp_path: Path, data: bytes, good_before: bool, name: str) -> None:
    path = tmp_path / name
    path.write_bytes((GOOD if good_before else b"") + data)
    for skip_bad in (False, True):
        with suppress(DataError):
            assert all(isinstance(row, Row) for row in read_rows(path, skip_bad=skip_bad))


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "value", "from"]), inner),
    max_leaves=6,
)
_COLUMNS = st.sampled_from(
    [*FieldMap().__dataclass_fields__, "labels", "input", "output_1", "output_2", "question", "answer", "best", "instruction"]
)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=st.lists(st.dictionaries(_COLUMNS, _VALUES, max_size=6), min_size=1, max_size=3))
def test_any_json_objects_give_rows_or_a_data_error(tmp_path: Path, records: list[dict[str, object]]) -> None:
    path = write_jsonl(tmp_path / "r.jsonl", records)
    try:
        rows = list(read_rows(path, skip_bad=True))
    except DataError:
        return
    for row in rows:
        assert all(isinstance(response, str) for response in row.responses)
        assert row.gold is None or all(abs(value) < float("inf") for value in row.gold)
