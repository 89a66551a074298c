"""An adapter beside the model: nothing when it is off, low-rank updates when it is on, and nobody else's business."""

import pytest
import torch

from plaudit.engines.lora import LoRA
from plaudit.engines.switched import SwitchedAdapter
from plaudit.generators.language import tiny_decoder
from plaudit.generators.language.engine import LiveEngine
from plaudit.types import Batch, Request, Sampling, UserError

HOW = Sampling(max_tokens=6, temperature=1.0)
OPTIONS = [["a"], ["b"]]


def made(rank=3, alpha=6.0, targets="all-linear", trained=True, head=False, **settings):
    generator = tiny_decoder("abcdef", width=16, seed=1, dtype="float64", **settings)
    adapter = SwitchedAdapter(generator.causal_model, LoRA(rank, alpha, targets), head=head, seed=5)
    if trained:
        draw = torch.Generator().manual_seed(0)
        for weight in adapter.weights.parameters():
            weight.data.copy_(torch.randn(weight.shape, generator=draw, dtype=torch.float64))
    return generator, adapter


def log_probs(generator, grad=False):
    return LiveEngine(generator).next_token([Request("abc"), Request("fe")], OPTIONS, grad=grad).log_probs


def test_a_fresh_adapter_changes_nothing():
    generator, adapter = made(trained=False)
    plain = log_probs(generator)
    with adapter.on():
        assert torch.equal(log_probs(generator), plain)


@pytest.mark.parametrize("head", [False, True])
def test_on_it_adds_its_product_and_off_nothing(head):
    """The same numbers as with W + alpha / rank * B A written into the weights; afterwards, those of before to the last bit."""
    generator, adapter = made(head=head)
    assert ("lm_head" in adapter.layers) == head
    plain, samples = log_probs(generator), generator.rollout(Batch(["a", "bc"]), 4, how=HOW, seed=7).batch.responses
    with adapter.on():
        switched = log_probs(generator)
        with adapter.on():
            assert torch.equal(log_probs(generator), switched)
    assert torch.equal(log_probs(generator), plain)
    assert generator.rollout(Batch(["a", "bc"]), 4, how=HOW, seed=7).batch.responses == samples
    for name, layer in adapter.layers.items():
        part = adapter.weights[name.replace(".", "/")]
        layer.weight.data += 2.0 * part["B"].weight @ part["A"].weight
    assert torch.allclose(log_probs(generator), switched, atol=1e-12)
    assert not torch.allclose(plain, switched, atol=1e-3)


def test_only_the_adapter_learns():
    generator, adapter = made()
    before = [weight.requires_grad for weight in generator.causal_model.model.parameters()]
    with adapter.trained() as weights:
        log_probs(generator, grad=True)[:, 0].sum().backward()
        assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in weights.parameters())
        assert all(weight.grad is None for weight in generator.causal_model.model.parameters())
        weight = max(weights.parameters(), key=lambda one: float(one.grad.norm()))
        direction = weight.grad / weight.grad.norm()
        ends = []
        for step in (1e-3, -2e-3):
            weight.data += step * direction
            ends.append(log_probs(generator)[:, 0].sum().item())
        assert float(weight.grad.norm()) == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=1e-2)
    assert [one.requires_grad for one in generator.causal_model.model.parameters()] == before
    assert not any(one.requires_grad for one in adapter.weights.parameters())


def test_it_is_off_again_after_an_error():
    generator, adapter = made()
    plain = log_probs(generator)
    with pytest.raises(RuntimeError), adapter.on():
        raise RuntimeError
    assert torch.equal(log_probs(generator), plain)
    assert not adapter.is_on


def test_the_policys_own_adapter_stays_its_own():
    generator, adapter = made(lora=LoRA(2, 4.0))
    assert not any("lora_" in name for name in adapter.layers)
    trained = {name for module in generator.modules().values() for name, _ in module.named_parameters()}
    with adapter.on():
        log_probs(generator)
    assert trained == {name for module in generator.modules().values() for name, _ in module.named_parameters()}


def test_targets_and_files(tmp_path):
    generator, adapter = made(targets=("q_proj", "v_proj"))
    assert {name.split(".")[-1] for name in adapter.layers} == {"q_proj", "v_proj"}
    adapter.save(tmp_path / "kept")
    again = SwitchedAdapter(generator.causal_model, adapter.lora, seed=9)
    assert again.key() != adapter.key()
    again.load(tmp_path / "kept")
    assert again.key() == adapter.key()
    with pytest.raises(UserError, match="holds no adapter"):
        again.load(tmp_path)
    with pytest.raises(UserError, match="does not fit"):
        SwitchedAdapter(generator.causal_model, LoRA(2)).load(tmp_path / "kept")
    with pytest.raises(UserError, match="no linear layer"):
        SwitchedAdapter(generator.causal_model, LoRA(targets=("nothing",))).weights  # noqa: B018
