"""Labels by a judge, pairs from checked answers, splits, balance of lengths, cleaning: each with its counts."""

import random
from collections import Counter
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plaudit import BaseReward, Scores, Status, as_reward
from plaudit.curation.balance import balance_lengths, characters, length_filter, longer_wins, words
from plaudit.curation.cleaning import clean_pairs, drop_lowest
from plaudit.curation.factory import label_pairs, pairs_from_checks, split_by, split_prompts, split_users
from plaudit.data.row import Row


class Numbers(BaseReward):
    """The number that a response is; what is none is not judged."""

    name = "numbers"

    def score(self, batch, ctx=None):
        values = [float(text) if text.lstrip("-").replace(".", "").isdigit() else float("nan") for text in batch.responses]
        status = [Status.OK if value == value else Status.UNPARSABLE for value in values]
        return Scores(torch.tensor(values), torch.tensor(status))


def pair(name, first, second, gold=None, **more):
    return Row(name, more.pop("prompt", f"p{name}"), (first, second), gold=gold, **more)


def test_labels_by_a_judge():
    rows = [pair("a", "3", "1"), pair("b", "1", "3"), pair("c", "2", "2"), pair("d", "x", "1"), Row("e", "p", ("1",))]
    labelled, report = label_pairs(iter(rows), Numbers())
    assert {row.id: row.gold for row in labelled} == {"a": (1.0, 0.0), "b": (0.0, 1.0)}
    assert (report.labelled, report.ties, report.left_out) == (2, 1, {"unparsable": 1, "not_applicable": 1})


def test_drawn_labels_follow_the_probability_and_the_seed():
    rows = [pair(str(number), "1", "0") for number in range(3000)]
    labelled, report = label_pairs(rows, Numbers(), draw=1)
    share = sum(row.gold[0] for row in labelled) / 3000
    assert share == pytest.approx(0.7311, abs=0.03)
    assert report.ties == 0
    assert labelled == label_pairs(rows, Numbers(), draw=1)[0]
    assert labelled != label_pairs(rows, Numbers(), draw=2)[0]
    assert labelled[:100] == label_pairs(rows[:100], Numbers(), draw=1)[0], "a longer stream changes no label"


def test_pairs_from_checked_answers():
    def right(response: str, reference: str) -> bool:
        return response == reference

    rows = [
        Row("1", "1 + 1", ("2", "3", "4", "2"), references=("2",) * 4),
        Row("2", "1 + 1", ("5", "3"), references=("2",) * 2),
        Row("3", "2 + 2", ("4", "4"), references=("4",) * 2),
        Row("4", "3 + 3", ("1",), references=("6",)),
    ]
    pairs, report = pairs_from_checks(rows, as_reward(right), per_prompt=2)
    assert len(pairs) == 2
    assert all(row.prompt == "1 + 1" and row.responses[0] == "2" and row.gold == (1.0, 0.0) for row in pairs)
    assert len({row.responses[1] for row in pairs}) == 2
    assert pairs[0].references == ("2", "2")
    assert (report.prompts, report.pairs, report.all_right, report.all_wrong) == (3, 2, 1, 1)
    assert (report.repeated, report.capped, report.unjudged) == (3, 1, 0)
    assert len({row.id for row in pairs_from_checks(rows, as_reward(right), per_prompt=9)[0]}) == 3


def test_answers_without_a_verdict_are_neither_right_nor_wrong():
    rows = [Row("1", "p", ("1", "x", "0")), Row("2", "q", ("y", "z")), Row("3", "r", ("x", "1"))]
    pairs, report = pairs_from_checks(rows, Numbers())
    assert [row.responses for row in pairs] == [("1", "0")]
    assert report.left_out == {"unparsable": 4}
    assert (report.unjudged, report.all_right) == (1, 1)
    gold = [Row("1", "p", ("a", "b"), gold=(0.2, 0.9)), Row("2", "q", ("a", "b"))]
    pairs, report = pairs_from_checks(gold)
    assert [row.responses for row in pairs] == [("b", "a")]
    assert report.left_out == {"abstained": 2}
    with pytest.raises(ValueError, match="per_prompt"):
        pairs_from_checks(rows, per_prompt=0)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 60), st.integers(0, 5))
def test_answers_are_used_evenly_and_no_pair_twice(right, wrong, most, seed):
    answers = tuple(f"r{k}" for k in range(right)) + tuple(f"w{k}" for k in range(wrong))
    row = Row("1", "p", answers, gold=(1.0,) * right + (0.0,) * wrong)
    pairs, _ = pairs_from_checks([row], per_prompt=most, seed=seed)
    chosen = [one.responses for one in pairs]
    assert len(set(chosen)) == len(chosen) == min(most, right * wrong)
    assert set(chosen) <= set(product(answers[:right], answers[right:]))
    for side, count in ((0, right), (1, wrong)):
        used = Counter(one[side] for one in chosen)
        assert max(used.values()) - (min(used.values()) if len(used) == count else 0) <= 1


def test_splits_keep_kin_together():
    rows = [pair(f"{user}.{k}", "1", "2", user=f"u{user}", prompt=f"q{k}") for user in range(10) for k in range(3)]
    rows.append(pair("nobody", "1", "2"))
    train, test, report = split_users(rows, held_out=0.3, seed=1)
    assert len({row.user for row in test}) == report.test_keys == 3
    assert not {row.user for row in train} & {row.user for row in test}
    assert (report.train_rows, report.test_rows, report.without_key) == (22, 9, 1)
    assert split_users(rows[::-1], held_out=0.3, seed=1)[2] == report
    assert {row.user for row in split_users(rows[::-1], held_out=0.3, seed=1)[1]} == {row.user for row in test}
    assert {row.user for row in split_users(rows, held_out=0.3, seed=2)[1]} != {row.user for row in test}
    train, test, _ = split_prompts(rows[:-1], held_out=0.34)
    assert not {row.prompt for row in train} & {row.prompt for row in test}
    assert split_by(rows, lambda row: row.extras.get("no") or row.prompt, held_out=0.01)[2].test_keys == 1
    with pytest.raises(ValueError, match="two different"):
        split_by(rows, lambda _: 1)
    with pytest.raises(ValueError, match="held_out"):
        split_prompts(rows, held_out=1.0)


def lengths(count, seed, longer=0.8):
    draw, rows = random.Random(seed), []
    for number in range(count):
        short, more = draw.randint(1, 40), draw.randint(0, 60)
        texts = ["a" * (short + more), "b" * short]
        won = 0 if draw.random() < longer else 1
        order = draw.random() < 0.5
        gold = [float(place == won) for place in range(2)]
        rows.append(pair(str(number), *texts[:: 1 if order else -1], gold=tuple(gold[:: 1 if order else -1]), section="s"))
    return rows


@pytest.mark.parametrize("bins", [1, 7, 10])
def test_after_balancing_the_longer_wins_as_often_at_every_size(bins):
    rows = lengths(600, 0)
    kept, report = balance_lengths(rows, bins=bins, seed=3)
    assert report.longer_before == pytest.approx(longer_wins(rows))
    assert report.longer_before > 0.75
    assert report.longer_after == 0.5
    assert report.rows - report.kept == sum(report.dropped.values()) == 600 - len(kept)
    assert [row for row in rows if row in kept] == kept, "the order stays"
    equal = [row for row in rows if len(row.responses[0]) == len(row.responses[1])]
    assert all(row in kept for row in equal)
    if bins == 10:
        big = [row for row in kept if abs(len(row.responses[0]) - len(row.responses[1])) > 30]
        assert longer_wins(big) == pytest.approx(0.5, abs=0.12)
    # no more is dropped than has to be: in each bin the rarer outcome stays whole
    shorter = [row for row in rows if longer_wins([row]) == 0.0]
    assert bins > 1 or all(row in kept for row in shorter)


def test_balance_leaves_other_rows_alone():
    rows = [Row("1", "p", ("a",), gold=(1.0,)), pair("t", "aaa", "b", gold=(0.5, 0.5)), pair("n", "aaa", "b")]
    kept, report = balance_lengths(rows)
    assert kept == rows
    assert (report.decided, report.longer_before, report.longer_after) == (0, None, None)
    assert balance_lengths([])[0] == []


def test_length_filter_wants_both_ratio_and_gap():
    def long(count):
        return " ".join(["w"] * count)

    rows = [
        pair("both", long(100), long(50), gold=(1.0, 0.0), section="s"),
        pair("ratio only", long(10), long(2), gold=(1.0, 0.0), section="s"),
        pair("gap only", long(125), long(100), gold=(1.0, 0.0), section="s"),
        pair("loser longer", long(50), long(100), gold=(1.0, 0.0)),
        pair("second", long(50), long(100), gold=(0.0, 1.0), section="all"),
    ]
    kept, report = length_filter(rows)
    assert [row.id for row in kept] == ["ratio only", "gap only", "loser longer"]
    assert report.dropped == {"all": 1, "s": 1}
    assert report.mostly_dropped == ("all",)
    assert (words("a bc"), characters("a bc")) == (2, 4)
    with pytest.raises(ValueError, match="ratio"):
        length_filter(rows, ratio=0.5)


def test_cleaning_drops_or_flips_what_the_reward_contradicts():
    rows = [
        pair("fine", "5", "0", gold=(1.0, 0.0)),
        pair("wrong", "0", "5", gold=(1.0, 0.0)),
        pair("doubtful", "0", "1", gold=(1.0, 0.0)),
        pair("equal", "1", "1", gold=(0.0, 1.0)),
        pair("unread", "x", "5", gold=(1.0, 0.0)),
        pair("tie", "0", "5", gold=(0.5, 0.5)),
        Row("one", "p", ("1",)),
    ]
    kept, report = clean_pairs(iter(rows), Numbers())
    assert [row.id for row in kept] == ["fine", "doubtful", "equal", "unread", "tie", "one"]
    assert (report.rows, report.kept, report.contradicted, report.flipped) == (7, 6, 1, 0)
    assert (report.undecided, report.unjudged, report.changed) == (2, {"unparsable": 1}, ("wrong",))
    flipped, report = clean_pairs(rows, Numbers(), action="flip", least=0.1)
    assert next(row for row in flipped if row.id == "wrong").gold == (0.0, 1.0)
    assert "label flipped" in next(row for row in flipped if row.id == "wrong").notes
    assert (report.flipped, report.unsure, report.kept) == (1, 1, 6)
    assert clean_pairs(rows, Numbers(), confidence=0.7)[1].contradicted == 2
    with pytest.raises(ValueError, match="confidence"):
        clean_pairs(rows, Numbers(), confidence=0.5)


def test_flipping_twice_gives_the_labels_back_and_planted_mistakes_are_found():
    draw = random.Random(0)
    rows, wrong = [], set()
    for number in range(200):
        better, worse = sorted((draw.random() * 10, draw.random() * 10), reverse=True)
        mistake = draw.random() < 0.1
        wrong |= {str(number)} if mistake else set()
        rows.append(pair(str(number), f"{better:.3f}", f"{worse:.3f}", gold=(0.0, 1.0) if mistake else (1.0, 0.0)))
    fixed, report = clean_pairs(rows, Numbers(), action="flip", confidence=0.95)
    assert set(report.changed) <= wrong
    assert len(report.changed) > 0.3 * len(wrong)
    assert clean_pairs(fixed, Numbers(), action="flip", confidence=0.95)[1].contradicted == 0


def test_the_lowest_go_within_their_section():
    rows = [Row(f"a{k}", "p", (str(k),), section="a") for k in range(20)]
    rows += [Row(f"b{k}", "p", (str(1000 + k),), section="b") for k in range(20)]
    rows += [Row("x", "p", ("unread",), section="a"), *(Row(f"c{k}", "p", ("7",), section="c") for k in range(40))]
    kept, report = drop_lowest(rows, Numbers(), share=0.1)
    assert set(report.dropped) == {"a0", "a1", "b0", "b1"}
    assert len(kept) == len(rows) - 4
    assert report.unjudged == {"unparsable": 1}
    assert set(report.thresholds) == {"a", "b"}, "where all are equal nobody is worst"
    assert set(drop_lowest(rows, Numbers(), share=0.05, per_section=False)[1].dropped) == {f"a{k}" for k in range(4)}
    assert drop_lowest(rows, Numbers(), share=0.0)[0] == rows
    with pytest.raises(ValueError, match="share"):
        drop_lowest(rows, Numbers(), share=1.0)
