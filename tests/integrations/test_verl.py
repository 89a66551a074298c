"""verl loads a reward file with plaudit in it, and its reward managers ask it about real DataProtos."""

import asyncio
import math

import pytest

from plaudit import UserError, load_reward
from plaudit.integrations.plug import UnjudgedError
from plaudit.integrations.verl import verl_reward
from tests.integrations.programs import answer
from tests.integrations.test_trl import Best

FILE = """
from plaudit import as_reward, load_reward
from plaudit.integrations.verl import verl_reward

short = as_reward(lambda response: 1.0 / (1 + len(response)), name="short", settings={})
reward = load_reward("math") + short
compute_score = verl_reward(reward, unjudged=-1.0)
compute_score_async = verl_reward(reward, unjudged=-1.0, call="async")
compute_scores = verl_reward(reward, unjudged=-1.0, call="batch")
"""
REWARDS = [1 + 1 / 2, 0 + 1 / 16, 0 + 1 / 2, -1]
"""Of a right answer, two wrong ones, and one that cannot be read."""


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """All ways of asking in one process, which has loaded its packages only once."""
    folder = tmp_path_factory.mktemp("verl")
    (folder / "reward.py").write_text(FILE)
    return answer("verl", "verl_calls", "reward.py", "sync", "async", "batch", "naive", "bare", folder=folder)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_reward_loop(kind, asked):
    found = asked[kind]
    assert [row["reward_score"] for row in found] == pytest.approx(REWARDS)
    infos = [row["reward_extra_info"] for row in found]
    assert [info["judged"] for info in infos] == [1, 1, 1, 0]
    assert [info["math"] for info in infos] == [1, 0, 0, None]
    assert all(info.keys() == infos[0].keys() for info in infos)  # verl takes the first row's names for all


def test_the_batch_reward_manager(asked):
    found = asked["batch"]
    assert found["rewards"] == pytest.approx(REWARDS)
    assert found["where"] == [[0], [14], [0], [23]]  # on the last token of each response
    assert found["extra"]["judged"] == [1, 1, 1, 0]


def test_the_naive_reward_manager(asked):
    assert asked["naive"] == pytest.approx(REWARDS)


def test_a_missing_prompt_is_told(asked):
    assert "verl's extra_info has no 'question'" in asked["bare"]["error"]


def test_a_reward_that_reads_no_prompt():
    assert verl_reward("exact-match", prompt=None)("d", "a", "a") == {"score": 1.0, "judged": 1.0}


def test_unjudged_samples_stop_the_run_unless_their_worth_is_stated():
    with pytest.raises(UnjudgedError, match="1 of 1 rows"):
        verl_reward("math", prompt=None)("d", "I am not sure about that", "2")
    found = verl_reward("math", prompt=None, unjudged=0.5)("d", "I am not sure about that", "2", {})
    assert found == {"score": 0.5, "judged": 0.0}
    with pytest.raises(UserError, match="a number for every sample"):
        verl_reward("math", unjudged=None)


def test_many_coroutines_are_judged_together():
    sizes = []

    class Counting(type(load_reward("exact-match"))):
        def score(self, batch, ctx=None):
            sizes.append(len(batch))
            return super().score(batch, ctx)

    compute_score = verl_reward(Counting(), prompt=None, call="async")

    async def all_at_once():
        return await asyncio.gather(*(compute_score("d", str(n), "7") for n in range(50)))

    found = asyncio.run(all_at_once())
    assert [one["score"] for one in found] == [float(n == 7) for n in range(50)]
    assert sum(sizes) == 50
    assert len(sizes) < 50


def test_groups_only_come_in_batches():
    with pytest.raises(UserError, match="verl asks about one at a time"):
        verl_reward(Best())
    compute_scores = verl_reward(Best(), call="batch")
    infos = [{"question": "p"}, {"question": "p"}, {"question": "q"}]
    assert [one["score"] for one in compute_scores(["d"] * 3, ["a", "aa", "b"], [None] * 3, infos)] == [0, 1, 1]


def test_parts_of_unjudged_rows_are_nan():
    reward = load_reward("math") + load_reward("brevity")
    compute_scores = verl_reward(reward, prompt=None, unjudged=0.0, call="batch")
    right, unread = compute_scores(["d"] * 2, ["2", "I am not sure about that"], ["2", "2"])
    assert right["math"] == 1
    assert math.isnan(unread["math"])
    assert unread["brevity"] > 0
