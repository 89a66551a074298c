"""`fit_judge`: a judge learns labels by the very probability that it is read by.

The loss of a row is minus the log-probability of the label that is right, among all that the model could say next, on the
prompt that the contract renders: what the judge will be asked, it is taught on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from plaudit.engines.local import LocalEngine
from plaudit.rewards.generative.contract import OptionsReadout
from plaudit.rewards.generative.judge import Judge
from plaudit.types import Batch, Loss, SpecError, Status
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from torch.nn import Module

    from plaudit.fitting import FitConfig, TrainProgress, TrainResult


def fit_judge(
    judge: Judge,
    batch: Batch,
    values: Sequence[float],
    config: FitConfig,
    *,
    batch_rows: int = 8,
    epochs: int = 1,
    layers: int | None = None,
    modules: Mapping[str, Module] | None = None,
    among_labels: bool = False,
    seed: int = 0,
    progress: Callable[[TrainProgress], None] | None = None,
) -> TrainResult:
    """Train the judge's own model on rows whose verdict is known. The engine's weights change in place.

    values: [B], each the value of one of the contract's labels. layers: only so many at the top are trained, with the last norm
    (an output head that is shared with the input embeddings stays); None: all weights.
    modules: weights beside the model's that are trained instead of them (an adapter, which the caller has switched on).
    among_labels: the label's probability among the labels is taught, as it is read, instead of that among all tokens; a value
    between those of two labels then stands for a share of either. Rows that do not fit the model teach nothing.

    Raises SpecError unless the judge is pointwise, reads the probability of labels without a rubric, and runs on a `LocalEngine`
    without kept prefixes (`prefix_cache=0`: they would be of old weights), ValueError for values or a batch that do not fit.
    """
    from plaudit.fitting import ShuffledRows, train

    engine, readout = _checked(judge)
    shares = _label_shares(values, len(batch), readout, between=among_labels)
    requests = [judge.requests(batch, row)[0] for row in range(len(batch))]

    def loss(rows: list[int]) -> Loss:
        found = engine.next_token([requests[row] for row in rows], readout.spellings, grad=True)
        usable = [place for place, status in enumerate(found.status) if status is Status.OK]
        if not usable:
            raise ValueError(f"no row of a batch can be judged: {found.detail[0]}")
        log_probs = (found.log_probs.log_softmax(dim=1) if among_labels else found.log_probs)[usable]
        wanted = log_probs.new_tensor([shares[rows[place]] for place in usable])
        return Loss(-(wanted * log_probs.masked_fill(wanted == 0, 0.0)).sum())

    model, shuffled = engine.causal_model.model, ShuffledRows(len(batch), batch_rows, seed)
    if modules is None:
        _free(model, layers)
    result = train(modules or {"judge": model}, shuffled, loss, config, epochs=epochs, seed=seed, progress=progress)
    if modules is None:  # stored verdicts of the old weights must not be taken for those of the new ones
        model.requires_grad_(False)
        labelled = content_key([engine.render(request) for request in requests], list(values))
        engine.version = content_key(engine.version, "fitted", labelled, repr(config), batch_rows, epochs, layers, seed)
    return result


def _label_shares(values: Sequence[float], rows: int, readout: OptionsReadout, *, between: bool) -> list[list[float]]:
    """[B][K] what each row teaches of each label: all of one, or of two labels, where `between` allows it, a share of either.

    Raises ValueError for a value that is no label's, or where there is not one for each of the rows.
    """
    if len(values) != rows:
        raise ValueError(f"{len(values)} values for {rows} rows")
    places = {label.value: place for place, label in enumerate(readout.labels)}
    low, high = min(places), max(places)
    if between and len(places) == 2 and all(low <= value <= high for value in values):
        parts = [(value - low) / (high - low) for value in values]
        return [[part if place == places[high] else 1 - part for place in range(2)] for part in parts]
    if unknown := sorted(set(values) - set(places)):
        raise ValueError(f"no label is {unknown[0]:g}")
    return [[float(place == places[value]) for place in range(len(readout.labels))] for value in values]


def _checked(judge: Judge) -> tuple[LocalEngine, OptionsReadout]:
    contract = judge.contract
    if contract.kind != "pointwise" or contract.criteria or not isinstance(contract.readout, OptionsReadout):
        raise SpecError(f"contract '{contract.name}' cannot be fitted: it must score one response by the probability of labels")
    if not isinstance(judge.engine, LocalEngine) or judge.engine.causal_model.prefixes is not None:
        raise SpecError("a judge is fitted on a local engine that keeps no prefixes: LocalEngine(model, prefix_cache=0)")
    return judge.engine, contract.readout


def _free(model: object, layers: int | None) -> None:
    """Only the top layers and the last norm learn; None: everything does."""
    every = list(model.named_parameters())  # type: ignore[attr-defined]
    count = int(model.config.get_text_config().num_hidden_layers)  # type: ignore[attr-defined]
    if layers is None:
        top = [name for name, _ in every]
    else:
        kept = tuple(f"model.layers.{number}." for number in range(count - layers, count))
        top = [name for name, _ in every if name.startswith((*kept, "model.norm."))]
    for name, parameter in every:
        parameter.requires_grad_(name in set(top))
