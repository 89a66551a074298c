"""Best-of-N with a reward, by scores and by knock-out, and the correlation with a benchmark."""

import math

import numpy as np
import pytest
import torch

from plaudit import BaseReward, Preferences, Scores, Status
from plaudit.data import Row
from plaudit.trust.downstream import best_of_n, downstream_correlation, pearson, usefulness_correlation


class Lengths(BaseReward):
    name = "lengths"
    uses_seed = False

    def score(self, batch, ctx=None):
        values = torch.tensor([float(len(text)) for text in batch.responses])
        return Scores(torch.where(values > 0, values, torch.nan))


class Longer(BaseReward):
    name = "longer"

    def compare(self, batch, first, second, ctx=None):
        size = torch.tensor([float(len(text)) for text in batch.responses])
        status = torch.where((size[first] > 0) & (size[second] > 0), int(Status.OK), int(Status.UNPARSABLE))
        return Preferences(
            first, second, torch.where(status == 0, (size[first] > size[second]).float(), torch.nan), status=status
        )


ROWS = [
    Row("a", "p", ("x", "xxx", "xx"), gold=(0.0, 1.0, 0.0)),
    Row("b", "q", ("xxxx", "xx", "x"), gold=(0.0, 1.0, 0.0)),
    Row("c", "r", ("x", "", "xx"), gold=(1.0, 0.0, 0.0)),
    Row("d", "s", ("x", "xx", "xxx"), gold=(1.0, 1.0, 1.0)),
]


@pytest.mark.parametrize(("reward", "how"), [(Lengths(), None), (Lengths(), "score"), (Lengths(), "knockout"), (Longer(), None)])
def test_one_right_pick_of_two(reward, how):
    found = best_of_n(reward, ROWS[:2], how=how)
    assert (found.estimate.mean, found.n) == (0.5, 2)


@pytest.mark.parametrize("reward", [Lengths(), Longer()])
def test_a_row_that_cannot_be_judged_is_left_out_and_counted(reward):
    found = best_of_n(reward, ROWS)
    assert (found.estimate.mean, found.n) == (0.5, 2)
    assert found.left_out == {"no pick": 1}


def test_pearson_is_numpys():
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=9), draw.normal(size=9)
    assert pearson(list(zip(x, y, strict=True))) == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert pearson([(1.0, 2.0)]) is None
    assert pearson([(1.0, 2.0), (1.0, 3.0)]) is None


def test_correlation_over_judges():
    benchmark = {str(k): k / 10 for k in range(8)}
    found = downstream_correlation(benchmark, {str(k): 0.2 + k / 20 for k in range(8)})
    assert found.r == pytest.approx(1.0)
    noisy = {str(k): value for k, value in enumerate((0.1, 0.3, 0.2, 0.5, 0.4, 0.6, 0.5, 0.9))}
    found = downstream_correlation(benchmark, noisy)
    half = 1.959964 / math.sqrt(5)
    assert (found.low, found.high) == pytest.approx(
        (math.tanh(math.atanh(found.r) - half), math.tanh(math.atanh(found.r) + half))
    )
    gone = downstream_correlation(benchmark, {**noisy, "3": None})
    assert (gone.n, gone.left_out) == (7, ("3",))
    few = downstream_correlation({"a": 0.1, "b": 0.2}, {"a": 0.1, "b": 0.3})
    assert few.to_json()["low"] is None
    with pytest.raises(ValueError, match="different judges"):
        downstream_correlation({"a": 0.1}, {"b": 0.1})


def test_usefulness_is_a_rank_correlation():
    from scipy.stats import spearmanr

    bench = {"a": 0.5, "b": 0.6, "c": 0.6, "d": 0.9, "e": 0.95, "f": None}
    gain = {"a": -1.0, "b": 2.0, "c": 1.0, "d": 100.0, "e": 50.0, "f": 3.0}
    found = usefulness_correlation(bench, gain)
    known = [name for name in bench if bench[name] is not None]
    expected = spearmanr([bench[name] for name in known], [gain[name] for name in known]).statistic
    assert found.r == pytest.approx(expected)
    assert (found.n, found.left_out) == (5, ("f",))
    assert found.low < found.r < found.high
    assert usefulness_correlation({"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 2.0}).r is None
    with pytest.raises(ValueError, match="different judges"):
        usefulness_correlation({"a": 1.0}, {"b": 1.0})
