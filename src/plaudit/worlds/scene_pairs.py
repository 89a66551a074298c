"""Pairs of answers about scenes of four cells, in the three groups of VL-RewardBench, with exact labels and error types.

A picture is named by its code ("red disc|-|-|blue cross": cells row by row), as a file's picture is named by its path; who judges
renders it. General: two true descriptions, one leaves an object out. Hallucination: a description with one object that is absent
(existence), in a wrong colour (attribute) or of a wrong shape (recognition); both name equally many. Reasoning: a right count of
the objects in two colours against a wrong one.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from plaudit.data import Row
from plaudit.fitting import derive_seed
from plaudit.worlds.scenes_render import COLOURS, EMPTY, SHAPES, plain_scenes, render

if TYPE_CHECKING:
    from torch import Tensor

GROUPS = ("general", "hallucination", "reasoning")
CELLS = ("top left", "top right", "bottom left", "bottom right")
COLOUR_PAIRS = tuple(combinations(COLOURS, 2))
DESCRIBE = "Describe the picture."
FILLED = 0.6
"""Share of cells with an object."""
_NAMED = re.compile(rf"({'|'.join(CELLS)}): ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})")
_COUNTED = re.compile(rf"({'|'.join(COLOURS)}) \+ ({'|'.join(COLOURS)}) objects: ([0-4])")
Objects = tuple[int, ...]
"""By cell: 0 for nothing, else 1 + number of shape x 4 + number of colour."""


@dataclass(frozen=True)
class Claims:
    """What an answer says. objects: by cell, 0 where nothing is said. colours: place in `COLOUR_PAIRS`, None for no count."""

    objects: Objects
    colours: int | None = None
    count: int | None = None


def picture_code(objects: Objects) -> str:
    """The name of a picture."""
    return "|".join("-" if not number else _name(number) for number in objects)


def read_picture(code: str) -> Objects:
    """The objects of a named picture. Raises ValueError for what names none."""
    words = [part.split() for part in code.split("|")]
    if len(words) != len(CELLS):
        raise ValueError(f"'{code[:60]}' names no picture of {len(CELLS)} cells")
    return tuple(0 if part == ["-"] else 1 + SHAPES.index(part[1]) * len(COLOURS) + COLOURS.index(part[0]) for part in words)


def pictures(codes: Sequence[str]) -> Tensor:
    """[B, 3, 16, 16] in [-1, 1]."""
    import torch

    objects = torch.tensor([read_picture(code) for code in codes], dtype=torch.int64) - 1
    there = objects >= 0
    shape = torch.where(there, objects // len(COLOURS), EMPTY)
    return render(plain_scenes(shape, torch.where(there, objects % len(COLOURS), EMPTY)))


def read_claims(answer: Any) -> Claims | None:
    """What an answer says; None for one that says nothing that can be read."""
    if not isinstance(answer, str):
        return None
    if counted := _COUNTED.fullmatch(answer.strip()):
        first, second, count = counted.groups()
        pair = (first, second) if (first, second) in COLOUR_PAIRS else (second, first)
        return Claims((0,) * len(CELLS), COLOUR_PAIRS.index(pair), int(count)) if pair in COLOUR_PAIRS else None
    named = {CELLS.index(cell): (colour, shape) for cell, colour, shape in _NAMED.findall(answer)}
    if not named:
        return None
    return Claims(tuple(_number(*named[cell]) if cell in named else 0 for cell in range(len(CELLS))))


def _number(colour: str, shape: str) -> int:
    return 1 + SHAPES.index(shape) * len(COLOURS) + COLOURS.index(colour)


def _name(number: int) -> str:
    return f"{COLOURS[(number - 1) % len(COLOURS)]} {SHAPES[(number - 1) // len(COLOURS)]}"


def _told(objects: Mapping[int, int]) -> str:
    return " ".join(f"{CELLS[cell]}: {_name(objects[cell])}." for cell in sorted(objects))


def scene_pairs(n: int, seed: int, groups: Sequence[str] = GROUPS) -> list[Row]:
    """n rows, the groups in turn: prompt {"query", "image"}, the better answer first, error type in extras `tag`."""
    draw = random.Random(derive_seed(seed, "scene pairs"))
    rows = []
    for number in range(n):
        group = groups[number % len(groups)]
        code, query, better, worse, tag = next(_drawn(group, draw))
        prompt = {"query": query, "image": code}
        rows.append(Row(f"{group}-{number}", prompt, (better, worse), gold=(1.0, 0.0), section=group, extras={"tag": tag}))
    return rows


def counting_questions(n: int, candidates: int, seed: int, *, right: float = 0.35) -> list[Row]:
    """n questions with so many noisy answers each: right with probability `right`, else another count; gold 1 for right ones.

    Questions whose answers are all right or all wrong are drawn again: there is nothing to choose.
    """
    draw = random.Random(derive_seed(seed, "counting"))
    rows: list[Row] = []
    while len(rows) < n:
        objects = _objects(draw)
        pair, count = _count(draw, objects)
        counts = [count if draw.random() < right else _another(draw, count) for _ in range(candidates)]
        gold = tuple(float(one == count) for one in counts)
        if 0 < sum(gold) < candidates:
            prompt = {"query": _question(pair), "image": picture_code(objects)}
            rows.append(Row(f"count-{len(rows)}", prompt, tuple(_counted(pair, one) for one in counts), gold=gold))
    return rows


def _drawn(group: str, draw: random.Random) -> Iterator[tuple[str, str, str, str, str]]:
    """(picture, query, better, worse, error type), until a picture allows one."""
    while True:
        objects = _objects(draw)
        there = {cell: number for cell, number in enumerate(objects) if number}
        if group == "reasoning":
            pair, count = _count(draw, objects)
            wrong = _another(draw, count)
            yield picture_code(objects), _question(pair), _counted(pair, count), _counted(pair, wrong), "counting"
        elif group == "general" and len(there) >= 2:
            less = dict(there)
            del less[draw.choice(sorted(less))]
            yield picture_code(objects), DESCRIBE, _told(there), _told(less), "completeness"
        elif group == "hallucination" and there and len(there) < len(CELLS):
            wrong_told, tag = _hallucinated(draw, there)
            yield picture_code(objects), DESCRIBE, _told(there), _told(wrong_told), tag


def _hallucinated(draw: random.Random, there: Mapping[int, int]) -> tuple[dict[int, int], str]:
    """The objects with one error, as many as before."""
    told, cell, tag = dict(there), draw.choice(sorted(there)), draw.choice(("existence", "attribute", "recognition"))
    colour, shape = (told[cell] - 1) % len(COLOURS), (told[cell] - 1) // len(COLOURS)
    if tag == "existence":
        del told[cell]
        empty = [place for place in range(len(CELLS)) if place not in there]
        told[draw.choice(empty)] = 1 + draw.randrange(len(SHAPES) * len(COLOURS))
    elif tag == "attribute":
        told[cell] = 1 + shape * len(COLOURS) + (colour + draw.randrange(1, len(COLOURS))) % len(COLOURS)
    else:
        told[cell] = 1 + (shape + draw.randrange(1, len(SHAPES))) % len(SHAPES) * len(COLOURS) + colour
    return told, tag


def _objects(draw: random.Random) -> Objects:
    kinds = len(SHAPES) * len(COLOURS)
    return tuple(1 + draw.randrange(kinds) if draw.random() < FILLED else 0 for _ in CELLS)


def _count(draw: random.Random, objects: Objects) -> tuple[tuple[str, str], int]:
    pair = draw.choice(COLOUR_PAIRS)
    return pair, sum(bool(number) and COLOURS[(number - 1) % len(COLOURS)] in pair for number in objects)


def _another(draw: random.Random, count: int) -> int:
    return draw.choice([other for other in range(len(CELLS) + 1) if other != count])


def _question(pair: tuple[str, str]) -> str:
    return f"How many objects are {pair[0]} or {pair[1]}?"


def _counted(pair: tuple[str, str], count: int) -> str:
    return f"{pair[0]} + {pair[1]} objects: {count}"
