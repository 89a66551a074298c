"""Rankings as JSON, mended where that is safe, and the rewards that train a list judge."""

from __future__ import annotations

import itertools
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.rewards.generative.formats.ranking import (
    Ranking,
    broken_ties,
    consensus,
    pair_order_reward,
    parse_ranking,
    ranked_scores,
    ranking_format_reward,
    response_names,
)
from plaudit.types import Status

NAMES = response_names(3)
A, B, C = NAMES
SCORES = {A: 5.0, B: 2.0, C: 2.0}
GOOD = json.dumps({"scores": {A: 5, B: 2, C: 2}, "best-to-worst": NAMES})


def test_json_is_read_in_both_modes() -> None:
    for strict in (False, True):
        found = parse_ranking(f"<think>A is best.</think>\n{GOOD}", NAMES, strict=strict)
        assert found == Ranking(SCORES, tuple(NAMES), "A is best.", valid=True, repaired=False)
        assert ranked_scores(GOOD, 3, strict).values == (5.0, 2.0, 2.0)


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{GOOD}\n```",
        f"Here you are: {GOOD} Good luck.",
        GOOD.replace('"', "'"),
        GOOD.replace('"', ""),
        GOOD.replace("2}", "2,}"),
        GOOD.replace("best-to-worst", "best-to-worse"),
        GOOD[:-2],
        GOOD.replace(": 5", ': "5/5"').replace(": 2", ': "2"'),
        GOOD.replace(": 5", ": 5.0"),
        GOOD.replace('"best', '"why": "it isn\'t long", "best'),
    ],
)
def test_broken_json_is_mended(text: str) -> None:
    found = parse_ranking(text, NAMES)
    assert found.scores == SCORES
    assert found.order[:2] == (A, B)


def test_strict_mends_nothing() -> None:
    for text in (f"Here: {GOOD}", f"```json\n{GOOD}\n```", GOOD.replace('"', "'"), GOOD[:-2]):
        assert ranked_scores(text, 3, strict=True).status is Status.UNPARSABLE


def test_what_is_out_of_range_or_said_twice_is_left_out_and_flagged_not_clipped() -> None:
    found = parse_ranking(json.dumps({"scores": {A: 7, B: 2, "response-9": 3}, "best-to-worst": [B, B, A]}), NAMES)
    assert found.scores == {B: 2.0}
    assert found.order == (B, A)
    assert len(found.flags) == 3
    twice = parse_ranking(f'{{"scores": {{"{A}": 5, "{A}": 1, "{B}": 3}}}}', NAMES)
    assert twice.scores == {B: 3.0}
    listed = ranked_scores(json.dumps({"scores": {A: 7, B: 2}}), 3)
    assert listed.values == (None, 2.0, None)
    assert "response-1" in listed.detail


@pytest.mark.parametrize("text", ["", "5, 2, 2", "[5, 2, 2]", "{}", '{"scores": [5, 2, 2]}', '{"scores": {"response-1": true}}',
                                  '{"scores": {"response-1": NaN}}', '{"scores": {"response-1": 1e999}}', "<think>" + GOOD,
                                  '{"scores": {"response-1": null}}', "{" * 5000, '{"a":' * 3000])  # fmt: skip
def test_what_holds_no_scores(text: str) -> None:
    found = ranked_scores(text, 3)
    assert found.status is Status.UNPARSABLE
    assert found.detail


def slow_pair_reward(predicted: dict[str, float], gold: dict[str, float]) -> float:
    cost = total = 0.0
    for a, b in itertools.combinations(sorted(set(predicted) & set(gold)), 2):
        weight = 1 + abs(gold[a] - gold[b])
        total += weight
        if gold[a] == gold[b]:
            continue
        if predicted[a] == predicted[b]:
            cost += weight / 2
        elif (predicted[a] > predicted[b]) != (gold[a] > gold[b]):
            cost += weight
    return max(0.0, 1 - cost / total) if total else 0.0


SCORED = st.dictionaries(st.sampled_from(response_names(6)), st.integers(1, 5).map(float), max_size=6)


@given(SCORED, SCORED)
def test_pair_order_reward_is_the_obvious_one(predicted: dict[str, float], gold: dict[str, float]) -> None:
    reward = pair_order_reward(predicted, gold)
    if len(set(gold.values())) < 2:
        assert reward is None
        return
    assert reward == pytest.approx(slow_pair_reward(predicted, gold))
    assert reward is not None
    assert 0 <= reward <= 1
    assert pair_order_reward({name: 3 * value + 1 for name, value in predicted.items()}, gold) == pytest.approx(reward)


def test_pair_order_reward_by_hand() -> None:
    gold = {A: 5.0, B: 3.0, C: 1.0}
    assert pair_order_reward(gold, gold) == 1.0
    assert pair_order_reward({A: 1, B: 3, C: 5}, gold) == 0.0
    assert pair_order_reward(dict.fromkeys(NAMES, 3.0), gold) == 0.5, "constant scores earn a half"
    assert pair_order_reward({A: 3, B: 5, C: 1}, gold) == pytest.approx(1 - 3 / 11)
    assert pair_order_reward({A: 3, B: 5, C: 1}, gold, weighted=False) == pytest.approx(1 - 1 / 3)
    assert pair_order_reward({}, gold) == 0.0, "an empty answer earns nothing"
    assert pair_order_reward({A: 5}, gold) == 0.0
    assert pair_order_reward(gold, dict.fromkeys(NAMES, 2.0)) is None, "equal gold tells nothing apart"
    assert pair_order_reward({A: math.nan, B: 2, C: 1}, gold) == 1.0


def test_format_reward_by_hand() -> None:
    thought = "x" * 60
    assert ranking_format_reward(f"<think>{thought}</think>{GOOD}", NAMES) == pytest.approx(1.0)
    assert ranking_format_reward(f"<think>short</think>{GOOD}", NAMES) == pytest.approx(0.95)
    assert ranking_format_reward(GOOD, NAMES) == pytest.approx(0.8)
    assert ranking_format_reward(f"{thought}</think>{GOOD}", NAMES) == pytest.approx(0.85)
    assert ranking_format_reward(f"So: {GOOD}", NAMES) == pytest.approx(0.75)
    assert ranking_format_reward("", NAMES) == 0.0
    against = json.dumps({"scores": {A: 1, B: 2, C: 3}, "best-to-worst": NAMES})
    assert ranking_format_reward(against, NAMES) == pytest.approx(0.6)
    assert ranking_format_reward(json.dumps({"scores": {A: 1}, "best-to-worst": [A]}), NAMES) == pytest.approx(0.4 + 0.2 / 3)


def test_ties_follow_the_order_and_whole_scores_keep_their_place() -> None:
    found = broken_ties(Ranking(SCORES, (A, C, B), "", True, False), 0.9)
    assert found[A] > found[C] > found[B] > 1.0
    with pytest.raises(ValueError, match="below 1"):
        broken_ties(Ranking({}, (), "", True, False), 1.0)


def ranking(*scores: float) -> Ranking:
    return Ranking(dict(zip(NAMES, scores, strict=False)), (), "", True, False)


def test_consensus_merges_those_who_agree() -> None:
    merged = consensus([ranking(5, 3, 1), ranking(4, 3, 2)])
    assert merged is not None
    assert merged.scores == {A: 4.5, B: 3.0, C: 1.5}
    assert merged.order == (A, B, C)
    assert consensus([ranking(5, 3, 1), ranking(1, 3, 5)]) is None
    assert consensus([ranking(5, 3, 1), ranking(1, 3, 5)], min_tau=-1.0) is not None
    assert consensus([ranking(5, 3, 1), ranking(3, 3, 3)]) is None, "who tells nothing apart agrees with nobody"
    assert consensus([ranking(5, 3, 1), ranking(5, 3)]) is None
    alone = consensus([ranking(1, 3, 3)])
    assert alone is not None
    assert alone.order == (B, C, A)
    with pytest.raises(ValueError, match="at least one"):
        consensus([])


MARKS = ['"', "'", ":", ",", "{", "}", "[", "]", "-", "\n", "/5", "```", "</think>", "<think>"]
PIECES = st.sampled_from([*NAMES, *MARKS, "scores", '"scores": {', "best-to-worst", "5", "2", "9", "1e999", "NaN"])


@given(st.one_of(st.text(max_size=120), st.lists(PIECES, max_size=30).map("".join)))
def test_any_text_has_an_outcome_and_scores_stand_in_it(text: str) -> None:
    found = parse_ranking(text, NAMES)
    for name, value in found.scores.items():
        assert name in text
        assert f"{value:g}" in text
        assert 1 <= value <= 5
    assert 0 <= ranking_format_reward(text, NAMES) <= 1
    strict, lenient = ranked_scores(text, 3, True), ranked_scores(text, 3)
    assert strict.status is Status.UNPARSABLE or strict.values == lenient.values
