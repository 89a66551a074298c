"""Motifs: the truth against the slow sum, beginnings against all their completions, the policy's probabilities, the measures."""

import math
from itertools import pairwise, product

import pytest
import torch

from plaudit.types import Batch, Generator, Sampling, Status, Stepping, World
from plaudit.worlds.motif_measures import accuracy, beam_search, best_of_n, drawn_pairs, uncertainties, win_rate
from plaudit.worlds.motifs import MotifReward, MotifWorld


@pytest.fixture(scope="module")
def world():
    return MotifWorld(depth=3, symbols=4, seed=2)


def slow_raw(world, text):
    places = [world.letters.index(letter) for letter in text]
    total = sum(float(world.unary[t, a]) for t, a in enumerate(places))
    return total + sum(float(world.neighbours[a, b]) for a, b in pairwise(places))


def test_truth_is_the_sum_scaled_to_one(world):
    assert isinstance(world, World)
    strings = ["".join(letters) for letters in product(world.letters, repeat=3)]
    assert world.strings() == strings
    raw = torch.tensor([slow_raw(world, text) for text in strings], dtype=torch.float64)
    expected = (raw - raw.mean()) / raw.std(correction=0)
    assert world.value(strings).tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    assert world.exact() == pytest.approx(float(expected.max()), abs=1e-5)


def test_a_beginning_is_worth_the_mean_of_its_completions(world):
    every = world.strings()
    for text in ("", "a", "d", "bc"):
        completions = world.value([one for one in every if one.startswith(text)])
        assert float(world.value([text])) == pytest.approx(float(completions.mean()), abs=1e-5)


def test_the_truth_is_linear_in_the_features(world):
    strings = world.strings()
    features = world.features(strings).double()
    solved = torch.linalg.lstsq(features, world.value(strings).double()[:, None] + 1.0, driver="gelsd").solution
    assert torch.allclose(features @ solved, world.value(strings).double()[:, None] + 1.0, atol=1e-5)
    assert world.places(["ab"]).sum() == 2
    assert world.features(["aab"])[0, 12:].reshape(4, 4)[0].tolist() == [1.0, 1.0, 0.0, 0.0]


def test_annotators_follow_beta_and_other_texts_are_not_applicable(world):
    batch = Batch(["p"] * 4, ["aaa", "bcd", "xyz", 7])
    scores = MotifReward(world, 4.0).score(batch)
    assert scores.status.tolist() == [Status.OK, Status.OK, Status.NOT_APPLICABLE, Status.NOT_APPLICABLE]
    gap = float(scores.values[0] - scores.values[1])
    prob = MotifReward(world, 4.0).compare(batch, torch.tensor([0]), torch.tensor([1])).prob
    assert float(prob) == pytest.approx(1 / (1 + math.exp(-4.0 * gap)), abs=1e-5)
    with pytest.raises(ValueError, match="no string"):
        world.encode(["aaaa"])


def test_the_policy_is_a_generator_with_right_probabilities(world):
    policy = world.base()
    assert isinstance(policy, Generator)
    assert isinstance(policy, Stepping)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        policy.table["logits"].copy_(torch.randn(policy.table["logits"].shape, generator=draw))
    every = policy.encode(Batch(["p"] * 64, world.strings()))
    assert float(every.log_probs.sum(1).exp().sum()) == pytest.approx(1.0, abs=1e-5)
    rolled = policy.rollout(Batch(["p"]), 4000, how=Sampling(temperature=1.0), seed=1)
    share = sum(text == "abc" for text in rolled.batch.responses) / 4000
    assert share == pytest.approx(float(every.log_probs.sum(1).exp()[world.node(["abc"])[0] - 21]), abs=0.02)
    stepped = policy.evaluate(rolled, need=("log_prob", "entropy"), steps=[2])
    assert torch.allclose(stepped.log_prob[:, 0], rolled.log_probs[:, 2])
    assert stepped.log_prob.requires_grad
    with pytest.raises(ValueError, match="temperature"):
        policy.rollout(Batch(["p"]), 1, how=Sampling(), seed=0)


def test_steps_make_a_rollout(world):
    policy = world.base()
    states = policy.start(Batch(["p", "q"]), 2)
    for step in range(3):
        states = policy.step(states, seed=step)
        assert [len(text) for text in policy.read(states).responses] == [step + 1] * 4
    assert states.finished.all()
    assert policy.read(states).prompts == ["p", "p", "q", "q"]


def test_nodes_of_the_hierarchy(world):
    nodes, edges = world.hierarchy(0.5)
    assert nodes == 1 + 4 + 16 + 64 == len(edges) + 1
    assert world.node(["", "a", "d", "aa", "ab", "ddd"]) == [0, 1, 4, 5, 6, 84]
    assert (world.node(["bc"])[0], world.node(["bcd"])[0], 0.5) in edges


def test_measures(world):
    truth = world.value(world.strings())
    a, b = drawn_pairs(world, 2000, 0, shared=True)
    strings = world.strings()
    parts = [next(t for t in range(3) if strings[i][t] != strings[j][t]) for i, j in zip(a.tolist(), b.tolist(), strict=True)]
    assert set(parts) == {1, 2}
    assert sum(part == 1 for part in parts) / 2000 == pytest.approx(0.5, abs=0.05)
    a, b = drawn_pairs(world, 2000, 0, shared=False)
    assert bool((a != b).all())
    for shared in (True, False):
        assert accuracy(world, truth, n=500, seed=0, shared=shared) == 1.0
        assert accuracy(world, -truth, n=500, seed=0, shared=shared) == 0.0
        assert accuracy(world, torch.zeros(64), n=500, seed=0, shared=shared) == 0.5
    best, worst = (best_of_n(world, sign * truth, prompts=200, n=16, seed=0) for sign in (1, -1))
    assert float(best.mean()) > 1.2 > -1.2 > float(worst.mean())
    assert win_rate(best, worst) == 1.0
    assert win_rate(best, best) == 0.5


def test_beam_search_with_the_truth_beats_chance_and_a_wide_one_finds_the_best(world):
    found = beam_search(world, world.value, width=64, draws=60, n=3, seed=0)
    assert world.value(found).tolist() == pytest.approx([world.exact()] * 3, abs=1e-5)
    narrow = beam_search(world, world.value, width=2, draws=3, n=100, seed=0)
    assert 0.8 < float(world.value(narrow).mean()) < world.exact()


def test_uncertainty_falls_with_comparisons(world):
    from plaudit.curation.trees import chain_pairs

    rows = chain_pairs(world.base(), world.prompts("train", 60, 0), seed=0)
    found = uncertainties(world, {"none": [], "all": rows}, beta=4.0, seed=0)
    assert found["uncertainty/all"] < 0.8 * found["uncertainty/none"]
    assert found["uncertainty of siblings/none"] == pytest.approx(2 / 3)
