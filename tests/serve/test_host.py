"""What a worker does with a batch: nobody's numbers depend on who shares it, and verdicts wait for a store that is away."""

import sqlite3
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plaudit import BaseReward, Scores
from plaudit.data.row import Row
from plaudit.serve.host import Failure, Judged, Part, RewardHost
from plaudit.store import Store
from plaudit.types import EngineError, SpecError
from tests.engines.processes import until
from tests.serve.some_rewards import Drawing, Longer, OnDemand


class Columns(BaseReward):
    """A careless reward: its numbers tell which columns its batch has."""

    name = "columns"
    uses_seed = False

    def score(self, batch, ctx=None):
        seen = sum(2**place for place, name in enumerate("abc") if name in batch.extras)
        seen += 8 * (batch.references is not None) + 16 * (batch.users is not None) + 32 * (batch.finish is not None)
        return Scores(torch.full((len(batch),), float(seen)))


class Refusing(BaseReward):
    """Cannot be used at all."""

    name = "refusing"

    def check(self):
        raise EngineError("the engine is not there")

    def score(self, batch, ctx=None):
        raise AssertionError


def hosting(reward, **options):
    host = RewardHost({"it": reward}, **options)
    host.load()
    return host


row = st.builds(
    lambda text, extras, reference, user, finish: Row(
        "r", "p", (text,), (reference,) if reference else None, None, None, user, finish, dict.fromkeys(extras, 1)
    ),
    st.sampled_from(["a", "bb", "ccc"]),
    st.sets(st.sampled_from("abc")),
    st.sampled_from(["", "4"]),
    st.sampled_from([None, "somebody"]),
    st.sampled_from([None, ("truncated",)]),
)
part = st.builds(lambda rows, seed: Part(tuple(rows), "score", seed), st.lists(row, min_size=1, max_size=3), st.integers(0, 2))


@pytest.mark.parametrize("reward", [Columns(), Drawing(), OnDemand()], ids=lambda reward: reward.name)
@given(parts=st.lists(part, min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_numbers_do_not_depend_on_who_shares_the_batch(reward, parts):
    host = hosting(reward)
    together = host.judge("it", parts).outcomes
    assert together == [host.judge("it", [one]).outcomes[0] for one in parts]


def test_equal_requests_are_judged_once():
    parts = [Part((Row(str(number), "p", ("abc",)),), "score") for number in range(5)]
    report = hosting(OnDemand()).judge("it", parts)
    assert report.judged == 1
    assert all(outcome.rows[0]["responses"][0]["value"] == 3.0 for outcome in report.outcomes)


def test_a_pair_of_a_reward_that_compares_is_its_own_probability():
    pair = Part((Row("0", "p", ("abc", "a")),), "compare")
    (own,) = hosting(Longer()).judge("it", [pair]).outcomes
    (linked,) = hosting(OnDemand()).judge("it", [pair]).outcomes
    assert own.rows[0]["pairs"][0]["prob"] == pytest.approx(linked.rows[0]["pairs"][0]["prob"])
    (missing,) = hosting(OnDemand()).judge("it", [Part((Row("0", "p", ("abc", "none")),), "compare")]).outcomes
    assert missing.rows[0]["pairs"][0]["prob"] is None
    assert missing.rows[0]["pairs"][0]["status"] == "abstained"


def test_an_engine_that_is_gone_is_said():
    (outcome,) = hosting(Refusing()).judge("it", [Part((Row("0", "p", ("a",)),), "score")]).outcomes
    assert outcome == Failure("engine", "the engine is not there")


def test_an_unknown_name_is_refused():
    with pytest.raises(SpecError, match="unknown reward 'nobody'"):
        hosting("nobody")


@contextmanager
def locked(path):
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.close()


@pytest.mark.parametrize("with_journal", [True, False])
def test_verdicts_wait_for_a_store_that_is_away(tmp_path, with_journal):
    path = tmp_path / "v.sqlite"
    host = hosting(OnDemand(), store=str(path), journal=tmp_path / "journals" if with_journal else None)
    asked = Part((Row("0", "p", ("abc",)), Row("1", "p", ("abcd",))), "score")
    with locked(path):
        (outcome,) = host.judge("it", [asked]).outcomes
        assert isinstance(outcome, Judged)
        state = host.state()
        assert state.problem is not None
        assert state.waiting == 2
        assert Store(path, patience=0.0).count() == 0
    assert until(lambda: host.state().waiting == 0)
    assert host.state().problem is None
    assert Store(path).count() == 2
    assert host.judge("it", [asked]).reused == 2
    assert host.close() is None


def test_verdicts_that_are_lost_with_the_process_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr("plaudit.serve.host.CLOSING", 0.1)
    path = tmp_path / "v.sqlite"
    host = hosting(OnDemand(), store=str(path))
    with locked(path):
        host.judge("it", [Part((Row("0", "p", ("abc",)),), "score")])
        assert "1 verdicts that waited for it are lost" in host.close()
