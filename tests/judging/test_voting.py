"""Judging in votes: each vote is kept by itself, counting follows the reward's kind, nothing is asked twice."""

import math

import pytest
import torch

from plaudit import BaseReward, Preferences, Scores, SpecError, Status
from plaudit.data import read_records
from plaudit.judging.runner import Runner
from plaudit.judging.voting import Voted, VoteRunner, at_temperature, votes_of
from plaudit.rewards.generative import Judge
from plaudit.rewards.generative.voting import Votes
from plaudit.store import Store
from plaudit.types import Budget, Context, EngineError
from tests.rewards.generative.scripted import user_text
from tests.rewards.generative.test_voting import PAIR, SCORE, WARM, SeededEngine, longer, stars

ROWS = [
    {"prompt": "how many?", "chosen": "one two three", "rejected": "one"},
    {"prompt": "and now?", "chosen": "one two", "rejected": "one"},
]


def rows():
    return list(read_records(ROWS))


def judge():
    return Judge(
        SeededEngine(lambda request, seed: stars(user_text(request).split("<response>")[1].split("</")[0], seed)),
        SCORE,
        sampling=WARM,
    )


def test_votes_count_as_the_reward_of_votes_does(tmp_path):
    runner = VoteRunner(judge(), Store(tmp_path / "votes.sqlite"), votes=4)
    found = list(runner.run(rows()))
    whole = list(Runner(Votes(judge(), 4)).run(rows()))
    for mine, theirs in zip(found, whole, strict=True):
        assert mine.values == pytest.approx(theirs.values)
        assert [one.spread for one in mine.responses] == pytest.approx([one.spread for one in theirs.responses])
        assert [one.parts["votes"] for one in mine.responses] == [3, 3]
        assert [verdict.name for verdict in mine.responses[0].verdicts] == ["vote 1", "vote 2", "vote 3", "vote 4"]
        assert [verdict.status for verdict in mine.responses[0].verdicts].count(Status.UNPARSABLE) == 1
        assert len(votes_of(mine)) == 4
    assert runner.progress.judged == 16
    assert runner.progress.rows == 2


@pytest.mark.parametrize("combine", ["mean", "majority"])
def test_pairs_count_as_the_reward_of_votes_does(combine):
    def comparing():
        return Judge(SeededEngine(longer), PAIR, sampling=WARM)

    found = list(VoteRunner(comparing(), votes=5, combine=combine).run(rows()))
    whole = list(Runner(Votes(comparing(), 5, combine)).run(rows()))
    for mine, theirs in zip(found, whole, strict=True):
        assert mine.pairs[0].prob == pytest.approx(theirs.pairs[0].prob)
        assert mine.pairs[0].by_order == pytest.approx(theirs.pairs[0].by_order)
        assert mine.values == pytest.approx(theirs.values)
        assert len(mine.pairs[0].verdicts) == 10


def test_a_second_run_asks_nothing_and_more_votes_ask_for_the_missing_ones_only(tmp_path):
    store = Store(tmp_path / "votes.sqlite")
    first = list(VoteRunner(judge(), store, votes=3).run(rows()))
    again = judge()
    budget = Budget()
    second = list(VoteRunner(again, store, Context(budget=budget), votes=3).run(rows()))
    assert [one.to_json() for one in second] == [one.to_json() for one in first]
    assert not again.engine.sent
    assert not budget.spent
    more = judge()
    runner = VoteRunner(more, store, Context(budget=budget), votes=5)
    assert len(votes_of(next(iter(runner.run(rows()))))) == 5
    # four responses, two new votes; the votes that could not be read are kept too
    assert (len(more.engine.sent), runner.progress.judged, runner.progress.reused) == (8, 8, 12)
    assert budget.spent["reward_calls"] == 8


class Grouped(BaseReward):
    """Ranks three rows by a table of its seeds."""

    name = "grouped"

    def __init__(self, table):
        self.table, self.settings = table, {"table": [[str(value) for value in line] for line in table]}

    def score_group(self, batch, ctx=None):
        values = torch.tensor(self.table[ctx.seed]).repeat(len(batch) // 3)
        return Scores(values, torch.where(values.isnan(), int(Status.UNPARSABLE), 0).to(torch.int8))


def test_in_a_group_a_vote_counts_for_all_rows_or_for_none():
    three = list(read_records([{"prompt": "x", "responses": ["a", "b", "c"]}]))
    table = [[9.0, 2.0, 2.0], [9.0, math.nan, 8.0], [1.0, 3.0, 2.0]]
    values = {how: next(iter(VoteRunner(Grouped(table), votes=3, combine=how).run(three))).values for how in ("mean", "majority")}
    assert values == {"mean": [5, 2.5, 2], "majority": [0.5, 0.5, 0]}
    lost = next(iter(VoteRunner(Grouped([[math.nan, 1.0, 1.0]] * 2), votes=2).run(three)))
    assert lost.values == [None, None, None]
    assert {one.status for one in lost.responses} == {Status.UNPARSABLE}


def test_one_vote_is_an_ordinary_run():
    (one, _), (other, _) = list(VoteRunner(judge()).run(rows())), list(Runner(judge()).run(rows()))
    assert one.to_json() == other.to_json()
    assert not isinstance(one, Voted)


def test_a_run_that_loses_its_engine_says_so_and_goes_on_from_the_store(tmp_path):
    store = Store(tmp_path / "votes.sqlite")

    class Goes(SeededEngine):
        def generate(self, requests, how, *, budget=None):
            if how.seed == 2:
                raise EngineError("the server hung up")
            return super().generate(requests, how, budget=budget)

    runner = VoteRunner(Judge(Goes(lambda *_: "Stars: 4"), SCORE, sampling=WARM), store, votes=4)
    found = list(runner.run(rows()))
    assert "cannot be reached" in runner.progress.stopped
    assert all(status is Status.UNREACHABLE for result in found for status in (one.status for one in result.responses))
    healed = VoteRunner(Judge(SeededEngine(lambda *_: "Stars: 4"), SCORE, sampling=WARM), store, votes=4)
    assert next(iter(healed.run(rows()))).values == [4, 4]
    assert healed.progress.judged == 4
    assert healed.progress.stopped is None


def test_what_cannot_vote_is_refused():
    cold = Judge(SeededEngine(lambda *_: "Stars: 3"), SCORE)
    for make in (
        lambda: VoteRunner(cold, votes=2),
        lambda: VoteRunner(judge(), votes=0),
        lambda: VoteRunner(Judge(SeededEngine(longer), PAIR, sampling=WARM), votes=2, combine="sum"),
        lambda: at_temperature(Grouped([[1.0, 2.0, 3.0]]), 0.5),
    ):
        with pytest.raises(SpecError):
            make()
    warm = at_temperature(cold, 0.7)
    assert (warm.sampling.temperature, warm.uses_seed, cold.sampling.temperature) == (0.7, True, 0.0)
    assert warm.fingerprint() != cold.fingerprint()
    assert next(iter(VoteRunner(warm, votes=2).run(rows()))).values == [3, 3]


def test_preferences_of_a_pair_without_any_readable_vote_have_no_number():
    class Silent(BaseReward):
        name = "silent"
        settings = None

        def compare(self, batch, first, second, ctx=None):
            return Preferences(
                first, second, torch.full((len(first),), math.nan), status=torch.full((len(first),), int(Status.UNPARSABLE))
            )

    result = next(iter(VoteRunner(Silent(), votes=3).run(rows())))
    assert (result.pairs[0].prob, result.pairs[0].status) == (None, Status.UNPARSABLE)
