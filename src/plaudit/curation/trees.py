"""Preference pairs out of prefix trees: the responses of a tree share their beginnings, so that pairs differ in their ends.

Source: Qiu et al. 2024, Reward Generalization in RLHF: A Topological Perspective (arXiv 2402.10184), algorithm 1; card 37.
A response is a path from the root (the prompt) to a leaf; each edge is a segment that the generator wrote. A pair *diverges* at
level t where its members share t - 1 segments: at level 1 they share only the prompt. In a full tree of branching B and depth D
a pair of leaves drawn uniformly diverges at level t with probability proportional to B^(D - t).

Pairs of one tree depend on each other: split them by prompt (`plaudit.curation.factory.split_by`), never by pair.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from plaudit.data.row import Row
from plaudit.fitting.seeds import derive_seed
from plaudit.types import Batch, Generator, Prompt, Sampling, States, Stepping

By = Literal["leaves", "level"]
Segmenter = Callable[[Stepping, States, int, int], States]
"""`segmenter(generator, states, level, seed)`: the states one segment further; level counts from 1."""


@dataclass(frozen=True)
class Node:
    """A response up to the end of one segment. text: all of it so far. complete: the generator has ended it."""

    text: str
    parent: int | None
    depth: int
    complete: bool


@dataclass
class Tree:
    """The responses to one prompt; node 0 is the root, and parents stand before their children.

    merged: siblings that stayed equal to another after all tries, and are one node. redrawn: segments drawn again.
    """

    prompt: Prompt
    nodes: list[Node] = field(default_factory=lambda: [Node("", None, 0, False)])
    merged: int = 0
    redrawn: int = 0

    def leaves(self) -> list[int]:
        """Nodes without children; those that are not complete were cut off."""
        inner = {node.parent for node in self.nodes}
        return [number for number in range(1, len(self.nodes)) if number not in inner]

    def repeated(self) -> int:
        """Leaves whose text another leaf has already, in another branch; no pair is made of two equal texts."""
        texts = [self.nodes[leaf].text for leaf in self.leaves()]
        return len(texts) - len(set(texts))

    def path(self, number: int) -> list[int]:
        """The nodes from the root to a node, both included."""
        found = [number]
        while (parent := self.nodes[found[-1]].parent) is not None:
            found.append(parent)
        return found[::-1]

    def divergence(self, first: int, second: int) -> int:
        """The level at which two nodes part: 1 where they share only the root. Raises ValueError where one begins the other."""
        for level, (a, b) in enumerate(zip(self.path(first), self.path(second), strict=False)):
            if a != b:
                return level
        raise ValueError(f"of the nodes {first} and {second} one is the beginning of the other")


@dataclass(frozen=True)
class FixedSegments:
    """Segments of `tokens` tokens each; the last level goes on to the end of the response, at most `max_tokens`.

    Fits generators whose `step` reads a `Sampling` and bounds the whole response by its `max_tokens`, such as language models.
    """

    tokens: int
    depth: int
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0

    def __call__(self, generator: Stepping, states: States, level: int, seed: int) -> States:
        """One segment further. A response at a segment's end is not finished, whatever the bound made of it."""
        import torch

        last = level == self.depth
        most = self.max_tokens if last else min(self.max_tokens, self.tokens * level)
        how = Sampling(max_tokens=most, temperature=self.temperature, top_p=self.top_p)
        moved = generator.step(states, how, seed=seed, until="turn")
        if last:
            return moved
        ended = [finish == "complete" for finish in generator.read(moved).finish or []]
        return replace(moved, finished=torch.tensor(ended, dtype=torch.bool))


@dataclass(frozen=True)
class Steps:
    """A segment is one step of the generator: a "token", a "sentence" or a "turn". how: what its `step` reads."""

    until: str = "sentence"
    how: Any = field(default_factory=lambda: Sampling(temperature=1.0))

    def __call__(self, generator: Stepping, states: States, level: int, seed: int) -> States:  # noqa: ARG002
        """One step further."""
        return generator.step(states, self.how, seed=seed, until=self.until)


def grow_tree(
    generator: Generator,
    prompt: Prompt,
    *,
    depth: int = 3,
    branch: int = 2,
    segment: Segmenter | None = None,
    tries: int = 10,
    seed: int = 0,
) -> Tree:
    """`grow_trees` for one prompt."""
    return grow_trees(generator, Batch([prompt]), depth=depth, branch=branch, segment=segment, tries=tries, seed=seed)[0]


def grow_trees(
    generator: Generator,
    prompts: Batch,
    *,
    depth: int = 3,
    branch: int = 2,
    segment: Segmenter | None = None,
    tries: int = 10,
    seed: int = 0,
) -> list[Tree]:
    """A tree for each prompt, all of them grown together level by level, so that the generator works on large batches.

    Each open node is continued `branch` times by one segment (None: a sentence at temperature 1). Siblings differ in that
    segment: equal ones are drawn again up to `tries` times, then merged and counted. A response that ends early is an early leaf.
    Equal prompts get trees of their own. Raises ValueError for a generator that cannot be run step by step, or numbers below 1.
    """
    if not isinstance(generator, Stepping):
        raise ValueError("a tree needs a generator that can be run step by step (plaudit.types.Stepping)")
    if depth < 1 or branch < 1 or tries < 0:
        raise ValueError(f"depth and branch must be at least 1 and tries not negative: {depth}, {branch}, {tries}")
    trees = [Tree(prompt) for prompt in prompts.prompts]
    grower = _Grower(generator, segment or Steps(), trees, tries, seed)
    states, owners = generator.start(prompts, 1, seed=derive_seed(seed, "start")), [(tree, 0) for tree in range(len(trees))]
    for level in range(1, depth + 1):
        open_rows = [row for row, over in enumerate(states.finished.tolist()) if not over]
        if not open_rows:
            break
        states, owners = grower.level(states.select(open_rows), [owners[row] for row in open_rows], branch, level)
    return trees


@dataclass
class _Grower:
    """Grows one level of all trees at a time."""

    generator: Stepping
    segment: Segmenter
    trees: list[Tree]
    tries: int
    seed: int

    def level(
        self, states: States, owners: list[tuple[int, int]], branch: int, level: int
    ) -> tuple[States, list[tuple[int, int]]]:
        """`branch` continuations of each state. owners: (tree, node) of each state; returns those of the new nodes."""
        rows = [row for row in range(len(owners)) for _ in range(branch)]
        states, parents = states.select(rows), [owners[row] for row in rows]
        drawn, batch = self._draw(states, level, 0)
        texts = [str(text) for text in batch.require_responses()]
        for attempt in range(1, self.tries + 1):
            again = _repeated(parents, texts)
            if not again or not states.stochastic:
                break
            fresh, read = self._draw(states.select(again), level, attempt)
            drawn = _replaced(drawn, again, fresh)
            for row, text in zip(again, read.require_responses(), strict=True):
                texts[row] = str(text)
                self.trees[parents[row][0]].redrawn += 1
        return self._added(drawn, parents, texts)

    def _draw(self, states: States, level: int, attempt: int) -> tuple[States, Batch]:
        moved = self.segment(self.generator, states, level, derive_seed(self.seed, "segment", level, attempt))
        return moved, self.generator.read(moved)

    def _added(self, drawn: States, parents: list[tuple[int, int]], texts: list[str]) -> tuple[States, list[tuple[int, int]]]:
        """New nodes for the rows that differ from their siblings. complete: the generator finished, and nothing cut it off."""
        double = set(_repeated(parents, texts))
        finish = self.generator.read(drawn).finish or ["complete"] * len(texts)
        owners, kept = [], [row for row in range(len(texts)) if row not in double]
        for row in double:
            self.trees[parents[row][0]].merged += 1
        over = drawn.finished.tolist()
        for row in kept:
            tree, parent = parents[row]
            nodes = self.trees[tree].nodes
            complete = bool(over[row]) and finish[row] == "complete"
            nodes.append(Node(texts[row], parent, nodes[parent].depth + 1, complete))
            owners.append((tree, len(nodes) - 1))
        return drawn.select(kept), owners


def _repeated(parents: Sequence[tuple[int, int]], texts: Sequence[str]) -> list[int]:
    """Rows whose text an earlier sibling has already."""
    seen: set[tuple[tuple[int, int], str]] = set()
    again = []
    for row, key in enumerate(zip(parents, texts, strict=True)):
        if key in seen:
            again.append(row)
        seen.add(key)
    return again


def _replaced(states: States, rows: Sequence[int], fresh: States) -> States:
    """The states with the given rows taken from others."""
    import torch

    both = [*range(len(states))]
    for place, row in enumerate(rows):
        both[row] = len(states) + place
    time, finished = torch.cat([states.time, fresh.time]), torch.cat([states.finished, fresh.finished])
    payload = _joined(states.payload, fresh.payload)
    return States(time, finished, payload, stochastic=states.stochastic).select(both)


def _joined(first: Any, second: Any) -> Any:
    """Rows of one payload after those of another: tensors, lists, dictionaries, batches, and dataclasses of them."""
    import torch

    if isinstance(first, torch.Tensor):
        return torch.cat([first, second])
    if isinstance(first, (list, tuple)):
        return [*first, *second]
    if isinstance(first, dict):
        return {name: _joined(value, second[name]) for name, value in first.items()}
    if first is None:
        return None
    if hasattr(first, "__dataclass_fields__"):
        return replace(
            first, **{name: _joined(getattr(first, name), getattr(second, name)) for name in first.__dataclass_fields__}
        )
    raise ValueError(f"a payload of {type(first).__name__} cannot be joined")


def tree_pairs(tree: Tree, n: int, *, incomplete: float = 0.0, by: By = "leaves", seed: int = 0, name: str = "tree") -> list[Row]:
    """Up to n pairs of one tree, unlabelled, none twice; a tree with fewer pairs gives all that it has.

    by: "leaves" draws uniformly over pairs of complete leaves; "level" draws the level of divergence first, each as often as
    the others while it lasts. incomplete: share of pairs (drawn pair by pair) whose members are both unfinished responses of
    the same depth instead: the two kinds are never mixed in a pair. Members of equal text make no pair.
    name: of the tree, in row ids and `extras["tree"]`; `extras` also hold the `divergence` and `complete`.
    """
    if by not in ("leaves", "level") or not 0.0 <= incomplete <= 1.0:
        raise ValueError(f"by must be leaves or level and incomplete a share, not '{by}' and {incomplete}")
    draw = random.Random(derive_seed(seed, "pairs"))
    unfinished = sum(draw.random() < incomplete for _ in range(n))
    inner: dict[int, list[int]] = defaultdict(list)
    for number, node in enumerate(tree.nodes):
        if node.depth and not node.complete:
            inner[node.depth].append(number)
    whole = [[leaf for leaf in tree.leaves() if tree.nodes[leaf].complete]]
    return [
        *_drawn_rows(tree, whole, n - unfinished, by, draw, name),
        *_drawn_rows(tree, list(inner.values()), unfinished, by, draw, name),
    ]


def _drawn_rows(tree: Tree, sets: list[list[int]], n: int, by: By, draw: random.Random, name: str) -> list[Row]:
    """n pairs of nodes out of the same set, as rows in random order of their members."""
    levels: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for members in sets if n else []:
        for place, first in enumerate(members):
            for second in members[place + 1 :]:
                if tree.nodes[first].text != tree.nodes[second].text:
                    levels[tree.divergence(first, second) if by == "level" else 0].append((first, second))
    for pairs in levels.values():
        draw.shuffle(pairs)
    chosen: list[tuple[int, int]] = []
    while len(chosen) < n and levels:
        level = draw.choice(sorted(levels))
        chosen.append(levels[level].pop())
        if not levels[level]:
            del levels[level]
    return [_row(tree, *(pair if draw.random() < 0.5 else pair[::-1]), name) for pair in chosen]


def _row(tree: Tree, first: int, second: int, name: str) -> Row:
    members = (tree.nodes[first], tree.nodes[second])
    complete = members[0].complete
    return Row(
        id=f"{name}:{first}-{second}",
        prompt=tree.prompt,
        responses=(members[0].text, members[1].text),
        finish=("complete", "complete") if complete else ("truncated", "truncated"),
        extras={"tree": name, "divergence": tree.divergence(first, second), "complete": complete},
    )


def chain_pairs(
    generator: Generator, prompts: Batch, *, how: Any = None, tries: int = 10, seed: int = 0, name: str = "chain"
) -> list[Row]:
    """One pair of independently drawn responses a prompt, unlabelled: what preference data usually are.

    how: what the generator's `rollout` reads. Pairs of equal text are drawn again up to `tries` times, and then left out.
    """
    rows: dict[int, Row] = {}
    left = list(range(len(prompts)))
    for attempt in range(tries + 1):
        if not left:
            break
        drawn = generator.rollout(prompts.select(left), 2, how=how, seed=derive_seed(seed, "chain", attempt)).batch
        texts, finish = drawn.require_responses(), drawn.finish or ["complete"] * len(drawn)
        for place, number in enumerate(left):
            pair = (str(texts[2 * place]), str(texts[2 * place + 1]))
            if pair[0] != pair[1]:
                ends = (finish[2 * place], finish[2 * place + 1])
                extras = {"tree": f"{name}{number}", "complete": ends == ("complete", "complete")}
                rows[number] = Row(f"{name}{number}", prompts.prompts[number], pair, finish=ends, extras=extras)
        left = [number for number in left if number not in rows]
    return [rows[number] for number in sorted(rows)]


def divergences(rows: Sequence[Row]) -> dict[int, int]:
    """How many pairs part at each level."""
    found = Counter(row.extras["divergence"] for row in rows if "divergence" in row.extras)
    return dict(sorted(found.items()))
