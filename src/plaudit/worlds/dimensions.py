"""Hidden dimensions: responses are vectors, and six qualities that nobody observes decide how good they are (card 58).

A response has a latent z of 16 numbers, of which 64 numbers are observed: z itself and a random tanh mix of it, with noise.
Quality k is z_k z_(k+6), which no line can read off the observation; in the control world it is z_k, which any line can.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from plaudit.fitting.seeds import derive_seed
from plaudit.rewards.base import BaseReward
from plaudit.trust.probes import ProbeTask
from plaudit.types import Batch, Context, Generator, Preferences, Scores, States, StepStats, Trajectories, World
from plaudit.worlds.one_step import one_step

if TYPE_CHECKING:
    from torch import Tensor

LATENT, OBSERVED, CONTEXT = 16, 64, 8
WEIGHTS = (1.5, 1.2, 1.0, 0.8, 0.6, 0.4)
"""Of the six qualities in the true utility."""
REACH = 3.0
"""The policy's mean stays within so many standard deviations of the data on each latent number."""


class HiddenDimensions(World):
    """seed: of the mix. linear: the control world. noise: standard deviation of what is added to the observation."""

    def __init__(self, *, seed: int = 0, linear: bool = False, noise: float = 0.1) -> None:
        self.seed, self.linear, self.noise = seed, linear, noise
        self.mix = _normal((LATENT, OBSERVED - LATENT), seed) / math.sqrt(LATENT) * 1.5
        self.truth = Utility(self)

    def prompts(self, split: str, n: int, seed: int) -> Batch:
        """n contexts of 8 numbers; they ask for nothing, but let a policy answer differently."""
        contexts = _normal((n, CONTEXT), derive_seed(seed, split))
        return Batch([{"context": row} for row in contexts.tolist()])

    def data(self, n: int, seed: int) -> Batch:
        """n responses with standard normal latents (`extras["latent"]`), each to a prompt of its own."""
        return self.batch([f"sample {seed}.{row}" for row in range(n)], _normal((n, LATENT), derive_seed(seed, "latent")), seed)

    def batch(self, prompts: Sequence[Any], latent: Tensor, seed: int, groups: Tensor | None = None) -> Batch:
        """Responses with given latents [B, 16], observed with noise."""
        import torch

        observed = torch.cat([latent, torch.tanh(latent @ self.mix)], dim=1)
        observed = observed + self.noise * _normal((len(latent), OBSERVED), derive_seed(seed, "noise"))
        return Batch(prompts, observed, groups=groups, extras={"latent": latent})  # type: ignore[dict-item]

    def qualities(self, batch: Batch) -> Tensor:
        """[B, 6] the hidden qualities."""
        import torch

        latent = torch.as_tensor(batch.extras["latent"])
        return latent[:, :6] if self.linear else latent[:, :6] * latent[:, 6:12]

    def preferences(
        self, pairs: int, seed: int, *, weights: Sequence[float] = WEIGHTS, label_noise: float = 0.0
    ) -> tuple[Batch, Preferences]:
        """Pairs labelled by a utility with the given weights; each label is wrong with probability `label_noise`."""
        import torch

        batch = self.data(2 * pairs, seed)
        utility = self.qualities(batch) @ torch.tensor(weights)
        first = torch.arange(0, 2 * pairs, 2)
        wins = utility[first] > utility[first + 1]
        draw = torch.Generator().manual_seed(derive_seed(seed, "labels"))
        flipped = torch.rand(pairs, generator=draw) < label_noise
        return batch, Preferences(first, first + 1, (wins ^ flipped).float())

    def probe_tasks(self, train: int, test: int, seed: int) -> list[ProbeTask]:
        """One a dimension, over the same samples: is its quality above 0?"""
        samples = [self.data(train, derive_seed(seed, "probe train")), self.data(test, derive_seed(seed, "probe test"))]
        (first, found), (second, wanted) = [(batch, (self.qualities(batch) > 0).int().T.tolist()) for batch in samples]
        return [ProbeTask(f"dimension {k}", first, found[k], second, wanted[k]) for k in range(len(WEIGHTS))]

    def base(self, level: str = "untrained", seed: int = 0) -> LatentPolicy:
        """A policy whose responses are nearly those of the data. There is one level, and nothing to cache."""
        if level != "untrained":
            raise ValueError(f"level is '{level}'; this world has only 'untrained'")
        return LatentPolicy(self, seed=seed)


class Utility(BaseReward):
    """The truth: the weighted sum of the qualities. It reads the latent, which no other reward sees."""

    name = "true utility"
    uses_seed = False

    def __init__(self, world: HiddenDimensions) -> None:
        self.world = world
        self.settings = {"linear": world.linear}

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:  # noqa: ARG002
        """[B] utility."""
        import torch

        return Scores(self.world.qualities(batch) @ torch.tensor(WEIGHTS))


class LatentPolicy(Generator):
    """One step: z = 3 tanh(network(context)) + exp(log_std) x noise, the log-probability being that of the Gaussian."""

    def __init__(self, world: HiddenDimensions, *, seed: int = 0, width: int = 64) -> None:
        import torch
        from torch import nn

        self.world = world
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = nn.Sequential(nn.Linear(CONTEXT, width), nn.Tanh(), nn.Linear(width, LATENT))
        with torch.no_grad():
            for parameter in self.network[2].parameters():
                parameter.mul_(0.1)  # the first mean is close to 0, that of the data
        self.spread = nn.ParameterDict({"log_std": nn.Parameter(torch.zeros(LATENT))})

    def modules(self) -> dict[str, Any]:
        """The network of the mean, and the spread."""
        return {"network": self.network, "spread": self.spread}

    def _gaussian(self, contexts: Tensor) -> Any:
        import torch

        mean = REACH * torch.tanh(self.network(contexts))
        return torch.distributions.Normal(mean, self.spread["log_std"].exp().expand_as(mean))

    def rollout(self, prompts: Batch, n: int, *, how: Any = None, start: States | None = None, seed: int) -> Trajectories:  # noqa: ARG002
        """n responses a prompt."""
        import torch

        rows = [row for row in range(len(prompts)) for _ in range(n)]
        contexts = _contexts(prompts)[rows]
        with torch.no_grad():
            policy = self._gaussian(contexts)
            latent = policy.mean + policy.stddev * _normal((len(rows), LATENT), derive_seed(seed, "policy"))
        batch = self.world.batch([prompts.prompts[row] for row in rows], latent, seed, groups=torch.tensor(rows))
        return self._trajectories(batch, contexts, latent, how)

    def encode(self, batch: Batch, *, seed: int) -> Trajectories:  # noqa: ARG002
        """Responses whose latents are known."""
        import torch

        return self._trajectories(batch, _contexts(batch), torch.as_tensor(batch.extras["latent"]), None)

    def _trajectories(self, batch: Batch, contexts: Tensor, latent: Tensor, how: Any) -> Trajectories:
        return one_step(self, batch, {"contexts": contexts, "latent": latent}, how)

    def evaluate(
        self,
        t: Trajectories,
        *,
        need: Sequence[str] = ("log_prob",),
        steps: Sequence[int] | None = None,  # noqa: ARG002  # there is one step
        part: str | None = None,  # noqa: ARG002
    ) -> StepStats:
        """[B, 1] log-probability and entropy."""
        policy = self._gaussian(t.payload["contexts"])
        entropy = policy.entropy().sum(1, keepdim=True) if "entropy" in need else None
        return StepStats(log_prob=policy.log_prob(t.payload["latent"]).sum(1, keepdim=True), entropy=entropy)


def _contexts(batch: Batch) -> Tensor:
    import torch

    return torch.tensor([prompt["context"] for prompt in batch.prompts])  # type: ignore[index, call-overload]


def _normal(shape: tuple[int, ...], seed: int) -> Tensor:
    import torch

    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
