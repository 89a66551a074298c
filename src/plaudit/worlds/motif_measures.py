"""How good a reward is in a `MotifWorld`: accuracy on pairs, best-of-n and beam search, all against the truth.

A reward is given by its values of all strings, in the order of `MotifWorld.strings()`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from plaudit.curation.topology import PreferenceGraph, label_variance
from plaudit.data.row import Row
from plaudit.fitting.seeds import derive_seed
from plaudit.worlds.motifs import MotifWorld

if TYPE_CHECKING:
    from torch import Tensor


def drawn_pairs(world: MotifWorld, n: int, seed: int, *, shared: bool) -> tuple[Tensor, Tensor]:
    """Row numbers [n], [n] in `strings()` of two different strings each, drawn uniformly.

    shared: they have the first letter in common; the level at which they part is uniform over 2 .. depth.
    """
    import torch

    draw = torch.Generator().manual_seed(derive_seed(seed, "pairs", shared))
    total, symbols = world.symbols**world.depth, world.symbols
    first = torch.randint(total, (n,), generator=draw)
    if not shared:
        return first, (first + torch.randint(1, total, (n,), generator=draw)) % total
    # at level t the strings part: t - 1 letters are shared, letter t is another one, the rest is free
    rest = symbols ** (world.depth - torch.randint(2, world.depth + 1, (n,), generator=draw))
    above, letter = first // (rest * symbols), first // rest % symbols
    other = (letter + torch.randint(1, symbols, (n,), generator=draw)) % symbols
    tail = (torch.rand(n, generator=draw, dtype=torch.float64) * rest).long()
    return first, (above * symbols + other) * rest + tail


def accuracy(world: MotifWorld, values: Tensor, *, n: int, seed: int, shared: bool = False) -> float:
    """Share of `drawn_pairs` that the values order as the truth does; a tie of the values counts half."""
    truth = world.value(world.strings())
    a, b = drawn_pairs(world, n, seed, shared=shared)
    right = ((values[a] - values[b]).sign() * (truth[a] - truth[b]).sign() + 1) / 2
    return float(right[truth[a] != truth[b]].mean())


def best_of_n(world: MotifWorld, values: Tensor, *, prompts: int, n: int, seed: int) -> Tensor:
    """[prompts] true reward of the best by the values of n uniform strings each; equal seeds draw equal candidates."""
    import torch

    draw = torch.Generator().manual_seed(derive_seed(seed, "candidates"))
    drawn = torch.randint(len(values), (prompts, n), generator=draw)
    return world.value(world.strings())[drawn.gather(1, values[drawn].argmax(1, keepdim=True))[:, 0]]


def win_rate(first: Tensor, second: Tensor) -> float:
    """Share of places where the first is the higher one; equal ones count half."""
    return float(((first - second).sign().mean() + 1) / 2)


def beam_search(
    world: MotifWorld, score: Callable[[list[str]], Tensor], *, width: int, draws: int, n: int, seed: int
) -> list[str]:
    """n step beam searches under the uniform policy, guided by a reward of beginnings.

    Each of `width` beginnings is continued by `draws` drawn letters, and the `width` best different ones go on; of the whole
    strings the best is given. score: texts -> [B].
    """
    draw = random.Random(derive_seed(seed, "beam"))
    beams = [[""] for _ in range(n)]
    for _ in range(world.depth):
        grown = [sorted({text + draw.choice(world.letters) for text in beam for _ in range(draws)}) for beam in beams]
        values = iter(score([text for beam in grown for text in beam]).tolist())
        scored = [[(next(values), text) for text in beam] for beam in grown]
        beams = [[text for _, text in sorted(beam, reverse=True)[:width]] for beam in scored]
    return [beam[0] for beam in beams]


def measure(
    world: MotifWorld,
    score: Callable[[list[str]], Tensor],
    *,
    tests: int,
    best_of: tuple[int, int],
    beam: tuple[int, int],
    seed: int,
) -> tuple[dict[str, float], Tensor]:
    """All measures of a reward `score`, texts -> [B], and the true reward of each of its picks of n.

    tests: pairs behind an accuracy. best_of: prompts and candidates, for as many searches too. beam: width and draws.
    """
    values = score(world.strings())
    picks = best_of_n(world, values, prompts=best_of[0], n=best_of[1], seed=seed)
    searched = beam_search(world, score, width=beam[0], draws=beam[1], n=best_of[0], seed=seed)
    found = {
        "shared prefix": accuracy(world, values, n=tests, seed=seed, shared=True),
        "independent": accuracy(world, values, n=tests, seed=seed),
        "best of n": float(picks.mean()),
        "beam": float(world.value(searched).mean()),
    }
    return found, picks


def uncertainties(world: MotifWorld, sources: Mapping[str, Sequence[Row]], *, beta: float, seed: int) -> dict[str, float]:
    """By source of pairs: exact mean variance of r_a - r_b over random strings, and over strings that differ in the last letter.

    The inductive bias is the tree of all beginnings, each letter with variance 1 / depth; pairs that are no whole strings count.
    """
    nodes, edges = world.hierarchy(1.0 / world.depth)
    strings = world.node(world.strings())
    siblings = [(strings[place], strings[place + 1]) for place in range(0, len(strings), 2 * world.symbols)]
    found: dict[str, float] = {}
    for name, rows in sources.items():
        graph = PreferenceGraph(nodes, edges)
        for row in rows:
            first, second = world.node([str(text) for text in row.responses])
            graph.add(first, second, label_variance(beta))
        found[f"uncertainty/{name}"] = graph.mean_uncertainty(500, seed=seed, among=strings).resistance or math.nan
        found[f"uncertainty of siblings/{name}"] = float(graph.resistances(siblings).mean())
    return found
