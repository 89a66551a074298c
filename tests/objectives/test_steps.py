"""What objectives share."""

import pytest
import torch

from plaudit.objectives.steps import (
    empty_groups,
    evaluate_without_gradient,
    masked,
    row_sums,
    seed_for,
    step_log_probs,
    zero_loss,
)
from plaudit.types import Context, StepStats
from tests.objectives.tabular import Tabular, drawn


@pytest.mark.parametrize("rows", [None, 1, 3, 8, 100])
def test_a_draw_may_be_evaluated_in_parts(rows):
    generator = Tabular(stop=0)
    t = drawn(generator)
    whole = generator.evaluate(t, need=("log_prob", "entropy"))
    parts = evaluate_without_gradient(generator, t, ("log_prob", "entropy"), rows_at_once=rows)
    assert torch.equal(parts.log_prob.nan_to_num(), whole.log_prob.detach().nan_to_num())
    assert torch.equal(parts.entropy, whole.entropy)
    assert parts.value is None
    assert not parts.log_prob.requires_grad


def test_what_stands_outside_the_mask_is_never_read():
    values = torch.tensor([[1.0, torch.nan], [torch.inf, 2.0]], requires_grad=True)
    mask = torch.tensor([[True, False], [False, True]])
    assert masked(values, mask).tolist() == [[1, 0], [0, 2]]
    assert row_sums(values, mask).tolist() == [1, 2]
    row_sums(values, mask).sum().backward()
    assert values.grad.tolist() == [[1, 0], [0, 1]]


def test_a_generator_without_log_probabilities_is_said():
    with pytest.raises(ValueError, match="no log-probabilities"):
        step_log_probs(StepStats(), torch.ones(1, 1, dtype=torch.bool))


def test_a_zero_loss_has_a_gradient_of_zero():
    generator = Tabular()
    zero_loss(generator).total.backward()
    assert generator.table.logits.grad.abs().max() == 0


def test_seeds_differ_by_use_and_step():
    contexts = [Context(seed=seed, step=step) for seed in range(3) for step in range(3)]
    seeds = {seed_for(ctx, purpose) for ctx in contexts for purpose in ("select", "steps")}
    assert len(seeds) == 18
    assert seed_for(contexts[0], "select") == seed_for(Context(), "select")


def test_a_group_without_a_usable_row_is_empty():
    groups = torch.tensor([0, 0, 7, 7, 2])
    assert empty_groups(groups, torch.tensor([True, False, False, False, True])) == 1
    assert empty_groups(groups, groups < 0) == 3
    assert empty_groups(groups, groups >= 0) == 0
    assert empty_groups(groups[:0], torch.zeros(0, dtype=torch.bool)) == 0
