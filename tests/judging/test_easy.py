import pytest

from plaudit.data import Row
from plaudit.judging.easy import judge
from plaudit.store import Store
from plaudit.types import DataError
from tests.judging.rewards import WordCount


def test_dictionaries_rows_and_files_give_the_same(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"prompt": "p", "responses": ["a", "b c"]}\n{"prompt": "q", "responses": ["d e f", ""]}\n')
    dictionaries = [{"prompt": "p", "responses": ["a", "b c"]}, {"prompt": "q", "responses": ["d e f", ""]}]
    rows = [Row("0", "p", ("a", "b c")), Row("1", "q", ("d e f", ""))]
    for data in (tmp_path / "a.jsonl", dictionaries, rows):
        judged = judge(data, WordCount())
        assert judged.values == [[1.0, 2.0], [3.0, None]]
        assert (judged.summary.invalid, judged.stopped) == (1, None)
    assert judge(dictionaries, "length", limit=1).values == [[1.0, 3.0]]


def test_a_store_answers_the_second_time(tmp_path):
    reward = WordCount()
    for _ in range(2):
        judge([{"prompt": "p", "response": "a b"}], reward, store=Store(tmp_path / "v.sqlite"))
    assert reward.calls == 1


def test_bad_records_are_named():
    with pytest.raises(DataError, match="row 2"):
        judge([{"prompt": "p", "response": "a"}, {"prompt": "p", "response": None}], WordCount())
