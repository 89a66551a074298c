"""`build_critic`: a critic for a generator that is there, so that PPO can be asked for by name."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Literal, cast

from plaudit.objectives.policy_gradient.critic import Critic, ModuleCritic, ValueHead
from plaudit.types import Generator, SpecError, Trajectories

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from plaudit.generators.diffusion.generator import DenoisingGenerator
    from plaudit.generators.gflownet import GFlowNet
    from plaudit.generators.language import LanguageGenerator

CriticKind = Literal["copy", "head", "network"]


def build_critic(
    generator: Generator,
    kind: CriticKind | None = None,
    *,
    width: int = 64,
    blocks: int = 2,
    seed: int = 0,
    coefficient: float = 0.5,
    clip: float | None = 0.2,
) -> Critic:
    """A critic whose first values are all 0. coefficient, clip: of `Critic`.

    kind: "copy", for language models: the model as it is now, once more, with a value head (with an adapter, only the copy's
    adapter and the head learn); it costs a second model and a second pass. "head", for language models: a value head on the
    policy itself, one pass for both, whose loss changes the policy's weights too; `generator` gets the head if it has none.
    "network", for denoising generators and GFlowNets: a residual perceptron (`width`, `blocks`, weights of `seed`) over the
    state before a step, the step and the class, where there are classes; it does not see other conditions, which leaves it a
    valid baseline that explains less. None: "copy" or "network", whichever the generator has.
    Raises SpecError for another kind, or a generator of the user's own.
    """
    from plaudit.generators.diffusion.generator import DenoisingGenerator
    from plaudit.generators.gflownet import GFlowNet
    from plaudit.generators.language import LanguageGenerator

    if kind not in (None, "copy", "head", "network"):
        raise SpecError(f"unknown critic '{kind}'; expected copy, head or network")
    settings: dict[str, Any] = {"coefficient": coefficient, "clip": clip}
    if isinstance(generator, LanguageGenerator) and kind != "network":
        if kind == "head":
            return ValueHead(_with_head(generator), **settings)
        return ModuleCritic(_values_of(_with_head(copy.deepcopy(generator))), **settings)
    if isinstance(generator, DenoisingGenerator | GFlowNet) and kind in (None, "network"):
        return ModuleCritic(_state_values(generator, width, blocks, seed), **settings)
    raise SpecError(f"no critic of the kind '{kind or 'by default'}' for a {type(generator).__name__}: give one of your own")


def _with_head(generator: LanguageGenerator) -> LanguageGenerator:
    """The same generator with a value head."""
    from plaudit.engines.opening import new_value_head

    if generator.value_head is None:
        generator.value_head = new_value_head(generator.causal_model)
    return generator


def _values_of(model: LanguageGenerator) -> Module:
    """A torch module from trajectories to the model's values [B, T]."""
    import torch

    class Values(torch.nn.Module):
        """Values of a language model of its own."""

        def __init__(self) -> None:
            super().__init__()
            self.parts = torch.nn.ModuleDict(model.modules())

        def forward(self, t: Trajectories) -> Tensor:
            """[B, T]."""
            found = model.evaluate(t, need=("value",)).value
            assert found is not None
            return found

    return Values()


def _state_values(generator: DenoisingGenerator | GFlowNet, width: int, blocks: int, seed: int) -> Module:
    """A torch module from trajectories to values [B, T] of the states before each step."""
    import torch

    from plaudit.fitting import seeded
    from plaudit.generators.networks import ResidualMLP

    classes = int(getattr(getattr(generator, "conditioner", None), "classes", 0))

    class StateValues(torch.nn.Module):
        """A residual perceptron and a linear value of what it answers, 0 at first."""

        def __init__(self, size: int) -> None:
            super().__init__()
            self.network = ResidualMLP([size], width=width, blocks=blocks, classes=classes)
            self.head = torch.nn.Linear(size, 1)
            torch.nn.init.zeros_(self.head.weight)
            torch.nn.init.zeros_(self.head.bias)

        def forward(self, t: Trajectories) -> Tensor:
            """[B, T]."""
            rows, steps = t.mask.shape
            states = _states(generator, t)[:, :steps]
            time = torch.arange(steps, device=states.device).div(steps).expand(rows, -1).flatten()
            condition = t.payload.conditions[t.payload.prompt].repeat_interleave(steps) if classes else None
            inner = self.network(states.flatten(0, 1), time, None if condition is None else condition.to(states.device))
            values: Tensor = self.head(inner).view(rows, steps).to(t.mask.device)
            return values

    with seeded(seed):
        return StateValues(_state_size(generator)).to(_device(generator))


def _states(generator: DenoisingGenerator | GFlowNet, t: Trajectories) -> Tensor:
    """[B, T + 1, D] float features of every state of the trajectories."""
    environment = getattr(generator, "environment", None)
    if environment is None:
        states: Tensor = t.payload.states.flatten(2).float()
        return states
    visited = t.payload.states()
    features: Tensor = environment.features(visited.flatten(0, 1)).float()
    return features.view(*visited.shape[:2], -1)


def _state_size(generator: DenoisingGenerator | GFlowNet) -> int:
    """D of `_states`."""
    import math

    environment = getattr(generator, "environment", None)
    if environment is not None:
        return int(environment.features(environment.initial(1)).shape[-1])
    return math.prod(cast("DenoisingGenerator", generator).shape)


def _device(generator: Generator) -> Any:
    """Where the generator's weights are."""
    return next(weight.device for module in generator.modules().values() for weight in module.parameters())
