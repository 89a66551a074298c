"""`TwoTowerReward`: the cosine between a prompt and an image, tuned on preferences by a triplet margin (Social Reward).

A preference of two images of one prompt is a triplet (prompt, better image, worse image). The loss never looks at images of
other prompts, so scores are comparable within a prompt only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from plaudit.rewards.learned.base import LearnedReward, pairs_of
from plaudit.rewards.learned.data import FitData
from plaudit.rewards.learned.goal_contrastive import unit
from plaudit.types import Batch, Loss, Preferences, Prompt, Scores, Status, UserError, prompt_text

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from plaudit.fitting import FitConfig, TrainResult
    from plaudit.rewards.learned.towers import Tuned


def triplet_losses(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 0.3) -> Tensor:
    """[P] max(0, |a - p|^2 - |a - n|^2 + margin) of vectors [P, e] (Schroff et al. 2015, equation 2, squared distances)."""
    return ((anchor - positive).square().sum(-1) - (anchor - negative).square().sum(-1) + margin).clamp_min(0)


def cosine_triplet_losses(gaps: Tensor, margin: float = 0.3) -> Tensor:
    """[P] the same on unit vectors, from gaps [P] = cos(a, p) - cos(a, n): as |a - x|^2 = 2 - 2 cos(a, x), it is
    max(0, margin - 2 gap), so that a margin of 0.3 is one of 0.15 between cosines."""
    return (margin - 2 * gaps).clamp_min(0)


def triplet_loss(cosines: Tensor, preferences: Preferences, margin: float = 0.3) -> Loss:
    """Sum over pairs of weight x (p loss(gap) + (1 - p) loss(-gap)), p = preferences.prob; gap: cosine of first less second.

    Swapping a pair together with its label changes nothing; a tie (p = 0.5) costs at least `margin` however it is judged, least
    within the margin. Stats: `accuracy` (a gap of 0 counts half), `active`: share of pairs with a loss above 0.
    """
    from plaudit.rewards.learned.losses import pair_accuracy

    gaps = cosines[preferences.first] - cosines[preferences.second]
    prob = preferences.prob.to(gaps.dtype)
    losses = prob * cosine_triplet_losses(gaps, margin) + (1 - prob) * cosine_triplet_losses(-gaps, margin)
    if preferences.weight is not None:
        losses = losses * preferences.weight.to(losses.dtype)
    active = float((losses.detach() > 0).float().mean()) if len(gaps) else float("nan")
    return Loss(losses.sum(), stats={"accuracy": pair_accuracy(gaps.detach(), preferences.prob), "active": active})


def contrastive_losses(text: Tensor, image: Tensor, same: Tensor | None = None, temperature: float = 0.07) -> Tensor:
    """[B] InfoNCE in both directions, halved (CLIP, Radford et al. 2021, figure 3); text, image: [B, e] unit vectors, row by row
    a pair. same: [B, B] bool, rows of one prompt: they are no negatives of each other."""
    import torch
    from torch.nn.functional import cross_entropy

    logits = text @ image.T / temperature
    if same is not None:
        others = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
        logits = logits.masked_fill(others, -torch.inf)
    own = torch.arange(len(logits), device=logits.device)
    return (cross_entropy(logits, own, reduction="none") + cross_entropy(logits.T, own, reduction="none")) / 2


class TwoTowerReward(LearnedReward):
    """Cosine in [-1, 1] of a prompt's and an image's embedding; the calibrated temperature is that of `compare`'s link.

    towers: settings of `TinyTowers` (words, side, channels ...), or {"clip": FOLDER or hub id} for a CLIP of transformers.
    margin: of the triplet loss. tuned, image_blocks, text_blocks: what fitting changes, see `towers.Tuned`. seed: of the initial
    weights. Prompts are read as text (a mapping by its "text"). Rows: no image of the right shape -> NOT_APPLICABLE, an image
    that is not finite -> NOT_A_NUMBER.
    """

    kind: ClassVar[str] = "two-tower"

    def __init__(
        self,
        towers: Mapping[str, Any],
        *,
        margin: float = 0.3,
        tuned: Tuned = "upper",
        image_blocks: int = 1,
        text_blocks: int = 1,
        seed: int = 0,
        name: str = "two-tower",
    ) -> None:
        if margin < 0:
            raise ValueError(f"the margin is {margin}, expected 0 or more")
        self.name, self.margin = name, margin
        self.towers = _built(towers, seed)
        self.settings = {"towers": dict(towers), "margin": margin, "seed": seed, "name": name}
        self.tune(tuned, image_blocks, text_blocks)

    def tune(self, tuned: Tuned, image_blocks: int = 1, text_blocks: int = 1) -> None:
        """Choose what fitting changes from now on. Raises ValueError for an unknown choice or more blocks than there are."""
        from plaudit.rewards.learned.towers import train_only, upper_layers

        towers = self.towers
        whole = (towers.image_blocks, towers.image_norm, towers.image_projection)
        if tuned == "all":
            chosen = list(towers.parameters())
        elif tuned == "visual":
            chosen = [parameter for part in whole for parameter in part.parameters()]
        elif tuned in ("upper", "visual upper"):
            chosen = upper_layers(towers, image_blocks, text_blocks if tuned == "upper" else 0)
        else:
            raise ValueError(f"tuned is '{tuned}'; expected upper, visual upper, visual or all")
        train_only(towers, chosen)
        self.settings |= {"tuned": tuned, "image_blocks": image_blocks, "text_blocks": text_blocks}

    @property
    def link_temperature(self) -> float:
        """Difference in cosine that makes the odds of a pair e to 1."""
        return self.temperature

    def modules(self) -> dict[str, Module]:
        """{"towers": both}."""
        return {"towers": self.towers}

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(prompts [B, e], images [B, e]) as unit vectors, with gradient."""
        images = _images(batch)
        return unit(self.towers.encode_text([_text(prompt) for prompt in batch.prompts])), unit(self.towers.encode_image(images))

    def logit(self, batch: Batch) -> Tensor:
        """[B] cosines, with gradient."""
        text, image = self.embed(batch)
        return (text * image).sum(-1)

    def score_rows(self, batch: Batch) -> Scores:
        """Cosines: not divided by the temperature."""
        return Scores(self.logit(batch))

    def loss(self, data: FitData) -> Loss:
        """`triplet_loss` over the pairs. Raises UserError for ratings."""
        return triplet_loss(self.logit(data.batch), pairs_of(data), self.margin)

    def status(self, batch: Batch) -> Tensor:
        """[B] whether there is a finite image [3, H, W]."""
        import torch

        def of(image: Any) -> Status:
            if not isinstance(image, torch.Tensor) or image.dim() != 3 or len(image) != 3:
                return Status.NOT_APPLICABLE
            return Status.OK if bool(torch.isfinite(image).all()) else Status.NOT_A_NUMBER

        responses = batch.require_responses()
        if isinstance(responses, torch.Tensor) and responses.dim() == 4 and responses.shape[1] == 3:
            finite = torch.isfinite(responses).flatten(1).all(1)
            return torch.where(finite, int(Status.OK), int(Status.NOT_A_NUMBER)).to(torch.int8)
        return torch.tensor([int(of(image)) for image in responses], dtype=torch.int8)

    def align(
        self, batch: Batch, config: FitConfig, *, steps: int, batch_rows: int = 64, temperature: float = 0.07, seed: int = 0
    ) -> TrainResult:
        """Fit what `tune` chose on matching prompts and images alone (`contrastive_losses`): so many updates."""
        from plaudit.fitting import ShuffledRows, train

        rows = ShuffledRows(len(batch), min(batch_rows, len(batch)), seed)

        def batches(_: int) -> Any:
            done = 0
            for epoch in range(-(-steps // len(rows))):
                for chosen in rows(epoch):
                    if done < steps:
                        yield batch.select(chosen)
                    done += 1

        def loss(part: Batch) -> Loss:
            text, image = self.embed(part)
            return Loss(contrastive_losses(text, image, _same([_text(one) for one in part.prompts]), temperature).sum())

        return train(self.modules(), batches, loss, config, seed=seed)


def _same(prompts: Sequence[str]) -> Tensor:
    """[B, B] bool: which rows have one prompt."""
    import torch

    number = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts))}
    numbers = torch.tensor([number[prompt] for prompt in prompts])
    return numbers[:, None] == numbers[None]


def _text(prompt: Prompt) -> str:
    return str(prompt["text"]) if isinstance(prompt, Mapping) and "text" in prompt else prompt_text(prompt)


def _images(batch: Batch) -> Tensor:
    import torch

    given = batch.require_responses()
    return given.float() if isinstance(given, torch.Tensor) else torch.stack([torch.as_tensor(one) for one in given]).float()


def _built(settings: Mapping[str, Any], seed: int) -> Any:
    """The towers of some settings. Raises UserError for settings that they do not take."""
    from plaudit.fitting import seeded
    from plaudit.rewards.learned.towers import TinyTowers

    if "clip" in settings:
        from plaudit.rewards.learned.clip_towers import ClipTowers

        return ClipTowers(**settings)
    try:
        with seeded(seed):
            return TinyTowers(**settings)
    except TypeError as error:
        raise UserError(f"towers: {error}") from error
