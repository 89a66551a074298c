"""What a search would have cost, read off the samples of another: against the searches themselves."""

import pytest

from plaudit.search.adaptive import AdaptiveBestOfN
from plaudit.search.best_of_n import BestOfN
from plaudit.search.pools import Pool
from plaudit.types import Budget, Sampling
from tests.search.test_comparing import Even
from tests.search.toy import Numbers, Worth, questions

HOW = Sampling(max_tokens=2, temperature=1.0)
PROMPTS = questions(25)


def ran(search, reward=None):
    return search.run(Numbers(), reward or Worth(), PROMPTS, budget=Budget(), seed=0)


def test_a_pool_of_an_adaptive_search_gives_its_curve():
    pool = Pool.of(ran(AdaptiveBestOfN(tau=1e9, n_max=6, how=HOW)), PROMPTS, Even())
    for stop in pool.curve([0.0, 60.0, 85.0, 1e9]):
        real = ran(AdaptiveBestOfN(tau=stop.tau, n_max=6, how=HOW))
        assert stop.samples == real.spent["samples"] / 25
        assert stop.worth == sum(int(text) % 2 == 0 for text in real.batch.responses) / 25
        assert sum(stop.counts) == real.spent["samples"]


def test_other_judges_and_chance():
    pool = Pool.of(ran(BestOfN(n=4, how=HOW)), PROMPTS, Even())
    assert pool.each == 4
    told = pool.judged(Worth().score(pool.batch))
    assert told == pool.values
    assert pool.best(values=pool.worth) == sum(max(row) for row in pool.worth) / 25
    assert pool.best([1] * 25) == sum(row[0] for row in pool.worth) / 25
    assert pool.expected(1) == pytest.approx(pool.mean())
    assert pool.expected(4) == pytest.approx(pool.best())
    assert pool.stopped_at_random([4] * 25) == pytest.approx(pool.best())
    counts = [1] * 12 + [4] * 13
    assert pool.stopped_at_random(counts, seed=1) == pool.stopped_at_random(counts, seed=1)
    assert pool.best([4] * 25, [[None] * 4] * 25) == 0.0


def test_truth_that_is_missing_is_counted():
    pool = Pool.of(ran(BestOfN(n=2, how=HOW)), PROMPTS, Worth(broken=2))
    even = sum(int(text) % 2 == 0 for text in pool.batch.responses)
    assert pool.unworthy == even > 0
    with pytest.raises(ValueError, match="equally many"):
        Pool.of(ran(AdaptiveBestOfN(tau=60.0, n_max=6, how=HOW)), PROMPTS, Even())
