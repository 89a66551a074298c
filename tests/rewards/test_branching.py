from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from plaudit.rewards.algebra import Constant, Gate, Otherwise, Route, Shaped
from plaudit.types import SpecError, Status
from tests.rewards.small import Biased, Extra, Listwise, Value, batch_of


def gated(gate, values, groups=None):
    return batch_of(*values, groups=groups, extras={"gate": list(gate)})


def test_a_gate_lets_through_shuts_and_passes_on_its_own_status():
    quality = Value("quality")
    scores = Gate(Extra("gate"), quality).score(gated([1.0, 0.4, None, 0.5, 0.0], [2.0, 3.0, 4.0, None, None]))
    assert scores.values.nan_to_num(-9).tolist() == [2.0, 0.0, -9, -9, 0.0]
    assert scores.status.tolist() == [Status.OK, Status.OK, Status.ABSTAINED, Status.ABSTAINED, Status.OK]
    assert scores.parts["quality"].isnan().tolist() == [False, True, True, True, True]
    assert quality.seen == [2]  # nothing is judged behind a closed gate


def test_a_closed_row_may_have_a_stated_value_or_none():
    batch = gated([0.0, 1.0], [2.0, 3.0])
    assert Gate(Extra("gate"), Value(), otherwise=-5.0).score(batch).values.tolist() == [-5.0, 3.0]
    assert Gate(Extra("gate"), Value(), otherwise=None).score(batch).status.tolist() == [Status.NOT_APPLICABLE, Status.OK]
    with pytest.raises(ValueError, match="finite"):
        Gate(Extra("gate"), Value(), threshold=float("nan"))


def test_a_gated_listwise_reward_sees_whole_groups():
    batch = gated([0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 5.0, 5.0], groups=[0, 0, 1, 1])
    gate = Gate(Extra("gate"), Listwise(1.0))
    assert gate.native == "score_group"
    assert gate.score_group(batch).values.tolist() == [0.0, -1.0, 0.0, 0.0]  # second of its group, although the first is shut


def test_a_fallback_is_asked_only_where_it_is_needed():
    fallback = Value("fallback", 10.0)
    batch = batch_of(1.0, 2.0, extras={"a": [None, 7.0]})
    scores = Otherwise(Extra("a"), fallback).score(batch)
    assert scores.values.tolist() == [10.0, 7.0]
    assert fallback.seen == [1]
    assert scores.parts["a"].isnan().tolist() == [True, False]
    assert scores.parts["fallback"].isnan().tolist() == [False, True]


def test_no_fallback_for_an_engine_that_went_away():
    batch = batch_of(1.0, extras={"a": [None]})
    assert Otherwise(Extra("a", status=Status.UNREACHABLE), Value()).score(batch).counts() == {Status.UNREACHABLE: 1}


def test_pairs_fall_back_too():
    class Other(Biased):
        def compare(self, batch, first, second, ctx=None):
            return super().compare(replace(batch, responses=[r or 0.0 for r in batch.responses]), first, second, ctx)

    fallback = Other(name="other")
    reward = Biased().otherwise(fallback)
    judged = reward.compare(batch_of(1.0, None, 2.0), torch.tensor([0, 0]), torch.tensor([1, 2]))
    torch.testing.assert_close(judged.prob, torch.sigmoid(torch.tensor([1.0, -1.0])))
    assert reward.native == "compare"
    assert fallback.asked == [(0, 1)]
    assert [verdict.name for verdict in judged.verdicts[0]] == ["biased", "other"]


def test_a_route_asks_each_reward_about_its_own_rows():
    double, triple = Value("double", 2.0), Value("triple", 3.0)
    batch = batch_of(1.0, 1.0, 1.0, 1.0, extras={"kind": ["code", "math", "poem", "code"]})
    scores = Route("kind", {"code": double, "math": triple}).score(batch)
    assert scores.values.nan_to_num(-1).tolist() == [2.0, 3.0, -1, 2.0]
    assert scores.status[2] == Status.NOT_APPLICABLE
    assert (double.seen, triple.seen) == ([2], [1])
    assert scores.parts["math"].isnan().tolist() == [True, False, True, True]
    with_default = Route("kind", {"code": double}, default=Constant(0.5))
    assert with_default.score(batch).values.tolist() == [2.0, 0.5, 0.5, 2.0]
    users = replace(batch, users=["x", "y", "x", "y"])
    assert Route("users", {"x": double, "y": triple}).score(users).values.tolist() == [2.0, 3.0, 2.0, 3.0]


def test_a_route_needs_its_column_and_different_names():
    with pytest.raises(ValueError, match="needs the column 'kind'"):
        Route("kind", {"code": Value()}).score(batch_of(1.0))
    with pytest.raises(ValueError, match="same name"):
        Route("kind", {1: Value(), "1": Value()})
    assert Route("kind", {1: Value()}).fingerprint() != Route("kind", {"1": Value()}).fingerprint()


def test_a_constant_is_a_finite_number():
    assert Constant(2).score(batch_of(0.0, 0.0)).values.tolist() == [2.0, 2.0]
    with pytest.raises(ValueError, match="finite"):
        Constant(float("inf"))


def clipped(scores, batch):
    return replace(scores, values=scores.values.clamp(-1, 1))


def test_shaping_keeps_the_name_and_the_plain_values():
    reward = Value().shaped(clipped)
    scores = reward.score(batch_of(5.0, 0.5, None))
    assert (reward.name, reward.native) == ("value", "score")
    assert scores.values[:2].tolist() == [1.0, 0.5]
    assert scores.parts["value"][:2].tolist() == [5.0, 0.5]
    assert scores.status[2] == Status.ABSTAINED
    with pytest.raises(ValueError, match="gave 1 rows"):
        Value().shaped(lambda scores, batch: scores.select([0])).score(batch_of(1.0, 2.0))


def test_a_shapers_content_is_in_the_fingerprint():
    def scaled(factor):
        return lambda scores, batch: replace(scores, values=scores.values * factor)

    one, same, other = (Shaped(Value(), scaled(factor)).fingerprint() for factor in (2.0, 2.0, 3.0))
    assert one == same != other
    assert Value().shaped(clipped).fingerprint() != Value().fingerprint()
    pair = [Value().shaped(lambda scores, batch: scores), Value().shaped(lambda scores, batch: clipped(scores, batch))]
    assert pair[0].fingerprint() != pair[1].fingerprint()
    unknown = object()
    with pytest.raises(SpecError):
        Value().shaped(lambda scores, batch: (unknown, scores)[1]).fingerprint()


def test_a_shaper_that_looks_at_groups_says_so():
    def ranked(scores, batch):
        return scores

    ranked.native = "score_group"
    assert Value().shaped(ranked).native == "score_group"
    assert Biased().shaped(clipped).native == "score_group"
