import json
import random

import pytest

from plaudit.data.row import Row
from plaudit.judging import Runner, Summary
from plaudit.judging.summary_state import forget_clusters, summary_from_state, summary_state
from tests.judging.rewards import LikesFirst, WordCount


def rows(count, seed=0):
    draw = random.Random(seed)
    made = []
    for index in range(count):
        responses = tuple("word " * draw.randint(0, 6) for _ in range(2))
        gold = None if index % 3 == 0 else draw.choice([(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)])
        made.append(Row(str(index), f"prompt {index % 7}", responses, gold=gold, section=draw.choice(["a", "b"])))
    return made + [Row(f"single {index}", "?", ("yes " * (index % 2),), gold=(float(index % 2),)) for index in range(10)]


def summary_of(reward, rows):
    summary = Summary()
    for result in Runner(reward).run(rows):
        summary.add(result)
    return summary


@pytest.mark.parametrize("reward", [WordCount, LikesFirst])
def test_parts_merge_into_the_summary_of_the_whole(reward):
    judged = rows(200)
    whole = summary_of(reward(), judged)
    merged = Summary()
    for start in range(0, len(judged), 36):
        state = json.loads(json.dumps(summary_state(summary_of(reward(), judged[start : start + 36])), allow_nan=False))
        merged.merge(summary_from_state(state))
    assert merged.to_json() == whole.to_json()
    assert merged.details == whole.details
    forget_clusters(merged)
    assert merged.to_json() == whole.to_json()
    assert len(json.dumps(summary_state(Summary()))) < 1000


def test_a_small_summary_takes_no_more_rows():
    summary = summary_of(WordCount(), rows(20))
    forget_clusters(summary)
    with pytest.raises(ValueError, match="forgotten"):
        summary.merge(summary_of(WordCount(), rows(20)))
    with pytest.raises(ValueError, match="forgotten"):
        summary_state(summary)


def test_parts_that_share_prompts_count_a_prompt_once():
    judged = rows(60)
    first, second = summary_of(WordCount(), judged[:30]), summary_of(WordCount(), judged[30:60])
    first.merge(second)
    assert first.labelled.strict.estimate().clusters == 7


def test_an_empty_part_changes_nothing():
    summary = summary_of(WordCount(), rows(50))
    before = summary.to_json()
    summary.merge(Summary())
    assert summary.to_json() == before
