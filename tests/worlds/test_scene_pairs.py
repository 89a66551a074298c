"""Pairs about scenes: labels are exact, texts are read back, and tiny judges judge them alike in any batch."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plaudit import Batch, Context, Status
from plaudit.data.row import rows_to_batch
from plaudit.worlds.scene_judge import encoded, lessons, taught, untrained
from plaudit.worlds.scene_pairs import (
    CELLS,
    COLOUR_PAIRS,
    Claims,
    counting_questions,
    picture_code,
    pictures,
    read_claims,
    read_picture,
    scene_pairs,
)
from plaudit.worlds.scenes_render import COLOURS


def seen(row):
    return read_picture(row.prompt["image"])


def true_count(objects, colours):
    names = COLOUR_PAIRS[colours]
    return sum(bool(number) and COLOURS[(number - 1) % 4] in names for number in objects)


def test_labels_are_exact():
    rows = scene_pairs(600, 0)
    assert Counter(row.section for row in rows) == {"general": 200, "hallucination": 200, "reasoning": 200}
    for row in rows:
        objects, (better, worse) = seen(row), (read_claims(answer) for answer in row.responses)
        if row.section == "reasoning":
            assert better.colours == worse.colours
            assert better.count == true_count(objects, better.colours) != worse.count
            continue
        assert better.objects == objects
        wrong = [cell for cell in range(4) if worse.objects[cell] not in (0, objects[cell])]
        if row.section == "general":
            assert not wrong
            assert sum(map(bool, worse.objects)) == sum(map(bool, objects)) - 1
            continue
        assert len(wrong) == 1
        assert sum(map(bool, worse.objects)) == sum(map(bool, objects)), "length gives nothing away"
        (cell,) = wrong
        said, there = worse.objects[cell] - 1, objects[cell] - 1
        tag = row.extras["tag"]
        assert (tag == "existence") == (there < 0)
        assert tag != "attribute" or (said // 4 == there // 4 and said % 4 != there % 4)
        assert tag != "recognition" or (said // 4 != there // 4 and said % 4 == there % 4)
    assert len({row.extras["tag"] for row in rows}) == 5
    assert [row.prompt for row in scene_pairs(9, 0)] == [row.prompt for row in rows[:9]]


def test_counting_questions_have_right_and_wrong_candidates():
    rows = counting_questions(60, 8, 0)
    for row in rows:
        assert 0 < sum(row.gold) < 8
        for answer, gold in zip(row.responses, row.gold, strict=True):
            claims = read_claims(answer)
            assert (claims.count == true_count(seen(row), claims.colours)) == (gold == 1)
    share = sum(sum(row.gold) for row in rows) / (8 * len(rows))
    assert 0.25 < share < 0.5


@given(st.lists(st.integers(0, 16), min_size=4, max_size=4))
@settings(max_examples=50, deadline=None)
def test_pictures_are_named_and_read(objects):
    code = picture_code(tuple(objects))
    assert read_picture(code) == tuple(objects)
    assert pictures([code]).shape == (1, 3, 16, 16)


@pytest.mark.parametrize(
    "answer", ["", "nothing to say", None, 3, "red + red objects: 1", "red + blue objects: 9", "left: red disc"]
)
def test_what_says_nothing(answer):
    assert read_claims(answer) is None


def test_what_is_read():
    assert read_claims(f"{CELLS[1]}: red disc. {CELLS[3]}: blue square.") == Claims((0, 5, 0, 3))
    assert read_claims("blue + red objects: 2") == read_claims("red + blue objects: 2")
    with pytest.raises(ValueError, match="no picture"):
        read_picture("red disc|-")


def judged(judge, rows, seed=0):
    batch = rows_to_batch(rows)
    first = torch.arange(0, len(batch), 2)
    return judge.compare(batch, first, first + 1, Context(seed=seed))


def test_verdicts_repeat_whatever_the_batch():
    judge, rows = untrained(8, 0), scene_pairs(60, 1)
    whole = judged(judge, rows)
    assert torch.equal(whole.prob, judged(judge, rows).prob)
    parts = torch.cat([judged(judge, rows[:25]).prob, judged(judge, rows[25:]).prob])
    assert torch.equal(whole.prob, parts)
    assert not torch.equal(whole.prob, judged(judge, rows, seed=1).prob)
    orders = Counter(said[0].order for said in whole.verdicts)
    assert min(orders.values()) > 15
    assert all(said[0].choice == ("1" if (said[0].order == (0, 1)) == (said[0].value == 1) else "2") for said in whole.verdicts)


def test_verdicts_follow_the_probabilities():
    """Over many seeds, a pair goes to its first answer as often as the mean of both orders says."""
    judge, (row,) = untrained(8, 0), scene_pairs(1, 3)
    said = [read_claims(answer) for answer in row.responses]
    forward, backward = judge.log_probs([row.prompt["image"]] * 2, [(said[0], said[1]), (said[1], said[0])]).exp()[:, 0].tolist()
    won = sum(float(judged(judge, [row], seed).prob) for seed in range(400)) / 400
    assert won == pytest.approx((forward + 1 - backward) / 2, abs=0.08)


def test_an_unreadable_answer_is_unparsable_and_harms_no_other():
    rows = scene_pairs(3, 0)
    batch = rows_to_batch(rows)
    batch = Batch(batch.prompts, ["no idea", *batch.responses[1:]])
    found = untrained(8, 0).compare(batch, torch.tensor([0, 2]), torch.tensor([1, 3]), Context(seed=0))
    assert found.status.tolist() == [Status.UNPARSABLE, Status.OK]
    assert found.prob[0].isnan()
    assert found.prob[1] == judged(untrained(8, 0), rows).prob[1]


def test_lessons_are_shown_in_both_orders_with_the_label():
    rows = scene_pairs(60, 0)
    given = lessons(rows, 0)
    assert 15 < int(given.right.sum()) < 45
    for place, row in enumerate(rows):
        order = [read_claims(answer) for answer in row.responses][:: -1 if given.right[place] else 1]
        expected = encoded([row.prompt["image"]], [(order[0], order[1])])
        for part, wanted in zip(given.select([place]).inputs, expected, strict=True):
            assert torch.equal(part, wanted)


def test_judges_learn_and_are_copies_of_one_course():
    start = untrained(16, 0)
    weights = {name: value.clone() for name, value in start.network.state_dict().items()}
    early, late = taught(start, [2, 60], 0, rows=600)
    assert (early.trained, late.trained) == (2, 60)
    assert all(torch.equal(value, weights[name]) for name, value in start.network.state_dict().items())
    again = taught(start, [2], 0, rows=600)[0]
    assert again.fingerprint() == early.fingerprint() != late.fingerprint()
    general = scene_pairs(150, 5, ["general"])
    assert judged(late, general).prob.mean() > judged(start, general).prob.mean() + 0.1
