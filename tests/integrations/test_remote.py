"""Converters whose reward is the address of a service give what they give with the reward itself."""

import pytest

from plaudit import EngineError
from plaudit.integrations.openrlhf import openrlhf_reward
from plaudit.integrations.plug import UnjudgedError
from plaudit.integrations.trl import trl_reward
from plaudit.integrations.verl import verl_reward
from plaudit.rewards.remote import RemoteReward
from tests.serve.running import running

RESPONSES = ["It is 2.", "a b c d a b c d a b c d", "I am not sure about that"]


@pytest.fixture(scope="module")
def service():
    with running("math", "repetition") as started:
        yield started


@pytest.mark.parametrize("name", ["math", "repetition"])
def test_trl(service, name):
    here, there = trl_reward(name), trl_reward(f"{service.url}#{name}")
    given = (["p"] * 3, RESPONSES)
    assert there(*given, solution=["2"] * 3) == here(*given, solution=["2"] * 3)
    assert there.plug.counts == here.plug.counts
    assert there.__name__ == name


def test_verl_and_openrlhf(service):
    address = f"{service.url}#math"
    assert verl_reward(address, prompt=None)("d", "It is 2.", "2", {"index": 1}) == {"score": 1.0, "judged": 1.0}
    with pytest.raises(UnjudgedError, match="1 unparsable"):
        verl_reward(address, prompt=None)("d", RESPONSES[2], "2")
    asked = openrlhf_reward(address, unjudged=-1.0)(["Q: 2</s>", f"Q: {RESPONSES[2]}"], ["Q: "] * 2, ["2", "2"])
    assert asked["rewards"].tolist() == [1, -1]


def test_a_service_that_is_gone_stops_the_run_and_says_where():
    with running("math") as started:
        told = trl_reward(RemoteReward(started.url, "math", retries=0))
        assert told(["p"], ["2"], solution=["2"]) == [1]
    with pytest.raises(EngineError, match=started.url.removeprefix("http://")):
        told(["p"], ["2"], solution=["2"])
