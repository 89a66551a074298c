"""Duplicates and leaks: exact, near, contradicting; the estimate against the exact similarity; odd texts."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plaudit.curation.dedupe import Deduplicator, deduplicate
from plaudit.curation.leakage import find_leaks
from plaudit.curation.minhash import BANDS, PERMUTATIONS, NearIndex, jaccard, normalised, shingles, signature, similarity
from plaudit.data.row import Row

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "seven", "green", "apples", "fall"]


def text(seed, words=120):
    draw = random.Random(seed)
    return " ".join(draw.choice(WORDS) + str(draw.randint(0, 99)) for _ in range(words))


def changed(original, seed, share):
    draw = random.Random(seed)
    return " ".join("zzz" + str(draw.randint(0, 999)) if draw.random() < share else word for word in original.split())


def row(name, prompt="What is it?", responses=("An apple.", "A pear."), gold=(1.0, 0.0)):
    return Row(name, prompt, tuple(responses), gold=gold)


def slow_jaccard(a, b, n=5):
    sets = []
    for one in (normalised(a), normalised(b)):
        size = min(n, len(one))
        sets.append({one[at : at + size] for at in range(len(one) - size + 1)} if one else set())
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1]) if sets[0] | sets[1] else 1.0


@pytest.mark.parametrize(("a", "b"), [("hello world", "hello there world"), ("abc", "abc"), ("ab", "abc"), ("", ""), ("x", "")])
def test_shingles_against_the_slow_way(a, b):
    assert jaccard(a, b) == pytest.approx(slow_jaccard(a, b))


def test_the_estimate_is_right_within_its_standard_deviation():
    errors = []
    for seed in range(60):
        a = text(seed)
        b = changed(a, seed + 1000, 0.02 * (seed % 10))
        exact = jaccard(a, b)
        assert exact == pytest.approx(slow_jaccard(a, b))
        errors.append((similarity(signature(a), signature(b)) - exact) / max(np.sqrt(exact * (1 - exact) / PERMUTATIONS), 1e-9))
    errors = np.array(errors)[np.abs(errors) < 1e6]  # equal texts have no spread
    assert abs(errors.mean()) < 3 / np.sqrt(len(errors))
    assert 0.7 < errors.std() < 1.3


def test_the_index_finds_near_texts_and_no_others():
    index = NearIndex(0.7)
    for seed in range(80):
        index.add(text(seed), seed)
    for seed in range(80):
        name, how = index.find(changed(text(seed), seed, 0.03))
        assert name == seed
        assert how >= 0.7
        assert index.find(text(seed + 500)) is None
    assert 1 - (1 - 0.7 ** (PERMUTATIONS // BANDS)) ** BANDS > 0.999, "as its page says"
    with pytest.raises(ValueError, match="threshold"):
        NearIndex(0.2)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_odd_texts(a, b):
    index = NearIndex()
    index.add(a, "a")
    assert len(index) == int(bool(normalised(a)))
    found = index.find(b)
    if normalised(a) == normalised(b) and normalised(a):
        assert found == ("a", 1.0)
    assert len(shingles(a)) <= max(1, len(normalised(a)))


def test_exact_duplicates_in_any_order_case_and_spacing():
    rows = [
        row("a"),
        row("b", prompt=" what is  IT?"),
        row("c", responses=("A pear.", "An apple."), gold=(0.0, 1.0)),
        row("d", responses=("A pear.", "An apple."), gold=(1.0, 0.0)),
        row("e", gold=(7.0, 3.0)),
        row("f", gold=None),
        row("g", responses=("An apple.", "A plum.")),
    ]
    kept, report = deduplicate(rows, near=None)
    assert [one.id for one in kept] == ["a", "g"]
    assert (report.rows, report.kept, report.exact, report.near) == (7, 2, 5, 0)
    assert report.contradictions == 2, "d says the opposite, f says nothing"
    assert report.examples[0] == ("b", "a", 1.0)
    assert report.to_json()["exact"] == 5


def test_near_duplicates():
    base = text(1)
    rows = [
        row("a", responses=(base, "no")),
        row("b", responses=(changed(base, 1, 0.02), "no")),
        row("c", responses=(text(2), "no")),
    ]
    kept, report = deduplicate(rows, near=0.7)
    assert [one.id for one in kept] == ["a", "c"]
    assert report.near == 1
    assert report.examples[0][:2] == ("b", "a")
    assert [one.id for one in deduplicate(rows, near=None)[0]] == ["a", "b", "c"]


def test_a_stream_and_other_kinds_of_responses():
    seen = Deduplicator()
    chat = [{"role": "assistant", "content": "An apple."}]
    assert seen.is_new(row("a", responses=(chat, "A pear.")))
    assert not seen.is_new(row("b", responses=("An apple.", "A pear."))), "a chat of one message says what the text says"
    assert seen.is_new(row("c", prompt="", responses=({"x": 1}, 7)))
    assert seen.report().kept == 2


def test_leaks_are_named_by_part_and_kind():
    long = text(5)
    train = [row("t1", prompt=text(7), responses=(long, "yes")), row("t2", prompt="How are you?", responses=(text(9), "42"))]
    test = [
        row("clean", prompt=text(20), responses=(text(21), "yes")),
        row("prompt", prompt="how ARE you?", responses=(text(22), "no")),
        row("near prompt", prompt=changed(text(7), 3, 0.02), responses=(text(23), "no")),
        row("response", prompt=text(24), responses=("no", long)),
        row("near response", prompt=text(25), responses=(changed(long, 4, 0.02), "no")),
    ]
    kept, report = find_leaks(iter(train), test, near=0.7)
    assert [one.id for one in kept] == ["clean"]
    named = {(leak.test_id, leak.train_id, leak.part, leak.exact) for leak in report.leaks}
    assert named == {
        ("prompt", "t2", "prompt", True),
        ("near prompt", "t1", "prompt", False),
        ("response", "t1", "response", True),
        ("near response", "t1", "response", False),
    }
    assert (report.prompts.exact, report.prompts.near, report.prompts.tested) == (1, 1, 5)
    assert (report.responses.exact, report.responses.near, report.responses.short) == (1, 1, 5)
    assert report.prompts.share == pytest.approx(0.4)
    assert report.to_json()["leaked_rows"] == 4
    assert find_leaks(train, test, near=None)[1].leaked == {"prompt", "response"}
    assert "clean" in find_leaks(train, test, near=None, shortest=1)[1].leaked, "without a limit `yes` is a leak"


def test_an_exact_match_after_a_near_one_counts_as_exact_and_empty_sides_are_none():
    near, exact = changed(text(5), 1, 0.02), text(5)
    _, report = find_leaks([row("n", prompt=near), row("e", prompt=exact)], [row("x", prompt=exact)], near=0.7, shortest=99)
    assert [(leak.train_id, leak.exact) for leak in report.leaks] == [("e", True)]
    assert find_leaks([], [])[1].prompts.share is None
    assert find_leaks([], [row("x")])[1].prompts.share == 0.0
