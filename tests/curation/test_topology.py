"""Graphs of preferences: closed forms, the dense pseudo-inverse, monotonicity, duplicates and contradictions."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plaudit.curation.topology import PreferenceGraph, bound_violations, label_variance, tree_edges
from plaudit.curation.trees import Steps, grow_tree
from plaudit.worlds.motifs import MotifWorld


def dense_resistance(nodes, edges, a, b):
    """The slow way: pseudo-inverse of the dense Laplacian."""
    laplacian = np.zeros((nodes, nodes))
    for i, j, variance in edges:
        laplacian[i, i] += 1 / variance
        laplacian[j, j] += 1 / variance
        laplacian[i, j] -= 1 / variance
        laplacian[j, i] -= 1 / variance
    inverse = np.linalg.pinv(laplacian)
    return inverse[a, a] + inverse[b, b] - 2 * inverse[a, b]


def test_series_and_parallel():
    series = PreferenceGraph(3, [(0, 1, 2.0), (1, 2, 3.0)])
    assert series.distance(0, 2) == series.resistance(0, 2) == pytest.approx(5.0)
    parallel = PreferenceGraph(2, [(0, 1, 2.0), (1, 0, 3.0)])
    assert parallel.resistance(0, 1) == pytest.approx(1 / (1 / 2 + 1 / 3))
    assert parallel.distance(0, 1) == 2.0, "a path takes one of the two"
    square = PreferenceGraph(4, [(0, 1, 1.0), (1, 2, 1.0), (2, 3, 1.0), (3, 0, 1.0)])
    assert square.resistance(0, 2) == pytest.approx(1.0)
    assert square.resistance(0, 1) == pytest.approx(0.75)
    assert square.distance(0, 2) == 2.0


def test_resistance_is_the_posterior_variance_of_a_gaussian_model():
    """Sampled: rewards given observed differences, prior tree 0-1-2, one comparison of (0, 2)."""
    graph = PreferenceGraph(3, [(0, 1, 1.0), (1, 2, 1.0)])
    graph.add(0, 2, 0.5)
    precision = np.array([[1.0, 0.0], [0.0, 1.0]]) + np.ones((2, 2)) / 0.5  # of d01, d12, with d01 + d12 observed
    covariance = np.linalg.inv(precision)
    assert graph.resistance(0, 2) == pytest.approx(float(np.ones(2) @ covariance @ np.ones(2)))
    assert graph.resistance(0, 1) == pytest.approx(float(covariance[0, 0]))


@pytest.mark.parametrize("seed", range(12))
def test_against_the_dense_way_and_floyd_warshall(seed):
    draw = random.Random(seed)
    nodes = draw.randint(2, 9)
    edges = [(*draw.sample(range(nodes), 2), draw.uniform(0.2, 3)) for _ in range(draw.randint(nodes - 1, 3 * nodes))]
    graph = PreferenceGraph(nodes, edges)
    shortest = np.full((nodes, nodes), np.inf)
    np.fill_diagonal(shortest, 0.0)
    for a, b, variance in edges:
        shortest[a, b] = shortest[b, a] = min(variance, shortest[a, b])
    for k in range(nodes):
        shortest = np.minimum(shortest, shortest[:, [k]] + shortest[[k], :])
    for a in range(nodes):
        for b in range(nodes):
            assert graph.distance(a, b) == pytest.approx(shortest[a, b])
            if np.isfinite(shortest[a, b]):
                assert graph.resistance(a, b) == pytest.approx(dense_resistance(nodes, edges, a, b), abs=1e-9)
            else:
                assert math.isinf(graph.resistance(a, b))


def test_theory_holds_on_200_random_graphs():
    assert bound_violations(200, seed=11) == 0


def test_a_broken_bound_would_be_found(monkeypatch):
    real = PreferenceGraph.resistances
    monkeypatch.setattr(PreferenceGraph, "resistances", lambda self, pairs: 1.5 * real(self, pairs))
    assert bound_violations(20, seed=11) > 0


def test_duplicates_add_up_and_contradictions_add_nothing():
    graph = PreferenceGraph(2)
    graph.add(0, 1, 2.0)
    assert graph.distance(0, 1) == pytest.approx(2.0)
    graph.add(0, 1, 2.0)
    assert graph.distance(0, 1) == pytest.approx(1.0)
    graph.add(1, 0, 2.0)
    assert (graph.duplicates, graph.contradictions) == (1, 1)
    assert graph.distance(0, 1) == graph.resistance(0, 1) == pytest.approx(1.0)
    for _ in range(2):
        graph.add(1, 0, 2.0)
    assert graph.distance(0, 1) == pytest.approx(2.0 / 3), "three against two"


def test_label_variance_is_that_of_the_logistic():
    draws = np.random.default_rng(0).logistic(0.0, 1 / 3.0, 400_000)
    assert label_variance(3.0) == pytest.approx(draws.var(), rel=0.02)
    difference, beta = 0.4, 3.0
    strengths = np.random.default_rng(1).logistic(difference, 1 / beta, 400_000)
    assert float((strengths > 0).mean()) == pytest.approx(1 / (1 + math.exp(-beta * difference)), abs=0.003)
    with pytest.raises(ValueError, match="positive"):
        label_variance(0.0)


def test_parts_without_a_path_are_counted_and_in_no_mean():
    graph = PreferenceGraph(4, [(0, 1, 1.0), (2, 3, 1.0)])
    assert math.isinf(graph.distance(0, 2))
    found = graph.mean_uncertainty(600, seed=0)
    assert found.distance == found.resistance == pytest.approx(1.0)
    assert found.disconnected == pytest.approx(2 / 3, abs=0.06)
    empty = PreferenceGraph(3).mean_uncertainty(10)
    assert (empty.distance, empty.resistance, empty.disconnected) == (None, None, 1.0)
    assert empty.to_json()["distance"] is None
    among = graph.mean_uncertainty(50, among=[0, 1])
    assert among.disconnected == 0.0


@settings(max_examples=30, deadline=None)
@given(st.integers(-3, 6), st.integers(-3, 6), st.floats(allow_nan=True, allow_infinity=True))
def test_bad_edges_are_refused(a, b, variance):
    graph = PreferenceGraph(4)
    good = a != b and 0 <= a < 4 and 0 <= b < 4 and 0 < variance < math.inf
    if good and math.isfinite(1 / variance):
        graph.add(a, b, variance)
        assert len(graph.edges()) == 1
    elif not good:
        with pytest.raises(ValueError, match="node|variance"):
            graph.add(a, b, variance)


def test_prefix_trees_give_inductive_bias():
    world = MotifWorld(depth=3, symbols=6)
    tree = grow_tree(world.base(), "p", depth=3, branch=2, segment=Steps("token"))
    graph = PreferenceGraph(len(tree.nodes), tree_edges(tree, (1.0, 0.5, 0.25)))
    leaves = tree.leaves()
    by_level = {tree.divergence(a, b): graph.resistance(a, b) for a in leaves for b in leaves if a < b}
    assert by_level == {1: pytest.approx(3.5), 2: pytest.approx(1.5), 3: pytest.approx(0.5)}
