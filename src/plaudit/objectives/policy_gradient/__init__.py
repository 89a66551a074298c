"""Policy gradient = advantage plug x surrogate x credit map x KL. `named` puts the published methods together."""

from plaudit.objectives.policy_gradient.advantages import (
    Advantages,
    batch_advantages,
    group_advantages,
    leave_one_out_advantages,
    masked_gae,
    rewards_to_go,
    segment_advantages,
    whiten,
)
from plaudit.objectives.policy_gradient.built_critic import build_critic
from plaudit.objectives.policy_gradient.critic import Critic, ModuleCritic, ValueHead
from plaudit.objectives.policy_gradient.kl import AdaptiveCoefficient, KLPenalty, kl_estimate, linear_schedule
from plaudit.objectives.policy_gradient.named import (
    brpo,
    dapo,
    dr_grpo,
    grpo,
    gspo,
    pairwise_grpo,
    ppo,
    reinforce,
    rloo,
)
from plaudit.objectives.policy_gradient.objective import PolicyGradient
from plaudit.objectives.policy_gradient.pairwise import BootstrappedReference, PairwiseAdvantage, pairwise_group_advantages
from plaudit.objectives.policy_gradient.plugs import BatchAdvantage, FixedAnchor, GroupAdvantage, LeaveOneOut, PartsAdvantage
from plaudit.objectives.policy_gradient.stepwise import GAE, ByRow, BySegment, ToGo
from plaudit.objectives.policy_gradient.surrogates import CISPO, PPOClip, Reinforce, SequenceClip, probability_ratio

__all__ = [
    "CISPO",
    "GAE",
    "AdaptiveCoefficient",
    "Advantages",
    "BatchAdvantage",
    "BootstrappedReference",
    "ByRow",
    "BySegment",
    "Critic",
    "FixedAnchor",
    "GroupAdvantage",
    "KLPenalty",
    "LeaveOneOut",
    "ModuleCritic",
    "PPOClip",
    "PairwiseAdvantage",
    "PartsAdvantage",
    "PolicyGradient",
    "Reinforce",
    "SequenceClip",
    "ToGo",
    "ValueHead",
    "batch_advantages",
    "brpo",
    "build_critic",
    "dapo",
    "dr_grpo",
    "group_advantages",
    "grpo",
    "gspo",
    "kl_estimate",
    "leave_one_out_advantages",
    "linear_schedule",
    "masked_gae",
    "pairwise_group_advantages",
    "pairwise_grpo",
    "ppo",
    "probability_ratio",
    "reinforce",
    "rewards_to_go",
    "rloo",
    "segment_advantages",
    "whiten",
]
