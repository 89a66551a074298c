"""Policies of another time: the reference policy, the start, and how far the current one has moved from them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from plaudit.fitting import Fitter
from plaudit.fitting.weights import WeightAverage, copy_weights, like, set_weights, swapped, trainable_parameters
from plaudit.types import Generator, Trajectories, UserError

if TYPE_CHECKING:
    from torch import Tensor

ReferenceChoice = Literal["frozen copy", "ema"]


def frozen_generator(generator: Generator) -> Generator:
    """The generator as it is now, which training does not change: its own `frozen()` (an adapter switched off), or a copy."""
    own = getattr(generator, "frozen", None)
    if callable(own):
        found: Generator = own()
        return found
    frozen = copy.deepcopy(generator)
    for module in frozen.modules().values():
        module.requires_grad_(False)
        module.eval()
    return frozen


class Reference:
    """The reference policy of a run, or none.

    choice: "frozen copy": as at the start; "ema": an average of the policy over steps; a generator of one's own; None.
    `policy` goes into the context. Raises UserError for another word.
    """

    def __init__(self, choice: ReferenceChoice | Generator | None, generator: Generator, decay: float) -> None:
        self.policy: Generator | None = None
        self._average: WeightAverage | None = None
        self._names: list[str] = []
        self._copied = isinstance(choice, str)
        if isinstance(choice, str):
            if choice not in ("frozen copy", "ema"):
                raise UserError(f"reference_policy is '{choice}'; expected 'frozen copy', 'ema', or a generator")
            if choice == "ema":
                self._copy(generator, decay)
            else:
                self.policy = frozen_generator(generator)
        elif choice is not None:
            self.policy = choice

    def _copy(self, generator: Generator, decay: float) -> None:
        """A copy of its own for an average: an adapter that is shared could not have two values."""
        self.policy = copy.deepcopy(generator)
        weights = trainable_parameters(self.policy.modules())
        self._names, self._average = list(weights), WeightAverage(weights, decay)
        for module in self.policy.modules().values():
            module.requires_grad_(False)
            module.eval()

    def share_out(self, fitter: Fitter) -> None:
        """Let a copy's weights lie in pieces as those of the policy do, where they do; an adapter's base is there already."""
        if not self._copied or self.policy is None or fitter.sharding is None:
            return
        modules = list(self.policy.modules().values())
        if not any(hasattr(weight, "placements") for module in modules for weight in module.parameters()):
            fitter.share_out(modules)
        if self._average is not None:
            weights = self._weights()
            self._average.values = {name: like(value, weights[name]) for name, value in self._average.values.items()}

    def _weights(self) -> dict[str, Any]:
        """The averaged policy's weights, as they lie now."""
        assert self.policy is not None
        found = {
            f"{name}/{path}": weight
            for name, module in self.policy.modules().items()
            for path, weight in module.named_parameters()
        }
        return {name: found[name] for name in self._names}

    def update(self, generator: Generator) -> None:
        """After a step: an averaged policy follows."""
        if self._average is not None:
            self._average.update(trainable_parameters(generator.modules()))
            set_weights(self._weights(), self._average.values, "the reference policy")

    def state_dict(self) -> dict[str, Any] | None:
        """The average, if there is one; a frozen copy is made of the start again."""
        return None if self._average is None else copy_weights(self._average.values)

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Take back what `state_dict` gave."""
        if self._average is not None and state is not None:
            set_weights(self._average.values, state, "the reference policy")
            set_weights(self._weights(), self._average.values, "the reference policy")


class Start:
    """The policy before the first step, to measure how far the current one has come.

    generator: the one that is trained. weights: its trainable weights then, among others. copied: a frozen copy of the start,
    where there is one anyway; else the weights are put into the generator for the time of a measurement.
    """

    def __init__(self, generator: Generator, weights: Mapping[str, Tensor], copied: Generator | None) -> None:
        self._copied = copied
        own = trainable_parameters(generator.modules())
        self._weights = {} if copied is not None else {name: weights[name] for name in own}

    def distance(self, generator: Generator, t: Trajectories, *, rows: int | None = None) -> float | None:
        """Mean over rows of log p(row) - log p_start(row), summed over steps that have a density, in nats.

        An unbiased estimate of KL(p | start) where the current policy sampled the rows. rows: evaluated at once.
        None where no row has finite log-probabilities under both.
        """
        import torch

        now = _row_log_probs(generator, t, rows)
        if self._copied is not None:
            then = _row_log_probs(self._copied, t, rows)
        else:
            with swapped(trainable_parameters(generator.modules()), self._weights, "the start"):
                then = _row_log_probs(generator, t, rows)
        gap = (now - then)[torch.isfinite(now - then)]
        return float(gap.mean()) if len(gap) else None


def _row_log_probs(generator: Generator, t: Trajectories, rows: int | None) -> Tensor:
    """[B] float64 on the CPU."""
    import torch

    found = []
    with torch.no_grad():
        for at in range(0, len(t), rows or max(1, len(t))):
            part = t.select(range(at, min(len(t), at + (rows or len(t)))))
            log_prob = generator.evaluate(part, need=("log_prob",)).log_prob
            if log_prob is None:
                raise UserError("the generator gives no log-probabilities: its distance to the start cannot be measured")
            found.append(torch.where(part.mask, log_prob, 0.0).double().sum(dim=1).cpu())
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.float64)
