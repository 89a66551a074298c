"""lm-eval runs a task whose filter and results are plaudit's."""

import pytest

from plaudit import UserError, as_reward
from plaudit.integrations.lm_eval import lm_eval_reward
from tests.integrations.programs import answer


def check(found, key):
    results = found["results"]
    judged = [1 + 1 / 8, 1 + 1 / 15, 0 + 1]
    assert [row["reward"] for row in found["samples"]] == pytest.approx([*judged, None])
    assert results[f"reward,{key}"] == pytest.approx(sum(judged) / 3)  # over what could be judged
    assert results[f"judged,{key}"] == 0.75
    assert results[f"math,{key}"] == pytest.approx(2 / 3)
    assert results[f"reward_stderr,{key}"] > 0


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three evaluations in one process, which has loaded its packages only once."""
    return answer("lm-eval", "lm_eval_runs", "alone", "filter", "best", folder=tmp_path_factory.mktemp("lm-eval"))


def test_results_alone(runs):
    check(runs["alone"], "none")


def test_a_filter_that_judges_all_at_once(runs):
    found = runs["filter"]
    check(found, "plaudit")
    last = found["kept"][-1][0][0]
    assert last["status"] == "unparsable"
    assert last["reward"] is None


def test_a_filter_that_keeps_the_best(runs):
    found = runs["best"]
    assert [one[0] for one in found["kept"][:3]] == ["It is 2.", "The answer is 4", "7"]  # of three each, the shortest
    assert found["kept"][3] == ["I am not sure about that and so on and so on"]  # none could be judged: the first


def functions(**settings):
    return lm_eval_reward(as_reward(lambda response: float(len(response)), name="length", settings={}), **settings)


def test_several_responses_give_their_mean():
    judged = functions()
    rows = judged.judge_all([["a", "aaa"]], [{"question": "?"}])
    assert judged.process_results({"question": "?"}, rows) == {"reward": 2.0, "judged": 1.0}


def test_less_is_better_is_kept_as_it_is_and_the_least_is_best():
    judged = lm_eval_reward("repetition")
    docs, texts = [{"question": "?"}], ["a b c d a b c d a b c d", "a b c d e f g h"]
    rows = judged.judge_all([texts], docs)[0]
    assert rows[0]["reward"] > rows[1]["reward"] == 0
    assert judged.keep_best([texts], docs) == [texts[1]]


def test_fields_by_name_and_by_function():
    seen = []

    def judge(response, prompt, reference):
        seen.append((prompt, reference))
        return 1.0

    named = lm_eval_reward(as_reward(judge, settings={}), prompt="q", reference=lambda doc: doc["choices"][doc["right"]])
    named.judge_all([["a"]], [{"q": "which?", "choices": ["x", "y"], "right": 1}])
    assert seen == [("which?", "y")]
    with pytest.raises(UserError, match="no field with a prompt"):
        functions().judge_all([["a"]], [{"q": "which?"}])
