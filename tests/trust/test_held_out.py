"""What a reward is worth on held-out rows."""

import math

import pytest
import torch

from plaudit.data import read_records
from plaudit.judging.results import ResponseResult, RowResult
from plaudit.rewards.base import BaseReward
from plaudit.trust.held_out import held_out_audit, rank_correlation
from plaudit.types import Scores, Status


class Lengths(BaseReward):
    """The longer the better; answers with a question mark are not judged."""

    uses_seed = False

    def __init__(self):
        self.settings = {}

    def score(self, batch, ctx=None):
        status = [Status.ABSTAINED if "?" in text else Status.OK for text in batch.responses]
        return Scores(torch.tensor([float(len(text)) for text in batch.responses]), torch.tensor(status))


def test_pairs_beside_the_longest():
    records = [{"prompt": f"p{n}", "chosen": "long one", "rejected": "short"} for n in range(6)]
    records += [{"prompt": f"q{n}", "chosen": "a", "rejected": "bb"} for n in range(2)]
    records += [{"prompt": "odd", "chosen": "what?", "rejected": "c"}]
    found = held_out_audit(Lengths(), list(read_records(records)))
    assert found.rows == 9
    assert found.accuracy.estimate.mean == pytest.approx(6 / 8)
    assert found.accuracy.left_out == {"abstained": 1}
    assert found.longest.estimate.mean == pytest.approx(7 / 9)
    assert found.prefers_longer.estimate.mean == 1
    assert "rank correlation with the ratings" not in found.figures()
    assert found.to_json()["accuracy"]["estimate"]["n"] == 8


def test_ratings_are_correlated_by_rank():
    records = [{"prompt": f"p{n}", "response": "x" * (n + 1), "label": (n + 1) ** 3} for n in range(12)]
    records += [{"prompt": "no", "response": "x", "label": None}, {"prompt": "odd", "response": "what?", "label": 3}]
    found = held_out_audit(Lengths(), list(read_records(records)))
    assert found.rank_correlation.estimate.mean == pytest.approx(1)
    assert found.rank_correlation.left_out == {"no label": 1, "abstained": 1}
    assert found.accuracy.n == 0


def results(values, labels):
    rows = read_records([{"prompt": f"p{n}", "response": "x", "label": label} for n, label in enumerate(labels)])
    return [RowResult(row, [ResponseResult(value, Status.OK)]) for row, value in zip(rows, values, strict=True)]


def test_the_correlation_is_spearmans():
    from scipy.stats import spearmanr

    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 5, (40,), generator=generator).float()
    values = labels + 2 * torch.randn(40, generator=generator)
    found = rank_correlation(results(values.tolist(), labels.tolist())).estimate
    assert found.mean == pytest.approx(spearmanr(values, labels).statistic)
    assert found.low < found.mean < found.high < 1


def test_what_has_no_correlation_is_not_measured():
    assert rank_correlation(results([1.0, 1.0, 1.0, 1.0], [1, 2, 3, 4])).estimate is None
    assert rank_correlation(results([1.0, 2.0], [1, 2])).estimate is None
    assert not math.isnan(rank_correlation(results([1.0, 2.0, 3.0, 5.0] * 3, [1, 2, 3, 5] * 3)).estimate.mean)
