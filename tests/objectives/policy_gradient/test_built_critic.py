"""Critics that are built for a generator."""

import pytest
import torch

from plaudit.fitting import FitConfig, Fitter
from plaudit.generators.catalogue import build_generator
from plaudit.generators.language import LoRA
from plaudit.generators.language.tiny import tiny_decoder
from plaudit.objectives.policy_gradient import ModuleCritic, ValueHead, build_critic
from plaudit.types import Batch, Loss, Sampling, SpecError, StepStats
from tests.objectives.tabular import Tabular

WRITE = Sampling(max_tokens=6, temperature=1.0)


def decoder(**settings):
    return tiny_decoder("abc", layers=1, width=16, heads=2, context=32, seed=1, **settings)


def others():
    """(generator, what it draws from), one of each family with states."""
    plain = {"shape": [4], "width": 16, "blocks": 1, "steps": 4}
    return {
        "flow": (build_generator("flow", **plain), ["x"] * 6, None),
        "classes": (build_generator("flow", **plain, classes=3), [{"class": row % 3} for row in range(6)], None),
        "diffusion": (build_generator("diffusion", **plain), ["x"] * 6, None),
        "grid": (build_generator("gflownet", environment="grid", size={"dimensions": 2, "height": 4}), ["x"] * 6, None),
        "no table": (
            build_generator("gflownet", environment="subsets", size={"elements": 6, "size": 3}, table_limit=0), ["x"] * 6, None
        ),
        "language": (decoder(), ["ab", "b", "ca"] * 2, WRITE),
    }  # fmt: skip


def fitted(critic, t, targets, steps=100):
    """Mean squared error of a critic on given values of the steps, before and after fitting."""
    fitter = Fitter(critic.modules(), FitConfig(learning_rate=1e-2))

    def error():
        return (critic.values(t, StepStats()) - targets)[t.mask].square()

    before = float(error().mean().detach())
    for _ in range(steps):
        fitter.update([lambda: Loss(error().sum())], float(t.mask.sum()))
    return before, float(error().mean().detach())


@pytest.mark.parametrize("family", others())
def test_values_begin_at_zero_and_learn_what_a_state_is_worth(family):
    generator, prompts, how = others()[family]
    t = generator.rollout(Batch(prompts), 4, how=how, seed=0)
    critic = build_critic(generator, seed=3)
    assert isinstance(critic, ModuleCritic)
    assert critic.old_values(t).shape == t.mask.shape
    assert (critic.old_values(t)[t.mask] == 0).all()
    left = t.mask.flip(1).cumsum(1).flip(1).float()  # steps that are left: known from the state, or nearly so
    before, after = fitted(critic, t, left)
    assert after < 0.3 * before


def test_a_critic_has_weights_of_its_own_and_the_same_ones_for_the_same_seed():
    for generator, prompts, how in others().values():
        weights = [weight.detach().clone() for module in generator.modules().values() for weight in module.parameters()]
        t = generator.rollout(Batch(prompts), 2, how=how, seed=0)
        one, other = (build_critic(generator, seed=3) for _ in range(2))
        states = [critic.modules()["critic"].state_dict() for critic in (one, other)]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
        fitted(one, t, t.mask.float(), steps=2)
        now = [weight for module in generator.modules().values() for weight in module.parameters()]
        assert all(torch.equal(a, b) for a, b in zip(weights, now, strict=True))


def test_classes_are_seen():
    generator, prompts, how = others()["classes"]
    t = generator.rollout(Batch(prompts), 4, how=how, seed=0)
    t.payload.states.zero_()  # nothing but the class and the step is left to tell rows apart
    worth = torch.tensor([float(prompt["class"]) for prompt in t.batch.prompts])[:, None].expand(t.mask.shape)
    before, after = fitted(build_critic(generator), t, worth)
    assert after < 0.05 * before


def test_a_head_on_the_policy_itself():
    generator = decoder()
    critic = build_critic(generator, "head", coefficient=0.1, clip=None)
    assert isinstance(critic, ValueHead)
    assert (critic.coefficient, critic.clip) == (0.1, None)
    assert set(generator.modules()) == {"policy", "value_head"}
    assert critic.modules() == {}
    assert build_critic(generator, "head").generator.value_head is generator.value_head


def test_the_copy_of_an_adapted_model_learns_its_adapter_alone():
    generator = decoder(lora=LoRA(rank=2))
    critic = build_critic(generator)
    learned = sum(weight.numel() for weight in critic.modules()["critic"].parameters() if weight.requires_grad)
    assert learned == sum(weight.numel() for weight in generator.modules()["policy"].parameters()) + 17
    assert generator.value_head is None


def test_what_cannot_be_built_is_said():
    for generator, kind, says in (
        (Tabular(), None, "no critic of the kind 'by default' for a Tabular"),
        (others()["flow"][0], "copy", "no critic of the kind 'copy'"),
        (decoder(), "network", "no critic of the kind 'network'"),
        (decoder(), "big", "unknown critic 'big'"),
    ):
        with pytest.raises(SpecError, match=says):
            build_critic(generator, kind)
