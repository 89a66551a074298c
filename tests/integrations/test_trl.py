"""TRL's own trainers train against plaudit's rewards; what they log is what plaudit says."""

from itertools import chain

import pytest

from plaudit import BaseReward, Batch, Scores, Status, UserError, as_reward
from plaudit.integrations.plug import UnjudgedError
from plaudit.integrations.trl import trl_judge, trl_reward
from tests.integrations.programs import answer


def check_run(found):
    assert found["steps"] == 5
    assert found["moved"] > 0, "nothing was trained"
    answered, own = (list(chain.from_iterable(found[name])) for name in ("answered", "own"))
    assert [value is None for value in answered] == [value is None for value in own]
    assert [value for value in answered if value is not None] == pytest.approx([value for value in own if value is not None])
    assert found["logged"] == pytest.approx(found["own_means"])
    assert found["unjudged"] == [sum(value is None for value in step) for step in found["own"]]
    unjudged = sum(value is None for value in own)
    assert 0 < unjudged < len(own), "the run shows nothing about rows without a score"
    assert found["counts"]["ok"] == len(own) - unjudged
    assert found["counts"]["unparsable"] == unjudged
    assert {"composed/status", "composed/math", "composed/digits"} <= set(found["parts"])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three runs in one process, which has loaded its packages only once."""
    return answer("trl", "trl_runs", "grpo", "grpo_chat_async", "online", folder=tmp_path_factory.mktemp("trl"))


def test_grpo_logs_what_plaudit_says(runs):
    check_run(runs["grpo"])


def test_grpo_with_chats_and_a_coroutine(runs):
    check_run(runs["grpo_chat_async"])


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_grpo_on_the_embedded_model(tmp_path):
    check_run(answer("trl", "trl_runs", "grpo_embedded", folder=tmp_path, timeout=600)["grpo_embedded"])


def test_online_dpo_prefers_what_the_judge_prefers(runs):
    check_pairs(runs["online"])


def test_a_release_with_judges_prefers_what_the_judge_prefers(tmp_path):
    check_pairs(answer("trl-judges", "trl_runs", "online_judge", folder=tmp_path)["online_judge"])


def check_pairs(found):
    assert len(found["ranks"]) == found["counts"] == 8
    assert found["ranks"] == [int(first < second) for first, second in found["digits"]]
    assert 0 < sum(found["ranks"]) < 8


class Best(BaseReward):
    """1 for the longest of a group, 0 for the others."""

    name = "best"

    def score_group(self, batch, ctx=None):
        import torch

        values = torch.zeros(len(batch))
        for rows in batch.group_rows():
            values[max(rows, key=lambda row: len(batch.responses[row]))] = 1.0
        return Scores(values)


def test_completions_of_a_prompt_are_a_group():
    rewards = trl_reward(Best(), group_size=2)
    assert rewards(["p", "p", "q", "q"], ["a", "aa", "bbb", "b"], completion_ids=[[1]] * 4) == [0, 1, 1, 0]
    assert rewards(["p", "q", "p", "q"], ["a", "bbb", "aa", "b"]) == [0, 1, 1, 0]


def test_a_group_split_over_processes_is_refused():
    with pytest.raises(UserError, match="1 completions instead of 2"):
        trl_reward(Best(), group_size=2)(["p", "p", "q"], ["a", "aa", "b"])


def test_less_is_better_is_negated():
    value, other = trl_reward("repetition")(["p", "p"], ["a b c d a b c d a b c d", "a b c d e f g h"])
    assert value < other == 0


def test_the_column_with_the_reference():
    rewards = trl_reward("exact-match", reference="gold")
    assert rewards(["p", "p"], ["a", "b"], gold=["a", "a"], solution=["b", "b"]) == [1, 0]
    with pytest.raises(UserError, match="no column 'gold' for the reference"):
        rewards(["p"], ["a"], solution=["b"])
    with pytest.raises(UserError, match="solution, answer may all be the reference"):
        trl_reward("exact-match")(["p"], ["a"], solution=["b"], answer=["c"])


@pytest.mark.parametrize(("unjudged", "worth"), [(None, None), (-2.0, -2.0)])
def test_what_cannot_be_judged_is_never_a_silent_zero(unjudged, worth, caplog):
    rewards = trl_reward("exact-match", unjudged=unjudged)
    assert rewards(["p", "p"], ["a", "b"], solution=["a", None]) == [1, worth]
    assert rewards.plug.counts == {Status.OK: 1, Status.MISSING_REFERENCE: 1}
    assert rewards.plug.summary() == "1 judged; unjudged: 1 missing_reference"
    assert "could not judge 1 of 2 rows (1 missing_reference" in caplog.text


def test_unjudged_rows_can_stop_a_run():
    with pytest.raises(UnjudgedError, match="1 of 2 rows"):
        trl_reward("exact-match", unjudged="raise")(["p", "p"], ["a", "b"], solution=["a", None])


def test_pairs_without_a_verdict_stop_online_dpo():
    silent = as_reward(lambda response: None, name="silent", settings={})
    with pytest.raises(UnjudgedError, match="1 of 1 pairs"):
        trl_judge(silent).judge(["p"], [["a", "b"]])
    assert trl_judge(silent, unjudged=None).judge(["p"], [["a", "b"]]) == [-1]
    assert trl_judge(silent, unjudged=0.5)(["p", "p"], ["a", "b"]) == [0.5, 0.5]


def test_pairs_in_another_order_are_refused():
    judge = trl_judge(as_reward(lambda response: float(len(response)), name="length", settings={}))
    with pytest.raises(UserError, match="all first ones before all second ones"):
        judge(["p", "p", "q", "q"], ["a", "b", "c", "d"])


def test_the_step_reaches_the_reward():
    seen = []

    class Watch(BaseReward):
        name = "watch"

        def score(self, batch: Batch, ctx=None):
            import torch

            seen.append((ctx.step, ctx.progress, batch.extras["level"]))
            return Scores(torch.zeros(len(batch)))

    class State:
        global_step, max_steps = 3, 4

    trl_reward(Watch())(["p"], [[{"role": "assistant", "content": "a"}]], level=[7], trainer_state=State())
    assert seen == [(3, 0.75, [7])]
