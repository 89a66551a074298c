"""Rendered scenes: a slow renderer beside the fast one, reading back what was drawn, the taste, the feed, start models."""

import math

import pytest
import torch

from plaudit import Batch, Status
from plaudit.types import UserError
from plaudit.worlds.catalogue import build_world
from plaudit.worlds.scenes import BRIGHT, FRAMED, HELD_OUT, MATCH, NOISY, PROMPTS, Scenes, asked
from plaudit.worlds.scenes_render import COLOURS, EMPTY, SHAPES, SIDE, SIZES, SceneBatch, plain_scenes, read_scenes, render


def drawn(n=400, cells=1, noise=0.5, seed=0):
    random = torch.Generator().manual_seed(seed)

    def whole(high, *shape):
        return torch.randint(high, shape, generator=random)

    return SceneBatch(
        whole(4, n, cells),
        whole(4, n, cells),
        torch.rand(n, generator=random),
        whole(len(SIZES), n),
        whole(2, n) == 1,
        noise * torch.rand(n, generator=random),
    )


def covers(shape, half, u, v):
    if max(abs(u), abs(v)) > half:
        return False
    return {
        "square": True,
        "disc": u * u + v * v <= half * half,
        "triangle": abs(u) <= (v + half) / 2,
        "cross": min(abs(u), abs(v)) <= half / 3,
    }[shape]


@pytest.mark.parametrize("cells", [1, 4])
def test_every_pixel_against_the_slow_way(cells):
    scenes, rgb = (
        drawn(12, cells, noise=0.0),
        {"red": (1, -1, -1), "green": (-1, 1, -1), "blue": (-1, -1, 1), "yellow": (1, 1, -1)},
    )
    scenes.shape[0, 0] = EMPTY
    pictures, side = render(scenes), SIDE // round(cells**0.5)
    for row in range(len(scenes)):
        for y in range(SIDE):
            for x in range(SIDE):
                cell = y // side * (SIDE // side) + x // side
                u, v = ((at % side + 0.5) / side * 2 - 1 for at in (x, y))
                shape = int(scenes.shape[row, cell])
                wanted = (2 * float(scenes.brightness[row]) - 1,) * 3
                if shape != EMPTY and covers(SHAPES[shape], SIZES[scenes.size[row]], u, v):
                    wanted = rgb[COLOURS[scenes.colour[row, cell]]]
                if scenes.frame[row] and (x in (0, SIDE - 1) or y in (0, SIDE - 1)):
                    wanted = (1, -1, 1)
                assert pictures[row, :, y, x].tolist() == pytest.approx(wanted, abs=1e-6)


def test_what_was_drawn_is_read_back():
    scenes = drawn()
    found = read_scenes(render(scenes, seed=1))
    for name in ("shape", "colour", "size", "frame"):
        assert (getattr(found, name) == getattr(scenes, name)).float().mean() > 0.99, name
    assert (found.brightness - scenes.brightness).abs().mean() < 0.05
    together = torch.corrcoef(torch.stack([found.noise, scenes.noise]))[0, 1]
    assert together > 0.9
    clean = drawn(50, noise=0.0)
    exact = read_scenes(render(clean))
    assert exact.noise.max() < 1e-6
    torch.testing.assert_close(exact.brightness, clean.brightness, atol=1e-6, rtol=0)


def test_noise_repeats_and_stays_in_range():
    scenes = drawn(20)
    assert torch.equal(render(scenes, seed=3), render(scenes, seed=3))
    assert not torch.equal(render(scenes, seed=3), render(scenes, seed=4))
    assert render(scenes).abs().max() <= 1
    with pytest.raises(ValueError, match="square grid"):
        render(plain_scenes(torch.zeros(1, 3, dtype=torch.int64), torch.zeros(1, 3, dtype=torch.int64)))


def test_the_taste_by_hand():
    scenes = plain_scenes(torch.tensor([[1], [1], [1]]), torch.tensor([[0], [0], [0]]))
    scenes.brightness, scenes.frame = torch.tensor([0.0, 1.0, 0.5]), torch.tensor([False, True, False])
    batch = Batch(["a red disc", "a blue disc", "a green cross"], render(scenes))
    scores = Scenes().truth.score(batch)
    expected = [2 * MATCH, MATCH + BRIGHT + FRAMED, 0.5 * BRIGHT]
    assert scores.values.tolist() == pytest.approx(expected, abs=1e-3)
    assert scores.parts["match"].tolist() == [2, 1, 0]
    noisy = batch.select([0])
    noisy.responses = noisy.responses + 0.2 * (torch.arange(768).reshape(1, 3, 16, 16) % 2 * 2 - 1)
    assert Scenes().truth.score(noisy).values.item() == pytest.approx(2 * MATCH + 0.2 * NOISY, abs=0.05)


def test_no_number_for_what_is_no_picture_and_no_prompt():
    batch = Scenes().data(3, 0)
    batch.responses[1, 0, 0, 0] = torch.nan
    scores = Scenes().truth.score(batch)
    assert scores.status.tolist() == [Status.OK, Status.NOT_A_NUMBER, Status.OK]
    assert scores.parts["match"][1].isnan()
    with pytest.raises(UserError, match="asks for no scene"):
        asked(["a purple disc"])
    assert asked(["a red disc", None]).tolist() == [PROMPTS.index("a red disc"), len(PROMPTS)]


def test_pictures_match_as_often_as_asked_for():
    world = Scenes()
    for count in (0, 1, 2):
        parts = world.truth.score(world.pictures(300, 0, matches=(count,))).parts
        assert (parts["match"] == count).float().mean() > 0.98
    shares = world.truth.score(world.data(1500, 1)).parts["match"].long().bincount() / 1500
    assert shares.tolist() == pytest.approx([1 / 3] * 3, abs=0.05)
    assert not set(world.pictures(200, 0, split="train").prompts) & set(HELD_OUT)
    assert set(world.pictures(200, 0, split="test").prompts) == set(HELD_OUT)
    assert {prompt.split()[1] for prompt in HELD_OUT} == set(COLOURS)
    with pytest.raises(UserError, match="splits"):
        world.prompts("validation", 3, 0)


def test_labelled_pairs_are_of_one_prompt_and_each_picture_once():
    world = Scenes()
    batch, pairs = world.labelled_pairs(150, 2)
    assert len(pairs) == 150
    assert len({*pairs.first.tolist(), *pairs.second.tolist()}) == 300
    values = world.truth.score(batch).values
    for first, second, prob in zip(pairs.first.tolist(), pairs.second.tolist(), pairs.prob.tolist(), strict=True):
        assert batch.prompts[first] == batch.prompts[second]
        assert (values[first] > values[second]) == (prob == 1)


def test_the_feed_shows_and_reuses_as_planted():
    world = Scenes()
    batch = world.data(1200, 0)
    log = world.feed(batch, 0)
    assert log == world.feed(batch, 0)
    assert all(one.reuses <= one.views for one in log)
    rate = torch.sigmoid(2 * world.truth.score(batch).values - 4)
    views = torch.tensor([float(one.views) for one in log])
    expected, taken = float((views * rate).sum()), sum(one.reuses for one in log)
    assert abs(taken - expected) < 5 * math.sqrt(expected)
    by_author = {}
    for one in log:
        by_author.setdefault(one.author, []).append(one.views / max(-one.posted, 0.1))
    means = torch.tensor([sum(seen) / len(seen) for seen in by_author.values() if len(seen) > 3]).log()
    assert 0.7 < float(means.std()) < 1.3, "log followers have deviation 1"


def test_start_models_are_kept_and_make_pictures(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAUDIT_CACHE", str(tmp_path))
    world = build_world("scenes", width=16, blocks=1, batch_rows=8, steps=3)
    first, again = world.base("2", 0), world.base("2", 0)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
    assert all(torch.equal(a, b) for a, b in zip(first.network.parameters(), again.network.parameters(), strict=True))
    made = first.rollout(world.prompts("all", 4, 0), 2, how=None, seed=0).batch
    assert made.responses.shape == (8, 3, SIDE, SIDE)
    assert world.truth.score(made).ok.all()
    with pytest.raises(UserError, match="levels"):
        world.base("best")
