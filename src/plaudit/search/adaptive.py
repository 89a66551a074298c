"""Searches that spend samples where they help: adaptive best-of-n, and pruning in mid-generation.

Both go by a reward that says how likely a response (or the beginning of one) is as good as another sample would be (Manvi, Singh
and Ermon, arXiv 2410.02725): such a reward can say "nothing better will come", of an easy prompt and of a hopeless one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from plaudit.fitting.seeds import derive_seed, permutation
from plaudit.search.base import BaseSearch, Stopped, affordable, best_row, judge, require, sampling_of, unlimited
from plaudit.search.work import candidates_of
from plaudit.types import Batch, Generator, Reward, Sampling, States, Status, Stepping, UserError

if TYPE_CHECKING:
    from plaudit.search.work import Candidate, Progress, Work

PruneBy = Literal["reward", "random"]


@dataclass(frozen=True)
class Annealing:
    """Temperature of the k-th sample (from 1): last + (first - last) * decay^(k-1).

    With `first` above `last`, early samples explore and later ones exploit; the other way round the first is near greedy.
    """

    first: float = 1.0
    last: float = 0.2
    decay: float = 0.7

    def __post_init__(self) -> None:
        if min(self.first, self.last) < 0 or not 0 <= self.decay <= 1:
            raise UserError(f"temperatures must not be negative and decay must lie in [0, 1]: {self}")

    def __call__(self, k: int) -> float:
        """The temperature of sample k."""
        return self.last + (self.first - self.last) * self.decay ** (k - 1)


def batches_of(batches: Sequence[int], n_max: int) -> list[int]:
    """The sizes of the rounds, n_max samples in all: as given, cut at the end or filled up by single samples."""
    sizes: list[int] = []
    for size in [*batches, *[1] * n_max]:
        left = n_max - sum(sizes)
        if left <= 0:
            break
        sizes.append(min(size, left))
    return sizes


@dataclass
class AdaptiveBestOfN(BaseSearch):
    """Draw on until a sample is good enough, or n_max are there; the best by the reward (arXiv 2410.02725, section 3).

    tau: a prompt is done as soon as its best value is at least this; 0 or less: after the first round. temperature: by the number
    of samples so far, None for that of `how` alone; the samples of one round share that of its first. batches: sizes of the
    rounds, between which is stopped: () for one at a time, (1, 1, 2, 4, 8) for fewer, larger ones. how: the rest of sampling.
    A sample without a number counts as drawn and is never good enough.
    """

    tau: float = 0.9
    n_max: int = 16
    temperature: Annealing | None = field(default_factory=Annealing)
    batches: Sequence[int] = ()
    how: Any = None
    on_progress: Progress | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.n_max < 1 or any(size < 1 for size in self.batches) or math.isnan(self.tau):
            raise UserError("n_max and every batch must be at least 1, and tau a number")
        if isinstance(self.temperature, dict):
            self.temperature = Annealing(**self.temperature)

    def search(self, work: Work) -> None:
        """Round by round, for all prompts of a portion that are not done."""
        for rows in work.chunks(self.n_max):
            made = 0
            for number, size in enumerate(batches_of(self.batches, self.n_max)):
                active = [row for row in rows if not self._good_enough(work.of(row), number)]
                if not active:
                    break
                note: dict[str, Any] = {"round": number}
                how = self._how(work.generator, made + 1)
                if isinstance(how, Sampling):
                    note["temperature"] = round(how.temperature, 6)
                try:
                    work.draw(active, size, how=how, note=note, key=number)
                except Stopped:
                    work.judge()
                    raise
                work.judge()
                made += size

    def _how(self, generator: Generator, k: int) -> Any:
        how = sampling_of(generator, self.how)
        if self.temperature is None:
            return how
        if not hasattr(how, "temperature"):
            raise UserError("this generator has no temperature to anneal: use temperature=None")
        return replace(how, temperature=self.temperature(k))

    def _good_enough(self, found: Sequence[Candidate], number: int) -> bool:
        """Whether the rounds before this one settled a prompt."""
        before = [one for one in found if one.note["round"] < number]
        if not before:
            return False
        known = [one.value for one in before if one.status == Status.OK and one.value is not None]
        return self.tau <= 0 or (bool(known) and max(known) >= self.tau)


def replay(values: Sequence[float | None], tau: float, batches: Sequence[int] = ()) -> tuple[int, int | None]:
    """What `AdaptiveBestOfN` with this tau would have made of samples that are there: how many it draws, and which it takes.

    values: of one prompt's samples in the order of drawing, None without a number; all n_max of them. So one search that never
    stops gives the whole curve of quality against cost.
    """
    seen = 0
    for size in batches_of(batches, len(values)):
        seen += size
        known = [value for value in values[:seen] if value is not None]
        if tau <= 0 or (known and max(known) >= tau):
            break
    return seen, best_row(values[:seen], [Status.FAILED if value is None else Status.OK for value in values[:seen]])


@dataclass
class PrunedBestOfN(BaseSearch):
    """Begin n samples, drop most of them after `at` tokens by what their beginnings are worth, finish the rest, take the best.

    keep: share of the samples that is finished, at least one. by: "random" drops at random, which is the baseline of equal cost
    (and judges no beginnings). how: sampling. A sample that ended before `at` keeps its score. Beginnings without a score are
    dropped first. The reward sees beginnings as responses whose `finish` is "truncated".
    What a stop catches in the middle of a portion of prompts is begun anew when the search goes on, and counted both times.

    Raises UserError for a generator that cannot be run step by step.
    """

    n: int = 16
    at: int = 128
    keep: float = 0.25
    by: PruneBy = "reward"
    how: Any = None
    on_progress: Progress | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.n < 1 or self.at < 1 or not 0 < self.keep <= 1 or self.by not in ("reward", "random"):
            raise UserError("n and at must be at least 1, keep a share above 0, and by reward or random")

    @property
    def kept(self) -> int:
        """Samples of a prompt that are finished."""
        return max(1, math.ceil(self.keep * self.n - 1e-9))

    def check(self, generator: Generator, reward: Reward) -> None:  # noqa: ARG002
        """Raise UserError for a generator that cannot be run step by step."""
        if not isinstance(generator, Stepping):
            raise UserError(f"pruning needs a generator that can be run step by step, which {type(generator).__name__} cannot")

    def search(self, work: Work) -> None:
        """Portion by portion; a prompt is done once it has candidates."""
        how = sampling_of(work.generator, self.how)
        for rows in work.chunks(self.n):
            left = [row for row in rows if not work.of(row)]
            while left:
                count = int(min(len(left), affordable(work.budget, **self._most(how))))
                if not count:
                    work.judge()
                    require(work.budget, **self._most(how))
                self._portion(work, left[:count], how)
                left = left[count:]
            work.judge()

    def choose(self, work: Work, prompt: int) -> int | None:
        """The best of those that were finished."""
        found = work.of(prompt)
        return best_row([None if one.note.get("pruned") else one.value for one in found], [one.status for one in found])

    def _most(self, how: Any) -> dict[str, float]:
        """What a prompt can cost at most."""
        if not isinstance(how, Sampling):
            return {"samples": float(self.n)}
        tokens = float(self.n * min(self.at, how.max_tokens) + self.kept * max(0, how.max_tokens - self.at))
        return {"samples": float(self.n), "completion_tokens": tokens, "sampled_tokens": tokens}

    def _portion(self, work: Work, rows: list[int], how: Any) -> None:
        stepping: Any = work.generator
        states = stepping.start(work.prompts.select(rows), self.n, seed=derive_seed(work.seed, "start", rows[0]))
        states = until_token(stepping, states, how, self.at, seed=derive_seed(work.seed, "prefix", rows[0]))
        prefixes = stepping.read(states)
        self._spend(work, prefixes, samples=len(prefixes))
        values = self._values(work, prefixes)
        chosen = [row for group in prefixes.group_rows() for row in self._best(values, group, work.seed)]
        rest = stepping.step(states.select(chosen), how, seed=derive_seed(work.seed, "rest", rows[0]), until="turn")
        finished = stepping.read(rest)
        self._spend(work, finished, less=prefixes.select(chosen))
        place = {row: number for number, row in enumerate(chosen)}
        found, ends = candidates_of(prefixes), candidates_of(finished)
        for row, begun in enumerate(found):
            begun.note = {"pruned": row not in place, "prefix_value": values[row]}
            if row in place:
                whole = ends[place[row]]
                begun.response, begun.tokens, begun.finish = whole.response, whole.tokens, whole.finish
                if self.by == "reward" and bool(states.finished[row]) and values[row] is not None:
                    begun.status, begun.value = Status.OK, values[row]
            else:
                begun.status = Status.NOT_APPLICABLE  # a beginning is no answer
        work.add([replace(one, prompt=rows[one.prompt]) for one in found])

    def _values(self, work: Work, prefixes: Batch) -> list[float | None]:
        if self.by == "random":
            return [None] * len(prefixes)
        scores = judge(work.reward, prefixes, seed=derive_seed(work.seed, "judge"), budget=work.budget)
        return [None if value != value else value for value in scores.values.tolist()]

    def _best(self, values: Sequence[float | None], group: Sequence[int], seed: int) -> list[int]:
        """The rows of a group that are finished, in their order."""
        if self.by == "random":
            return sorted(group[place] for place in permutation(len(group), derive_seed(seed, "prune", group[0]))[: self.kept])
        ranked = sorted(group, key=lambda row: -math.inf if values[row] is None else values[row], reverse=True)  # type: ignore[arg-type,return-value]
        return sorted(ranked[: self.kept])

    def _spend(self, work: Work, batch: Batch, *, less: Batch | None = None, **amounts: float) -> None:
        lengths = batch.lengths
        if lengths is not None:
            tokens = float(sum(lengths) - sum((less.lengths if less is not None else None) or ()))
            amounts |= {"completion_tokens": tokens, "sampled_tokens": tokens}
        unlimited(work.budget).spend(**amounts)


def until_token(generator: Any, states: States, how: Any, tokens: int, *, seed: int) -> States:
    """States that hold at most so many tokens (or steps), still to be continued where they were cut off there."""
    if not isinstance(how, Sampling):
        for number in range(tokens):
            states = generator.step(states, how, seed=derive_seed(seed, number), until="step")
        return states
    reached: States = generator.step(states, replace(how, max_tokens=min(tokens, how.max_tokens)), seed=seed, until="turn")
    batch = generator.read(reached)
    texts, finish = batch.require_responses(), batch.finish or ["truncated"] * len(batch)
    over = reached.finished.clone()
    for row, (text, end) in enumerate(zip(texts, finish, strict=True)):
        stopped = any(stop in str(text) for stop in how.stop)
        cut_here = int(reached.time[row]) >= tokens and end != "complete" and not stopped
        over[row] = bool(over[row]) and not (cut_here and tokens < how.max_tokens)
    return replace(reached, finished=over)
