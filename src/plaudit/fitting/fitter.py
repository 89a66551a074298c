"""`Fitter`: mini-batches in, one optimiser step out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plaudit.fitting.config import FitConfig
from plaudit.fitting.processes import Processes
from plaudit.fitting.sharding import Sharding, ShardingPlan
from plaudit.fitting.states import atomic_folder, complete, load_state, save_state
from plaudit.fitting.weights import (
    WeightAverage,
    copy_weights,
    gradient_norm,
    in_pieces,
    kept_weights,
    like,
    set_weights,
    swapped,
    trainable_parameters,
)
from plaudit.types import Loss, UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import Module


@dataclass
class UpdateReport:
    """One update. loss, parts: divided by the units, summed over processes. stats: means over mini-batches.

    grad_norm: before clipping, over all parameters, NaN where there was no gradient. learning_rate: the first group's.
    skipped: why no step was taken, None if one was. stop: why fitting should end, None to go on.
    """

    loss: float
    parts: dict[str, float] = field(default_factory=dict)
    stats: dict[str, float] = field(default_factory=dict)
    grad_norm: float = math.nan
    learning_rate: float = 0.0
    skipped: str | None = None
    stop: str | None = None


class Fitter:
    """AdamW over the trainable parameters of named modules: accumulation, clipping, schedule, average, checkpoints.

    The parameters are those that require a gradient now. Under `accelerate launch` every process holds the same weights, brings
    its own mini-batches, and takes the same step. With FSDP2 (`distributed_type: FSDP`) each holds a piece of the weights and
    moments (`plaudit.fitting.sharding`): what reads weights then happens inside `whole()`, and `release()` ends it.
    Raises UserError if there is nothing to train or accelerate is missing.
    """

    def __init__(self, modules: Mapping[str, Module], config: FitConfig | None = None) -> None:
        self.modules, self.config = dict(modules), config or FitConfig()
        self.processes = Processes()
        self.parameters = trainable_parameters(self.modules)
        if not self.parameters:
            raise UserError(f"nothing to train: no parameter of {', '.join(self.modules) or 'no module'} requires a gradient")
        unknown = set(self.config.learning_rates) - set(self.modules)
        if unknown:
            raise UserError(f"learning_rates names {', '.join(sorted(unknown))}; the modules are {', '.join(self.modules)}")
        self.config.rate_share(self.config.warmup_steps)  # a schedule without its length is found now, not later
        self.processes.share_weights(list(kept_weights(self.modules).values()))
        self._plan = ShardingPlan.of_launcher(self.processes)
        self.sharding = None if self._plan is None else Sharding(list(self.modules.values()), self._plan, self.processes)
        self._beside: list[Sharding] = []
        if self.sharding is not None:
            self.parameters = trainable_parameters(self.modules)  # the pieces
        self._optimiser = _adamw(self.parameters, self.config)
        decay = self.config.ema_decay
        self.average = None if decay is None else WeightAverage(self.parameters, decay)
        self.steps = self.skipped = self.skipped_in_a_row = 0

    def precision(self) -> AbstractContextManager[Any]:
        """The context in which the forward pass runs; sampling and reference log-probabilities must use the same."""
        if self.config.precision == "float32":
            return nullcontext()
        import torch

        at_rest = next(iter(self.parameters.values())).device  # pieces may lie elsewhere than where the model runs
        return torch.autocast((at_rest if self.sharding is None else self.processes.device).type, dtype=torch.bfloat16)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Where weights are read without gradient: inside, every process has them whole. All processes enter it together."""
        with ExitStack() as stack:
            for sharding in (self.sharding, *self._beside):
                if sharding is not None:
                    stack.enter_context(sharding.whole())
            yield

    def share_out(self, modules: Sequence[Module]) -> None:
        """Share out the weights of further modules, which are not trained here (a reference policy), if those here are."""
        if self._plan is not None and modules:
            self._beside.append(Sharding(modules, self._plan, self.processes))

    def release(self) -> None:
        """Training is over: weights that were shared out are whole again, plain parameters in every process."""
        for sharding in (self.sharding, *self._beside):
            if sharding is not None:
                sharding.release()
        self.sharding, self._plan, self._beside = None, None, []

    def update(
        self,
        parts: Sequence[Callable[[], Loss]],
        units: float,
        *,
        rows: Sequence[float] | None = None,
        spare: Callable[[], Loss] | None = None,
    ) -> UpdateReport:
        """Run the mini-batches, add their gradients of total / units, and take one step.

        parts: each runs one mini-batch of this process and gives its sum. units: this process's share of what the sum over all
        mini-batches is divided by; it is summed over processes. rows: weights of the mini-batches in the means of `stats`.
        spare: a mini-batch that runs the model, the same in all processes, counted nowhere (`Sharding.backward`).
        A loss or gradient norm that is not finite, or a norm above `skip_above`, takes no step: weights, moments and average
        stay, and the schedule goes on. Raises ValueError if the units do not sum to a positive number.
        """
        units = self.processes.sum_number(float(units))
        if not (units > 0 and math.isfinite(units)):
            raise ValueError(f"an update needs positive units, not {units}")
        self._optimiser.zero_grad(set_to_none=True)
        losses = self._backward(parts, units, spare)
        report = self._report(losses, units, rows)
        report.learning_rate = self._set_rates()
        report.skipped = self._step(report)
        self.steps += 1
        self.skipped += report.skipped is not None
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if report.skipped else 0
        if self.skipped_in_a_row >= self.config.max_skips:
            report.stop = f"{self.skipped_in_a_row} updates in a row were skipped, the last because {report.skipped}"
        self._optimiser.zero_grad(set_to_none=True)
        return report

    def _backward(self, parts: Sequence[Callable[[], Loss]], units: float, spare: Callable[[], Loss] | None) -> list[Loss]:
        """Run mini-batches until one's total is not finite: the step is lost then, so is the time for the others."""
        losses: list[Loss] = []

        def total_of(part: Callable[[], Loss], *, counted: bool = True) -> Tensor | None:
            if counted and losses and not math.isfinite(float(losses[-1].total)):
                return None
            with self.precision():
                loss = part()
            if counted:
                losses.append(Loss(loss.total.detach(), {name: value.detach() for name, value in loss.parts.items()}, loss.stats))
            # a mini-batch whose rows were all dropped may cost a plain 0
            return loss.total / units if loss.total.requires_grad else None

        totals = [partial(total_of, part) for part in parts]
        if self.sharding is None:
            for total in totals:
                if (value := total()) is not None and bool(value.isfinite()):
                    value.backward()  # type: ignore[no-untyped-call]  # torch's own backward has no types
            self.processes.sum_gradients(list(self.parameters.values()))
        else:
            most = max(self.processes.gather(len(parts)))
            self.sharding.backward(totals, None if spare is None else partial(total_of, spare, counted=False), most)
        return losses

    def _report(self, losses: Sequence[Loss], units: float, rows: Sequence[float] | None) -> UpdateReport:
        own = _sums(losses, [1.0] * len(losses) if rows is None else rows)
        gathered = self.processes.gather(own)
        totals = _added([sums[0] for sums in gathered])
        sums, weights = _added([sums[1] for sums in gathered]), _added([sums[2] for sums in gathered])
        return UpdateReport(
            loss=totals.pop("", 0.0) / units,
            parts={name: value / units for name, value in totals.items()},
            stats={name: value / weights[name] for name, value in sums.items()},
        )

    def _set_rates(self) -> float:
        share = self.config.rate_share(self.steps)
        for group in self._optimiser.param_groups:
            group["lr"] = group["peak"] * share
        return float(self._optimiser.param_groups[0]["lr"])

    def _step(self, report: UpdateReport) -> str | None:
        """Clip and step; or why not."""
        from torch.nn.utils import clip_grads_with_norm_

        if not math.isfinite(report.loss):
            return f"the loss is {report.loss}"
        gradients = [parameter.grad for parameter in self.parameters.values() if parameter.grad is not None]
        if not gradients:
            return "no parameter got a gradient"
        norm = gradient_norm(gradients)
        report.grad_norm = float(norm)
        if not math.isfinite(report.grad_norm):
            return f"the gradient norm is {report.grad_norm}"
        limit = self.config.skip_above
        if limit is not None and report.grad_norm > limit:
            return f"the gradient norm {report.grad_norm:.4g} is above {limit:g}"
        if self.config.max_grad_norm is not None:
            for alike in in_pieces(self.parameters.values()):
                clip_grads_with_norm_(alike, self.config.max_grad_norm, norm)
        self._optimiser.step()
        if self.average is not None:
            self.average.update(self.parameters)
        return None

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the modules have their averaged weights. Raises UserError if no average is kept."""
        if self.average is None:
            raise UserError("no average of the weights is kept: set ema_decay")
        with swapped(self.parameters, self.average.values, "the average"), self.whole():
            yield

    def state_dict(self) -> dict[str, Any]:
        """Weights, moments, average and counters: all that an exact resume needs. Frozen parameters are not in it.

        Tensors are whole, so that any number of processes can go on from it; shared out ones are gathered, for which all
        processes must ask, and only the main process has them in the end.
        """
        moments, order = self._optimiser.state_dict()["state"], self._order()
        keep = self.sharding is None or self.processes.main
        return {
            "weights": copy_weights(kept_weights(self.modules), keep=keep),
            "moments": {order[number]: copy_weights(state, keep=keep) for number, state in moments.items()},
            "average": None if self.average is None else copy_weights(self.average.values, keep=keep),
            "counts": [self.steps, self.skipped, self.skipped_in_a_row],
        }

    def _order(self) -> list[str]:
        """Names of the parameters in the optimiser's numbering."""
        names = {id(parameter): name for name, parameter in self.parameters.items()}
        return [names[id(parameter)] for group in self._optimiser.param_groups for parameter in group["params"]]

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another fitter of the same modules stood. Raises UserError if the weights do not fit."""
        set_weights(kept_weights(self.modules), state["weights"], "the checkpoint")
        number = {name: at for at, name in enumerate(self._order())}
        fresh = self._optimiser.state_dict()
        moments = {
            number[name]: {
                key: like(value, own) if value.shape == (own := self.parameters[name]).shape else value
                for key, value in moment.items()
            }
            for name, moment in state["moments"].items()
        }
        self._optimiser.load_state_dict({"state": moments, "param_groups": fresh["param_groups"]})
        if (self.average is None) != (state["average"] is None):
            raise UserError("the checkpoint and this run do not both keep an average of the weights (ema_decay)")
        if self.average is not None:
            set_weights(self.average.values, state["average"], "the checkpoint's average")
        self.steps, self.skipped, self.skipped_in_a_row = state["counts"]

    def save(self, folder: str | Path) -> None:
        """Write the state as safetensors and JSON, all or nothing; only the main process writes."""
        state = self.state_dict()
        if self.processes.main:
            with atomic_folder(Path(folder)) as temporary:
                save_state(temporary, state)
        self.processes.wait()

    def load(self, folder: str | Path) -> None:
        """Read what `save` wrote. Raises UserError if it is not there or does not fit."""
        self.load_state_dict(load_state(complete(Path(folder)) or Path(folder)))


def _adamw(parameters: Mapping[str, Any], config: FitConfig) -> torch.optim.AdamW:
    """AdamW, fused; one group for each learning rate and decay, parameters in pieces apart from whole ones."""
    import torch

    groups: dict[tuple[float, float, bool], list[Any]] = {}
    for name, parameter in parameters.items():
        rate = config.learning_rates.get(name.split("/", 1)[0], config.learning_rate)
        decay = config.weight_decay if parameter.dim() > 1 else 0.0
        groups.setdefault((rate, decay, hasattr(parameter, "placements")), []).append(parameter)
    listed = [{"params": own, "lr": rate, "peak": rate, "weight_decay": decay} for (rate, decay, _), own in groups.items()]
    fused = all(parameter.is_floating_point() and parameter.device.type in ("cpu", "cuda") for parameter in parameters.values())
    return torch.optim.AdamW(listed, betas=config.betas, eps=config.epsilon, fused=fused)


def _sums(losses: Sequence[Loss], rows: Sequence[float]) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Totals (the loss under "") and parts; weighted sums of stats; their weights. A stat that is NaN was not measured."""
    totals: dict[str, float] = {}
    sums: dict[str, float] = {}
    weights: dict[str, float] = {}
    for loss, weight in zip(losses, rows, strict=False):  # a loss that is not finite ends the list early
        for name, value in {"": loss.total, **loss.parts}.items():
            totals[name] = totals.get(name, 0.0) + float(value)
        for name, stat in loss.stats.items():
            if not math.isnan(stat) and weight > 0:
                sums[name] = sums.get(name, 0.0) + weight * float(stat)
                weights[name] = weights.get(name, 0.0) + weight
    return totals, sums, weights


def _added(dictionaries: Sequence[Mapping[str, float]]) -> dict[str, float]:
    added: dict[str, float] = {}
    for dictionary in dictionaries:
        for name, value in dictionary.items():
            added[name] = added.get(name, 0.0) + value
    return added
