"""Hub sources, on local folders given to the `datasets` library."""

from __future__ import annotations

from pathlib import Path

import pytest

from plaudit.data import hub, read_rows
from plaudit.types import DataError, UserError
from tests.data.helpers import write_jsonl

ROWS = [{"prompt": f"p{index}", "chosen": "a", "rejected": "b"} for index in range(3)]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("hub:o/n", ("o/n", None, None)),
        ("hub:o/n:test", ("o/n", None, "test")),
        ("hub:o/n:main", ("o/n", "main", None)),
        ("hub:o/n:main:test", ("o/n", "main", "test")),
        ("hub:o/n::custom", ("o/n", None, "custom")),
    ],
)
def test_names(name: str, parts: tuple[str, str | None, str | None]) -> None:
    assert hub.parse_hub_name(name) == parts


@pytest.mark.parametrize("name", ["hub:", "hub:a:b:c:d"])
def test_wrong_names(name: str) -> None:
    with pytest.raises(UserError, match="expected hub:owner/name"):
        hub.parse_hub_name(name)


def test_local_folder(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    folder = tmp_path / "set"
    folder.mkdir()
    write_jsonl(folder / "train.jsonl", ROWS)
    rows = read_rows(f"hub:{folder}")
    assert rows.layout == "prompt_chosen_rejected"
    assert [(row.id, row.prompt, row.gold) for row in rows] == [(f"set:{n}", f"p{n - 1}", (1.0, 0.0)) for n in (1, 2, 3)]
    assert rows.validate() == 3


def test_splits_are_named_when_there_are_several(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    folder = tmp_path / "set"
    folder.mkdir()
    write_jsonl(folder / "train.jsonl", ROWS)
    write_jsonl(folder / "test.jsonl", ROWS[:1])
    with pytest.raises(UserError, match="has the splits train, test"):
        read_rows(f"hub:{folder}").validate()
    assert read_rows(f"hub:{folder}:test").validate() == 1


def test_a_bad_row_is_named(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    folder = tmp_path / "set"
    folder.mkdir()
    write_jsonl(folder / "train.jsonl", [*ROWS, {"prompt": "p", "chosen": "a", "rejected": None}])
    with pytest.raises(DataError, match=r"row 4: the response in column 'rejected' is null"):
        read_rows(f"hub:{folder}").validate()


def test_a_set_that_cannot_be_had(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    with pytest.raises(UserError, match="cannot be opened"):
        read_rows(f"hub:{tmp_path / 'nowhere'}").validate()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"install plaudit\[hub\]"):
        read_rows("hub:o/n")
