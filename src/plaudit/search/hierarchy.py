"""Hierarchical local search guided by a pairwise reward: general things first, details later (MOOSE-Chem2).

Yang et al., "MOOSE-Chem2: Exploring LLM Limits in Fine-Grained Scientific Hypothesis Discovery via Hierarchical Search", arXiv
2505.19209. On each level a few *branches* start from the best candidates of the level before; in each branch a few *lines*
climb by edits of that level that the judge prefers, until the judge refuses `patience` edits in a row; the lines' local optima
meet in a knock-out, and one more line tries to join their strengths.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from plaudit.fitting.seeds import derive_seed
from plaudit.search.knockout import knockout
from plaudit.search.lockstep import Lockstep, empty
from plaudit.search.proposing import Ask, Comparison, Limits, Proposal, Proposer, Step, Vote, asked_once, together
from plaudit.search.tree_file import Node, SearchTree, frozen, thawed
from plaudit.types import Batch, Budget, Reward, Scores, Search, SearchResult, Status, UserError
from plaudit.types.keys import content_key

Accept = Literal["current-first", "both"]
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Branch:
    """What became of one branch: its best node (its base where no line improved on it) and the one that was second."""

    best: Node
    second: Node | None = None
    improved: bool = False


@dataclass(frozen=True)
class HierarchicalSearch(Search):
    """Level-wise hill climbing. Defaults are those of the released code.

    levels: what each level may change, from the first to the last; the proposer and the judge are told. beam: branches kept.
    lines: independent ones a branch. patience: refusals in a row that end a line. max_steps: proposals of a line at most.
    recombine_trials: lines that may try to join the local optima; the first that improves on the best one is taken.
    optimum_votes, votes: comparisons each way in the knock-out of local optima, and in the others.
    refine: whether drafts are refined before they are judged. use_failures: whether the next proposal is told what was refused.
    accept: show the current candidate first, as published (a judge that likes one place better then always helps the same side),
    or ask in "both" orders and accept only if both agree (twice the calls, but for judges that ask in both themselves).
    retries: for a pair without a verdict; after them the current one stays.
    rounds_of_cycle: so many returns to a candidate that the line held before end the line; None: never (they are counted).

    A candidate may be anything that JSON can write. Equal candidates are never compared.
    """

    levels: Sequence[Any]
    beam: int = 3
    lines: int = 3
    patience: int = 2
    max_steps: int = 150
    recombine_trials: int = 2
    optimum_votes: int = 5
    votes: int = 3
    refine: bool = True
    use_failures: bool = False
    accept: Accept = "current-first"
    retries: int = 2
    rounds_of_cycle: int | None = 3

    def __post_init__(self) -> None:
        least = min(self.beam, self.lines, self.patience, self.max_steps, self.optimum_votes, self.votes)
        if not self.levels or least < 1 or min(self.recombine_trials, self.retries) < 0:
            raise UserError("a search needs a level, and at least 1 of beam, lines, patience, max_steps and votes")
        if self.accept not in ("current-first", "both"):
            raise UserError(f"accept is '{self.accept}'; expected current-first or both")

    def trees(
        self,
        proposer: Proposer,
        judge: Reward,
        tasks: Sequence[Any],
        starts: Sequence[Any] | None = None,
        *,
        seed: int,
        budget: Budget | None = None,
        limits: Sequence[Limits] | None = None,
        journals: Sequence[dict[str, Any]] | None = None,
    ) -> list[SearchTree]:
        """One tree a task, all searched side by side.

        starts: what each search begins with; None where there is nothing yet: the first proposal is then taken unseen.
        limits: of each task. journals: of a search that stopped, to go on with. The same seed gives the same trees, whatever
        the other tasks are, with a judge that draws by the row's `seed` or not at all.
        """
        made = []
        for number, task in enumerate(tasks):
            limit, known = Limits() if limits is None else limits[number], {} if journals is None else journals[number]
            made.append(SearchTree(task, number, limit, journal=dict(known)))
        served = Lockstep(proposer, judge, budget or Budget(), seed, self.refine, self.retries)
        served.run([self.search(tree, None if starts is None else starts[tree.number], seed) for tree in made])
        return made

    def run(
        self, generator: Any, reward: Reward, prompts: Batch, *, budget: Budget, seed: int, state: Any = None
    ) -> SearchResult:
        """The best candidate for each prompt; generator: a `Proposer`. Its score is its mean vote in the last knock-out.

        prompts: their responses, where there are any, are what the searches start from. A prompt whose winner met no rival has
        the status EMPTY_GROUP. `history` holds the nodes of all trees, `state` the answers to go on with.
        """
        import torch

        before = dict(budget.spent)
        journals = None if state is None else [thawed(journal) for journal in state["journals"]]
        starts = None if prompts.responses is None else list(prompts.responses)
        trees = self.trees(generator, reward, prompts.prompts, starts, seed=seed, budget=budget, journals=journals)
        best = [tree.best for tree in trees]
        votes = torch.tensor([math.nan if node is None or node.votes is None else node.votes for node in best])
        status = torch.where(votes.isnan(), int(Status.EMPTY_GROUP), int(Status.OK))
        chosen = replace(prompts, responses=[None if node is None else node.candidate for node in best])
        stopped = next((tree.stopped for tree in trees if tree.stopped is not None), None)
        return SearchResult(
            chosen,
            Scores(votes, status),
            {name: amount - before.get(name, 0) for name, amount in budget.spent.items()},
            [{"prompt": tree.number, **node} for tree in trees for node in tree.to_json()["nodes"]],
            stopped,
            None if stopped is None else {"journals": [frozen(tree.journal) for tree in trees]},
        )

    def search(self, tree: SearchTree, start: Any, seed: int) -> Step[None]:
        """All levels of one task; the tree takes it all up."""
        bases = [tree.add(None, "start", "start", start)] * self.beam
        for place, level in enumerate(self.levels):
            branches = yield from together(
                [self._branch(tree, f"{place}.{number}", level, base, seed) for number, base in enumerate(bases)]
            )
            bases = self._next_bases(branches)
            if tree.stopped is not None:
                break
        tree.best = yield from self._winner(tree, "end", self.levels[-1], bases, self.votes)

    def _branch(self, tree: SearchTree, key: str, level: Any, base: Node, seed: int) -> Step[Branch]:
        """Lines, their knock-out, and their recombination."""
        lines = [self._guarded(tree, f"{key}.{number}", level, base, seed) for number in range(self.lines)]
        optima = distinct([node for node in (yield from together(lines)) if node is not None])
        if not optima:
            return Branch(base)
        outcome = yield from knockout(tree, f"{key}/ko", level, [node.candidate for node in optima], repeats=self.optimum_votes)
        best = optima[outcome.winner]
        second = None if outcome.runner_up is None else optima[outcome.runner_up]
        ranked = [best, *(node for node in optima if node is not best)]
        for trial in range(self.recombine_trials if len(optima) > 1 else 0):
            better = yield from self._guarded(tree, f"{key}.r{trial}", level, best, seed, ranked)
            if better is not None:
                best, second = better, best
                break
        return Branch(best, second, improved=True)

    def _next_bases(self, branches: Sequence[Branch]) -> list[Node]:
        """The branches' results without duplicates, those that found nothing last, filled up with second-best local optima."""
        found = distinct([branch.best for branch in sorted(branches, key=lambda branch: not branch.improved)])
        if not any(branch.improved for branch in branches):
            return [branch.best for branch in branches]  # the copies of the start stay copies
        found = distinct([*found, *(branch.second for branch in branches if branch.second is not None)])[: self.beam]
        return [node for node in found if not empty(node.candidate)] or found  # nothing loses to anything, without a call

    def _winner(self, tree: SearchTree, key: str, level: Any, nodes: Sequence[Node], votes: int) -> Step[Node]:
        nodes = distinct(nodes)
        outcome = yield from knockout(tree, key, level, [node.candidate for node in nodes], repeats=votes)
        nodes[outcome.winner].votes = outcome.votes
        return nodes[outcome.winner]

    def _guarded(
        self, tree: SearchTree, key: str, level: Any, base: Node, seed: int, optima: Sequence[Node] = ()
    ) -> Step[Node | None]:
        """A line whose errors end it alone: they are logged and kept in the tree."""
        try:
            return (yield from self.line(tree, key, level, base, seed, optima))
        except Exception as error:  # of the proposer's or the judge's code
            _LOG.warning("line %s of task %d ended with %s: %s", key, tree.number, type(error).__name__, error)
            tree.counts["errors"] += 1
            tree.errors.append(f"{key}: {type(error).__name__}: {error}")
            return None

    def line(
        self, tree: SearchTree, key: str, level: Any, base: Node, seed: int, optima: Sequence[Node] = ()
    ) -> Step[Node | None]:
        """Climb from a base until `patience` refusals in a row; the local optimum, or None where it is the base still."""
        current, refused = base, 0
        failed: list[tuple[Any, str]] = []
        here = content_key(base.candidate)
        held = Counter({here: 1})
        path = _earlier_levels(tree, base, key)
        joined = tuple(node.candidate for node in optima)
        ended = "max_steps"
        for step in range(self.max_steps):
            name = f"{key}/{step}"
            shown = tuple(failed) if self.use_failures else ()
            ask = Ask(tree.task, current.candidate, level, path, joined, shown, derive_seed(seed, tree.number, name))
            draft = yield from asked_once(Proposal(tree, f"{name}/p", ask))
            if draft is None:
                ended = "stopped"
                break
            there = content_key(draft)
            better, reason = yield from self._prefers(tree, name, level, current.candidate, draft, same=here == there)
            if better is None:
                ended = "stopped"
                break
            node = tree.add(current, "accepted" if better else "rejected", name, draft, level, reason)
            if not better:
                refused, failed = refused + 1, [*failed, (draft, reason)]
                if refused >= self.patience:
                    ended = "patience"
                    break
                continue
            current, here, refused, failed = node, there, 0, []
            held[here] += 1
            tree.counts["cycles"] += held[here] > 1
            if self.rounds_of_cycle is not None and held[here] > self.rounds_of_cycle:
                ended = "cycle"
                break
        tree.lines[ended] += 1
        return None if here == content_key(base.candidate) else current

    def _prefers(
        self, tree: SearchTree, name: str, level: Any, current: Any, draft: Any, *, same: bool
    ) -> Step[tuple[bool | None, str]]:
        """Whether the judge prefers the draft; None where the search has stopped. What needs no judge asks none."""
        if same or empty(draft):  # the start may be empty itself
            reason = "empty" if empty(draft) else "unchanged"
            tree.counts[reason] += 1
            return False, reason
        if current is None:
            return True, "nothing to compare with"
        votes: list[Vote] = []
        flips: list[bool] = []
        for order, pair in enumerate(((current, draft), (draft, current)) if self.accept == "both" else ((current, draft),)):
            vote = yield from asked_once(Comparison(tree, f"{name}/{order}", level, *pair, strict=True))
            if vote is None:
                return None, ""
            if math.isnan(vote.prob):  # no verdict, so the current one stays
                tree.counts["unparsable"] += 1
                return False, f"no verdict: {vote.status.label}"
            votes.append(vote)
            if vote.flipped is not None:  # the judge has looked both ways round itself
                flips.append(vote.flipped)
                break
        wins = [vote.prob < 0.5 if order == 0 else vote.prob > 0.5 for order, vote in enumerate(votes)]
        if len(wins) == 2:
            flips.append(wins[0] != wins[1])
        tree.counts["double"] += len(flips)
        tree.counts["flips"] += sum(flips)
        agreed = self.accept != "both" or not any(flips)
        return all(wins) and agreed, "; ".join(vote.reason for vote in votes if vote.reason)


def _earlier_levels(tree: SearchTree, base: Node, key: str) -> tuple[Any, ...]:
    """The last candidate of each level before the one of `key` on the way to a base, first level first."""
    last: dict[int, Any] = {}
    for node in tree.path(base):
        if node.kind != "start":
            last[int(node.key.split(".")[0])] = node.candidate
    return tuple(candidate for place, candidate in sorted(last.items()) if place < int(key.split(".")[0]))


def distinct(nodes: Sequence[Node]) -> list[Node]:
    """The nodes whose candidates differ, the first of each."""
    found: dict[str, Node] = {}
    for node in nodes:
        found.setdefault(content_key(node.candidate), node)
    return list(found.values())
