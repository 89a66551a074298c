"""The rule for spellings, on a distribution that can be enumerated."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.engines.options import option_log_probs, plan_options

LETTERS = "abc"


def encode(text: str) -> list[int]:
    """One token a letter."""
    return [LETTERS.index(letter) for letter in text]


def sequence_probability(tokens: tuple[int, ...]) -> float:
    """A made-up model: P(token | position) rotates with the tokens before."""
    probability = 1.0
    for place in range(len(tokens)):
        weights = [(3 * token + sum(tokens[:place]) + 1) % 5 + 1 for token in range(3)]
        probability *= weights[tokens[place]] / sum(weights)
    return probability


def probabilities(options: list[list[str]]) -> list[float]:
    import torch

    plan = plan_options(options, encode)
    logs = torch.tensor([[math.log(sequence_probability(tokens)) for tokens in plan.sequences]], dtype=torch.float64)
    return option_log_probs(plan, logs).exp()[0].tolist()


def test_single_tokens_are_summed_and_duplicates_count_once() -> None:
    expected = sequence_probability((0,)) + sequence_probability((1,))
    assert probabilities([["a", "b", "a"], ["c"]]) == pytest.approx([expected, sequence_probability((2,))])


def test_several_tokens_count_by_their_first_unless_it_is_shared() -> None:
    assert probabilities([["abc"], ["c"]])[0] == pytest.approx(sequence_probability((0,)))
    shared = probabilities([["ab"], ["ac"]])
    assert shared == pytest.approx([sequence_probability((0, 1)), sequence_probability((0, 2))])


def test_longest_match_wins() -> None:
    short, long = probabilities([["a"], ["ab"]])
    assert long == pytest.approx(sequence_probability((0, 1)))
    assert short == pytest.approx(sequence_probability((0,)) - sequence_probability((0, 1)))


@given(st.lists(st.lists(st.text(LETTERS, min_size=1, max_size=4), min_size=1, max_size=3), min_size=2, max_size=3))
def test_options_are_disjoint_events(options: list[list[str]]) -> None:
    """Against enumeration of all texts of four letters: the option of a text is that of its longest matching spelling."""
    try:
        plan = plan_options(options, encode)
    except ValueError:
        spellings = [set(spellings) for spellings in options]
        assert any(one & two for one, two in itertools.combinations(spellings, 2))
        return
    owner = {}
    for option, numbers in enumerate(plan.added):
        for number in numbers:
            owner[plan.sequences[number]] = option
    expected = [0.0] * len(options)
    for text in itertools.product(range(3), repeat=4):
        matches = [text[:length] for length in range(4, 0, -1) if text[:length] in owner]
        if matches:
            expected[owner[matches[0]]] += sequence_probability(text)
    assert probabilities(options) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([["a"], [""]], r"option \[''\] has no spelling"),
        ([["a"], []], r"option \[\] has no spelling"),
        ([["a", "b"], ["b"]], "share a spelling"),
        (["a", "b"], "must be a list of spellings"),
    ],
)
def test_unusable_options_are_named(options: list[list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_options(options, encode)


def test_an_unknown_token_is_no_spelling() -> None:
    with pytest.raises(ValueError, match=r"option \['c'\] has no spelling"):
        plan_options([["a"], ["c"]], encode, unknown=2)
