"""Counts with exposure into triplets: the rule by hand, caps, logging errors, and what de-biasing is worth in a planted feed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plaudit import Batch
from plaudit.curation.feedback import Exposure, TripletRules, beta_interval, community_triplets, count_triplets


def shown(views, reuses, author="a", **more):
    return Exposure(views, {f"v{number}" for number in range(reuses)}, author, **more)


def feed(*exposures, prompt="p"):
    """Distinct responses, one prompt unless a list is given."""
    prompts = prompt if isinstance(prompt, list) else [prompt] * len(exposures)
    return Batch(prompts, [f"image {number}" for number in range(len(exposures))]), list(exposures)


def pairs(preferences):
    return set(zip(preferences.first.tolist(), preferences.second.tolist(), strict=True))


def test_the_interval_is_that_of_the_beta_posterior():
    from scipy.stats import beta

    mean, low, high = beta_interval([3.0, 0.0], [50.0, 10.0], (1.0, 20.0), 0.9)
    assert mean.tolist() == pytest.approx([4 / 71, 1 / 31])
    assert low.tolist() == pytest.approx([beta.ppf(0.05, 4, 67), beta.ppf(0.05, 1, 30)])
    assert high.tolist() == pytest.approx([beta.ppf(0.95, 4, 67), beta.ppf(0.95, 1, 30)])


def test_rates_decide_not_counts():
    """A rarely shown favourite beats a bestseller that was shown to everybody."""
    batch, log = feed(shown(200, 100), shown(10_000, 500), shown(200, 20), shown(200, 22))
    built, report = community_triplets(batch, log)
    assert pairs(built) == {(0, 1)}
    assert built.prob.tolist() == [1.0]
    assert (report.positives, report.negatives, report.unlabelled) == (1, 1, 2)
    raw, _ = count_triplets(batch, log)
    assert (1, 0) not in pairs(built)
    assert all(first == 1 for first, _ in pairs(raw))


def test_what_is_left_out_is_counted():
    batch, log = feed(shown(0, 0), shown(5, 9), shown(400, 200), shown(400, 2), shown(400, 60), shown(400, 200))
    batch.responses[5] = batch.responses[2]
    _, report = community_triplets(batch, log)
    assert report.dropped == {"never shown": 1, "more reuses than views": 1, "duplicate": 1}
    assert report.samples == 6
    assert report.positives + report.negatives + report.unlabelled == 3


def test_images_are_the_same_by_content():
    images = torch.zeros(3, 3, 2, 2)
    images[2] = 1
    _, report = community_triplets(Batch(["p", "p", "p"], images), [shown(50, 5)] * 3)
    assert report.dropped == {"duplicate": 1}


def test_prompts_are_never_mixed():
    log = [shown(300, reuses) for reuses in (150, 2, 30, 150, 2, 30)]
    batch, log = feed(*log, prompt=["p", "p", "p", "q", "q", "q"])
    built, report = community_triplets(batch, log)
    assert pairs(built) == {(0, 1), (3, 4)}
    assert report.prompts == 2


def test_a_prompt_with_one_side_only_gives_nothing():
    built, report = community_triplets(*feed(*[shown(300, 30)] * 4))
    assert len(built) == 0
    assert report.prompts_without_pairs == 1


def test_users_count_once_and_authors_never():
    one = Exposure(100, ["u", "u", "me"], "me")
    assert one.reuses == 1
    batch, log = feed(Exposure(2, {"u"}, "me"), shown(3000, 1), shown(3000, 2), shown(3000, 3))
    rules = TripletRules(least_users=1, prior=(0.1, 0.1))
    assert community_triplets(batch, log, rules)[1].positives == 1
    assert community_triplets(batch, log, TripletRules(prior=(0.1, 0.1)))[1].positives == 0, "one person is no community"


def test_caps_and_posting_times():
    log = [shown(500, 250, posted=float(number)) for number in range(6)] + [shown(500, 2, posted=0.0)] * 6
    log += [shown(500, 50)] * 30
    batch, log = feed(*log)
    built, report = community_triplets(batch, log, TripletRules(per_sample=2, quantiles=(0.2, 0.8)))
    assert (report.positives, report.negatives) == (6, 6)
    counts = torch.cat([built.first, built.second]).bincount()
    assert len(built) == 12
    assert counts.max() == 2
    assert len(pairs(built)) == len(built)
    assert len(community_triplets(batch, log, TripletRules(per_prompt=5, quantiles=(0.2, 0.8)))[0]) == 5
    near = community_triplets(batch, log, TripletRules(posted_within=1.0, quantiles=(0.2, 0.8)))[0]
    assert len(near)
    assert set(near.first.tolist()) <= {0, 1}


def test_experts_count_more():
    log = [shown(100, 6, expert_reuse=4), *[shown(100, 6)] * 3, *[shown(100, 0)] * 2]
    batch, log = feed(*log)
    assert community_triplets(batch, log)[1].positives == 0
    assert community_triplets(batch, log, TripletRules(expert_bonus=20.0))[1].positives == 1


@given(
    st.lists(st.tuples(st.integers(-2, 60), st.integers(0, 40), st.sampled_from("pq")), min_size=1, max_size=25),
    st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_any_log_is_accounted_for(items, seed):
    batch, log = feed(*[shown(views, reuses) for views, reuses, _ in items], prompt=[prompt for *_, prompt in items])
    for build in (community_triplets, count_triplets):
        built, report = build(batch, log, TripletRules(quantiles=(0.4, 0.6)), seed=seed)
        assert report.samples == sum(report.dropped.values()) + report.positives + report.negatives + report.unlabelled
        assert report.pairs == len(built) == len(pairs(built))
        assert all(batch.prompts[first] == batch.prompts[second] and first != second for first, second in pairs(built))
        assert pairs(build(batch, log, TripletRules(quantiles=(0.4, 0.6)), seed=seed)[0]) == pairs(built)


def test_labels_are_cleaner_than_counts_in_a_planted_feed():
    random = torch.Generator().manual_seed(0)
    rate = torch.rand(800, generator=random) * 0.4
    views = (60 * torch.randn(800, generator=random).exp()).long()
    reuses = torch.binomial(views.float(), rate, generator=random).long()
    batch, log = feed(*[shown(int(seen), int(taken)) for seen, taken in zip(views, reuses, strict=True)])
    rules = TripletRules(per_prompt=2000)

    def right(build):
        built, _ = build(batch, log, rules)
        assert len(built) > 50
        return float((rate[built.first] > rate[built.second]).float().mean())

    assert right(community_triplets) > 0.98
    assert right(community_triplets) > right(count_triplets) + 0.05


def test_settings_are_checked():
    for wrong in ({"quantiles": (0.8, 0.2)}, {"level": 1.0}, {"prior": (0.0, 1.0)}, {"per_sample": 0}, {"least_views": -1}):
        with pytest.raises(ValueError, match="expected"):
            TripletRules(**wrong)
    with pytest.raises(ValueError, match="exposures for"):
        community_triplets(Batch(["p"], ["x"]), [])
