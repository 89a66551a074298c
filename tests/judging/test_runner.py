import pytest

from plaudit.data.row import Row
from plaudit.judging import Runner, Summary
from plaudit.judging.output import dump
from plaudit.store import Store
from plaudit.types import Budget, Context, Status, UserError
from tests.judging.rewards import GroupRank, LikesFirst, WordCount


def rows(count=10):
    return [Row(f"r{index}", f"prompt {index}", ("a b c " * (index + 1), "x"), gold=(1.0, 0.0)) for index in range(count)]


def test_scores_come_in_the_order_of_the_rows_and_again_from_the_store(tmp_path):
    store = Store(tmp_path / "v.sqlite")
    first = Runner(WordCount(), store)
    results = list(first.run(rows()))
    assert [result.values for result in results] == [[3.0 * (index + 1), 1.0] for index in range(10)]
    assert (first.progress.judged, first.progress.reused) == (20, 0)
    again = WordCount()
    second = Runner(again, store)
    assert [dump(result.to_json()) for result in second.run(rows())] == [dump(result.to_json()) for result in results]
    assert again.calls == 0
    assert second.progress.reused == 20


def test_the_same_sample_is_judged_once(tmp_path):
    reward = WordCount(batch_size=8)
    same = [Row(str(index), "p", ("one two", "one two")) for index in range(5)]
    results = list(Runner(reward, Store(tmp_path / "v.sqlite")).run(same))
    assert [result.values for result in results] == [[2.0, 2.0]] * 5
    assert reward.seen == ["one two"]


def test_a_row_that_raises_costs_only_itself_and_is_tried_again(tmp_path):
    store = Store(tmp_path / "v.sqlite")
    data = [Row(str(index), "p", (text,)) for index, text in enumerate(["a", "b b", "boom", "c c c"])]
    results = list(Runner(WordCount(bad="boom"), store).run(data))
    assert [result.values[0] for result in results] == [1.0, 2.0, None, 3.0]
    failed = results[2].responses[0]
    assert failed.status == Status.FAILED
    assert "cannot count this" in failed.verdicts[0].detail
    mended = WordCount()
    assert [result.values[0] for result in Runner(mended, store).run(data)] == [1.0, 2.0, 1.0, 3.0]
    assert mended.seen == ["boom"]


def test_an_abstention_is_kept_and_is_no_zero(tmp_path):
    store = Store(tmp_path / "v.sqlite")
    data = [Row("0", "p", ("",)), Row("1", "p", ("a",))]
    list(Runner(WordCount(), store).run(data))
    again = WordCount()
    results = list(Runner(again, store).run(data))
    assert (results[0].values, results[0].responses[0].status) == ([None], Status.ABSTAINED)
    assert again.seen == []


def test_an_engine_that_goes_away_ends_the_run_which_can_be_resumed(tmp_path):
    store = Store(tmp_path / "v.sqlite")
    runner = Runner(WordCount(gone_after=1), store)
    results = list(runner.run(rows(12)))
    assert runner.progress.stopped is not None
    assert [result.responses[0].status for result in results] == [Status.OK] * 4 + [Status.UNREACHABLE] * 4
    healthy = WordCount()
    assert all(value is not None for result in Runner(healthy, store).run(rows(12)) for value in result.values)
    assert len(healthy.seen) == 16


def test_a_spent_budget_ends_the_run_and_keeps_what_was_paid_for(tmp_path):
    class Paid(WordCount):
        def score(self, batch, ctx=None):
            ctx.budget.spend(cost=1.0)
            return super().score(batch, ctx)

    store = Store(tmp_path / "v.sqlite")
    runner = Runner(Paid(), store, Context(budget=Budget({"cost": 2.0})))
    results = list(runner.run(rows(12)))
    assert len(results) == 8
    assert "cost" in (runner.progress.stopped or "")


def test_pairs_are_compared_in_both_orders_and_only_the_labelled_ones(tmp_path):
    reward = LikesFirst()
    data = [Row("0", "p", ("a a", "b", "c c c"), gold=(1.0, 1.0, 0.0)), Row("1", "p", ("a a", "b"))]
    results = list(Runner(reward, Store(tmp_path / "v.sqlite")).run(data))
    assert [(pair.first, pair.second) for pair in results[0].pairs] == [(0, 2), (1, 2)]
    assert results[0].pairs[0].prob == pytest.approx(0.45)
    assert results[0].pairs[0].by_order == (pytest.approx(0.55), pytest.approx(0.35))
    assert results[0].responses == []
    assert results[1].values == [pytest.approx(0.55), pytest.approx(0.45)]
    assert reward.pairs == 3


def test_all_pairs_give_every_response_its_mean_win_probability():
    result = next(Runner(LikesFirst(), pairs="all").run([Row("0", "p", ("a a", "b", "c c c"), gold=(1.0, 1.0, 0.0))]))
    assert result.values == [pytest.approx(0.5), pytest.approx((0.45 + 0.4) / 2), pytest.approx((0.55 + 0.6) / 2)]
    assert result.best() == 2


def test_a_lone_response_cannot_be_compared():
    result = next(Runner(LikesFirst()).run([Row("0", "p", ("a",))]))
    assert (result.values, result.responses[0].status) == ([None], Status.EMPTY_GROUP)


def test_groups_arrive_whole_and_are_kept_whole(tmp_path):
    store = Store(tmp_path / "v.sqlite")
    data = [Row(str(index), "p", ("aaa", "b" * index + "b", "cc")) for index in range(5)]
    wanted = [result.values for result in Runner(GroupRank(), store).run(data)]
    assert wanted[0] == [2.0, 0.0, 1.0]
    again = Runner(GroupRank(), store)
    assert [result.values for result in again.run(data)] == wanted
    assert again.progress.judged == 0


def test_a_reward_that_answers_about_the_wrong_number_of_rows_is_found_out():
    class Long(WordCount):
        def score(self, batch, ctx=None):
            return super().score(batch.select([*range(len(batch)), 0]), ctx)

    results = list(Runner(Long(batch_size=2)).run(rows(2)))
    responses = [response for result in results for response in result.responses]
    assert [response.status for response in responses] == [Status.FAILED] * 4
    assert "was asked about 1 and answered about 2" in responses[0].verdicts[0].detail


def test_the_reward_is_checked_once_and_only_if_something_must_be_judged(tmp_path):
    class Checked(WordCount):
        checks = 0

        def check(self):
            Checked.checks += 1

    store = Store(tmp_path / "v.sqlite")
    for _ in range(2):
        list(Runner(Checked(), store).run(rows(9)))
        assert Checked.checks == 1


def test_user_errors_pass_through():
    class Refuses(WordCount):
        def score(self, batch, ctx=None):
            raise UserError("no such thing")

    with pytest.raises(UserError):
        list(Runner(Refuses()).run(rows(1)))


def test_another_seed_is_another_key_only_for_rewards_that_use_it(tmp_path):
    class Seeded(WordCount):
        uses_seed = True

    store = Store(tmp_path / "v.sqlite")
    for reward, calls in ((WordCount, 0), (Seeded, 1)):
        list(Runner(reward(batch_size=9), store, Context(seed=0)).run(rows(2)))
        other = reward(batch_size=9)
        list(Runner(other, store, Context(seed=1)).run(rows(2)))
        assert other.calls == calls


def test_summary_counts_what_was_planted():
    data = [
        Row("0", "p0", ("a a a", "b"), gold=(1.0, 0.0), section="right"),
        Row("1", "p1", ("a a a", "b"), gold=(0.0, 1.0), section="wrong"),
        Row("2", "p2", ("a a", "b b"), gold=(1.0, 0.0), section="wrong"),
        Row("3", "p3", ("a a", ""), gold=(1.0, 0.0), section="right"),
        Row("4", "p4", ("a a", "b b"), gold=(0.5, 0.5), section="tie"),
    ]
    summary = Summary()
    for result in Runner(WordCount()).run(data):
        summary.add(result)
    report = summary.to_json()
    assert report["labelled_pairs"]["accuracy"]["mean"] == 0.5  # right, wrong, tie = 1 + 0 + 0.5 of 3
    assert report["labelled_pairs"]["accuracy"]["n"] == 3
    assert report["labelled_pairs"]["accuracy_strict"]["mean"] == pytest.approx(1.5 / 4)
    assert (report["labelled_pairs"]["invalid"], report["labelled_pairs"]["predicted_ties"]) == (1, 1)
    assert (report["labelled_pairs"]["labelled_ties"], report["labelled_pairs"]["labelled_ties_found"]) == (1, 1)
    assert (report["judged"], report["invalid"]) == (10, 1)
    assert report["sections"]["right"]["pairs"] == 2


def test_summary_finds_a_planted_order_bias():
    summary = Summary()
    for result in Runner(LikesFirst()).run([Row(str(index), f"p{index}", ("a a", "b")) for index in range(6)]):
        summary.add(result)
    report = summary.to_json()
    assert report["order_bias"]["mean"] == pytest.approx(0.1)
    assert report["order_consistency"]["mean"] == 0.0  # 0.65 against 0.45: the winner changes with the order
