"""A `Summary` as JSON and back, so that parts of a run that were judged apart can be added up (`Summary.merge`)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from plaudit.judging.intervals import ClusteredMean
from plaudit.judging.metrics import Moments, PairTally, Summary
from plaudit.types import Status


def summary_state(summary: Summary) -> dict[str, Any]:
    """Everything that the summary counts, JSON-able: floats keep all their digits, infinities are left out."""
    state = _plain(summary)
    state["status"] = {status.label: count for status, count in summary.status.items()}
    state["details"] = {status.label: detail for status, detail in summary.details.items()}
    state["sections"] = {name: _plain(tally) for name, tally in summary.sections.items()}
    return state


def summary_from_state(state: Mapping[str, Any]) -> Summary:
    """The summary that `summary_state` wrote down. Raises KeyError, TypeError or ValueError on anything else."""
    summary = Summary()
    _fill(summary, state)
    summary.status = Counter({Status[label.upper()]: count for label, count in state["status"].items()})
    summary.details = {Status[label.upper()]: detail for label, detail in state["details"].items()}
    for name, tally in state["sections"].items():
        _fill(summary.sections.setdefault(name, PairTally()), tally)
    return summary


def forget_clusters(summary: Summary) -> None:
    """Make the summary small, whatever the number of labelled prompts; nothing can be added to it any more."""
    counted: list[Summary | PairTally] = [summary, summary.labelled, *summary.sections.values()]
    for one in counted:
        for mean in _means(one):
            mean.forget_clusters()


def _means(counted: Summary | PairTally) -> Iterator[ClusteredMean]:
    for one in fields(counted):
        value = getattr(counted, one.name)
        if isinstance(value, ClusteredMean):
            yield value


def _plain(counted: Summary | PairTally | Moments) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for one in fields(counted):
        value = getattr(counted, one.name)
        if isinstance(value, ClusteredMean):
            state[one.name] = {str(cluster): list(figures) for cluster, figures in value.clusters.items()}
        elif isinstance(value, Moments | PairTally):
            state[one.name] = _plain(value)
        elif isinstance(value, int | float) and math.isfinite(value):
            state[one.name] = value
    return state


def _fill(counted: Summary | PairTally | Moments, state: Mapping[str, Any]) -> None:
    for one in fields(counted):
        value = getattr(counted, one.name)
        if isinstance(value, ClusteredMean):
            for cluster, (total, count) in state[one.name].items():
                value.add(cluster, total, count)
        elif isinstance(value, Moments | PairTally):
            _fill(value, state[one.name])
        elif isinstance(value, int | float) and one.name in state:
            setattr(counted, one.name, state[one.name])
