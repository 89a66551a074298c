"""Worlds of people who differ: tastes that follow from names, labels that follow from tastes."""

import pytest
import torch

from plaudit.types import Batch, UserError
from plaudit.worlds.corners import CellPolicy, CornerWorld, KindScaled
from plaudit.worlds.personas import PersonaWorld
from plaudit.worlds.pets import DISPUTED, RANKINGS, PetsWorld

USERS = [f"user {number}" for number in range(400)]


@pytest.fixture(scope="module")
def personas():
    pytest.importorskip("sklearn")
    return PersonaWorld(3, seed=4)


def test_personas_are_mixtures(personas):
    weights = torch.stack([personas.weights(user) for user in USERS])
    assert torch.allclose(weights.sum(1), torch.ones(400), atol=1e-5)
    pure = (weights.max(1).values == 1.0).float().mean()
    assert 0.73 < pure < 0.87
    assert weights[weights.max(1).values == 1.0].mean(0).min() > 0.25, "all prototypes have their people"
    assert torch.equal(personas.weights("user 7"), PersonaWorld(3, seed=4).weights("user 7"))
    embedded = personas.embed(personas.items)
    assert torch.allclose(embedded.std(0), torch.ones(8), atol=1e-4)
    assert all(bool((embedded - point).norm(dim=1).min() < 1e-4) for point in personas.prototypes)


def test_persona_labels_follow_the_truth(personas):
    batch, labels = personas.comparisons(USERS[:20], 50, 1, noisy=False)
    utility = personas.truth.score(batch).values
    assert torch.equal(labels.prob > 0.5, utility[labels.first] > utility[labels.second])
    noisy = personas.comparisons(USERS[:20], 50, 1)[1].prob
    right = (noisy == labels.prob).float().mean()
    gaps = (utility[labels.first] - utility[labels.second]).abs() * 4 / personas.scale
    assert float(right) == pytest.approx(float(gaps.sigmoid().mean()), abs=0.03)
    alike = PersonaWorld(1, seed=4)
    assert torch.equal(alike.weights("user 1"), alike.weights("user 2"))
    with pytest.raises(ValueError, match="person"):
        personas.truth.score(personas.data(3, 0))
    with pytest.raises(UserError):
        personas.base()


def test_corner_labels_follow_the_truth():
    world = CornerWorld(seed=2)
    kinds = torch.tensor([world.kind(user) for user in USERS])
    assert torch.bincount(kinds).min() > 70
    batch, labels = world.comparisons(USERS[:50], 40, 1, noisy=False)
    cells, goals = torch.as_tensor(batch.responses), world.goals(batch.users)
    far = (cells - goals).norm(dim=1) * 5
    first, second = far[labels.first], far[labels.second]
    assert torch.equal(labels.prob[first < second - 1e-3], torch.ones(int((first < second - 1e-3).sum())))
    assert bool((labels.prob[(first - second).abs() < 1e-4] == 0.5).all())
    noisy = world.comparisons(USERS[:50], 40, 1)[1].prob
    chance = 0.95 * (second - first).abs().sigmoid() + 0.05 * (1 - (second - first).abs().sigmoid())
    decided = labels.prob != 0.5
    right = float((noisy == labels.prob)[decided].float().mean())
    assert right == pytest.approx(float(chance[decided].mean()), abs=0.03)


def test_near_counts_cells():
    world = CornerWorld()
    user = next(user for user in USERS if world.kind(user) == 0)  # wants (-1, -1)
    cells = torch.tensor([[-1.0, -1.0], [-1.0, -0.4], [-0.8, -0.6], [-0.8, -0.4], [1.0, 1.0]])
    assert world.near(cells, [user] * 5).tolist() == [True, True, True, False, False]
    assert world.success(world.truth, USERS[:20]) == 1.0
    uniform = torch.full((20, 121), 1 / 121)
    assert world.chance_near(uniform, USERS[:20]) == pytest.approx(10 / 121)


def test_scales_by_kind():
    world = CornerWorld(seed=2)
    batch = world.everywhere(USERS[:30])
    ratio = KindScaled(world.truth, world, 8.0).score(batch).values / world.truth.score(batch).values
    kinds = torch.tensor([world.kind(user) for user in batch.users])
    for kind, scale in enumerate((1.0, 2.0, 4.0, 8.0)):
        found = ratio[kinds == kind]
        assert torch.allclose(found[found.isfinite()], torch.tensor(scale), rtol=1e-4)


def test_the_policy_gives_its_own_log_probabilities():
    world = CornerWorld(side=4)
    policy = CellPolicy(world.cells, 2)
    with torch.no_grad():
        policy.table.weight.copy_(torch.randn(16, 2, generator=torch.Generator().manual_seed(0)))
    prompts = Batch([{"z": [1.0, -0.5]}, {"z": [0.0, 2.0]}], users=["a", "b"])
    drawn = policy.rollout(prompts, 4000, seed=3)
    wanted = policy.probabilities(torch.tensor([[1.0, -0.5], [0.0, 2.0]]))
    for row in range(2):
        share = torch.bincount(drawn.payload["cell"][row * 4000 : (row + 1) * 4000], minlength=16) / 4000
        assert torch.allclose(share, wanted[row], atol=0.03)
    assert torch.allclose(drawn.log_probs[:, 0].exp(), wanted[drawn.batch.groups, drawn.payload["cell"]])
    again = policy.encode(drawn.batch, seed=0)
    assert torch.equal(again.payload["cell"], drawn.payload["cell"])
    assert torch.equal(again.log_probs, drawn.log_probs)


class Letters:
    """Reads a text as how often some letters occur; it stands for a language model, for which labels are made the same way."""

    def encode(self, batch):
        return torch.tensor([[float(text.count(letter)) for letter in "abcdgirt"] for text in batch.responses])


def test_pets_are_disputed_and_held_out_texts_stay_apart():
    world = PetsWorld(seed=1, backbone=Letters())
    assert all((first.index(a) < first.index(b)) != (second.index(a) < second.index(b))
               for first, second in [RANKINGS] for a, b in DISPUTED)  # fmt: skip
    owner = {tuple(row.tolist()): animal for animal, rows in world.vectors.items() for row in rows}
    told, labels = world.comparisons(USERS[:60], 20, 1)
    wins = labels.prob.reshape(60, 20)
    for number, user in enumerate(USERS[:60]):
        ranking = RANKINGS[world.kind(user)]
        for pair in range(20):
            rows = told.responses[number * 40 + 2 * pair : number * 40 + 2 * pair + 2]
            animals = [owner[tuple(row.tolist())] for row in rows]
            assert tuple(sorted(animals)) in DISPUTED
            assert bool(wins[number, pair]) == (ranking.index(animals[0]) < ranking.index(animals[1]))
    assert 20 < sum(world.kind(user) for user in USERS[:60]) < 40
    assert len(world.texts["cat"]) == len(set(world.texts["cat"])) == 24


def test_pets_held_out_texts_are_used_nowhere_else():
    class Numbers:
        def encode(self, batch):
            return torch.arange(len(batch), dtype=torch.float32)[:, None]

    world = PetsWorld(seed=1, backbone=Numbers())
    told, held = (world.comparisons(USERS[:60], 40, 1, noisy=noisy)[0].responses for noisy in (True, False))
    used, kept = set(told[:, 0].tolist()), set(held[:, 0].tolist())
    assert len(kept) == 24
    assert len(used) == 72
    assert not used & kept
