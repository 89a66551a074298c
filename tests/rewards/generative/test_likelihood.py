import pytest
import torch

from plaudit.generators.language import tiny_decoder
from plaudit.generators.language.engine import LiveEngine
from plaudit.rewards.generative.likelihood import ResponseLogProbability
from plaudit.types import Batch, Status


def test_it_is_the_models_own_log_probability():
    generator = tiny_decoder("abc", width=16, seed=2)
    batch = Batch(["ab", "c"], ["ca", "bbb"])
    t = generator.encode(batch)
    steps = t.log_probs * t.mask
    for mean in (True, False):
        found = ResponseLogProbability(LiveEngine(generator), chat=False, mean=mean).score(batch).values
        for row, count in enumerate((2, 3)):
            own = float(steps[row, :count].sum()) / (count if mean else 1)
            assert float(found[row]) == pytest.approx(own, abs=1e-5)


def test_what_has_no_tokens_has_no_number():
    reward = ResponseLogProbability(LiveEngine(tiny_decoder("abc", width=16)), chat=False)
    scores = reward.score(Batch(["a", "a", "a"], ["", None, "b"]))
    assert scores.status.tolist() == [Status.ABSTAINED, Status.NOT_APPLICABLE, Status.OK]
    assert reward.score(Batch(["a"], [""])).values.isnan().all()
    assert torch.equal(reward.score(Batch(["a"], ["b"])).values, scores.values[2:])
