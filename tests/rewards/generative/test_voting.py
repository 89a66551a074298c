"""Votes: what is counted, what is dropped and said so, and the meta reward that chooses."""

import math

import pytest
import torch

from plaudit import BaseReward, Batch, Scores, SpecError, Status
from plaudit.rewards.generative import Contract, Judge, Label, TextReadout
from plaudit.rewards.generative.voting import Votes
from plaudit.types import Budget, Context, Generation, Preferences, Sampling, Verdict
from tests.rewards.generative.scripted import ScriptedEngine, user_text

SCORE = Contract("stars", "{{ prompt }} {{ response }} how many stars?", TextReadout(numbers=(1.0, 10.0), marker="Stars"))
PAIR = Contract(
    "pair",
    "{{ prompt }} {{ first }} {{ second }} which?",
    TextReadout(labels=(Label("A", 1.0), Label("B", 0.0), Label("tie", 0.5))),
    kind="pairwise",
)
WARM = Sampling(temperature=1.0)
WORDS = Batch(["how many?"] * 3, responses=["one", "one two", "one two three"])


class SeededEngine(ScriptedEngine):
    """Its answer depends on the seed: `said(request, seed)`."""

    def __init__(self, said):
        super().__init__()
        self.said = said

    def generate(self, requests, how, *, budget=None):
        self.sent += requests
        if budget is not None:
            budget.spend(completion_tokens=3 * len(requests))
        return [Generation(self.said(request, how.seed)) for request in requests]


class ByGroup(BaseReward):
    """Scores a group by a table [seed][row]; NaN is unparsable."""

    name = "table"

    def __init__(self, table):
        self.table, self.settings = table, {}

    def score_group(self, batch, ctx=None):
        values = torch.tensor(self.table[ctx.seed])
        status = torch.where(values.isnan(), int(Status.UNPARSABLE), 0).to(torch.int8)
        said = [
            [Verdict(value=None if value != value else value, text=f"text {ctx.seed}" if row == 1 else None)]
            for row, value in enumerate(values.tolist())
        ]
        return Scores(values, status, verdicts=said)

    def asked(self, batch, rows, verdicts):
        return [f"rank {list(rows)}"] * len(verdicts)


def stars(text, seed):
    """Vote of a judge that counts words, plus its seed; the third is not readable."""
    return "no idea" if seed == 2 else f"Stars: {min(10, len(text.split()) + seed)}"


def judge():
    return Judge(
        SeededEngine(lambda request, seed: stars(user_text(request).split("<response>")[1].split("</")[0], seed)),
        SCORE,
        sampling=WARM,
    )


def test_the_mean_of_k_sampled_verdicts_with_the_unreadable_ones_dropped_and_shown():
    budget = Budget()
    scores = Votes(judge(), 4).score(WORDS, Context(budget=budget))
    # votes 0, 1 and 3 add 0, 1 and 3 to the number of words
    assert scores.values.tolist() == pytest.approx([1 + 4 / 3, 2 + 4 / 3, 3 + 4 / 3])
    assert scores.parts["votes"].tolist() == [3, 3, 3]
    assert scores.spread[0].item() == pytest.approx(math.sqrt((0 + 1 + 9) / 3 - (4 / 3) ** 2))
    assert [verdict.status for verdict in scores.verdicts[0]] == [Status.OK, Status.OK, Status.UNPARSABLE, Status.OK]
    assert [verdict.seed for verdict in scores.verdicts[0]] == [0, 1, 2, 3]
    assert [verdict.name for verdict in scores.verdicts[1]] == ["vote 1", "vote 2", "vote 3", "vote 4"]
    assert budget.spent["reward_calls"] == 12
    assert budget.spent["completion_tokens"] == 36


def test_a_sum_does_not_fall_with_a_dropped_vote():
    assert Votes(judge(), 4, "sum").score(WORDS).values.tolist() == pytest.approx(
        [4 * (1 + 4 / 3), 4 * (2 + 4 / 3), 4 * (3 + 4 / 3)]
    )


def test_the_majority_is_the_value_named_most_often():
    engine = SeededEngine(lambda _, seed: f"Stars: {[7, 3, 3, 9, 7, 3][seed]}")
    assert Votes(Judge(engine, SCORE, sampling=WARM), 6, "majority").score(WORDS).values.tolist() == [3, 3, 3]
    assert Votes(Judge(engine, SCORE, sampling=WARM), 5, "majority").score(WORDS).values.tolist() == [
        5,
        5,
        5,
    ]  # 7 and 3, twice each


def test_all_unparsable_is_unparsable_and_never_a_zero():
    engine = SeededEngine(lambda *_: "no idea")
    scores = Votes(Judge(engine, SCORE, sampling=WARM), 3).score(WORDS)
    assert scores.counts() == {Status.UNPARSABLE: 3}
    assert scores.values.isnan().all()
    assert scores.parts["votes"].tolist() == [0, 0, 0]
    pairs = Votes(Judge(engine, PAIR, sampling=WARM), 3).compare(WORDS, torch.tensor([0]), torch.tensor([1]))
    assert pairs.counts() == {Status.UNPARSABLE: 1}


def test_one_vote_is_the_judge_itself():
    assert torch.equal(Votes(judge(), 1).score(WORDS).values, judge().score(WORDS).values)


def longer(request, seed):
    shown = user_text(request)
    first, second = (shown.split(f"<response_{name}>")[1].split("</")[0] for name in "ab")
    if seed == 1:
        return "Verdict: A"  # whatever is shown first: a tie over both orders
    return "Verdict: A" if (len(first) > len(second)) == (seed != 3) else "Verdict: B"


def test_swapped_pairs_have_the_complementary_probability_whichever_way_votes_are_counted():
    first, second = torch.tensor([0, 1, 0]), torch.tensor([1, 2, 2])
    for combine, wanted in (("mean", 0.3), ("majority", 0.3)):
        votes = Votes(Judge(SeededEngine(longer), PAIR, sampling=WARM), 5, combine)
        one, other = votes.compare(WORDS, first, second), votes.compare(WORDS, second, first)
        # the longer, second one wins three votes (0, 2, 4), loses one (3), ties one (1)
        assert one.prob.tolist() == pytest.approx([wanted] * 3)
        assert torch.allclose(one.prob, 1 - other.prob)
        assert one.tie.tolist() == pytest.approx([0.0] * 3)
        assert len(one.verdicts[0]) == 10  # two orders a vote


class Sure(BaseReward):
    """Pairs with the probabilities given per seed."""

    name = "sure"

    def __init__(self, probs):
        self.probs, self.settings = probs, {}

    def compare(self, batch, first, second, ctx=None):
        return Preferences(first, second, torch.full((len(first),), self.probs[ctx.seed]))


def test_the_mean_weighs_sureness_and_the_majority_counts_heads():
    reward = Sure([0.99, 0.45, 0.45])
    pair = (torch.tensor([0]), torch.tensor([1]))
    assert Votes(reward, 3).compare(WORDS, *pair).prob.item() == pytest.approx(0.63)
    assert Votes(reward, 3, "majority").compare(WORDS, *pair).prob.item() == pytest.approx(1 / 3)
    assert [verdict.value for verdict in Votes(reward, 3).compare(WORDS, *pair).verdicts[0]] == pytest.approx([0.99, 0.45, 0.45])


def test_in_a_group_a_vote_counts_for_all_rows_or_for_none():
    nan = math.nan
    table = [[9.0, 2.0, 2.0], [9.0, nan, 8.0], [1.0, 3.0, 2.0]]
    group = Batch(["x"] * 3, responses=list("abc"), groups=torch.zeros(3, dtype=torch.int64))
    assert Votes(ByGroup(table), 3).score_group(group).values.tolist() == [5, 2.5, 2]
    assert Votes(ByGroup(table), 3, "sum").score_group(group).values.tolist() == [15, 7.5, 6]
    assert Votes(ByGroup(table), 3, "majority").score_group(group).values.tolist() == [0.5, 0.5, 0]
    lost = Votes(ByGroup([[nan, 1.0, 1.0]] * 2), 2).score_group(group)
    assert lost.counts() == {Status.UNPARSABLE: 3}


class Meta(BaseReward):
    """Scores what was written by a table; keeps what it was shown."""

    name = "meta"
    uses_seed = False

    def __init__(self, worth):
        self.worth, self.seen, self.settings = worth, [], {}

    def score(self, batch, ctx=None):
        self.seen += list(zip(batch.prompts, batch.responses, strict=True))
        return Scores(torch.tensor([self.worth(text) for text in batch.responses]))


def test_the_meta_reward_keeps_the_better_half_of_the_votes_and_says_which_it_left_out():
    meta = Meta(lambda text: float(text[-1] in "13"))
    group = Batch(["x"] * 2, responses=list("ab"), groups=torch.zeros(2, dtype=torch.int64))
    scores = Votes(ByGroup([[9.0, 1.0], [1.0, 9.0], [9.0, 2.0], [2.0, 8.0], [9.0, 1.0]]), 5, "sum", meta=meta).score_group(group)
    assert scores.values.tolist() == [3.0, 17.0]  # votes 2 and 4: half of five, rounded down
    assert scores.parts["votes"].tolist() == [2, 2]
    assert [verdict.detail for verdict in scores.verdicts[0]] == [
        "left out by the meta reward",
        "",
        "left out by the meta reward",
        "",
        "left out by the meta reward",
    ]
    assert [verdict.value for verdict in scores.verdicts[1]] == [1, 9, 2, 8, 1]
    assert meta.seen == [("rank [0, 1]", f"text {seed}") for seed in range(5)]  # once a vote, not once a row
    weights = [1 / (1 + math.exp(-value)) for value in (0.0, 1.0, 0.0, 1.0, 0.0)]
    wanted = sum(w * v for w, v in zip(weights, (9, 1, 9, 2, 9), strict=True)) / sum(weights)
    assert scores.parts["meta_weighted"][0].item() == pytest.approx(wanted)


def test_a_judge_shows_the_meta_reward_what_it_was_asked():
    meta = Meta(lambda text: -float(text[-1]))
    scores = Votes(judge(), 4, meta=meta, keep=1).score(WORDS)
    assert scores.values.tolist() == [1, 2, 3]  # the lowest number of stars is liked best: vote 1
    assert len(meta.seen) == 9  # the unreadable votes are not shown
    assert all("how many stars?" in asked and "<response>" in asked for asked, _ in meta.seen)


def test_a_listwise_judge_shows_each_vote_in_its_own_order():
    def boxed(request, seed):
        shown = user_text(request).split("First state")[0]
        places = sorted((shown.index(f">{text}<") if f">{text}<" in shown else shown.index(text + "\n"), text) for text in texts)
        return f"criteria {seed} \\boxed{{{', '.join(str(9 - texts.index(text)) for _, text in places)}}}"

    texts = ["alpha", "beta", "gamma"]
    group = Batch(["x"] * 3, responses=texts, groups=torch.zeros(3, dtype=torch.int64))
    meta = Meta(lambda _: 0.5)
    judge = Judge(SeededEngine(boxed), "principled-scores", sampling=WARM)
    scores = Votes(judge, 6, "sum", meta=meta, keep=6).score_group(group)
    assert scores.values.tolist() == [54, 48, 42]  # whatever the order shown, a text has its own score
    orders = [tuple(sorted(texts, key=asked.index)) for asked, _ in meta.seen]
    assert len(meta.seen) == 6
    assert len(set(orders)) > 1
    for (asked, written), verdicts in zip(meta.seen, zip(*scores.verdicts, strict=True), strict=True):
        order = next(verdict.order for verdict in verdicts)
        assert sorted(texts, key=asked.index) == [texts[place] for place in order]
        assert "boxed" in written


def test_votes_that_the_meta_reward_cannot_score_do_not_count():
    scores = Votes(judge(), 4, meta=Meta(lambda _: math.nan)).score(WORDS)
    assert scores.values.isnan().all()
    assert scores.counts() == {Status.ABSTAINED: 3}


def test_a_lost_engine_is_judged_again_and_not_outvoted():
    def gone(request, seed):
        return Generation("", status=Status.UNREACHABLE) if seed == 1 else Generation("Stars: 4")

    class Engine(SeededEngine):
        def generate(self, requests, how, *, budget=None):
            return [gone(request, how.seed) for request in requests]

    assert Votes(Judge(Engine(None), SCORE, sampling=WARM), 3).score(WORDS).counts() == {Status.UNREACHABLE: 3}


def test_settings_that_cannot_work_are_refused():
    cold = Judge(SeededEngine(lambda *_: "Stars: 3"), SCORE)
    for make in (
        lambda: Votes(cold, 3),
        lambda: Votes(judge(), 0),
        lambda: Votes(judge(), 3, "median"),
        lambda: Votes(judge(), 3, keep=2),
        lambda: Votes(judge(), 3, meta=Meta(lambda _: 0.0), keep=4),
        lambda: Votes(Judge(SeededEngine(longer), PAIR, sampling=WARM), 3, "sum"),
    ):
        with pytest.raises(SpecError):
            make()
    assert Votes(cold, 1).score(WORDS).values.tolist() == [3, 3, 3]


def test_everything_that_decides_the_numbers_is_in_the_fingerprint():
    prints = {
        Votes(judge(), 3).fingerprint(),
        Votes(judge(), 4).fingerprint(),
        Votes(judge(), 4, "sum").fingerprint(),
        Votes(judge(), 4, meta=Meta(lambda _: 0.0)).fingerprint(),
        Votes(judge(), 4, meta=Meta(lambda _: 0.0), keep=1).fingerprint(),
    }
    assert len(prints) == 5
    assert Votes(judge(), 3).fingerprint() == Votes(judge(), 3).fingerprint()
