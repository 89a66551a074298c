"""Labels out of rollouts: by hand, at the edges, and against a completer whose values are known."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.curation.progress import consensus_keep, dynamic_samples, first_error, mc_values, rpe_labels
from plaudit.rewards.base import BaseReward
from plaudit.types import Batch, Budget, Context, Generator, Scores, Status, Trajectories


def labels(values, **settings):
    return rpe_labels(torch.tensor(values), **settings).tolist()


def test_the_three_modes_by_hand():
    values = [0.8, 0.7, 0.2, 0.2, 0.0, 0.5]
    assert labels(values) == [True, False, True, False, False]  # ratios .875, .29, 1, 0; after zero all wrong
    assert labels(values, eps=0.9) == [False, False, True, False, False]
    assert labels(values, mode="hard") == [True, True, True, False, False]
    assert labels(values, mode="difference", eps=0.3) == [True, False, True, False, False]
    assert labels(values, mode="difference", eps=0.5) == [True, True, True, False, False]


@pytest.mark.parametrize("mode", ["ratio", "difference", "hard"])
def test_edges(mode):
    assert labels([0.0, 0.0], mode=mode) == [False]  # 0 / 0
    assert labels([0.0, 1.0], mode=mode) == [False]  # the problem is never solved
    assert labels([0.5, 1.0], mode=mode) == [True]  # more than 1 is fine
    assert labels([1.0, 0.0, 1.0], mode=mode) == [False, False]


def test_a_ratio_of_exactly_eps_passes():
    for k in (32, 64, 128):
        for good in range(5, k + 1, 5):
            assert labels([good / k, good * 4 / 5 / k]) == [True]
            assert labels([good / k, (good * 4 / 5 - 1) / k], eps=0.8) == [False]


@pytest.mark.parametrize(
    ("values", "settings"),
    [([0.5], {}), ([], {}), ([0.5, 1.5], {}), ([0.5, float("nan")], {}), ([[0.5, 0.5]], {}), ([0.5, 0.5], {"mode": "soft"})],
)
def test_what_is_no_value_is_refused(values, settings):
    with pytest.raises(ValueError, match="."):
        labels(values, **settings)


@given(st.lists(st.integers(0, 32), min_size=2, max_size=9), st.sampled_from([0.5, 0.8, 1.0]))
def test_against_the_slow_obvious_version(counts, eps):
    alive, expected = counts[0] > 0, []
    for before, after in itertools.pairwise(counts):
        alive = alive and after > 0
        expected.append(alive and after >= eps * before)
    assert labels([count / 32 for count in counts], eps=eps) == expected


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.integers(-1, 7))
def test_consensus_is_agreement_up_to_the_index(steps, index):
    if index >= len(steps):
        with pytest.raises(ValueError, match="judged index"):
            consensus_keep(steps, index)
        return
    implied = [True] * len(steps) if index == -1 else [True] * index + [False]
    assert consensus_keep(torch.tensor(steps), index) == (steps[: len(implied)] == implied)
    assert consensus_keep(steps, index) == (first_error(steps) == index)


def test_how_many_continuations():
    assert [dynamic_samples(rate) for rate in (0.0, 0.09, 0.1, 0.5, 0.89, 0.9, 1.0)] == [128, 128, 64, 64, 64, 32, 32]
    with pytest.raises(ValueError, match="."):
        dynamic_samples(1.5)


class Completer(Generator):
    """Ends "R" with a probability that the number of "b" in the prompt decides, exactly: k samples hold round(p k) of them."""

    def __init__(self, rates):
        self.rates, self.asked = rates, []

    def modules(self):
        return {}

    def rollout(self, prompts, n, *, how, start=None, seed):
        rows, texts = [], []
        for row, prompt in enumerate(prompts.prompts):
            self.asked.append((prompt, n))
            good = round(self.rates[prompt.count("b")] * n)
            rows += [row] * n
            texts += ["R"] * good + ["W"] * (n - good)
        batch = prompts.select(rows)
        batch.responses, batch.lengths, batch.groups = texts, [1] * len(texts), torch.tensor(rows)
        return Trajectories(batch, torch.zeros(len(texts), 1), torch.ones(len(texts), 1, dtype=torch.bool))

    def encode(self, batch, *, seed):
        raise NotImplementedError

    def evaluate(self, t, *, need=("log_prob",), steps=None, part=None):
        raise NotImplementedError


class EndsWithR(BaseReward):
    """1 if the whole response ends right; every `silent`-th row has no number."""

    name = "ends with R"

    def __init__(self, silent=0):
        self.silent, self.seen = silent, []
        self.settings = {}

    def score(self, batch, ctx=None):
        self.seen += list(zip(batch.prompts, batch.responses, batch.references, strict=True))
        values = torch.tensor([float(text.endswith("R")) for text in batch.responses])
        status = torch.tensor([Status.FAILED if self.silent and row % self.silent == 0 else 0 for row in range(len(values))])
        return Scores(values, status)


SOLUTIONS = Batch(["p:", "q:"], ["b;b;", "b"], references=["x", "y"], segments=[[(0, 1), (2, 3)], [(0, 1)]])
RATES = [0.75, 0.5, 0.25]


def test_values_of_every_prefix():
    completer, right, budget = Completer(RATES), EndsWithR(), Budget()
    found = mc_values(completer, SOLUTIONS, right, samples=8, how=None, seed=0, ctx=Context(budget=budget))
    assert [values.tolist() for values in found] == [[0.75, 0.5, 0.25], [0.75, 0.5]]
    # what stands between two steps goes along, and so does the rest of the last step
    assert {prompt for prompt, _ in completer.asked} == {"p:", "p:b;", "p:b;b;", "q:", "q:b"}
    assert ("p:", "b;b;R", "x") in right.seen
    assert budget.spent["samples"] == 5 * 8
    assert budget.spent["completion_tokens"] == 5 * 8


def test_the_number_of_samples_follows_the_solve_rate():
    completer = Completer([0.95, 0.5, 0.5])
    mc_values(completer, SOLUTIONS, EndsWithR(), how=None, seed=0, solve_rates=[0.05, 0.95])
    assert dict(completer.asked) == {"p:b;": 128, "p:b;b;": 128, "q:b": 32}
    measured = Completer([0.95, 0.5, 0.5])
    mc_values(measured, SOLUTIONS, EndsWithR(), how=None, seed=0)
    assert dict(measured.asked) == {"p:": 64, "q:": 64, "p:b;": 32, "p:b;b;": 32, "q:b": 32}


def test_only_as_many_steps_as_wanted():
    found = mc_values(Completer(RATES), SOLUTIONS, EndsWithR(), samples=4, how=None, seed=0, upto=[1, 9])
    assert [len(values) for values in found] == [2, 2]


def test_what_cannot_be_scored_is_not_counted():
    found = mc_values(Completer([0.5, 0.5, 0.5]), SOLUTIONS, EndsWithR(silent=2), samples=4, how=None, seed=0)
    assert found[1].tolist() == [0.5, 0.5]  # of the four, the first and third are left out
    silent = mc_values(Completer(RATES), SOLUTIONS, EndsWithR(silent=1), samples=4, how=None, seed=0)
    assert bool(silent[0].isnan().all())


def test_segments_and_texts_are_needed():
    with pytest.raises(ValueError, match="segments"):
        mc_values(Completer(RATES), Batch(["p"], ["b"]), EndsWithR(), samples=4, how=None, seed=0)
    chat = Batch([[{"role": "user", "content": "p"}]], ["b"], references=["x"], segments=[[(0, 1)]])
    with pytest.raises(ValueError, match="continued"):
        mc_values(Completer(RATES), chat, EndsWithR(), samples=4, how=None, seed=0)
