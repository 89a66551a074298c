import pickle
import threading
import time
from concurrent.futures import wait

import pytest

from plaudit import BaseReward, EngineError, Scores, SpecError, Status, UserError, as_reward
from plaudit.integrations.gathering import Gathering
from plaudit.integrations.one_by_one import OneByOne, Sample
from plaudit.integrations.plug import Plug, batch_of, open_reward
from tests.test_house import loaded_after


def length(response):
    return float(len(response))


def test_what_may_be_a_reward():
    reward = as_reward(length)
    assert open_reward(reward) is reward
    assert open_reward(length).name == "length"
    assert open_reward("math").name == "math"
    with pytest.raises(SpecError, match="unknown reward"):
        open_reward("no-such-reward")
    with pytest.raises(UserError, match="a int is no reward"):
        open_reward(3)


def test_messages_become_rows():
    chat = [{"role": "user", "content": "Why?"}]
    said = [{"role": "assistant", "content": "So."}]
    long = [
        {"role": "assistant", "content": "Let me see"},
        {"role": "tool", "content": "4"},
        {"role": "assistant", "content": "4"},
    ]
    batch = batch_of([chat, chat, "Why?"], [said, long, "plain"], {"user": [1, 2, 3], "level": [4, 5, 6], "answer": list("abc")})
    assert batch.responses == ["So.", long, "plain"]
    assert batch.groups.tolist() == [0, 0, 1]
    assert (batch.users, batch.references, batch.extras) == ([1, 2, 3], ["a", "b", "c"], {"level": [4, 5, 6]})


class Breaks(BaseReward):
    """Raises for the response `bad`, and for everything where the engine is gone."""

    name = "breaks"

    def __init__(self, gone=False):
        self.gone = gone

    def score(self, batch, ctx=None):
        import torch

        if self.gone:
            raise EngineError("the engine is gone")
        if "bad" in batch.responses:
            raise ValueError("no")
        return Scores(torch.tensor([float(len(text)) for text in batch.responses]))


def test_a_row_on_which_the_reward_raises_costs_only_itself(caplog):
    plug = Plug(Breaks())
    judged = plug.judge(batch_of(["p"] * 3, ["a", "bad", "cc"]))
    assert judged.values == [1, None, 2]
    assert plug.counts == {Status.OK: 2, Status.FAILED: 1}
    assert "raised ValueError: no" in caplog.text


def test_an_engine_that_is_gone_is_no_row_without_a_score():
    single = OneByOne(Plug(Breaks(gone=True)), "the test")
    futures = [single.submit(Sample("p", text)) for text in "ab"]
    for future in futures:
        with pytest.raises(EngineError, match="gone"):
            future.result(10)


def test_one_by_one_gives_each_sample_its_own_answer():
    single = OneByOne(Plug(as_reward(lambda response, reference: response == reference, name="same", settings={})), "the test")
    asked = [Sample("p", text, "a" if text < "m" else None, {"n": 1} if text > "f" else {}) for text in "afmz"]
    found = [future.result(10) for future in [single.submit(sample) for sample in asked]]
    assert [one.values for one in found] == [[1], [0], [None], [None]]
    assert found[2].status == [Status.MISSING_REFERENCE]


def test_rows_that_arrive_meanwhile_are_judged_together():
    sizes, gate = [], threading.Event()

    def judge(rows):
        sizes.append(len(rows))
        gate.wait(10)
        return [row * 2 for row in rows]

    gathering = Gathering(judge, limit=8)
    first = gathering.submit(0)
    while not sizes:
        time.sleep(0.001)
    rest = [gathering.submit(row) for row in range(1, 21)]
    rest[0].cancel()
    gate.set()
    wait([first, *rest[1:]], timeout=10)
    assert first.result() == 0
    assert [future.result() for future in rest[1:]] == [row * 2 for row in range(2, 21)]
    assert sizes == [1, 7, 8, 4]  # the cancelled one was not judged


def test_an_error_goes_to_every_row_of_its_batch_and_the_next_batch_goes_on():
    def judge(rows):
        if 1 in rows:
            raise ValueError("one")
        return rows

    gathering = Gathering(judge, limit=1)
    bad, good = gathering.submit(1), gathering.submit(2)
    with pytest.raises(ValueError, match="one"):
        bad.result(10)
    assert good.result(10) == 2


def test_a_judge_that_answers_for_too_few_rows_hangs_nobody():
    gathering = Gathering(lambda rows: [], limit=4)
    with pytest.raises(ValueError, match="shorter"):
        gathering.submit(1).result(10)


def test_a_plug_can_be_sent_to_another_process():
    plug = Plug(as_reward(length), unjudged=0.5)
    plug.judge(batch_of(["p"], ["abc"]))
    single = pickle.loads(pickle.dumps(OneByOne(plug, "the test")))
    assert single.submit(Sample("p", "ab")).result(10).values == [2]


def test_converters_come_without_torch_and_without_the_tools():
    modules = ", ".join(f"plaudit.integrations.{name}" for name in ("trl", "verl", "openrlhf", "lm_eval"))
    assert loaded_after(f"import {modules}") == []
