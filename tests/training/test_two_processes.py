import pytest

from plaudit.training import read_metrics
from tests.training import two_processes
from tests.training.launched import in_two_processes


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(tmp_path):
    two_processes.main(tmp_path / "one")
    said = in_two_processes("cpu", "tests.training.two_processes", tmp_path / "two")
    assert sorted(said.split()) == ["0/2", "1/2"]
    one, two = read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two")
    assert len(one) == len(two) == 4
    for first, second in zip(one, two, strict=True):
        assert set(first) == set(second)
        for name, value in first.items():
            assert second[name] == pytest.approx(value, abs=1e-5, rel=1e-5), name
