"""What all learned rewards share: units of data, statuses, weights, and what a new kind has to say."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plaudit.rewards.learned.base import LearnedReward
from plaudit.rewards.learned.data import ENCODED, FitData
from plaudit.rewards.learned.heads import BradleyTerryReward
from plaudit.rewards.learned.networks import mlp, moments
from plaudit.rewards.learned.vectors import VectorBackbone
from plaudit.types import Batch, Budget, Context, Featured, Fittable, Preferences, Status, UserError
from tests.rewards.learned.planted import pairs, vectors


class Shortest(LearnedReward):
    """The least that a kind has to say: minus a learned price for each character."""

    kind = "shortest"

    def __init__(self):
        self.settings = {}
        self.price = torch.nn.ParameterDict({"each": torch.nn.Parameter(torch.zeros(()))})

    def modules(self):
        return {"price": self.price}

    def logit(self, batch):
        return -self.price["each"] * torch.tensor([float(len(text)) for text in batch.responses])


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=8), st.data()
)
def test_selected_units_are_the_same_pairs_over_fewer_rows(edges, draw):
    batch = Batch([f"p{row}" for row in range(6)], vectors(6), users=list("aabbcc"))
    first, second, prob = (torch.tensor(column) for column in zip(*edges, strict=True))
    data = FitData(batch, Preferences(first, second, prob, weight=torch.arange(len(edges)) + 1.0), ratings=torch.arange(6.0))
    units = draw.draw(st.lists(st.integers(0, len(edges) - 1), min_size=1, max_size=8))
    part = data.select(units)
    assert len(part) == len(units)
    touched = {row for unit in units for row in edges[unit][:2]}
    assert len(part.batch) == len(touched), "each row once"
    for place, unit in enumerate(units):
        for side, row in ((part.preferences.first, edges[unit][0]), (part.preferences.second, edges[unit][1])):
            mine = int(side[place])
            assert part.batch.prompts[mine] == f"p{row}"
            assert part.batch.users[mine] == batch.users[row]
            assert torch.equal(part.batch.responses[mine], batch.responses[row])
            assert part.ratings[mine] == row
    assert part.preferences.prob.tolist() == [edges[unit][2] for unit in units]
    assert part.preferences.weight.tolist() == [unit + 1.0 for unit in units]


def test_units_of_ratings_are_the_rated_rows():
    batch = Batch(["a", "b", "c", "d"], vectors(4))
    data = FitData(batch, ratings=torch.tensor([1.0, torch.nan, 3.0, 4.0]))
    assert len(data) == 3
    assert data.select([2, 1]).batch.prompts == ["c", "d"]
    several = FitData(batch, ratings=torch.tensor([[torch.nan] * 2, [torch.nan, 1.0], [1.0, 2.0], [torch.nan] * 2]))
    assert several.rated.tolist() == [1, 2]
    assert [len(part) for part in several.chunks([0, 1, 1], 2)] == [2, 1]


def test_data_that_does_not_fit_is_refused():
    batch = Batch(["a", "b"], vectors(2))
    for bad in (
        {},
        {"ratings": torch.zeros(3)},
        {"ratings": torch.zeros(2, 1, 1)},
        {"preferences": Preferences(torch.tensor([0]), torch.tensor([2]), torch.ones(1))},
        {"preferences": Preferences(torch.tensor([-1]), torch.tensor([1]), torch.ones(1))},
    ):
        with pytest.raises(ValueError, match=r"fitted on|ratings are|names a row"):
            FitData(batch, **bad)


def test_a_new_kind_needs_no_more_than_modules_and_logit(tmp_path):
    reward = Shortest()
    assert isinstance(reward, Fittable)
    batch = Batch(["q"] * 4, ["a", "abc", "ab", "abcd"])
    told = Preferences(torch.tensor([0, 2]), torch.tensor([1, 3]), torch.ones(2))
    reward.loss(FitData(batch, told)).total.backward()
    assert reward.price["each"].grad < 0
    with torch.no_grad():
        reward.price["each"].fill_(0.25)
    reward.temperature = 0.5
    assert reward.score(batch).values.tolist() == [-0.5, -1.5, -1.0, -2.0]
    reward.save(tmp_path / "reward")
    again = Shortest.load(tmp_path / "reward")
    assert again.score(batch).values.tolist() == [-0.5, -1.5, -1.0, -2.0]
    assert again.fingerprint() == reward.fingerprint()
    with pytest.raises(UserError, match="unknown kind 'shortest'"):
        from plaudit.rewards.learned.checkpoint import load_reward

        load_reward(tmp_path / "reward")
    with pytest.raises(TypeError, match="has no backbone"):
        reward.encode(batch)


def test_rows_that_cannot_be_encoded_keep_their_reason_and_touch_no_other():
    reward = BradleyTerryReward(VectorBackbone(4))
    torch.nn.init.normal_(reward.head[-1].weight, generator=torch.Generator().manual_seed(1))
    batch = Batch(list("abcde"), vectors(5))
    alone = reward.score(batch).values
    batch.responses[1, 2], batch.responses[3, 0] = torch.nan, torch.inf
    budget = Budget()
    scores = reward.score(batch, Context(budget=budget))
    assert scores.status.tolist() == [0, Status.NOT_A_NUMBER, 0, Status.NOT_A_NUMBER, 0]
    torch.testing.assert_close(scores.values[[0, 2, 4]], alone[[0, 2, 4]])
    assert budget.spent["reward_calls"] == 5
    assert isinstance(reward, Featured)
    assert reward.read_features(batch).status.tolist() == scores.status.tolist()
    batch.responses[:] = torch.nan
    assert not bool(reward.score(batch).ok.any())
    assert len(reward.score(batch.select([]))) == 0


def test_a_pair_swapped_is_one_minus_its_probability():
    reward = BradleyTerryReward(VectorBackbone((4, 8, 3)), standardise=False)
    torch.nn.init.normal_(reward.head[-1].weight, generator=torch.Generator().manual_seed(1))
    data = pairs(20)
    told = data.preferences
    one, other = (reward.compare(data.batch, *sides).prob for sides in ((told.first, told.second), (told.second, told.first)))
    torch.testing.assert_close(one, 1 - other)
    assert bool((one != 0.5).all())


def test_vectors_that_were_computed_before_are_used():
    reward = BradleyTerryReward(VectorBackbone(4))
    batch = Batch(["a"], vectors(1), extras={ENCODED: torch.full((1, 4), 7.0)})
    assert reward.encode(batch).tolist() == [[7.0] * 4]


def test_the_backbone_is_built_again_from_its_settings():
    for backbone in (VectorBackbone(4), VectorBackbone((4, 6, 3), seed=5), VectorBackbone(2, column="x")):
        reward = BradleyTerryReward(backbone, hidden=(5,), seed=3)
        twin = BradleyTerryReward(**reward.settings)
        assert twin.backbone.settings == backbone.settings
        assert twin.fingerprint() == reward.fingerprint()
    with pytest.raises(UserError, match="unknown backbone 'nose'"):
        BradleyTerryReward({"kind": "nose"})
    with pytest.raises(UserError, match="backbone 'vector'"):
        BradleyTerryReward({"kind": "vector", "widths": 3, "colour": "red"})


def test_moments_are_those_of_all_rows_at_once_whatever_the_parts():
    table = vectors(100) * torch.tensor([1e-3, 1.0, 1e3, 0.0]) + torch.tensor([1e3, 0.0, 1.0, 4.0])
    table[3, 1] = torch.nan
    mean, deviation = moments(table.split(7))
    double = table.double()
    torch.testing.assert_close(mean, double.nanmean(0).float())
    kept = double[[row for row in range(100) if row != 3], 1]
    wanted = torch.stack([double[:, 0].std(correction=0), kept.std(correction=0), double[:, 2].std(correction=0)]).float()
    torch.testing.assert_close(deviation[:3], wanted, rtol=1e-4, atol=0)
    assert deviation[3] == 1, "a constant column is not divided by zero"
    assert moments([torch.full((2, 1), torch.nan)]) == (torch.zeros(1), torch.ones(1))
    with pytest.raises(ValueError, match="no rows"):
        moments([])


def test_initial_weights_come_from_the_seed_alone():
    before = torch.random.get_rng_state()
    one, same, other = (mlp((3, 5, 1), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one[0].weight, same[0].weight)
    assert not torch.equal(one[0].weight, other[0].weight)
