"""Labels of every shape become the right edges and ratings, and nothing unlabelled becomes a zero."""

import math

import pytest
import torch

from plaudit.data import read_records
from plaudit.rewards.learned.labels import labelled_rows
from plaudit.types import DataError, UserError


def edges(found):
    told = found.data.preferences
    return [
        (found.data.batch.responses[i], found.data.batch.responses[j], round(float(p), 4))
        for i, j, p in zip(told.first.tolist(), told.second.tolist(), told.prob, strict=True)
    ]


def test_pairs_ties_and_rankings():
    records = [
        {"prompt": "a", "responses": ["x", "y"], "labels": [0, 1]},
        {"prompt": "b", "responses": ["x", "y"], "labels": [0.5, 0.5]},
        {"prompt": "c", "responses": ["x", "y"], "labels": [0.7, 0.3]},
        {"prompt": "d", "responses": ["x", "y", "z"], "labels": [3, 1, 3]},
        {"prompt": "e", "responses": ["x", "y"], "labels": [7, 7]},
        {"prompt": "f", "responses": ["x", "y"], "labels": None},
    ]
    found = labelled_rows(read_records(records), "pairs")
    assert edges(found) == [
        ("x", "y", 0.0), ("x", "y", 0.5), ("x", "y", 0.7), ("x", "y", 1.0), ("y", "z", 0.0), ("x", "y", 0.5),
    ]  # fmt: skip
    assert found.unit_rows.tolist() == [0, 1, 2, 3, 3, 4]
    assert found.unlabelled == 1
    assert found.data.ratings is None
    assert len(found.data.batch) == 13


def test_ratings_of_one_prompt_are_one_group():
    records = [
        {"prompt": "a", "response": "x", "label": 4},
        {"prompt": "b", "response": "x", "label": None},
        {"prompt": "a", "response": "y", "label": 2.5},
    ]
    found = labelled_rows(read_records(records), "ratings")
    assert found.data.preferences is None
    assert found.data.ratings[[0, 2]].tolist() == [4, 2.5]
    assert math.isnan(found.data.ratings[1])
    assert found.data.batch.groups.tolist() == [0, 1, 0]
    assert found.unit_rows.tolist() == [0, 2]
    assert found.unlabelled == 1


def test_aspects_weights_and_users():
    records = [
        {"prompt": "a", "responses": ["x", "y"], "labels": [1, 0], "clear": [3, 1], "kind": [None, 2], "user": "u1", "trust": 2},
        {"prompt": "b", "responses": ["x", "y"], "labels": [0, 1], "clear": [5, 4], "kind": [1, 2], "user": "u2", "trust": 0.5},
    ]
    found = labelled_rows(read_records(records), "both", aspects=("clear", "kind"), weight="trust")
    wanted = torch.tensor([[3, torch.nan], [1, 2], [5, 1], [4, 2]])
    torch.testing.assert_close(found.data.ratings, wanted, equal_nan=True)
    assert found.data.preferences.weight.tolist() == [2, 0.5]
    assert found.data.batch.users == ["u1", "u1", "u2", "u2"]
    only_pairs = labelled_rows(read_records(records), "both", aspects=("nothing",))
    assert only_pairs.data.ratings is None
    single = [{"prompt": "a", "response": "x", "clear": 3}]
    assert labelled_rows(read_records(single), "both", aspects=("clear",)).data.preferences is None


@pytest.mark.parametrize(
    ("record", "labels", "given", "says"),
    [
        ({"prompt": "a", "response": "x", "label": 1}, "pairs", {}, "no row has two responses with labels"),
        ({"prompt": "a", "response": "x"}, "ratings", {}, "no row has a rating on a response"),
        ({"prompt": "a", "response": "x"}, "both", {"aspects": ("c",)}, "no row has a rating in c, nor two"),
        ({"prompt": "a", "response": "x", "c": "high"}, "ratings", {"aspects": ("c",)}, "'c' is 'high'"),
        ({"prompt": "a", "response": "x", "c": True}, "ratings", {"aspects": ("c",)}, "'c' is True"),
        ({"prompt": "a", "chosen": "x", "rejected": "y", "c": 1}, "ratings", {"aspects": ("c",)}, "expected a list of 2"),
        ({"prompt": "a", "chosen": "x", "rejected": "y", "c": [1]}, "ratings", {"aspects": ("c",)}, "has 1 ratings"),
        ({"prompt": "a", "chosen": "x", "rejected": "y"}, "pairs", {"weight": "w"}, "'w' is None"),
    ],
)
def test_labels_that_are_not_there_or_no_numbers(record, labels, given, says):
    with pytest.raises((UserError, DataError), match=says):
        labelled_rows(read_records([record]), labels, **given)
