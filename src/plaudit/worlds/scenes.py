"""`Scenes`: prompts for one coloured shape, pictures that match them more or less, and a community with a hidden taste.

The taste u = 0.5 x matching attributes + style: people like bright grounds and frames, and dislike noise; no prompt says so.
A feed shows pictures to an author's audience and counts who reuses them (`Scenes.feed`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plaudit.curation.feedback import Exposure
from plaudit.fitting import FitConfig, derive_seed
from plaudit.rewards.base import BaseReward
from plaudit.types import Batch, Context, Preferences, Prompt, Scores, UserError, World, prompt_text
from plaudit.types.keys import content_key
from plaudit.worlds.kept import kept_weights
from plaudit.worlds.scenes_render import COLOURS, SHAPE, SHAPES, SIZES, SceneBatch, read_scenes, render

if TYPE_CHECKING:
    from torch import Tensor

    from plaudit.generators.flow import FlowGenerator

NUMERICS = "scenes-1"
"""Raised when a change here changes start models, so that old ones are not taken for new ones."""
WORDS = ("a", *COLOURS, *SHAPES)
PROMPTS = tuple(f"a {colour} {shape}" for colour in COLOURS for shape in SHAPES)
HELD_OUT = tuple(f"a {colour} {shape}" for colour, shape in zip(COLOURS, SHAPES, strict=True))
"""Prompts of the split "test": every colour and every shape once, none of the pairs in "train"."""
LEVELS = {"start": 1000}
MATCH, BRIGHT, FRAMED, NOISY = 0.5, 0.8, 0.5, -1.5
"""The taste: a matching attribute, a white ground, a frame, noise of standard deviation 1."""
MOST_NOISE = 0.5


def asked(prompts: Sequence[Prompt | None]) -> Tensor:
    """[B] int64 number of each prompt in `PROMPTS`; 16 for none. Raises UserError for any other prompt."""
    import torch

    numbers = []
    for prompt in prompts:
        text = None if prompt is None else prompt_text(prompt)
        if text is not None and text not in PROMPTS:
            raise UserError(f"the prompt '{text[:60]}' asks for no scene; expected one like '{PROMPTS[0]}'")
        numbers.append(len(PROMPTS) if text is None else PROMPTS.index(text))
    return torch.tensor(numbers, dtype=torch.int64)


class Appeal(BaseReward):
    """The community's taste u, read off the picture (`read_scenes`); an image that is not finite has no score.

    Parts: match (0 to 2 attributes that the prompt asked for), brightness, frame, noise.
    """

    name = "appeal"
    uses_seed = False
    settings = {"numerics": NUMERICS, "weights": [MATCH, BRIGHT, FRAMED, NOISY]}  # noqa: RUF012

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:  # noqa: ARG002  # nothing here depends on the moment
        """[B] u."""
        import torch

        given = batch.require_responses()
        images = given if isinstance(given, torch.Tensor) else torch.stack([torch.as_tensor(image) for image in given])
        images, wanted = images.detach().float().cpu(), asked(batch.prompts)
        finite = torch.isfinite(images).flatten(1).all(1)
        seen = read_scenes(torch.where(finite[:, None, None, None], images, 0.0))
        match = (seen.shape[:, 0] == wanted % len(SHAPES)).float() + (seen.colour[:, 0] == wanted // len(SHAPES)).float()
        parts = {"match": match, "brightness": seen.brightness, "frame": seen.frame.float(), "noise": seen.noise}
        values = sum(weight * part for weight, part in zip((MATCH, BRIGHT, FRAMED, NOISY), parts.values(), strict=True))
        known = {name: torch.where(finite, part, torch.nan) for name, part in parts.items()}
        return Scores(torch.where(finite, values, torch.nan), parts=known)


@dataclass
class Scenes(World):
    """Prompts are texts ("a red disc"), responses pictures [B, 3, 16, 16] in [-1, 1]. truth: the taste.

    width, blocks, learning_rate, batch_rows: of start models, conditional flows over flattened pictures. steps: of sampling.
    """

    width: int = 256
    blocks: int = 3
    learning_rate: float = 1e-3
    batch_rows: int = 64
    steps: int = 10

    def __post_init__(self) -> None:
        self.truth = Appeal()

    def prompts(self, split: str, n: int, seed: int) -> Batch:  # noqa: ARG002
        """n prompts of a split ("train": 12, "test": 4 new pairs of known words, "all"), in turn. Raises UserError for others."""
        splits = {"train": [one for one in PROMPTS if one not in HELD_OUT], "test": list(HELD_OUT), "all": list(PROMPTS)}
        if split not in splits:
            raise UserError(f"the world 'scenes' has the splits {', '.join(splits)}, not '{split}'")
        return Batch([splits[split][number % len(splits[split])] for number in range(n)])

    def data(self, n: int, seed: int) -> Batch:
        """n pictures for random prompts, each matching in 0, 1 or 2 attributes (alike often), in random styles."""
        return self.pictures(n, seed)

    def pictures(self, n: int, seed: int, *, split: str = "all", matches: Sequence[int] = (0, 1, 2)) -> Batch:
        """n pictures for random prompts of a split, in random styles; `matches`: how many attributes are right, alike often."""
        import torch

        random = torch.Generator().manual_seed(derive_seed(seed, "pictures"))

        def whole(high: int) -> Tensor:
            return torch.randint(high, (n,), generator=random)

        known = asked(self.prompts(split, 12 if split == "train" else 4 if split == "test" else 16, seed).prompts)
        wanted = known[whole(len(known))]
        shape, colour = wanted % len(SHAPES), wanted // len(SHAPES)
        count, first = torch.tensor(list(matches))[whole(len(matches))], whole(2)
        wrong_shape = (count == 0) | ((count == 1) & (first == 0))
        wrong_colour = (count == 0) | ((count == 1) & (first == 1))
        shape = (shape + wrong_shape * (1 + whole(len(SHAPES) - 1))) % len(SHAPES)
        colour = (colour + wrong_colour * (1 + whole(len(COLOURS) - 1))) % len(COLOURS)
        uniform = torch.rand(3, n, generator=random)
        scenes = SceneBatch(
            shape[:, None], colour[:, None], uniform[0], whole(len(SIZES)), uniform[1] < 0.5, MOST_NOISE * uniform[2]
        )
        return Batch([PROMPTS[number] for number in wanted.tolist()], render(scenes, seed=derive_seed(seed, "noise")))

    def labelled_pairs(self, n: int, seed: int, *, split: str = "test") -> tuple[Batch, Preferences]:
        """Pictures and n pairs of them of one prompt, labelled by the taste; no picture is in two pairs."""
        import torch

        batch = self.pictures(3 * n, seed, split=split)
        values = self.truth.score(batch).values
        wanted = asked(batch.prompts)
        rows = [(wanted == number).nonzero()[:, 0] for number in sorted(set(wanted.tolist()))]
        pairs = torch.cat([part[: len(part) // 2 * 2].reshape(-1, 2) for part in rows])
        random = torch.Generator().manual_seed(derive_seed(seed, "pairs"))
        first, second = pairs[torch.randperm(len(pairs), generator=random)[:n]].T
        return batch, Preferences(first, second, (values[first] > values[second]).float())

    def feed(self, batch: Batch, seed: int, *, authors: int = 200, views: float = 60.0) -> list[Exposure]:
        """What a feed logs about pictures: views are Poisson(views x follower factor x age), log factor of an author N(0, 1), age
        uniform in [0, 2]; each viewer reuses with probability sigmoid(2 u - 4)."""
        import torch

        random = torch.Generator().manual_seed(derive_seed(seed, "feed"))
        followers = torch.randn(authors, generator=random).exp()
        author = torch.randint(authors, (len(batch),), generator=random)
        age = 2 * torch.rand(len(batch), generator=random)
        shown = torch.poisson(views * followers[author] * age, generator=random)
        rate = torch.sigmoid(2 * self.truth.score(batch).values - 4)
        reused = torch.binomial(shown, rate, generator=random)
        columns = zip(shown.tolist(), reused.tolist(), author.tolist(), age.tolist(), strict=True)
        return [
            Exposure(int(seen), frozenset(f"viewer {number}" for number in range(int(taken))), f"author {who}", posted=-old)
            for seen, taken, who, old in columns
        ]

    def untrained(self, seed: int) -> FlowGenerator:
        """A conditional flow with random weights. It predicts the picture: a small network has no room for the noise."""
        from plaudit.generators.catalogue import small_network
        from plaudit.generators.diffusion import DenoisingSampling, FlowSDE
        from plaudit.generators.flow import FlowGenerator

        size = {"width": self.width, "blocks": self.blocks}
        network = small_network("mlp", SHAPE, len(PROMPTS), 1000.0, derive_seed(seed, "weights"), size)
        sampling = DenoisingSampling(steps=self.steps).deterministic()
        return FlowGenerator(network, SHAPE, FlowSDE(shift=1.0, prediction="x0"), conditioner=asked, sampling=sampling)

    def base(self, level: str = "start", seed: int = 0) -> FlowGenerator:
        """A flow trained on `data` on the first call and kept. level: one of `LEVELS`, or a number of updates ("80").

        Raises UserError for any other level.
        """
        from plaudit.generators.diffusion.fit import fit_denoising

        updates = LEVELS.get(level) or (int(level) if level.isdigit() else 0)
        if not updates:
            raise UserError(f"the world 'scenes' has the levels {', '.join(LEVELS)} and numbers of updates, not '{level}'")
        generator = self.untrained(seed)

        def make() -> None:
            data = self.data(4000, derive_seed(seed, "start data"))
            config, fitted_by = FitConfig(learning_rate=self.learning_rate, weight_decay=0.01), derive_seed(seed, "fit")
            fit_denoising(generator, data, steps=updates, batch_rows=self.batch_rows, config=config, seed=fitted_by)

        size = (self.width, self.blocks, self.learning_rate, self.batch_rows)
        key = content_key(NUMERICS, updates, seed, size, repr(generator.kernel))
        kept_weights(f"scenes-{updates}-{key}", generator.network, make)
        return generator
