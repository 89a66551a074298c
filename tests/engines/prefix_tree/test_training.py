from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from plaudit.engines import forward
from plaudit.engines.prefix_tree.training import (
    bradley_terry_loss,
    dpo_loss,
    group_advantages,
    grpo_loss,
    tree_last_states,
    tree_log_probs,
)
from tests.engines.prefix_tree.families import SERVED, model

TOKEN = st.integers(0, 3)
ROW = st.tuples(st.lists(TOKEN, min_size=1, max_size=8), st.lists(TOKEN, min_size=1, max_size=5))
FORESTS = st.lists(ROW, min_size=2, max_size=6)
FAST = settings(max_examples=8, suppress_health_check=list(HealthCheck), deadline=None)
LOADED = {}


def causal_model(family, dtype=torch.float64):
    """A `CausalModel` around a tiny random model, which always takes the tree."""
    if (family, dtype) not in LOADED:
        made = model(family, dtype)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(forward, "load_model", lambda *_: made)
            LOADED[family, dtype] = forward.CausalModel(Path("tiny"), "float64", None)
        LOADED[family, dtype].prefers_tree = lambda rows: True
        assert LOADED[family, dtype].tree_refused is None
    return LOADED[family, dtype]


def separate_log_probs(lm, prompts, completions):
    """One plain forward pass a row, with all logits."""
    found = []
    for prompt, completion in zip(prompts, completions, strict=True):
        logits = lm.model(input_ids=torch.tensor([[*prompt, *completion]]), use_cache=False).logits[0]
        picked = torch.log_softmax(logits, dim=-1)[range(len(prompt) - 1, len(prompt) - 1 + len(completion)), list(completion)]
        found.append(picked)
    return found


def separate_last_states(lm, rows):
    return torch.stack([lm.trunk(input_ids=torch.tensor([row]), use_cache=False).last_hidden_state[0, -1] for row in rows])


def gradients(lm, loss):
    lm.model.zero_grad()
    loss.backward()
    return {name: weight.grad.clone() for name, weight in lm.model.named_parameters() if weight.grad is not None}


def same(ours, theirs, tolerance):
    """Equal up to a share of the size of the whole gradient, so that rounding of vanishing ones does not count."""
    assert ours.keys() == theirs.keys()
    size = max(float(value.abs().max()) for value in theirs.values())
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=tolerance * max(size, 1e-3), rtol=tolerance)


def losses(lm, log_probs_of, states_of, rows):
    """Every loss over the same rows, with fixed references, advantages and head."""
    prompts, completions = zip(*rows, strict=True)
    generator = torch.Generator().manual_seed(1)
    kind = {"dtype": lm.model.dtype, "generator": generator}
    log_probs = log_probs_of(lm, prompts, completions)
    old = [values.detach() + 0.3 * torch.randn(len(values), **kind) for values in separate_log_probs(lm, prompts, completions)]
    sums, references = torch.stack([values.sum() for values in log_probs]), torch.stack([values.sum() for values in old])
    rewards = states_of(lm, [[*prompt, *completion] for prompt, completion in rows]) @ torch.randn(32, **kind)
    pairs = [(chosen, rejected) for rejected in range(len(rows)) for chosen in range(rejected)]
    chosen, rejected = (list(column) for column in zip(*pairs, strict=True))
    advantages = group_advantages(torch.arange(len(rows), dtype=lm.model.dtype))
    return {
        "bradley_terry": lambda: bradley_terry_loss(rewards, pairs),
        "dpo": lambda: dpo_loss(sums[chosen], sums[rejected], references[chosen], references[rejected], 0.1),
        "grpo": lambda: grpo_loss(log_probs, advantages),
        "grpo with old": lambda: grpo_loss(log_probs, advantages, old),
    }


def compare(lm, rows, tolerance):
    for name in losses(lm, separate_log_probs, separate_last_states, rows):
        ours = losses(lm, tree_log_probs, tree_last_states, rows)[name]()
        theirs = losses(lm, separate_log_probs, separate_last_states, rows)[name]()
        torch.testing.assert_close(ours.cpu(), theirs, atol=tolerance, rtol=tolerance)
        same(gradients(lm, ours), gradients(lm, theirs), tolerance)


@pytest.mark.parametrize("family", SERVED)
@given(rows=FORESTS)
@FAST
def test_losses_and_gradients_equal_those_of_separate_rows(family, rows):
    compare(causal_model(family), rows, 1e-10)


@pytest.mark.parametrize("family", SERVED)
def test_single_precision_agrees_to_four_digits(family):
    prompt = list(range(10))
    compare(causal_model(family, torch.float32), [(prompt, [20 + leaf, 3, leaf]) for leaf in range(4)], 1e-4)


@pytest.mark.parametrize("family", SERVED)
def test_checkpointed_activations_give_the_same_gradients(family):
    lm = causal_model(family)
    prompts, completions = [[1, 2, 3]] * 3, [[4, 5], [4, 6, 7], [8]]

    def kept(recompute):
        """Gradients, and the number of values that wait for backward."""
        if recompute:
            lm.model.gradient_checkpointing_enable()
            lm.model.train()
        waiting = []
        try:
            with torch.autograd.graph.saved_tensors_hooks(lambda tensor: waiting.append(tensor.numel()) or tensor, lambda x: x):
                loss = sum(values.sum() for values in tree_log_probs(lm, prompts, completions))
            before = lm.model.config._attn_implementation
            found = gradients(lm, loss)
            assert lm.model.config._attn_implementation == before != "plaudit_tree"
            return found, sum(waiting)
        finally:
            lm.model.gradient_checkpointing_disable()
            lm.model.eval()

    (plain, much), (again, little) = kept(False), kept(True)
    same(again, plain, 1e-10)
    assert little < much / 2


class Widest(TorchDispatchMode):
    """The most rows of any tensor as wide as the vocabulary, weights and their gradients aside."""

    def __init__(self, vocabulary):
        super().__init__()
        self.vocabulary, self.rows = vocabulary, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for one in tree_leaves(result):
            if isinstance(one, torch.Tensor) and one.dim() == 2 and one.shape[1] == self.vocabulary:
                self.rows = max(self.rows, one.shape[0])
        return result


def test_logits_exist_for_a_few_positions_at_a_time(monkeypatch):
    lm = causal_model("llama")
    monkeypatch.setattr(forward, "LOGIT_ROWS", 8)
    prompts, completions = [[1, 2, 3]] * 4, [[leaf, *range(20)] for leaf in range(4)]
    with Widest(64) as widest:
        gradients(lm, sum(values.sum() for values in tree_log_probs(lm, prompts, completions)))
    assert widest.rows <= 32, "there are 84 positions; 32 is the transposed head, [32, 64]"
    with Widest(64) as widest:
        gradients(lm, sum(values.sum() for values in separate_log_probs(lm, prompts[:1], [list(range(50))])))
    assert widest.rows >= 50, "the measure sees what it is meant to see"


def test_losses_by_hand():
    rewards = torch.tensor([2.0, 0.0, 1.0], dtype=torch.float64)
    wanted = torch.log1p(torch.exp(torch.tensor([-2.0, 1.0], dtype=torch.float64))).mean()
    torch.testing.assert_close(bradley_terry_loss(rewards, [(0, 1), (1, 2)]), wanted)
    one = torch.tensor([-3.0], dtype=torch.float64)
    torch.testing.assert_close(
        dpo_loss(one, one - 1, one - 0.5, one, 0.1), torch.log1p(torch.exp(torch.tensor(-0.1 * 1.5, dtype=torch.float64)))
    )
    torch.testing.assert_close(group_advantages(torch.tensor([0.0, 2.0]), 0.0), torch.tensor([-(0.5**0.5), 0.5**0.5]))


def test_ratios_of_grpo_are_clipped_on_the_side_that_gains():
    new = torch.zeros(1, dtype=torch.float64)
    gain, loss = torch.tensor([1.0, -1.0], dtype=torch.float64)
    much = new - torch.tensor(2.0, dtype=torch.float64).log()  # the ratio is 2
    torch.testing.assert_close(grpo_loss([new], gain[None], [much]), torch.tensor(-1.2, dtype=torch.float64))
    torch.testing.assert_close(grpo_loss([new], loss[None], [much]), torch.tensor(2.0, dtype=torch.float64))
    tokens = [torch.zeros(1, requires_grad=True), torch.zeros(3, requires_grad=True)]
    grpo_loss(tokens, torch.tensor([1.0, 3.0])).backward()
    torch.testing.assert_close(tokens[1].grad, torch.full((3,), -0.5))  # a mean over tokens, then over rows


def test_edges():
    lm = causal_model("llama")
    assert [len(values) for values in tree_log_probs(lm, [[1], [1]], [[], []])] == [0, 0]
    assert [len(values) for values in tree_log_probs(lm, [[1], [1, 2]], [[], [3]])] == [0, 1]
    with pytest.raises(ValueError, match="a row without tokens"):
        tree_last_states(lm, [[1], []])
