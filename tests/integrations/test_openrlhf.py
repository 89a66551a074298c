"""OpenRLHF's executor loads a reward file with plaudit in it, and asks it one rollout at a time from threads."""

import pytest
import torch

from plaudit import UserError, as_reward, load_reward
from plaudit.integrations.openrlhf import openrlhf_reward
from plaudit.types import Status
from tests.integrations.programs import answer
from tests.integrations.test_trl import Best

FILE = """
from plaudit import as_reward, load_reward
from plaudit.integrations.openrlhf import openrlhf_reward

short = as_reward(lambda response: 1.0 / (1 + len(response)), name="short", settings={})
reward_func = openrlhf_reward(load_reward("math") + short, unjudged=-1.0, endings=("<end>",))
"""


def test_the_executor_takes_the_rewards(tmp_path):
    (tmp_path / "reward.py").write_text(FILE)
    found = answer("openrlhf", "openrlhf_calls", "reward.py", folder=tmp_path)
    rewards = [row["reward"][0] for row in found["rows"]]
    assert rewards == pytest.approx([1 + 1 / 2, 1 + 1 / 16, 0 + 1 / 2, -1])  # right, right, wrong, nothing said
    assert [row["score"] for row in found["rows"]] == [row["reward"] for row in found["rows"]]
    assert [row["logs"]["judged"] for row in found["rows"]] == [[1.0], [1.0], [1.0], [0.0]]
    assert [row["logs"]["math"] for row in found["rows"]] == [[1.0], [1.0], [0.0], [None]]
    assert found["counts"] == {"ok": 3, "unparsable": 1}


def test_an_unjudged_rollout_has_no_reward_unless_its_worth_is_stated(tmp_path):
    (tmp_path / "reward.py").write_text(FILE.replace("unjudged=-1.0, ", ""))
    found = answer("openrlhf", "openrlhf_calls", "reward.py", folder=tmp_path)
    assert [row["reward"] is None for row in found["rows"]] == [False, False, False, True]


def reward(**settings):
    return openrlhf_reward(as_reward(lambda response: float(len(response)), name="length", settings={}), **settings)


def test_a_batch_of_samples():
    given = reward()(["Q: aab<|im_end|>\n", "Q: a"], ["Q: ", "Q: "], ["x", None])
    assert given["rewards"].tolist() == given["scores"].tolist() == [3, 1]
    assert given["rewards"].dtype == torch.float32
    assert given["extra_logs"]["judged"].tolist() == [1, 1]


def test_a_query_without_its_prompt_is_unjudged():
    function = reward(unjudged=0.25)
    assert function(["uestion? yes"], ["Question?"], [None])["rewards"].tolist() == [0.25]
    assert function.plug.counts == {Status.FAILED: 1}


def test_the_prompt_can_be_read_out_of_the_template():
    seen = []

    def judge(response, prompt):
        seen.append(prompt)
        return 1.0

    template = "<|user|>What?<|assistant|>"
    function = openrlhf_reward(
        as_reward(judge, settings={}), read_prompt=lambda text: text.split("<|user|>")[1].split("<|assistant|>")[0]
    )
    function([template + "That."], [template], [None])
    assert seen == ["What?"]


def test_rewards_that_compare_are_refused():
    with pytest.raises(UserError, match="OpenRLHF asks about one at a time"):
        openrlhf_reward(Best())
    with pytest.raises(UserError, match="a number for every sample"):
        openrlhf_reward(load_reward("math"), unjudged=None)
