"""Policies of habit, their truth, and preferences for a target."""

from __future__ import annotations

import math

import pytest
import torch

from plaudit.types import Batch, Status
from plaudit.worlds.habit_texts import decoder, documents, preference_triples, shown_prompts
from plaudit.worlds.habits import LETTERS, LONGEST, SHORTEST, HabitFamily, HabitPolicy, LikeTarget, bigram_divergence

FAMILY = HabitFamily()


def test_pools_are_nested_and_roles_are_others():
    three, five = FAMILY.pool(3, "pool"), FAMILY.pool(5, "pool")
    assert all(torch.equal(a.table(), b.table()) for a, b in zip(three, five, strict=False))
    assert not set(FAMILY.seeds(20, "pool")) & set(FAMILY.seeds(20, "held"))
    assert torch.allclose(five[0].table().sum(1), torch.ones(len(LETTERS)), atol=1e-5)


def test_samples_have_the_lengths_and_probabilities_that_the_policy_says():
    policy = FAMILY.policy(3)
    drawn = policy.rollout(FAMILY.prompts(400, 0), 2, how=None, seed=1)
    texts = drawn.batch.responses
    assert {len(text) for text in texts} <= set(range(SHORTEST, LONGEST + 1))
    assert drawn.batch.groups.tolist()[:4] == [0, 0, 1, 1]
    stop = torch.sigmoid(policy.habits["stop"]).item()
    assert sum(len(text) == SHORTEST for text in texts) / len(texts) == pytest.approx(stop, abs=0.05)
    assert policy.rollout(FAMILY.prompts(400, 0), 2, how=None, seed=1).batch.responses == texts


def test_log_probs_are_the_slow_obvious_product():
    policy = FAMILY.policy(5)
    batch = Batch(["abcd", "abcx"], ["efghabcd", "efghabcdabcd"])
    found = policy.encode(batch)
    table, stop = policy.table(), torch.sigmoid(policy.habits["stop"]).item()
    for row, (prompt, text) in enumerate(zip(batch.prompts, batch.responses, strict=True)):
        total, last = 0.0, LETTERS.index(prompt[-1])
        for step, letter in enumerate(text):
            total += math.log(table[last, LETTERS.index(letter)].item()) + (math.log(1 - stop) if step >= SHORTEST else 0.0)
            last = LETTERS.index(letter)
        total += math.log(stop) if len(text) < LONGEST else 0.0
        assert found.log_probs[row].sum().item() == pytest.approx(total, rel=1e-4)
    assert found.mask.sum(1).tolist() == [SHORTEST + 1, LONGEST]
    for bad in ("abc", "a" * 13, "abcdefgZ"):
        with pytest.raises(ValueError, match="letters"):
            policy.encode(Batch(["abcd"], [bad]))


def test_gradient_of_the_log_probability():
    policy = HabitPolicy(torch.randn(24, 24, generator=torch.Generator().manual_seed(0)), -1.0)
    drawn = policy.rollout(FAMILY.prompts(6, 0), 1, how=None, seed=0)
    policy.evaluate(drawn).log_prob.sum().backward()
    slope = policy.habits["logits"].grad[2, 3].item()
    totals = []
    for change in (1e-2, -1e-2):
        moved = HabitPolicy(policy.habits["logits"].detach().clone(), -1.0)
        with torch.no_grad():
            moved.habits["logits"][2, 3] += change
        totals.append(moved.evaluate(drawn).log_prob.double().sum().item())
    assert slope == pytest.approx((totals[0] - totals[1]) / 2e-2, abs=1e-2)


def test_divergence():
    policy, other = FAMILY.policy(1), FAMILY.policy(2)
    assert bigram_divergence(policy, policy) == pytest.approx(0.0, abs=1e-9)
    assert bigram_divergence(policy, other) > 0.1
    table = policy.table().double()
    uniform_first_step = (table * (table.log() + math.log(24))).sum(1)
    fresh = bigram_divergence(policy, FAMILY.fresh())
    assert uniform_first_step.min() - 1e-6 <= fresh <= uniform_first_step.max() + 1e-6


def test_the_truth_prefers_the_targets_own_texts():
    target = FAMILY.policy(7)
    own = target.rollout(FAMILY.prompts(50, 0), 1, how=None, seed=0).batch
    other = FAMILY.fresh().rollout(FAMILY.prompts(50, 0), 1, how=None, seed=0).batch
    truth = LikeTarget(target)
    assert truth.score(own).values.mean() > truth.score(other).values.mean() + 0.5
    assert truth.score(Batch(["abcd"], ["ZZ"])).status.tolist() == [Status.NOT_APPLICABLE]


def test_preferences_are_labelled_by_the_truth():
    triples = preference_triples(FAMILY, "liked", 3, 20, seed=4)
    assert triples == preference_triples(FAMILY, "liked", 3, 20, seed=4)
    targets = FAMILY.pool(3, "liked")
    for triple in triples:
        scores = LikeTarget(targets[triple.policy]).score(Batch([triple.prompt] * 2, [triple.chosen, triple.rejected])).values
        assert scores[0] > scores[1]
        assert triple.reference not in (triple.chosen, triple.rejected)


def test_documents_have_one_author_and_fit_the_reader():
    reader = decoder(0)
    rows = documents(FAMILY, reader, 2, 5)
    assert len(rows) == 10
    assert all(len(row) <= reader.context for row in rows)
    with torch.no_grad():
        loss = reader.loss_of_texts(rows).total.item() / sum(len(row) - 1 for row in rows)
    assert loss == pytest.approx(math.log(29), abs=0.5), "an untrained decoder guesses"
    shown = shown_prompts(FAMILY, FAMILY.policy(1), 3, seed=0)
    assert len(shown.references) == 3
