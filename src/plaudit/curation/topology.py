"""`PreferenceGraph`: how uncertain a reward is that was learned from given comparisons, before a single one is labelled.

Source: Qiu et al. 2024 (arXiv 2402.10184), section 4 (induced Bayesian network); card 37. Nodes are responses. An edge says that
the difference of two rewards is known up to a variance: an *inductive-bias* edge from what the model generalises, a *preference*
edge from a label. Of a comparison labelled with strength, in reward units, as Logistic(r_a - r_b, 1 / beta), the variance is
pi^2 / (3 beta^2) (`label_variance`). The paper measures a pair by the shortest path of variances; for Gaussian edges the exact
posterior variance of r_a - r_b is the effective resistance of the graph whose conductances are the precisions, which the
shortest path bounds from above (Rayleigh: more edges never raise either).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from plaudit.curation.trees import Tree
from plaudit.fitting.seeds import derive_seed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

Edge = tuple[int, int, float]
"""(node, node, variance)."""


def label_variance(beta: float) -> float:
    """Variance of a logistic of scale 1 / beta: pi^2 / (3 beta^2), in squared reward units. Raises ValueError for beta <= 0."""
    if not beta > 0:
        raise ValueError(f"beta must be positive, not {beta}")
    return math.pi**2 / (3 * beta**2)


@dataclass(frozen=True)
class Uncertainty:
    """Means over random pairs of different nodes, in squared reward units; None where no pair was connected.

    disconnected: share of the pairs between which there is no path: their distance is infinite, and in no mean.
    """

    distance: float | None
    resistance: float | None
    disconnected: float
    pairs: int

    def to_json(self) -> dict[str, Any]:
        """Every field by name."""
        return asdict(self)


@dataclass
class _Labels:
    """What the comparisons of one pair of nodes say: summed precisions and counts of labels for either side."""

    precision: list[float] = field(default_factory=lambda: [0.0, 0.0])
    count: list[int] = field(default_factory=lambda: [0, 0])


class PreferenceGraph:
    """Responses, the edges by which a model generalises, and the comparisons that were labelled.

    Labels of one pair that agree add up: k of equal variance v make an edge of v / k. Where labels contradict each other only
    the heavier side counts (a tie: one side), so a contradiction adds nothing but a count. Raises ValueError for edges of a node
    to itself, nodes that are not there, and variances that are not positive and finite.
    """

    def __init__(self, n_nodes: int, ib_edges: Iterable[Edge] = ()) -> None:
        if n_nodes < 1:
            raise ValueError(f"a graph needs at least one node, not {n_nodes}")
        self.n_nodes = n_nodes
        self._bias: list[Edge] = []
        self._labels: dict[tuple[int, int], _Labels] = {}
        for a, b, variance in ib_edges:
            self._checked(a, b, variance)
            self._bias.append((a, b, float(variance)))

    def _checked(self, a: int, b: int, variance: float) -> None:
        if a == b or not (0 <= a < self.n_nodes and 0 <= b < self.n_nodes):
            raise ValueError(f"an edge joins two different nodes of 0 .. {self.n_nodes - 1}, not {a} and {b}")
        if not (variance > 0 and math.isfinite(variance)):
            raise ValueError(f"a variance must be positive and finite, not {variance}")

    def add(self, a: int, b: int, variance: float) -> None:
        """A label that says that a beats b. A tie, or a comparison not yet labelled, counts for whichever comes first."""
        self._checked(a, b, variance)
        side = int(a > b)
        labels = self._labels.setdefault((min(a, b), max(a, b)), _Labels())
        labels.precision[side] += 1.0 / variance
        labels.count[side] += 1

    @property
    def duplicates(self) -> int:
        """Labels beyond the first of the same pair that say the same."""
        return sum(max(0, count - 1) for labels in self._labels.values() for count in labels.count)

    @property
    def contradictions(self) -> int:
        """Labels against the majority of their pair."""
        return sum(min(labels.count) for labels in self._labels.values())

    def edges(self) -> list[Edge]:
        """All edges: those of the inductive bias, and one for each labelled pair."""
        return [*self._bias, *((a, b, 1.0 / max(labels.precision)) for (a, b), labels in self._labels.items())]

    def distance(self, a: int, b: int) -> float:
        """Smallest sum of variances along a path from a to b; infinite where there is none."""
        return float(self.distances([(a, b)])[0])

    def resistance(self, a: int, b: int) -> float:
        """Posterior variance of r_a - r_b where every edge is Gaussian; infinite where there is no path."""
        return float(self.resistances([(a, b)])[0])

    def distances(self, pairs: Sequence[tuple[int, int]]) -> Floats:
        """`distance` of many pairs; one search for each different first node."""
        import numpy as np
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import dijkstra

        asked = self._pairs(pairs)
        least: dict[tuple[int, int], float] = {}
        for a, b, variance in self.edges():
            key = (min(a, b), max(a, b))
            least[key] = min(variance, least.get(key, math.inf))
        ends = np.array(list(least), dtype=np.int64).reshape(-1, 2)
        graph = csr_array((np.array(list(least.values())), (ends[:, 0], ends[:, 1])), shape=(self.n_nodes, self.n_nodes))
        sources, place = np.unique(asked[:, 0], return_inverse=True)
        found = np.empty(len(asked))
        for start in range(0, len(sources), 256):  # memory: 256 rows of the distance matrix at once
            table = dijkstra(graph, directed=False, indices=sources[start : start + 256])
            here = (place >= start) & (place < start + 256)
            found[here] = table[place[here] - start, asked[here, 1]]
        return found

    def resistances(self, pairs: Sequence[tuple[int, int]]) -> Floats:
        """`resistance` of many pairs: one sparse factorisation of the Laplacian for each component that is asked about.

        With one node of a component grounded the Laplacian is positive definite; e_ab' L^-1 e_ab is the resistance.
        """
        import numpy as np
        from scipy.sparse import csr_array, diags_array
        from scipy.sparse.csgraph import connected_components

        asked = self._pairs(pairs)
        listed = self.edges()
        ends = np.array([(a, b) for a, b, _ in listed], dtype=np.int64).reshape(-1, 2)
        weight = np.array([1.0 / variance for _, _, variance in listed])
        size = (self.n_nodes, self.n_nodes)
        adjacency = csr_array((np.tile(weight, 2), (ends.T.ravel(), ends[:, ::-1].T.ravel())), shape=size)
        _, label = connected_components(adjacency, directed=False)
        laplacian = (diags_array(adjacency.sum(axis=1)) - adjacency).tocsr()
        found = np.full(len(asked), math.inf)
        found[asked[:, 0] == asked[:, 1]] = 0.0
        joined = (label[asked[:, 0]] == label[asked[:, 1]]) & (asked[:, 0] != asked[:, 1])
        for component in np.unique(label[asked[joined, 0]]):
            here = joined & (label[asked[:, 0]] == component)
            found[here] = _grounded(laplacian, np.flatnonzero(label == component), asked[here])
        return found

    def _pairs(self, pairs: Sequence[tuple[int, int]]) -> Ints:
        import numpy as np

        asked = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        if asked.size and not (asked.min() >= 0 and asked.max() < self.n_nodes):
            raise ValueError(f"nodes are 0 .. {self.n_nodes - 1}")
        return asked

    def mean_uncertainty(self, pairs: int = 1000, *, seed: int = 0, among: Sequence[int] | None = None) -> Uncertainty:
        """Both measures over random pairs of different nodes. among: the nodes to draw from (complete responses), None for all.

        Raises ValueError where there are fewer than two nodes to draw from.
        """
        import numpy as np

        nodes = np.unique(np.arange(self.n_nodes) if among is None else np.asarray(among, dtype=np.int64))
        if len(nodes) < 2 or pairs < 1:
            raise ValueError("a mean over pairs needs two nodes and one pair")
        draw = np.random.default_rng(derive_seed(seed, "pairs"))
        first = draw.integers(len(nodes), size=pairs)
        second = (first + draw.integers(1, len(nodes), size=pairs)) % len(nodes)
        asked = [(int(a), int(b)) for a, b in zip(nodes[first], nodes[second], strict=True)]
        distance, resistance = self.distances(asked), self.resistances(asked)
        known = np.isfinite(distance)
        if not known.any():
            return Uncertainty(None, None, 1.0, pairs)
        return Uncertainty(float(distance[known].mean()), float(resistance[known].mean()), float(1 - known.mean()), pairs)


def _grounded(laplacian: Any, nodes: Ints, asked: Ints) -> Floats:
    """Resistances of pairs inside one component."""
    import numpy as np
    from scipy.sparse.linalg import splu

    place = np.full(laplacian.shape[0], -1)
    place[nodes[1:]] = np.arange(len(nodes) - 1)  # the first node is grounded
    factor = splu(laplacian[nodes[1:]][:, nodes[1:]].tocsc())
    found = np.empty(len(asked))
    for start in range(0, len(asked), 256):
        some = place[asked[start : start + 256]]
        sides = np.zeros((len(nodes) - 1, len(some)))
        for column, sign in ((0, 1.0), (1, -1.0)):
            live = some[:, column] >= 0
            sides[some[live, column], np.flatnonzero(live)] += sign
        found[start : start + 256] = np.einsum("ij,ij->j", sides, factor.solve(sides))
    return found


def tree_edges(tree: Tree, variances: Sequence[float]) -> list[Edge]:
    """Inductive-bias edges of a prefix tree, parent to child: `variances[d - 1]` for a child at depth d.

    A stand-in for what was never measured on a real model: responses that share more of their beginning are more alike.
    """
    children = ((number, node) for number, node in enumerate(tree.nodes) if node.parent is not None)
    return [(node.parent, number, variances[node.depth - 1]) for number, node in children if node.parent is not None]


def bound_violations(graphs: int, seed: int = 0) -> int:
    """Over all pairs of nodes of so many random graphs: how often the shortest path is below the resistance, and how often one
    more edge raises either. Theory says never."""
    import random

    count = 0
    for number in range(graphs):
        draw = random.Random(derive_seed(seed, "graph", number))
        nodes = draw.randint(3, 14)
        ends = [draw.sample(range(nodes), 2) for _ in range(draw.randint(1, 3 * nodes))]
        edges = [(a, b, draw.uniform(0.1, 5.0)) for a, b in ends]
        asked = [(a, b) for a in range(nodes) for b in range(a)]
        # half of the edges are labels: repeated and contradicting ones are among them
        few, many = (_half_labelled(nodes, edges[: len(edges) - less]) for less in (1, 0))
        before, after = (few.distances(asked), few.resistances(asked)), (many.distances(asked), many.resistances(asked))
        count += sum(int((path < exact * (1 - 1e-9)).sum()) for path, exact in (before, after))
        count += sum(int((new > old * (1 + 1e-9)).sum()) for old, new in zip(before, after, strict=True))
    return count


def _half_labelled(nodes: int, edges: Sequence[Edge]) -> PreferenceGraph:
    graph = PreferenceGraph(nodes, edges[::2])
    for edge in edges[1::2]:
        graph.add(*edge)
    return graph
