"""SPO: the slow obvious version, scales that no longer matter, and anchors that say nothing."""

import pytest
import torch

from plaudit.rewards.base import BaseReward
from plaudit.rewards.shaping.self_play import SelfPlayScale
from plaudit.types import Batch, Scores, Status

SCALES = {"calm": 1.0, "sure": 10.0}


class ByUser(BaseReward):
    """The response times the user's scale."""

    name = "by user"

    def score(self, batch, ctx=None):
        return Scores(torch.tensor([SCALES[user] * number for user, number in zip(batch.users, batch.responses, strict=True)]))


def batch(numbers, user="calm"):
    return Batch(["?"] * len(numbers), numbers, users=[user] * len(numbers))


def test_against_the_slow_version():
    anchors, judged = [0.0, 1.0, -2.0], [0.5, -1.0]
    for user, scale in SCALES.items():
        shaper = SelfPlayScale(ByUser(), batch(anchors, "whoever"))
        found = ByUser().shaped(shaper).score(batch(judged, user))
        wanted = [sum(torch.tensor(scale * (r - a)).sigmoid().item() for a in anchors) / 3 for r in judged]
        assert found.values.tolist() == pytest.approx(wanted, abs=1e-6)
        assert shaper(ByUser().score(batch(judged, user)), batch(judged, user)).parts["raw"].tolist() == [
            scale * r for r in judged
        ]


def test_bounds_order_and_finiteness():
    shaper = SelfPlayScale(ByUser(), batch([0.0] * 4))
    numbers = [-1e6, -1.0, 0.0, 1.0, 1e6]
    values = shaper(ByUser().score(batch(numbers)), batch(numbers)).values
    assert values.tolist() == sorted(values.tolist())
    assert values[2] == 0.5
    assert bool(((values >= 0) & (values <= 1)).all())


def test_missing_numbers_keep_their_reason():
    given = Scores(torch.tensor([1.0, float("nan")]), torch.tensor([Status.OK, Status.ABSTAINED]))
    found = SelfPlayScale(ByUser(), batch([0.0, float("nan")]))(given, batch([1.0, 2.0]))
    assert found.status.tolist() == [Status.OK, Status.ABSTAINED]
    assert found.values[0].item() == pytest.approx(torch.tensor(1.0).sigmoid().item())
    lonely = SelfPlayScale(ByUser(), batch([float("nan")]))(given, batch([1.0, 2.0]))
    assert lonely.status.tolist() == [Status.MISSING_REFERENCE, Status.ABSTAINED]


def test_fingerprint_and_refusals():
    one, other = SelfPlayScale(ByUser(), batch([0.0])), SelfPlayScale(ByUser(), batch([1.0]))
    assert one.fingerprint() != other.fingerprint()
    with pytest.raises(ValueError, match="every row needs a user"):
        one(Scores(torch.zeros(1)), Batch(["?"], [0.0]))
    with pytest.raises(ValueError, match="anchor"):
        SelfPlayScale(ByUser(), batch([]))
