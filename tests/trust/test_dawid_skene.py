"""Dawid and Skene: planted panels are recovered, against a slow obvious EM, with symmetric pairs and edge cases."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plaudit.trust.dawid_skene import MISSING, dawid_skene, judge_accuracies


def planted(items, confusions, prior, seed=0, missing=0.0):
    """(votes [N, J], truth [N]) of judges with the given confusions."""
    draw = np.random.default_rng(seed)
    truth = draw.choice(len(prior), size=items, p=prior)
    votes = np.stack([[draw.choice(len(prior), p=one[label]) for label in truth] for one in confusions], axis=1)
    votes[draw.random(votes.shape) < missing] = MISSING
    return votes, truth


def even(accuracy, classes=2):
    return np.full((classes, classes), (1 - accuracy) / (classes - 1)) + np.eye(classes) * (
        accuracy - (1 - accuracy) / (classes - 1)
    )


def slow(votes, classes, smoothing, rounds):
    """The model written out with loops."""
    items, judges = len(votes), len(votes[0])
    posterior = []
    for line in votes:
        cast = [label for label in line if label != MISSING]
        posterior.append([cast.count(c) / len(cast) for c in range(classes)])
    for _ in range(rounds):
        prior = [smoothing + sum(row[c] for row in posterior) for c in range(classes)]
        prior = [value / sum(prior) for value in prior]
        confusion = [[[smoothing + (c == label) for label in range(classes)] for c in range(classes)] for _ in range(judges)]
        for line, row in zip(votes, posterior, strict=True):
            for judge, label in enumerate(line):
                if label != MISSING:
                    for c in range(classes):
                        confusion[judge][c][label] += row[c]
        confusion = [[[value / sum(line) for value in line] for line in judge] for judge in confusion]
        posterior = []
        for n in range(items):
            joint = [
                prior[c] * math.prod(confusion[j][c][label] for j, label in enumerate(votes[n]) if label != MISSING)
                for c in range(classes)
            ]
            posterior.append([value / sum(joint) for value in joint])
    return posterior, confusion


def test_the_same_numbers_as_the_model_written_out():
    votes, _ = planted(40, [even(0.9, 3), even(0.7, 3), even(0.6, 3)], [0.5, 0.3, 0.2], missing=0.2)
    votes = votes[(votes != MISSING).any(axis=1)]
    fitted = dawid_skene(votes, 3, most_rounds=25, tolerance=-1.0)
    posterior, confusion = slow(votes.tolist(), 3, 0.01, 25)
    # the package's posterior is that after the last maximisation, as the slow one's
    assert np.allclose(fitted.posterior, posterior, atol=1e-9)
    assert np.allclose(fitted.confusion, confusion, atol=1e-9)


def test_planted_judges_are_recovered_and_the_panel_beats_the_majority():
    accuracies = [0.9, 0.7, 0.65, 0.6, 0.6]
    votes, truth = planted(2000, [even(accuracy) for accuracy in accuracies], [0.5, 0.5])
    fitted = dawid_skene(votes, 2, swap=(1, 0))
    assert fitted.converged
    assert fitted.accuracy == pytest.approx(accuracies, abs=0.04)
    right = (fitted.posterior.argmax(axis=1) == truth).mean()
    majority = (votes.mean(axis=1) > 0.5).astype(int)
    assert right > 0.89
    assert right > (majority == truth).mean() + 0.05


def test_planted_confusions_and_prior_of_three_classes_with_missing_votes():
    careless = np.array([[0.8, 0.2, 0.0], [0.1, 0.8, 0.1], [0.3, 0.0, 0.7]])
    votes, _ = planted(3000, [careless, even(0.8, 3), even(0.75, 3), even(0.7, 3)], [0.6, 0.3, 0.1], seed=1, missing=0.3)
    fitted = dawid_skene(votes, 3)
    assert fitted.prior == pytest.approx([0.6, 0.3, 0.1], abs=0.05)
    assert np.abs(fitted.confusion[0] - careless).max() < 0.1


def test_a_judge_who_always_says_the_opposite_is_turned_round():
    votes, truth = planted(600, [even(0.9), even(0.9), even(0.85), even(0.1)], [0.5, 0.5], seed=2)
    fitted = dawid_skene(votes, 2)
    assert fitted.accuracy[3] < 0.2
    assert (fitted.posterior.argmax(axis=1) == truth).mean() > 0.93


def test_the_log_posterior_never_falls():
    votes, _ = planted(60, [even(0.8, 3), even(0.6, 3), even(0.5, 3)], [0.4, 0.4, 0.2], seed=3, missing=0.3)
    values = [dawid_skene(votes, 3, most_rounds=rounds, tolerance=-1.0).log_posterior for rounds in range(1, 30)]
    assert all(later >= earlier - 1e-9 for earlier, later in pairwise(values))


def test_swapping_every_pair_mirrors_every_posterior():
    draw = np.random.default_rng(4)
    votes = draw.choice([0, 1, 2, MISSING], size=(80, 4), p=[0.5, 0.15, 0.25, 0.1])
    swapped = np.where(votes == MISSING, MISSING, 2 - votes)
    one, other = dawid_skene(votes, 3, swap=(2, 1, 0)), dawid_skene(swapped, 3, swap=(2, 1, 0))
    assert np.allclose(one.posterior, other.posterior[:, ::-1], equal_nan=True)
    assert np.allclose(one.confusion, one.confusion[:, ::-1, ::-1])
    assert one.prior[0] == pytest.approx(one.prior[2])


def test_edge_cases_agreement_ties_one_judge_and_items_without_votes():
    agreed = dawid_skene([[0, 0, 0], [1, 1, 1], [1, 1, 1]], 2)
    assert agreed.labels() == [0, 1, 1]
    assert (agreed.posterior.max(axis=1) > 0.99).all()
    alone = dawid_skene([[0], [1], [1], [MISSING]], 2)
    assert alone.labels() == [0, 1, 1, None]
    assert np.isnan(alone.posterior[3]).all()
    same = dawid_skene([[1, 1]] * 4, 2)
    assert same.labels() == [1] * 4
    tied = dawid_skene([[0, 1], [1, 0]], 2, swap=(1, 0))
    assert tied.posterior == pytest.approx(np.full((2, 2), 0.5))
    assert tied.labels() == [None, None]
    for wrong in (
        lambda: dawid_skene([[MISSING]], 2),
        lambda: dawid_skene([[2]], 2),
        lambda: dawid_skene([[0]], 1),
        lambda: dawid_skene([[0]], 3, swap=(1, 2, 0)),
    ):
        with pytest.raises(ValueError, match=r"vote|class"):
            wrong()


def test_new_items_are_read_with_what_was_learned():
    votes, _ = planted(800, [even(0.95), even(0.65), even(0.65), even(0.65)], [0.5, 0.5], seed=5)
    fitted = dawid_skene(votes, 2, swap=(1, 0))
    assert np.allclose(fitted.read(votes), fitted.posterior, atol=1e-6)
    assert fitted.read([[1, 0, 0, MISSING]])[0, 1] > 0.5  # the good judge outweighs two poor ones
    assert np.isnan(fitted.read([[MISSING] * 4])).all()
    with pytest.raises(ValueError, match="4 judges"):
        fitted.read([[0, 1]])


def test_intervals_of_accuracies_hold_the_planted_ones_and_say_who_never_voted():
    votes, _ = planted(200, [even(0.9), even(0.7), even(0.8)], [0.5, 0.5], seed=7)
    votes = np.concatenate([votes, np.full((200, 1), MISSING)], axis=1)
    found = judge_accuracies(votes, 2, swap=(1, 0), repeats=100)
    for measured, truth in zip(found[:3], (0.9, 0.7, 0.8), strict=True):
        assert measured.estimate.low < truth < measured.estimate.high
        assert measured.estimate.high - measured.estimate.low < 0.35
    assert (found[3].estimate, found[3].left_out) == (None, {"no votes": 200})


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(-1, 2), min_size=3, max_size=3), min_size=1, max_size=12))
def test_any_votes_give_probabilities_or_nothing(votes):
    if all(label == MISSING for line in votes for label in line):
        return
    fitted = dawid_skene(votes, 3)
    given_any = np.array([any(label != MISSING for label in line) for line in votes])
    assert np.isfinite(fitted.posterior[given_any]).all()
    assert np.isnan(fitted.posterior[~given_any]).all()
    assert fitted.posterior[given_any].sum(axis=1) == pytest.approx(1.0)
    assert np.isfinite(fitted.log_posterior)
