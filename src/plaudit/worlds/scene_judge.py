"""`SceneJudge`: a tiny vision-language judge of `scene_pairs`, which emits one verdict token by sampling."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plaudit.data import Row
from plaudit.fitting import FitConfig, TrainProgress, derive_seed, seeded, train
from plaudit.rewards.base import BaseReward
from plaudit.types import Batch, Context, Loss, Preferences, Status, Verdict
from plaudit.types.keys import content_key
from plaudit.worlds.scene_pairs import CELLS, Claims, pictures, read_claims, scene_pairs

if TYPE_CHECKING:
    from torch import Tensor

    from plaudit.worlds.scene_networks import SceneVLM


class SceneJudge(BaseReward):
    """Which of two answers about a picture is better. One call shows them in an order that is drawn, and samples the verdict.

    Prompts are {"query", "image": code}. Both draws come from `ctx.seed` and the pair's content, so that judging in other batches
    changes nothing. A pair with an answer that says nothing readable is UNPARSABLE. trained: steps so far.
    """

    uses_seed = True
    batch_size = 2048

    def __init__(self, network: SceneVLM, name: str, trained: int = 0) -> None:
        self.network, self.name, self.trained = network, name, trained

    def compare(self, batch: Batch, first: Tensor, second: Tensor, ctx: Context | None = None) -> Preferences:
        """[P] 1 where the first was said to be better, else 0."""
        import torch

        seed, answers = (ctx or Context()).seed, batch.require_responses()
        pairs = list(zip(first.tolist(), second.tolist(), strict=True))
        if ctx is not None:
            ctx.budget.spend(reward_calls=len(pairs))
        claims = {row: read_claims(answers[row]) for pair in pairs for row in pair}
        readable = [place for place, pair in enumerate(pairs) if all(claims[row] is not None for row in pair)]
        draws = {place: random.Random(_key(seed, batch, pairs[place])) for place in readable}
        swapped = {place: draws[place].random() < 0.5 for place in readable}
        shown = [pairs[place][::-1] if swapped[place] else pairs[place] for place in readable]
        log_probs = self.log_probs([_code(batch, one) for one, _ in shown], [(claims[a], claims[b]) for a, b in shown])  # type: ignore[misc]
        prob, status = torch.full((len(pairs),), torch.nan), torch.full((len(pairs),), int(Status.UNPARSABLE), dtype=torch.int8)
        verdicts: list[list[Verdict]] = [[Verdict(status=Status.UNPARSABLE, detail="an answer says nothing")] for _ in pairs]
        for place, chance in zip(readable, log_probs[:, 0].exp().tolist(), strict=True):
            one = draws[place].random() < chance
            won = float(one != swapped[place])
            prob[place], status[place] = won, int(Status.OK)
            order = (1, 0) if swapped[place] else (0, 1)
            verdicts[place] = [Verdict("1" if one else "2", won, order=order, seed=seed)]
        return Preferences(first, second, prob, status=status, verdicts=verdicts)

    def log_probs(self, codes: Sequence[str], claims: Sequence[tuple[Claims, Claims]]) -> Tensor:
        """[P, 2] log-probabilities of "1" and "2", without gradient."""
        import torch

        if not codes:
            return torch.zeros(0, 2)
        self.network.eval()
        with torch.no_grad():
            return torch.cat(
                [self.network(*encoded(codes[at : at + 1024], claims[at : at + 1024])) for at in range(0, len(codes), 1024)]
            )

    def fingerprint(self) -> str:
        """Of the weights."""
        import hashlib

        digest = hashlib.sha256()
        for value in self.network.state_dict().values():
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return content_key("scene judge", digest.hexdigest())


def _code(batch: Batch, row: int) -> str:
    prompt: Any = batch.prompts[row]
    return str(prompt["image"])


def _key(seed: int, batch: Batch, pair: tuple[int, int]) -> str:
    answers = batch.require_responses()
    return content_key(seed, batch.prompts[pair[0]], answers[pair[0]], answers[pair[1]])


def encoded(codes: Sequence[str], claims: Sequence[tuple[Claims, Claims]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the network reads: (images, objects, counts, colours)."""
    import torch

    objects = torch.tensor([[one.objects for one in pair] for pair in claims], dtype=torch.int64).reshape(-1, 2, len(CELLS))
    counts = torch.tensor([[0 if one.count is None else 1 + one.count for one in pair] for pair in claims])
    colours = torch.tensor([0 if pair[0].colours is None else 1 + pair[0].colours for pair in claims])
    return pictures(codes), objects, counts, colours


@dataclass(frozen=True)
class Lessons:
    """Labelled pairs in a random order of showing, encoded. right: [N] 0 where the first shown is better, else 1."""

    inputs: tuple[Tensor, Tensor, Tensor, Tensor]
    right: Tensor

    def __len__(self) -> int:
        return len(self.right)

    def select(self, rows: Sequence[int]) -> Lessons:
        """The given pairs."""
        index = list(rows)
        images, objects, counts, colours = (part[index] for part in self.inputs)
        return Lessons((images, objects, counts, colours), self.right[index])


def lessons(rows: Sequence[Row], seed: int) -> Lessons:
    """Rows whose first answer is better, each shown in a random order. Raises ValueError for an answer that says nothing."""
    import torch

    draw = random.Random(derive_seed(seed, "orders"))
    right, claims = [], []
    for row in rows:
        said = [read_claims(answer) for answer in row.responses]
        if said[0] is None or said[1] is None:
            raise ValueError(f"row {row.id}: an answer says nothing that can be read")
        swap = draw.random() < 0.5
        right.append(int(swap))
        claims.append((said[1], said[0]) if swap else (said[0], said[1]))
    return Lessons(encoded([str(row.prompt["image"]) for row in rows], claims), torch.tensor(right))  # type: ignore[call-overload,index]


def untrained(width: int, seed: int) -> SceneJudge:
    """A judge with random weights."""
    from plaudit.worlds.scene_networks import SceneVLM

    with seeded(derive_seed(seed, "judge", width)):
        return SceneJudge(SceneVLM(width), f"width {width}, untrained")


def taught(
    judge: SceneJudge, stops: Sequence[int], seed: int, *, rows: int = 8000, batch_rows: int = 64, learning_rate: float = 2e-3
) -> list[SceneJudge]:
    """Copies of a judge after so many more steps each, from one course of training on fresh pairs (supervised on the verdict)."""
    material = lessons(scene_pairs(rows, derive_seed(seed, "lessons")), derive_seed(seed, "lessons"))
    student, kept = SceneJudge(copy.deepcopy(judge.network), judge.name, judge.trained), {0: copy.deepcopy(judge.network)}

    def batch(step: int) -> list[Lessons]:
        draw = random.Random(derive_seed(seed, "step", step))
        return [material.select([draw.randrange(len(material)) for _ in range(batch_rows)])]

    def loss(part: Lessons) -> Loss:
        from torch.nn.functional import nll_loss

        return Loss(nll_loss(student.network(*part.inputs), part.right, reduction="sum"))

    def keep(done: TrainProgress) -> None:
        if done.step in stops:
            kept[done.step] = copy.deepcopy(student.network)

    student.network.train()
    config = FitConfig(learning_rate=learning_rate, warmup_steps=20)
    if max(stops) > 0:
        train({"judge": student.network}, batch, loss, config, epochs=max(stops), seed=seed, progress=keep)
    width = judge.network.places.shape[1]
    return [SceneJudge(kept[stop], f"width {width}, {judge.trained + stop} steps", judge.trained + stop) for stop in stops]
