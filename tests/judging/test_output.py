import pytest

from plaudit.data.row import Row
from plaudit.judging import PairResult, ResponseResult, RowResult
from plaudit.judging.output import atomic, dump, writer
from plaudit.types import Status, UserError


def result():
    return RowResult(
        Row("r,1", "p", ("a", "b"), gold=(1.0, 0.0)), [ResponseResult(0.5, Status.OK), ResponseResult(None, Status.FAILED)]
    )


def test_nothing_is_left_behind_when_the_block_raises(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("before\n")
    with pytest.raises(RuntimeError), writer(path) as write:
        write(result())
        raise RuntimeError
    assert path.read_text() == "before\n"
    assert list(tmp_path.iterdir()) == [path]


def test_csv_quotes_and_empty_cells_for_missing_numbers(tmp_path):
    with writer(tmp_path / "rows.csv") as write:
        write(result())
        write(RowResult(Row("r2", "p", ("a", "b"), gold=(0.5, 0.5)), pairs=[PairResult(0, 1, 0.25, Status.OK)]))
    lines = (tmp_path / "rows.csv").read_text().splitlines()
    assert lines[1:] == ['"r,1",0,0.5,ok,1.0,', '"r,1",1,,failed,0.0,', "r2,0>1,0.25,ok,0.5,"]


def test_lone_surrogates_survive(tmp_path):
    with atomic(tmp_path / "x.txt") as file:
        file.write("half a pair: \ud83d")
    assert (tmp_path / "x.txt").read_bytes().endswith(b"\xed\xa0\xbd")


def test_other_endings_and_missing_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"\.jsonl or \.csv"), writer(tmp_path / "rows.xlsx"):
        pass
    with pytest.raises(UserError, match="cannot be written"), writer(tmp_path / "no" / "rows.csv"):
        pass


def test_nan_is_no_json():
    with pytest.raises(ValueError, match="JSON compliant"):
        dump({"value": float("nan")})
