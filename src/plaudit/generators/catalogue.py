"""Generators by name, for files of settings and the command line: name -> builder, called with the settings by name.

Importing this imports no torch; building a generator does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from plaudit.types import Generator, SpecError

if TYPE_CHECKING:
    import torch

    from plaudit.generators.diffusion import DiffusionGenerator
    from plaudit.generators.flow import FlowGenerator
    from plaudit.generators.gflownet import GFlowNet
    from plaudit.generators.language import LanguageGenerator

Builder = Callable[..., Generator]
NetworkKind = Literal["mlp", "unet"]


def flow(
    *,
    shape: Sequence[int],
    network: NetworkKind = "mlp",
    classes: int = 0,
    key: str = "class",
    steps: int = 10,
    seed: int = 0,
    kernel: dict[str, Any] | None = None,
    **size: Any,
) -> FlowGenerator:
    """A small rectified flow with random weights. kernel: settings of `FlowSDE`; size: width, blocks, channels of the network."""
    from plaudit.generators.diffusion import DenoisingSampling, FlowSDE
    from plaudit.generators.flow import FlowGenerator

    built = small_network(network, shape, classes, 1000.0, seed, size)
    settings = {"sampling": DenoisingSampling(steps=steps), **_conditioned(classes, key)}
    return FlowGenerator(built, shape, FlowSDE(**(kernel or {})), **settings)


def diffusion(
    *,
    shape: Sequence[int],
    network: NetworkKind = "mlp",
    classes: int = 0,
    key: str = "class",
    steps: int = 10,
    seed: int = 0,
    kernel: dict[str, Any] | None = None,
    schedule: dict[str, Any] | None = None,
    **size: Any,
) -> DiffusionGenerator:
    """A small diffusion model with random weights. kernel: settings of `DDIMStep`; schedule: of its `NoiseSchedule`."""
    from plaudit.generators.diffusion import DDIMStep, DenoisingSampling, DiffusionGenerator, NoiseSchedule

    built = small_network(network, shape, classes, 1.0, seed, size)
    step = DDIMStep(schedule=NoiseSchedule(**{"spacing": "trailing", **(schedule or {})}), **(kernel or {}))
    settings = {"sampling": DenoisingSampling(steps=steps), **_conditioned(classes, key)}
    return DiffusionGenerator(built, shape, step, **settings)


def small_network(
    kind: str, shape: Sequence[int], classes: int, time_scale: float, seed: int, size: dict[str, Any]
) -> torch.nn.Module:
    """A network of `plaudit.generators.networks` with random weights of that seed. Raises SpecError for an unknown kind."""
    from plaudit.fitting import seeded
    from plaudit.generators.networks import ResidualMLP, SmallUNet

    kinds: dict[str, Callable[..., torch.nn.Module]] = {"mlp": ResidualMLP, "unet": SmallUNet}
    if kind not in kinds:
        raise SpecError(f"unknown network '{kind}'; expected one of {', '.join(kinds)}")
    with seeded(seed):
        return kinds[kind](tuple(shape), classes=classes, time_scale=time_scale, **size)


def _conditioned(classes: int, key: str) -> dict[str, Any]:
    from plaudit.generators.diffusion import ClassConditioner

    return {"conditioner": ClassConditioner(classes, key)} if classes else {}


def gflownet(*, environment: str, size: dict[str, Any], seed: int = 0, **settings: Any) -> GFlowNet:
    """A GFlowNet with random weights. environment: grid, subsets or bits; size: its arguments; settings: of `GFlowNet`."""
    from plaudit.generators.gflownet import BitSequences, GFlowNet, Hypergrid, Subsets

    kinds: dict[str, Callable[..., Any]] = {"grid": Hypergrid, "subsets": Subsets, "bits": BitSequences}
    if environment not in kinds:
        raise SpecError(f"unknown environment '{environment}'; expected one of {', '.join(kinds)}")
    return GFlowNet(kinds[environment](**size), seed=seed, **settings)


def language(model: str = "smollm2", *, lora: dict[str, Any] | str | None = None, **settings: Any) -> LanguageGenerator:
    """A language model by folder or hub id. lora: settings of a fresh adapter (`rank: 8`), or the folder of a saved one."""
    from plaudit.generators.language import LanguageGenerator, LoRA

    adapter = LoRA(**lora) if isinstance(lora, dict) else lora
    return LanguageGenerator(model, lora=adapter, **settings)


GENERATORS: dict[str, Builder] = {"language": language, "flow": flow, "diffusion": diffusion, "gflownet": gflownet}
"""What `build_generator` knows."""


def build_generator(name: str, **settings: Any) -> Generator:
    """The generator of that name. Raises SpecError for an unknown name or settings that it does not take."""
    if name not in GENERATORS:
        raise SpecError(f"unknown generator '{name}'; expected one of {', '.join(sorted(GENERATORS))}")
    try:
        return GENERATORS[name](**settings)
    except (TypeError, ValueError) as error:
        raise SpecError(f"generator '{name}': {error}") from error
