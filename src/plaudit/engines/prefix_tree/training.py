"""What a training step on the prefix tree needs: log-probabilities and scores with gradients, and losses over them.

Rows that share prefixes (both sides of a pair, the candidates to a prompt, a group of rollouts) go through the model once,
backward too; loss and gradients are those of separate rows. Logits exist for a few hundred positions at a time only and
are computed again backward (`CausalModel.log_probs_at`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from plaudit.engines.prefix_tree.attention import current_pass, tree_mode

if TYPE_CHECKING:
    from torch import Tensor

    from plaudit.engines.forward import CausalModel

Tokens = Sequence[int]
PAD = 0
"""Any id will do: padded places are never read."""


@contextmanager
def tree_checkpoints(model: Any) -> Iterator[None]:
    """Within, layers that checkpoint their activations find the tree's attention again when they are recomputed.

    Recomputation runs during backward, when the model's own attention is back in place, and on a CUDA device in another
    thread. So each checkpoint takes along the pass that it was made in. Layers checkpoint after
    `model.gradient_checkpointing_enable()` and while the model is in training mode; else nothing changes.
    """
    from torch.utils.checkpoint import checkpoint

    def contexts() -> tuple[Any, Any]:
        now = current_pass()
        return nullcontext(), nullcontext() if now is None else tree_mode(model, replace(now))

    layers = [module for module in model.modules() if getattr(module, "gradient_checkpointing", False)]
    functions = [getattr(layer, "_gradient_checkpointing_func", None) for layer in layers]
    for layer in layers:
        layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False, context_fn=contexts)
    try:
        yield
    finally:
        for layer, function in zip(layers, functions, strict=True):
            layer._gradient_checkpointing_func = function


def tree_log_probs(model: CausalModel, prompts: Sequence[Tokens], completions: Sequence[Tokens]) -> list[Tensor]:
    """Per row, the log-probability of each completion token, on the CPU, with gradients.

    prompts, completions: B lists of token ids; a prompt has at least one token, a completion may be empty.
    """
    import torch

    with torch.enable_grad(), tree_checkpoints(model.model):
        return model.continuation_log_probs(prompts, completions, PAD)


def tree_last_states(model: CausalModel, rows: Sequence[Tokens]) -> Tensor:
    """[B, d] the trunk's last state at the last token of each row, with gradients: what a reward head reads."""
    import torch

    places = [(number, len(row) - 1) for number, row in enumerate(rows)]
    if any(place < 0 for _, place in places):
        raise ValueError("a row without tokens has no last state")
    with torch.enable_grad(), tree_checkpoints(model.model):
        return model.states_at(rows, places, PAD)


def bradley_terry_loss(rewards: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """[] mean over (chosen, rejected) pairs of -log sigmoid(r_chosen - r_rejected).

    Bradley and Terry, Biometrika 39 (1952); as a reward model's loss over all pairs of the candidates to a prompt, Ouyang
    et al., arXiv 2203.02155, equation 1. rewards: [B]. pairs: row numbers, at least one pair.
    """
    import torch

    chosen, rejected = (torch.tensor(column, device=rewards.device) for column in zip(*pairs, strict=True))
    return -torch.nn.functional.logsigmoid(rewards[chosen] - rewards[rejected]).mean()


def dpo_loss(chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, beta: float) -> Tensor:
    """[] mean of -log sigmoid(beta ((chosen - reference_chosen) - (rejected - reference_rejected))).

    Rafailov et al., arXiv 2305.18290, equation 7. All [P]: log-probabilities of whole completions, under the policy and
    under the reference.
    """
    import torch

    margin = (chosen - reference_chosen) - (rejected - reference_rejected)
    return -torch.nn.functional.logsigmoid(beta * margin).mean()


def group_advantages(rewards: Tensor, epsilon: float = 1e-4) -> Tensor:
    """[B] rewards of one group less their mean, over their standard deviation (n - 1) plus epsilon.

    Shao et al., arXiv 2402.03300, section 4.1.2. A group needs at least two rows.
    """
    return (rewards - rewards.mean()) / (rewards.std() + epsilon)


def grpo_loss(log_probs: Sequence[Tensor], advantages: Tensor, old: Sequence[Tensor] | None = None, clip: float = 0.2) -> Tensor:
    """[] the clipped token loss of GRPO, mean over a row's tokens, then over the rows.

    Shao et al., arXiv 2402.03300, equation 3, without its penalty term (beta 0). log_probs: B tensors, one value a token,
    none empty. advantages: [B]. old: those of the policy that made the rows; None if it is this one, whose ratio is then 1
    with the gradient of its log-probability.
    """
    import torch

    losses = []
    for number, mine in enumerate(log_probs):
        ratio = (mine - (mine if old is None else old[number]).detach()).exp()
        advantage = advantages[number]
        losses.append(-torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean())
    return torch.stack(losses).mean()
