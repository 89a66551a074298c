"""Equal cost, expected best-of-n against all subsets, recorded samples, and the one-call form."""

import gzip
import itertools
import json
import math

import pytest
import torch

import plaudit
from plaudit.data import read_rows, rows_to_batch
from plaudit.rewards.rules import as_reward
from plaudit.search.adaptive import AdaptiveBestOfN, PrunedBestOfN
from plaudit.search.best_of_n import BestOfN, SelfConsistency, Vote
from plaudit.search.catalogue import SEARCHES, build_search
from plaudit.search.comparing import compare_searches, expected_best_of_n, samples_of
from plaudit.search.easy import best_of_n
from plaudit.search.recorded import best_recorded
from plaudit.types import Batch, Budget, Sampling, Scores, SpecError, UserError
from tests.search.toy import Numbers, Worth, questions, round_trip

HOW = Sampling(max_tokens=2, temperature=1.0)


class Even(Worth):
    def score(self, batch, ctx=None):
        return Scores(torch.tensor([float(int(text) % 2 == 0) for text in batch.responses]))


def test_baselines_cost_the_same():
    searches = {"adaptive": AdaptiveBestOfN(tau=80.0, n_max=6, how=HOW), "three": BestOfN(n=3, how=HOW)}
    for equal in ("samples", "sampled_tokens"):
        found = compare_searches(searches, Numbers(), Worth(), questions(40), truth=Even(), how=HOW, equal=equal)
        for one in found:
            figures = one.figures()
            difference = abs(figures[equal] - figures[f"baseline_{equal}"])
            assert difference <= (0.0 if equal == "samples" else 0.05 * figures[equal])
            evens = [float(int(text) % 2 == 0) for text in one.result.batch.responses]
            assert one.quality == evens
            assert figures["gain"] == pytest.approx(figures["quality"] - figures["baseline_quality"])
            assert figures["without_quality"] == 0
    with pytest.raises(UserError, match="no prompts"):
        compare_searches(searches, Numbers(), Worth(), questions(0), truth=Even())


def test_a_prompt_without_a_result_has_no_quality():
    (found,) = compare_searches({"one": BestOfN(n=1, how=HOW)}, Numbers(), Worth(broken=3), questions(30), truth=Even(), how=HOW)
    missing = [int(record["response"]) % 3 == 0 for record in found.result.history]
    assert [value is None for value in found.quality] == missing
    assert found.figures()["without_quality"] >= sum(missing) > 0


@pytest.mark.parametrize("values", [[0.3, 0.9, None, 0.9, 0.1], [1.0, 2.0, 3.0, 4.0, 5.0], [None] * 5])
def test_expected_best_is_the_mean_over_all_subsets(values):
    worth = [1.0, 0.0, 4.0, 2.0, 8.0]

    def best(rows):
        return worth[max(rows, key=lambda row: (-math.inf if values[row] is None else values[row], -row))]

    for n in (1, 2, 3, 5):
        subsets = list(itertools.combinations(range(5), n))
        assert expected_best_of_n(values, worth, n) == pytest.approx(sum(map(best, subsets)) / len(subsets))
    middle = (expected_best_of_n(values, worth, 2) + 3 * expected_best_of_n(values, worth, 3)) / 4
    assert expected_best_of_n(values, worth, 2.75) == pytest.approx(middle)
    for n in (0.5, 6):
        with pytest.raises(ValueError, match="cannot be told"):
            expected_best_of_n(values, worth, n)


def test_samples_of_a_search():
    prompts = questions(3)
    result = BestOfN(n=2, how=HOW).run(Numbers(), Worth(), prompts, budget=Budget(), seed=0)
    batch = samples_of(result, prompts)
    assert batch.groups.tolist() == [0, 0, 1, 1, 2, 2]
    assert batch.references == ["0", "0", "1", "1", "2", "2"]
    assert Worth().score(batch).values.tolist() == [record["value"] for record in result.history]


def test_recorded_samples():
    batch = Batch(["p", "p", "q", "q", "q"], ["3", "12", "7", "1", "7"], groups=torch.tensor([4, 4, 1, 1, 1]))
    assert list(best_recorded(batch, Worth()).batch.responses) == ["12", "7"]
    votes = best_recorded(batch, Worth(), search=SelfConsistency(answer="whole"))
    assert list(votes.batch.responses) == ["3", "7"]
    assert votes.scores.values.tolist() == pytest.approx([0.5, 2 / 3])
    first = best_recorded(batch, Worth(), budget=Budget({"reward_calls": 3}))
    assert first.stopped is not None
    second = best_recorded(batch, Worth(), state=round_trip(first.state))
    assert list(second.batch.responses) == ["12", "7"]
    assert second.spent == {"reward_calls": 2.0}
    with pytest.raises(UserError):
        best_recorded(batch.select([0, 1]), Worth(), state=first.state)


@pytest.mark.public_data
def test_recorded_rewards_give_the_published_accuracy(public_data):
    """Qwen2.5-Math (arXiv 2409.12122): eight solutions of 100 problems; the recorded reward's best is right 94 times, the
    majority (of the recorded answers, the first of equals) 93 times, a single solution 91.0 times on average."""
    path = public_data("qwen_math_best_of_8") / "math_cot_100.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    batch = rows_to_batch(list(read_rows(path)))
    assert len(batch) == 800
    columns = {name: [one for record in records for one in record[name]] for name in ("pred_score", "score", "pred")}
    batch.extras |= {"recorded": [value[0] for value in columns["pred_score"]], "right": columns["score"]}
    recorded = as_reward(lambda response, recorded: recorded, name="recorded", settings={})

    result = best_recorded(batch, recorded)
    places = [
        max((record["row"] for record in result.history if record["prompt"] == prompt),
            key=lambda row: (batch.extras["recorded"][row], -row))
        for prompt in range(100)
    ]  # fmt: skip
    assert list(result.batch.ids) == [batch.ids[row] for row in places]
    assert sum(result.batch.extras["right"]) == 94
    named = dict(zip(map(str, batch.responses), columns["pred"], strict=True))
    votes = best_recorded(batch, recorded, search=SelfConsistency(answer=lambda text: named[text]))
    assert sum(votes.batch.extras["right"]) == 93
    assert sum(columns["score"]) / 8 == pytest.approx(91.0)


def test_in_one_call():
    assert plaudit.best_of_n is best_of_n
    result = best_of_n(["question 0", "question 1"], Worth(), 5, generator=Numbers(), how=HOW)
    assert result.spent["samples"] == 10
    stopped = best_of_n(questions(4), Worth(), 5, generator=Numbers(), how=HOW, limits={"samples": 7})
    done = best_of_n(questions(4), Worth(), 5, generator=Numbers(), how=HOW, state=round_trip(stopped.state))
    assert done.scores.ok.all()
    other = best_of_n(questions(4), Worth(), generator=Numbers(), search=AdaptiveBestOfN(tau=0.0), how=HOW)
    assert other.spent["samples"] == 4
    with pytest.raises(UserError, match="no prompts"):
        best_of_n([], Worth(), generator=Numbers())


def test_names():
    kinds = {"best_of_n": BestOfN, "vote": Vote, "self_consistency": SelfConsistency, "adaptive": AdaptiveBestOfN,
             "pruned": PrunedBestOfN}  # fmt: skip
    assert set(kinds) <= set(SEARCHES)
    assert all(isinstance(build_search(name), kind) for name, kind in kinds.items())
    assert build_search("adaptive", tau=0.5, temperature={"first": 0.2, "last": 1.0}).temperature(1) == pytest.approx(0.2)
    for name, settings in (("best", {}), ("vote", {"m": 3})):
        with pytest.raises(SpecError):
            build_search(name, **settings)
