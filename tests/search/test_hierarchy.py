"""Hierarchical search: true local optima, exact limits, cycles, errors, silence, resuming, and one seed one tree."""

import json
import math

import pytest
import torch

from plaudit.rewards.base import BaseReward
from plaudit.search.component_recall import component_recall
from plaudit.search.hierarchy import HierarchicalSearch
from plaudit.search.knockout import knockout
from plaudit.search.lockstep import Lockstep
from plaudit.search.proposing import Ask, Limits, together
from plaudit.search.restarts import ENDLESS, Restarts, flat
from plaudit.search.tree_file import SearchTree
from plaudit.types import Batch, Budget, EngineError, Preferences, Status, UserError, Verdict
from plaudit.worlds.landscape import LandscapeJudge, Landscapes, SlotProposer

WORLD = Landscapes(4, levels=3, slots=2, options=3, seed=2)
LEVELS = [WORLD.level(number) for number in range(3)]


class Worth(BaseReward):
    """Prefers by a function of (first, second); None is no verdict."""

    name = "worth"

    def __init__(self, prefers):
        self.prefers, self.settings, self.asked = prefers, {}, []

    def compare(self, batch, first, second, ctx=None):
        prob, status = [], []
        for one, two in zip(first.tolist(), second.tolist(), strict=True):
            self.asked.append((batch.responses[one], batch.responses[two], batch.extras["level"][one]))
            found = self.prefers(batch.responses[one], batch.responses[two])
            prob.append(math.nan if found is None else found)
            status.append(Status.UNPARSABLE if found is None else Status.OK)
        return Preferences(first, second, torch.tensor(prob), status=torch.tensor(status))


class Scripted:
    """Proposes what a function of the Ask gives, and remembers the asks."""

    def __init__(self, give):
        self.give, self.asks = give, []

    def propose(self, asks, *, budget):
        self.asks += asks
        return [self.give(ask) for ask in asks]

    def refine(self, asks, drafts, *, budget):
        return list(drafts)

    def question(self, task, level, *, strict):
        return f"{task} at {level}"


def longer(first, second):
    return float(len(first) > len(second)) if len(first) != len(second) else 0.5


def search(steps=None, **settings):
    return HierarchicalSearch(settings.pop("levels", LEVELS), **{"beam": 2, "lines": 2, **settings})


def landscape_trees(how, judge=None, seed=0, tasks=4, **more):
    judge = judge or LandscapeJudge(WORLD, lean=0.0)
    return how.trees(SlotProposer(WORLD), judge, range(tasks), WORLD.starts()[:tasks], seed=seed, **more)


def test_a_very_patient_line_ends_in_a_true_local_optimum():
    trees = landscape_trees(search(levels=(WORLD.all_slots,), patience=80, beam=1, lines=1))
    for tree in trees:
        best = tree.best.candidate
        value = WORLD.scores([tree.task], [best])[0]
        near = [(*best[:s], o, *best[s + 1 :]) for s in range(6) for o in range(3)]
        assert WORLD.scores([tree.task] * len(near), near).max() <= value + 1e-12


def test_same_seed_same_tree_alone_or_in_company():
    judge = LandscapeJudge(WORLD, noise=1.0)
    many, alone, other = (landscape_trees(search(), judge, seed, tasks) for seed, tasks in ((3, 4), (3, 1), (4, 1)))
    assert many[0].to_json() == alone[0].to_json()
    assert many[0].to_json() != other[0].to_json()
    assert [node.key for node in many[0].nodes] != [node.key for node in many[1].nodes]


def test_levels_only_change_their_own_slots_and_know_the_path():
    slots = SlotProposer(WORLD)
    proposer = Scripted(lambda ask: slots.propose([ask], budget=Budget())[0])
    proposer.question = slots.question
    search(patience=6).trees(proposer, LandscapeJudge(WORLD, lean=0.0), [0], WORLD.starts()[:1], seed=0)
    last = [ask for ask in proposer.asks if ask.level == LEVELS[2]]
    assert last
    for ask in last:
        assert len(ask.path) <= 2
        # what earlier levels chose is still there: paths run from the first level to the last
        for place, earlier in enumerate(ask.path):
            assert earlier[: 2 * (place + 1)] == ask.current[: 2 * (place + 1)]
    assert any(len(ask.path) == 2 for ask in last)


@pytest.mark.parametrize("most", [0, 1, 7, 23])
def test_limits_are_kept_exactly_and_said(most):
    budget = Budget()
    trees = landscape_trees(search(), budget=budget, limits=[Limits(reward_calls=most)] * 4)
    for tree in trees:
        assert tree.calls == most
        assert not tree.complete
        assert "reward_calls" in tree.stopped
        assert tree.best is not None
    assert budget.spent["reward_calls"] == 4 * most
    assert budget.spent["proposals"] == sum(tree.counts["proposals"] for tree in trees)


def test_without_proposals_what_there_is_is_still_judged():
    # both lines have found something when proposals end; the second line's is better, and the knock-out must find that
    proposer = Scripted(lambda ask: ask.current + "x" * (1 + ask.seed % 2))
    for seed in range(6):
        tree = search(levels=("a",), beam=1).trees(
            proposer, Worth(longer), ["t"], ["s"], seed=seed, limits=[Limits(proposals=4)]
        )[0]
        assert tree.counts["proposals"] == 4
        assert "proposals" in tree.stopped
        assert len(tree.best.candidate) == max(len(node.candidate) for node in tree.nodes)
        assert tree.calls == 4 + 10 * (len({node.candidate for node in tree.nodes if node.key.endswith("/1")}) > 1)


def test_a_shared_limit_stops_all_and_is_not_passed():
    budget = Budget({"reward_calls": 30})
    trees = landscape_trees(search(), budget=budget)
    assert budget.spent["reward_calls"] == 30
    assert all(tree.stopped for tree in trees)
    judge = LandscapeJudge(WORLD, lean=0.0)
    better = [WORLD.scores([t.task], [t.best.candidate])[0] - WORLD.scores([t.task], [t.nodes[0].candidate])[0] for t in trees]
    assert min(better) >= 0  # a noiseless judge: what was accepted so far is no worse than the start
    assert judge.name


@pytest.mark.parametrize("limit", [{"reward_calls": 25}, {"reward_calls": 60}, {"proposals": 9}, {"proposals": 30}])
def test_a_stopped_search_goes_on_as_if_it_had_not_stopped(limit):
    judge, proposer = LandscapeJudge(WORLD, noise=1.0), SlotProposer(WORLD)
    prompts = Batch([0, 1], WORLD.starts()[:2])
    whole = search().run(proposer, judge, prompts, budget=Budget(), seed=1)
    part = search().run(proposer, judge, prompts, budget=Budget(limit), seed=1)
    assert whole.stopped is None
    assert whole.state is None
    assert part.stopped
    rest = search().run(proposer, judge, prompts, budget=Budget(), seed=1, state=json.loads(json.dumps(part.state)))
    assert [list(one) for one in rest.batch.responses] == [list(one) for one in whole.batch.responses]
    if "reward_calls" in limit:  # without proposals, what there was has been judged at once
        assert part.spent["reward_calls"] + rest.spent["reward_calls"] == whole.spent["reward_calls"]
    assert part.spent["proposals"] + rest.spent["proposals"] == whole.spent["proposals"]
    assert rest.scores.values.nan_to_num(-1).tolist() == whole.scores.values.nan_to_num(-1).tolist()


def test_an_engine_that_is_lost_ends_the_search_with_what_it_has():
    calls = []

    def lost(first, second):
        calls.append(1)
        if len(calls) > 10:
            raise EngineError("the server is gone")
        return longer(first, second)

    proposer = Scripted(lambda ask: ask.current + "x")
    found = search(levels=("a",)).run(proposer, Worth(lost), Batch(["t"], ["s"]), budget=Budget(), seed=0)
    assert "the server is gone" in found.stopped
    assert found.state is not None
    assert len(found.batch.responses[0]) > 1


def test_an_intransitive_judge_does_not_walk_in_circles_for_ever():
    beats = {("a", "b"), ("b", "c"), ("c", "a")}
    proposer = Scripted(lambda ask: {"a": "c", "b": "a", "c": "b"}[ask.current])
    judge = Worth(lambda first, second: float((first, second) in beats))
    tree = flat("any").trees(proposer, judge, ["t"], ["a"], seed=0)[0]
    assert tree.lines["cycle"] == 1
    assert tree.counts["proposals"] == 9  # three rounds
    endless = HierarchicalSearch(("any",), beam=1, lines=1, rounds_of_cycle=None, max_steps=150)
    assert endless.trees(proposer, judge, ["t"], ["a"], seed=0)[0].counts["proposals"] == 150


def test_an_error_ends_its_own_line_only():
    def give(ask: Ask):
        if ask.current == "start" and ask.seed % 2:
            raise RuntimeError("this line is broken")
        return ask.current + "x" if len(ask.current) < 8 else ""

    trees = [
        search(levels=("a",), lines=4).trees(Scripted(give), Worth(longer), ["t"], ["start"], seed=seed)[0] for seed in range(4)
    ]
    assert any(0 < tree.counts["errors"] < 8 for tree in trees)
    for tree in trees:
        assert len(tree.errors) == tree.counts["errors"]
        assert all("this line is broken" in error for error in tree.errors)
        if tree.counts["errors"] < 8:
            assert len(tree.best.candidate) == 8


def test_silence_is_asked_again_and_keeps_the_current_one():
    proposer, judge = Scripted(lambda ask: ask.current + "x"), Worth(lambda first, second: None)
    tree = flat("any").trees(proposer, judge, ["t"], ["s"], seed=0)[0]
    assert tree.best.candidate == "s"
    assert tree.counts["unparsable"] == 2  # two refusals end the line
    assert tree.counts["retries"] == 4
    assert tree.calls == 6 == len(judge.asked)
    assert all("no verdict" in node.reason for node in tree.nodes if node.kind == "rejected")


@pytest.mark.parametrize("draft", ["", "  ", None, "s"])
def test_empty_and_unchanged_proposals_fail_without_a_call(draft):
    judge = Worth(longer)
    tree = flat("any").trees(Scripted(lambda ask: draft), judge, ["t"], ["s"], seed=0)[0]
    assert not judge.asked
    assert tree.calls == 0
    assert tree.counts["empty"] + tree.counts["unchanged"] == 2 == tree.counts["proposals"]
    assert tree.best.candidate == "s"


def test_without_a_start_the_first_proposal_is_taken_unseen():
    judge = Worth(longer)
    tree = flat("any").trees(Scripted(lambda ask: "first" if ask.current is None else ""), judge, ["t"], seed=0)[0]
    assert tree.best.candidate == "first"
    assert not judge.asked


def test_a_branch_that_found_nothing_loses_to_one_that_did():
    judge = Worth(longer)
    give = Scripted(lambda ask: "found" if ask.current is None and ask.seed % 2 else "")
    for seed in range(6):
        tree = search(levels=("a",), lines=1, patience=1).trees(give, judge, ["t"], seed=seed)[0]
        some = any(node.kind == "accepted" for node in tree.nodes)
        assert tree.best.candidate == ("found" if some else None)
    assert not judge.asked


def test_both_orders_must_agree_and_flips_are_counted():
    proposer = Scripted(lambda ask: ask.current + "x")
    first_shown = Worth(lambda first, second: 0.0)  # always prefers the second shown
    once = flat("any").trees(proposer, first_shown, ["t"], ["s"], seed=0, limits=[Limits(reward_calls=9)])[0]
    assert len(once.best.candidate) == 10
    assert once.flip_rate() is None
    both = HierarchicalSearch(("any",), beam=1, lines=1, accept="both").trees(proposer, first_shown, ["t"], ["s"], seed=0)[0]
    assert both.best.candidate == "s"
    assert both.flip_rate() == 1.0
    assert both.calls == 4


def test_a_judge_that_looks_both_ways_itself_is_asked_once():
    class Looks(Worth):
        """Prefers the second place with 0.8 and 0.7: the average is a verdict, the two do not agree."""

        def compare(self, batch, first, second, ctx=None):
            found = super().compare(batch, first, second, ctx)
            found.verdicts = [[Verdict(value=0.2, order=(0, 1)), Verdict(value=0.7, order=(1, 0))] for _ in range(len(found))]
            return found

    proposer, trees = Scripted(lambda ask: ask.current + "x"), {}
    for accept in ("current-first", "both"):
        how = HierarchicalSearch(("any",), beam=1, lines=1, accept=accept, max_steps=4)
        trees[accept] = how.trees(proposer, Looks(lambda first, second: 0.45), ["t"], ["s"], seed=0)[0]
        assert trees[accept].flip_rate() == 1.0
    assert trees["current-first"].best.candidate == "sxxxx"
    assert (trees["both"].best.candidate, trees["both"].calls) == ("s", 2)


def test_failures_are_told_where_asked():
    proposer = Scripted(lambda ask: "")
    proposer.give = lambda ask: "x" * len(ask.failed)
    HierarchicalSearch(("a",), beam=1, lines=1, use_failures=True, patience=3).trees(
        proposer, Worth(lambda first, second: 1.0), ["t"], ["start"], seed=0)  # fmt: skip
    assert [len(ask.failed) for ask in proposer.asks] == [0, 1, 2]


def test_a_level_without_success_carries_its_bases_down():
    proposer = Scripted(lambda ask: ask.current + "x" if ask.level == "last" and len(ask.current) < 5 else "")
    tree = HierarchicalSearch(("first", "last"), beam=2, lines=1).trees(proposer, Worth(longer), ["t"], ["s"], seed=0)[0]
    assert tree.best.candidate == "sxxxx"
    assert [node.key[0] for node in tree.path(tree.best)[1:]] == ["1"] * 4


def test_recombination_is_offered_all_optima_and_may_win():
    def give(ask):
        if ask.optima:
            return "".join(sorted(set("".join(ask.optima))))
        return ask.current + "ab"[ask.seed % 2] if len(ask.current) < 2 else ""

    seeds = [
        search(levels=("a",), beam=1, lines=6).trees(Scripted(give), Worth(longer), ["t"], ["s"], seed=s)[0] for s in range(6)
    ]
    assert {tree.best.candidate for tree in seeds} >= {"abs"}


# -- knock-out, coroutines, restarts -------------------------------------------------------------------------------------------


def crowned(candidates, prefers, repeats=2):
    tree, judge = SearchTree("t"), Worth(prefers)
    served = Lockstep(Scripted(None), judge, Budget(), 0)
    return served.run([knockout(tree, "k", "level", candidates, repeats=repeats)])[0], tree, judge


def test_knockout_finds_the_best_and_counts():
    found, tree, judge = crowned(["a", "aaa", "aa", "aaaa"], longer)
    assert (found.winner, found.runner_up, found.votes) == (3, 1, 1.0)
    assert tree.calls == len(judge.asked) == 3 * 2 * 2


def test_a_tie_keeps_the_champion_and_a_lean_to_one_place_cancels():
    for prefers in (lambda first, second: 0.5, lambda first, second: 1.0, lambda first, second: 0.0):
        found, _, _ = crowned(["a", "b", "c"], prefers)
        assert (found.winner, found.votes) == (0, 0.5)
    found, tree, _ = crowned(["a", "b"], lambda first, second: None)
    assert (found.winner, tree.counts["unparsable"]) == (0, 4)
    assert crowned(["only"], longer)[0].votes is None


def test_together_keeps_places_whatever_the_lengths():
    def part(length):
        got = []
        for number in range(length):
            got += yield [(length, number)] * (number % 2 + 1)
        return got

    run = together([part(length) for length in (3, 0, 1, 5)])
    with pytest.raises(StopIteration) as end:
        asked = next(run)
        while True:
            asked = run.send(list(asked))
    for length, got in zip((3, 0, 1, 5), end.value.value, strict=True):
        assert got == [(length, number) for number in range(length) for _ in range(number % 2 + 1)]


def test_restarts_keep_the_best_of_their_lines():
    limits = [Limits(reward_calls=200)] * 4
    many = landscape_trees(Restarts((WORLD.all_slots,)), limits=limits)
    once = landscape_trees(flat(WORLD.all_slots))
    patient = landscape_trees(flat(WORLD.all_slots, patience=ENDLESS), limits=limits)
    for tree, single, long in zip(many, once, patient, strict=True):
        assert tree.calls == 200 == long.calls
        assert WORLD.scores([tree.task], [tree.best.candidate]) >= WORLD.scores([tree.task], [single.best.candidate])


def test_the_tree_is_a_json_file(tmp_path):
    tree = landscape_trees(search(), tasks=1)[0]
    tree.write(tmp_path / "deep" / "tree.json")
    kept = json.loads((tmp_path / "deep" / "tree.json").read_text("utf-8"))
    assert kept["complete"] is True
    assert kept["nodes"][kept["best"]]["candidate"] == list(tree.best.candidate)
    assert kept["counts"]["reward_calls"] == tree.calls
    assert len(kept["nodes"]) == tree.counts["proposals"] + 1


def test_settings_that_cannot_work_are_refused():
    for wrong in ({"levels": ()}, {"beam": 0}, {"patience": 0}, {"retries": -1}, {"accept": "either"}):
        with pytest.raises(UserError):
            search(**wrong)


def test_component_recall():
    assert component_recall(["a", "b", "c", "d"], [3, 1, 0, 2]) == (0.75, 0.5)
    assert component_recall(["a", "b"], [1, 3], found=["x", "x"]) == (0.5, 0.5)  # one component, two truths: its better level
    assert component_recall(["a", "b"], [0, 3], found=["x", "x"]) == (0.5, 0.5)
    assert all(math.isnan(value) for value in component_recall([], []))
    for levels in ([4], [-1], [1, 2]):
        with pytest.raises(ValueError, match="component"):
            component_recall(["a"], levels)
