"""Prefix trees: structure, siblings, pairs at every level, chains; on a real cheap generator and a tiny language model."""

from collections import Counter
from itertools import combinations

import pytest
import torch

from plaudit.curation.trees import FixedSegments, Node, Steps, Tree, chain_pairs, divergences, grow_tree, grow_trees, tree_pairs
from plaudit.generators.language import tiny_decoder
from plaudit.types import Batch, Sampling
from plaudit.worlds.motifs import MotifWorld


@pytest.fixture(scope="module")
def world():
    return MotifWorld(depth=3, symbols=6, seed=0)


def full_tree(depth=3, branch=2):
    nodes = [Node("", None, 0, False)]
    level = [0]
    for at in range(1, depth + 1):
        following = []
        for parent in level:
            for letter in "abcdef"[:branch]:
                nodes.append(Node(nodes[parent].text + letter, parent, at, at == depth))
                following.append(len(nodes) - 1)
        level = following
    return Tree("prompt", nodes)


def test_a_grown_tree_is_full_and_its_siblings_differ(world):
    tree = grow_tree(world.base(), "prompt", depth=3, branch=3, segment=Steps("token"), seed=1)
    assert len(tree.nodes) == 1 + 3 + 9 + 27
    assert all(tree.nodes[leaf].complete and tree.nodes[leaf].depth == 3 for leaf in tree.leaves())
    children = Counter((node.parent, node.text) for node in tree.nodes)
    assert max(children.values()) == 1
    for number, node in enumerate(tree.nodes[1:], 1):
        parent = tree.nodes[node.parent]
        assert node.parent < number
        assert node.text.startswith(parent.text)
        assert node.depth == parent.depth + 1 == len(node.text)


def test_same_seed_same_tree_and_growing_together_gives_each_prompt_its_own(world):
    grown = [grow_trees(world.base(), Batch(["same", "same"]), segment=Steps("token"), seed=seed) for seed in (3, 3, 4)]
    assert grown[0] == grown[1]
    assert grown[0] != grown[2]
    assert grown[0][0].nodes != grown[0][1].nodes


def test_siblings_that_stay_equal_are_merged_and_counted(world):
    policy = world.base()
    with torch.no_grad():
        policy.table["logits"][0, :, 2] = 50.0  # the first letter is always c
    tree = grow_tree(policy, "prompt", depth=3, branch=2, segment=Steps("token"), tries=4, seed=0)
    assert [node.text for node in tree.nodes if node.depth == 1] == ["c"]
    assert tree.merged == 1
    assert tree.redrawn >= 4
    one = grow_tree(_certain(world), "prompt", depth=3, branch=2, segment=Steps("token"), tries=2)
    assert len(one.leaves()) == 1
    assert tree_pairs(one, 5) == []


def _certain(world):
    policy = world.base()
    with torch.no_grad():
        policy.table["logits"][:, :, 0] = 60.0
    return policy


def test_a_response_that_ends_early_is_an_early_leaf(world):
    tree = grow_tree(world.base(), "prompt", depth=3, branch=2, segment=Steps("turn"), seed=0)
    assert {node.depth for node in tree.nodes[1:]} == {1}
    assert all(node.complete for node in tree.nodes[1:])
    cut = grow_tree(world.base(), "prompt", depth=2, branch=2, segment=Steps("token"), seed=0)
    assert not any(node.complete for node in cut.nodes)
    assert tree_pairs(cut, 5) == [], "leaves that were cut off are no complete responses"


def test_divergence_and_leaves_against_the_slow_way():
    tree = full_tree(3, 2)
    leaves = tree.leaves()
    assert [tree.nodes[leaf].text for leaf in leaves] == ["aaa", "aab", "aba", "abb", "baa", "bab", "bba", "bbb"]
    for a, b in combinations(leaves, 2):
        first, second = tree.nodes[a].text, tree.nodes[b].text
        slow = next(place for place in range(3) if first[place] != second[place]) + 1
        assert tree.divergence(a, b) == tree.divergence(b, a) == slow
    with pytest.raises(ValueError, match="beginning"):
        tree.divergence(1, leaves[0])
    assert tree.repeated() == 0


@pytest.mark.parametrize(("depth", "branch"), [(3, 2), (2, 3)])
def test_uniform_pairs_of_leaves_diverge_as_the_formula_says(depth, branch):
    tree = full_tree(depth, branch)
    every = branch**depth * (branch**depth - 1) // 2
    rows = tree_pairs(tree, every)
    found = divergences(rows)
    weights = {level: branch ** (depth - level) for level in range(1, depth + 1)}
    assert found == {level: every * weight // sum(weights.values()) for level, weight in weights.items()}
    assert len({frozenset(row.responses) for row in rows}) == every, "no pair twice"
    assert len(tree_pairs(tree, every + 5, seed=1)) == every


def test_level_uniform_pairs_take_each_level_as_often():
    tree = full_tree(3, 2)
    found = Counter(row.extras["divergence"] for seed in range(900) for row in tree_pairs(tree, 1, by="level", seed=seed))
    assert all(abs(found[level] - 300) < 60 for level in (1, 2, 3))
    leaves = Counter(row.extras["divergence"] for seed in range(700) for row in tree_pairs(tree, 1, seed=seed))
    assert abs(leaves[1] - 400) < 60
    assert abs(leaves[3] - 100) < 40


def test_members_come_in_either_order_and_rows_say_what_they_are():
    tree = full_tree(3, 2)
    rows = [tree_pairs(tree, 1, seed=seed, name="t7")[0] for seed in range(60)]
    assert 15 < sum(row.responses[0] < row.responses[1] for row in rows) < 45
    assert all(row.gold is None and row.prompt == "prompt" and row.extras["tree"] == "t7" for row in rows)
    assert all(row.finish == ("complete", "complete") for row in rows)


def test_incomplete_pairs_are_of_one_depth_and_never_mixed():
    tree = full_tree(3, 2)
    rows = tree_pairs(tree, 7, incomplete=1.0)
    assert {tuple(map(len, row.responses)) for row in rows} <= {(1, 1), (2, 2)}
    assert len(rows) == 1 + 6, "all there are: one pair at depth 1, six at depth 2"
    assert all(not row.extras["complete"] and row.finish == ("truncated", "truncated") for row in rows)
    mixed = tree_pairs(tree, 20, incomplete=0.5, seed=3)
    assert {row.extras["complete"] for row in mixed} == {True, False}
    assert all(len(row.responses[0]) == len(row.responses[1]) for row in mixed)


def test_equal_texts_of_different_branches_make_no_pair():
    nodes = [
        Node("", None, 0, False),
        Node("a", 0, 1, False),
        Node("ab", 0, 1, False),
        Node("abc", 1, 2, True),
        Node("abc", 2, 2, True),
    ]
    tree = Tree("prompt", nodes)
    assert tree.repeated() == 1
    assert tree_pairs(tree, 3) == []


def test_chain_pairs_are_independent_and_never_equal(world):
    rows = chain_pairs(world.base(), world.prompts("train", 400, 0), seed=5)
    assert len(rows) == 400
    assert all(row.responses[0] != row.responses[1] for row in rows)
    same = sum(row.responses[0][0] == row.responses[1][0] for row in rows) / 400
    assert abs(same - 1 / 6) < 0.06
    assert rows == chain_pairs(world.base(), world.prompts("train", 400, 0), seed=5)
    assert chain_pairs(_certain(world), Batch(["p"]), tries=2) == []


def test_bad_settings(world):
    with pytest.raises(ValueError, match="at least 1"):
        grow_tree(world.base(), "p", depth=0)
    with pytest.raises(ValueError, match="leaves or level"):
        tree_pairs(full_tree(), 1, by="depth")
    with pytest.raises(ValueError, match="step by step"):
        grow_tree(object(), "p")


def test_trees_of_a_language_model():
    generator = tiny_decoder("abcd.", seed=2)
    segment = FixedSegments(tokens=3, depth=3, max_tokens=12, temperature=1.3)
    prompts = Batch(["ab", "c"])
    trees = grow_trees(generator, prompts, depth=3, branch=2, segment=segment, seed=0)
    assert max(node.depth for tree in trees for node in tree.nodes) == 3
    for tree in trees:
        for node in tree.nodes[1:]:
            parent = tree.nodes[node.parent]
            assert node.text.startswith(parent.text)
            assert not parent.complete, "what has ended is not continued"
            assert len(node.text) <= min(12, 3 * node.depth if node.depth < 3 else 12), "one letter a token at most"
    assert grow_trees(generator, prompts, depth=3, branch=2, segment=segment, seed=0) == trees
    how = Steps("sentence", Sampling(max_tokens=30, temperature=1.0))
    inner = [
        tree.nodes[node.parent]
        for tree in grow_trees(generator, Batch(["ab"] * 12), depth=2, branch=2, segment=how)
        for node in tree.nodes
        if node.depth == 2
    ]
    assert inner
    assert all(node.text.endswith(".") for node in inner), "what goes on after a segment had come to a sentence's end"
