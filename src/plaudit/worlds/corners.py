"""`CornerWorld`: users of four kinds, each of whom wants to be in another corner of a grid (card 34).

A response is a cell as (x, y) in [-1, 1]. A user's reward is minus the Euclidean distance to their corner, in cells; with
Manhattan distances the four rewards would add up to a constant, and a reward of the crowd would have nothing to learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from plaudit.fitting.seeds import derive_seed
from plaudit.rewards.base import BaseReward
from plaudit.types import Batch, Context, Generator, Preferences, Reward, Scores, States, StepStats, Trajectories, World
from plaudit.worlds.one_step import one_step

if TYPE_CHECKING:
    from torch import Tensor

    from plaudit.rewards.learned.variational import VariationalReward


class CornerWorld(World):
    """side: cells on an edge. kinds: how many of the four corners are wanted by someone. flips: share of wrong labels.

    Each user's kind follows from their name and `seed`.
    """

    def __init__(self, *, side: int = 11, kinds: int = 4, flips: float = 0.05, seed: int = 0) -> None:
        if not 1 <= kinds <= 4 or side < 2:
            raise ValueError(f"a grid has 1 to 4 corners to want and a side of at least 2, not {kinds} and {side}")
        self.side, self.kinds, self.flips, self.seed = side, kinds, flips, seed
        self.truth = CornerDistance(self)

    @property
    def cells(self) -> Tensor:
        """[side^2, 2] every cell."""
        import torch

        line = torch.linspace(-1, 1, self.side)
        return torch.cartesian_prod(line, line)

    @property
    def corners(self) -> Tensor:
        """[4, 2] the goals."""
        import torch

        return torch.tensor([(-1.0, -1.0), (1.0, 1.0), (-1.0, 1.0), (1.0, -1.0)])

    def kind(self, user: str) -> int:
        """Which corner the user wants: 0 to kinds - 1, equally likely."""
        return derive_seed(self.seed, "kind", user) % self.kinds

    def goals(self, users: Sequence[str]) -> Tensor:
        """[B, 2] the users' corners."""
        kinds = {user: self.kind(user) for user in dict.fromkeys(users)}
        return self.corners[[kinds[user] for user in users]]

    def near(self, cells: Tensor, users: Sequence[str], within: float = 3.0) -> Tensor:
        """[B] bool: whether a cell is within a Manhattan distance, in cells, of the user's own corner."""
        return (cells - self.goals(users)).abs().sum(-1) * (self.side - 1) / 2 <= within + 1e-4

    def questions(self, pairs: int, seed: int) -> Tensor:
        """[pairs, 2, 2] pairs of random cells, not asked of anybody yet."""
        import torch

        draw = torch.Generator().manual_seed(derive_seed(seed, "cells"))
        return self.cells[torch.randint(self.side**2, (pairs, 2), generator=draw)]

    def candidates(self, sets: int, size: int, seed: int) -> tuple[Batch, Tensor]:
        """Sets of `size` questions: the cells as rows, and [sets, size, 2] row numbers."""
        import torch

        cells = self.questions(sets * size, seed).reshape(-1, 2)
        return Batch(["where to go?"] * len(cells), cells), torch.arange(len(cells)).reshape(sets, size, 2)

    def best_questions(
        self, reward: VariationalReward, users: Sequence[str], size: int, seed: int, candidates: int = 1000, draws: int = 20
    ) -> Tensor:
        """[users, size, 2, 2] for every user the most informative set of questions of a draw of so many candidate sets.

        draws: of candidates, each for as many of the users; before any answer, there is nothing to tell users apart by.
        """
        import torch

        from plaudit.rewards.learned.active import rank_questions

        best = []
        for number in range(draws):
            batch, sets = self.candidates(candidates, size, derive_seed(seed, number))
            best.append(torch.as_tensor(batch.require_responses())[sets[rank_questions(reward, batch, sets, seed=seed)[0]]])
        return torch.stack(best).repeat_interleave(-(-len(users) // draws), dim=0)[: len(users)]

    def chance_near(self, probabilities: Tensor, users: Sequence[str]) -> float:
        """Mean over users of the probability [users, cells] of a cell near their corner (`near`)."""
        import torch

        near = torch.stack([self.near(self.cells, [user] * self.side**2) for user in users])
        return float((probabilities.detach() * near).sum(1).mean())

    def comparisons(self, users: Sequence[str], pairs: int, seed: int, *, noisy: bool = True) -> tuple[Batch, Preferences]:
        """So many pairs of random cells a user; rows 2p and 2p + 1 are a pair. See `answers`."""
        return self.answers(users, self.questions(len(users) * pairs, seed).reshape(len(users), pairs, 2, 2), seed, noisy=noisy)

    def answers(self, users: Sequence[str], asked: Tensor, seed: int, *, noisy: bool = True) -> tuple[Batch, Preferences]:
        """The users' answers to questions [users, pairs, 2, 2].

        noisy: by Bradley and Terry at temperature 1 on distances in cells, then wrong with probability `flips`. Otherwise the
        better cell wins, and equal ones tie.
        """
        import torch

        count = asked.shape[1]
        batch = self._batch(asked.reshape(-1, 2), [user for user in users for _ in range(2 * count)])
        reward = self.truth.score(batch).values.reshape(-1, 2)
        gap = reward[:, 0] - reward[:, 1]
        first = torch.arange(0, len(batch), 2)
        if not noisy:
            return batch, Preferences(first, first + 1, torch.where(gap.abs() < 1e-5, 0.5, (gap > 0).float()))
        draw = torch.Generator().manual_seed(derive_seed(seed, "labels"))
        wins = torch.rand(len(gap), generator=draw) < gap.sigmoid()
        return batch, Preferences(first, first + 1, (wins ^ (torch.rand(len(gap), generator=draw) < self.flips)).float())

    def _batch(self, cells: Tensor, users: Sequence[str]) -> Batch:
        return Batch(["where to go?"] * len(cells), cells, users=users)

    def everywhere(self, users: Sequence[str]) -> Batch:
        """Every cell for every user, rows of a user next to each other."""
        return self._batch(self.cells.repeat(len(users), 1), [user for user in users for _ in range(self.side**2)])

    def success(self, reward: Reward, users: Sequence[str]) -> float:
        """Share of users whose best cell by the reward is near their corner."""
        values = reward.score(self.everywhere(users)).values.reshape(len(users), -1)
        return float(self.near(self.cells[values.argmax(1)], users).float().mean())

    def scale_ratio(self, reward: Reward, users: Sequence[str]) -> float:
        """Largest over smallest deviation of a user's rewards over all cells."""
        deviations = reward.score(self.everywhere(users)).values.reshape(len(users), -1).std(1)
        return float(deviations.max() / deviations.min())

    def prompts(self, split: str, n: int, seed: int) -> Batch:
        """n questions of where to go, by users who are in no other split."""
        return Batch(["where to go?"] * n, users=[f"{split} {seed}.{number}" for number in range(n)])

    def data(self, n: int, seed: int) -> Batch:
        """n random cells, each of a user of its own."""
        import torch

        draw = torch.Generator().manual_seed(derive_seed(seed, "data"))
        rows = torch.randint(self.side**2, (n,), generator=draw)
        return self._batch(self.cells[rows], [f"data {seed}.{number}" for number in range(n)])

    def base(self, level: str = "untrained", seed: int = 0) -> CellPolicy:
        """A uniform policy over cells, told a latent of 8 numbers. There is one level, and nothing to cache."""
        if level != "untrained":
            raise ValueError(f"level is '{level}'; this world has only 'untrained'")
        return CellPolicy(self.cells, 8, seed=seed)


class CornerDistance(BaseReward):
    """The truth: minus the Euclidean distance, in cells, to the corner of the row's user."""

    name = "distance to the own corner"
    uses_seed = False

    def __init__(self, world: CornerWorld) -> None:
        self.world = world
        self.settings = {"side": world.side, "kinds": world.kinds, "seed": world.seed}

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:  # noqa: ARG002
        """[B] at most 0. Raises ValueError where the rows have no users."""
        import torch

        if batch.users is None:
            raise ValueError("every row needs a user: there is no goal without a person")
        cells, goals = torch.as_tensor(batch.require_responses()), self.world.goals([str(user) for user in batch.users])
        return Scores(-(cells - goals).norm(dim=1) * (self.world.side - 1) / 2)


class KindScaled(BaseReward):
    """A reward times 1 to `most`, growing geometrically with the kind of the row's user: Bradley-Terry leaves scales open."""

    name = "scaled by kind"
    uses_seed = False

    def __init__(self, reward: BaseReward, world: CornerWorld, most: float = 10.0) -> None:
        self.reward, self.world, self.most = reward, world, most
        self.settings = {"reward": reward.fingerprint(), "kinds": world.kinds, "seed": world.seed, "most": most}

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:
        """[B] scaled. Raises ValueError where the rows have no users."""
        import torch

        if batch.users is None:
            raise ValueError("every row needs a user: there is no kind without a person")
        found = self.reward.score(batch, ctx)
        kinds = {user: self.world.kind(str(user)) for user in dict.fromkeys(batch.users)}
        steps = torch.tensor([kinds[user] for user in batch.users]) / max(1, self.world.kinds - 1)
        return Scores(found.values * self.most**steps, found.status)


class CellPolicy(Generator):
    """One step: a cell by softmax(W [z, 1]), tabular in the cell and linear in the latent z of the prompt ({"z": numbers}).

    All users share W, so that users whose rewards are large take more of what is learned in a step than others.
    """

    def __init__(self, cells: Tensor, latent: int, *, seed: int = 0) -> None:  # noqa: ARG002  # starts uniform, from no seed
        from torch import nn

        self.cells = cells
        self.table = nn.Linear(latent, len(cells))
        nn.init.zeros_(self.table.weight)
        nn.init.zeros_(self.table.bias)

    def modules(self) -> dict[str, Any]:
        """The table."""
        return {"table": self.table}

    def probabilities(self, latents: Tensor) -> Tensor:
        """[B, latent] -> [B, cells]."""
        found: Tensor = self.table(latents).softmax(-1)
        return found

    def rollout(self, prompts: Batch, n: int, *, how: Any = None, start: States | None = None, seed: int) -> Trajectories:  # noqa: ARG002
        """n cells a prompt."""
        import torch

        rows = [row for row in range(len(prompts)) for _ in range(n)]
        given = prompts.select(rows)
        with torch.no_grad():
            drawn = torch.multinomial(
                self.probabilities(_latents(given)), 1, generator=torch.Generator().manual_seed(derive_seed(seed, "cell"))
            )[:, 0]
        batch = Batch(given.prompts, self.cells[drawn], groups=torch.tensor(rows), users=given.users)
        return self._trajectories(batch, drawn, how)

    def encode(self, batch: Batch, *, seed: int) -> Trajectories:  # noqa: ARG002
        """Cells that are given: the nearest of the grid."""
        import torch

        return self._trajectories(batch, torch.cdist(torch.as_tensor(batch.require_responses()), self.cells).argmin(1), None)

    def _trajectories(self, batch: Batch, drawn: Tensor, how: Any) -> Trajectories:
        return one_step(self, batch, {"latents": _latents(batch), "cell": drawn}, how)

    def evaluate(
        self,
        t: Trajectories,
        *,
        need: Sequence[str] = ("log_prob",),
        steps: Sequence[int] | None = None,  # noqa: ARG002  # there is one step
        part: str | None = None,  # noqa: ARG002
    ) -> StepStats:
        """[B, 1] log-probability and entropy."""
        log_probs = self.table(t.payload["latents"]).log_softmax(-1)
        entropy = -(log_probs.exp() * log_probs).sum(-1, keepdim=True) if "entropy" in need else None
        return StepStats(log_prob=log_probs.gather(1, t.payload["cell"][:, None]), entropy=entropy)


def _latents(batch: Batch) -> Tensor:
    import torch

    return torch.tensor([prompt["z"] for prompt in batch.prompts])  # type: ignore[index, call-overload]
