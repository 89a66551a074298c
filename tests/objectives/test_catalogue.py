"""Objectives by name."""

import subprocess
import sys

import pytest

from plaudit.objectives.catalogue import OBJECTIVES, SELECTORS, build_objective
from plaudit.objectives.filtering import FilteredFit
from plaudit.types import Objective, SpecError
from tests.objectives.tabular import Tabular


def test_names_build_objectives():
    from plaudit.objectives.policy_gradient import ValueHead

    needed = {"dr_grpo": {"length": 8.0}, "ppo": {"critic": ValueHead(Tabular())}}
    for name in ("grpo", "dr_grpo", "dapo", "gspo", "rloo", "reinforce", "ppo", "pairwise_grpo", "brpo", "raft", "imitation"):
        assert name in OBJECTIVES
        assert isinstance(build_objective(name, **needed.get(name, {})), Objective)


def test_settings_reach_the_objective():
    assert build_objective("grpo", clip=1e-4, clip_advantage=5.0, step_fraction=0.6, keep_extremes=8).clip_advantage == 5.0
    objective = build_objective("raft", selector={"name": "top_fraction", "fraction": 0.25, "scope": "global"}, beta=0.1)
    assert isinstance(objective, FilteredFit)
    assert objective.beta == 0.1
    assert set(SELECTORS) == {"argmax", "top_fraction", "threshold", "luce", "extremes"}


def test_ppo_has_a_critic_that_is_given_or_built():
    from plaudit.generators.catalogue import build_generator
    from plaudit.objectives.policy_gradient import ModuleCritic, ValueHead

    given = ValueHead(Tabular())
    assert build_objective("ppo", critic=given, kl=0.0).critic is given
    flow = build_generator("flow", shape=[2], width=8, blocks=1)
    built = build_objective("ppo", generator=flow, critic={"clip": None, "coefficient": 0.1, "width": 8}, lam=0.9)
    assert isinstance(built.critic, ModuleCritic)
    assert (built.critic.clip, built.critic.coefficient, built.advantage.lam) == (None, 0.1, 0.9)
    with pytest.raises(SpecError, match="needs a critic, or the generator"):
        build_objective("ppo")


@pytest.mark.parametrize(
    ("name", "settings"),
    [("grop", {}), ("grpo", {"clp": 1}), ("grpo", {"on_equal": "x"}), ("raft", {"selector": "best"}), ("dr_grpo", {})],
)
def test_mistakes_are_said_in_one_sentence(name, settings):
    with pytest.raises(SpecError, match=r"unknown|objective '"):
        build_objective(name, **settings)


def test_the_catalogue_comes_without_torch():
    code = "import sys, plaudit.objectives.catalogue; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
