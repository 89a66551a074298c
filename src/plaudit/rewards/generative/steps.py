"""`StepJudge`: a process reward that reasons about each step, runs code on it, and says yes or no (GenPRM, arXiv 2504.00891).

One step: a forced beginning of the analysis; a forced beginning of the code, which runs in a sandbox; what it printed is put into
the answer, and the judge goes on, to more code or to its verdict. r = p(yes) / (p(yes) + p(no)) at the verdict. All solutions and
all votes go through the stages together, so each stage is one call of the engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from plaudit.engines.sandbox import Execution, Sandbox, Session
from plaudit.rewards.base import BaseReward
from plaudit.rewards.generative.asking import Reading, read_distribution
from plaudit.rewards.generative.contract import Label, OptionsReadout
from plaudit.rewards.generative.step_form import Split, StepForm, split_steps
from plaudit.rewards.generative.templates import content_text
from plaudit.rewards.rules.base import response_text
from plaudit.rewards.rules.source import function_key
from plaudit.types import Batch, Context, Engine, Request, Sampling, Scores, SpecError, Status, Verdict
from plaudit.types.keys import content_key

if TYPE_CHECKING:
    from torch import Tensor

Reduce = Literal["min", "last", "product", "mean"]
REDUCE: dict[str, Callable[[Sequence[float]], float]] = {
    "min": min,
    "last": lambda values: values[-1],
    "product": math.prod,
    "mean": lambda values: math.fsum(values) / len(values),
}
"""A solution's score out of those of its steps."""
SAMPLING = Sampling(max_tokens=2048, temperature=0.6, top_p=0.95)
"""The paper's, without its cut to the 20 likeliest tokens; `max_tokens` bounds what is written about one step."""
SHORTEST_VERDICT = 20


@dataclass
class _Path:
    """One vote on one step while it is made. text: the answer so far; free: where the judge's own words after the last output
    of code begin; analysed: the answer's end when the analysis was done."""

    row: int
    vote: int
    shown: Any
    text: str = ""
    free: int = 0
    analysed: int = 0
    tokens: int = 0
    closed: bool = True
    written: str = ""
    reading: Reading | None = None
    session: Session | None = None
    failed: tuple[Status, str] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def request(self) -> Request:
        return Request(self.shown, self.text)


@dataclass
class _Solution:
    """One row while it is judged. values, verdicts: of the steps so far."""

    problem: str
    steps: list[str]
    written: list[str] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    votes: list[float] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    sessions: list[Session | None] = field(default_factory=list)


class StepJudge(BaseReward):
    """Scores every step of a solution; a solution's value is the lowest of them.

    engine: must read next-token probabilities after a forced beginning. sandbox: runs the code; needed where it is executed.
    analyze, verify, execute: which parts of an answer are asked for; none of them: the verdict at once. Without `execute` the
    judge writes its code and goes on without seeing an output. votes: independent answers to each step; r is the mean over
    those that could be read. The first readable one is what later steps see as the judge's earlier answer. max_code_rounds:
    blocks of code for one step; a judge that has not come to a verdict then, or that runs out of tokens, is asked for one right
    after its analysis. share_names: code of one step sees the names of earlier ones (a process a solution and vote); without,
    equal code runs once. reduce: "min", "last", "product" or "mean" over steps. split: a row's steps where the batch has no
    `segments`. unreadable: what a step without any readable verdict is worth; None: the row is UNPARSABLE (the released code
    takes 0.5).

    Scores: `segments` [B, S] the steps' r; parts `first_error` (the first step with r < 0.5, -1: none) and `votes` (share of
    answers that could be read); verdicts: one a step, in order, with the first answer's text.
    Raises SpecError for settings that cannot work.
    """

    name = "step-judge"

    def __init__(
        self,
        engine: Engine,
        sandbox: Sandbox | None = None,
        *,
        form: StepForm | None = None,
        analyze: bool = True,
        verify: bool = True,
        execute: bool = True,
        votes: int = 1,
        sampling: Sampling = SAMPLING,
        max_code_rounds: int = 3,
        share_names: bool = True,
        reduce: Reduce = "min",
        split: Split = split_steps,
        unreadable: float | None = None,
        minimum_mass: float = 0.05,
        batch_size: int = 32,
    ) -> None:
        if verify and execute and sandbox is None:
            raise SpecError("a step judge that executes code needs a sandbox; execute=False goes without")
        if votes < 1 or max_code_rounds < 1:
            raise SpecError("a step judge needs at least one vote and one round of code")
        if votes > 1 and sampling.temperature <= 0 and (analyze or verify):
            raise SpecError("several votes of a judge that draws nothing are the same: give it a temperature above 0")
        if reduce not in get_args(Reduce):
            raise SpecError(f"reduce is '{reduce}', expected one of {', '.join(get_args(Reduce))}")
        self.engine, self.sandbox, self.form = engine, sandbox, form or StepForm()
        self.analyze, self.verify, self.execute = analyze, verify, execute and verify
        self.votes, self.sampling, self.max_code_rounds, self.share_names = votes, sampling, max_code_rounds, share_names
        self.reduce, self.split, self.unreadable, self.batch_size = reduce, split, unreadable, batch_size
        labels = (Label("yes", 1.0, self.form.right), Label("no", 0.0, self.form.wrong))
        self.readout = OptionsReadout(labels, minimum_mass)
        self.readout.validate()
        self.uses_seed = sampling.temperature > 0 and (analyze or verify)
        self._executed: dict[str, Execution] = {}

    def fingerprint(self) -> str:
        """Engine version, form, flags, sampling and sandbox."""
        how = self.sampling
        flags = (self.analyze, self.verify, self.execute, self.votes, self.max_code_rounds, self.share_names, self.reduce)
        given = (how.max_tokens, how.temperature, how.top_p, how.seed, self.unreadable, self.readout.minimum_mass)
        sandbox = self.sandbox.settings if self.sandbox is not None and self.execute else None
        return content_key(
            "step-judge", self.engine.version, self.form.content(), flags, given, sandbox, function_key(self.split)
        )

    def check(self) -> None:
        """Raise EngineError if the engine, UserError if the sandbox cannot be used."""
        self.engine.check()
        if self.sandbox is not None and self.execute:
            self.sandbox.check()

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:
        """[B] scores of solutions, [B, S] of their steps. A row without text or steps is NOT_APPLICABLE."""
        ctx = ctx or Context()
        ctx.budget.spend(reward_calls=len(batch))
        solutions: list[_Solution | None] = []
        for start in range(0, len(batch), max(1, self.batch_size)):
            part = [self._solution(batch, row) for row in range(start, min(start + max(1, self.batch_size), len(batch)))]
            self._judge([one for one in part if one is not None], ctx)
            solutions += part
        return self._scores(solutions)

    def _solution(self, batch: Batch, row: int) -> _Solution | None:
        text, problem = response_text(batch.require_responses()[row]), content_text(batch.prompts[row])
        if text is None or problem is None:
            return None
        spans = self.split(text) if batch.segments is None else batch.segments[row]
        steps = [text[start:end].strip() for start, end in spans]
        return _Solution(problem, steps, sessions=[None] * self.votes) if steps else None

    def _judge(self, solutions: list[_Solution], ctx: Context) -> None:
        """Step after step, all solutions that have one side by side."""
        try:
            for number in range(max((len(one.steps) for one in solutions), default=0)):
                rows = [row for row, one in enumerate(solutions) if number < len(one.steps)]
                paths = []
                for row in rows:
                    one = solutions[row]
                    shown = self.form.ask(one.problem, one.steps[: number + 1], one.written)
                    paths += [_Path(row, vote, shown, session=one.sessions[vote]) for vote in range(self.votes)]
                self._answer(paths, number, ctx)
                for row in rows:
                    own = [path for path in paths if path.row == row]
                    solutions[row].sessions = [path.session for path in own]
                    self._take(solutions[row], own, number)
        finally:
            for one in solutions:
                for session in one.sessions:
                    if session is not None:
                        session.close()

    def _answer(self, paths: list[_Path], number: int, ctx: Context) -> None:
        """Take every path to its verdict."""
        if self.analyze:
            for path in paths:
                path.text += self.form.analyze[0].format(number=number + 1)
            self._write(paths, (self.form.analyze[1].strip(),), ctx)
            for path in paths:
                path.text = path.text.rstrip("\n") + self.form.analyze[1]
        for path in paths:
            path.analysed = path.free = len(path.text)
        if self.verify:
            self._verify([path for path in paths if path.closed and path.failed is None], ctx)
        self._read(paths, ctx)

    def _verify(self, paths: list[_Path], ctx: Context) -> None:
        """Rounds of code until each path has come to its verdict; those that do not are left without one."""
        for path in paths:
            path.text += self.form.verify
        for _ in range(self.max_code_rounds):
            for path in paths:
                path.text += self.form.code[0]
            self._write(paths, (self.form.code[1],), ctx)
            paths = [path for path in paths if path.closed and path.failed is None]
            codes = [self.form.program.replace("{code}", path.written) for path in paths]
            for path in paths:
                path.text += self.form.code[1]
            if self.execute:
                for path, done in zip(paths, self._execute(paths, codes, ctx), strict=True):
                    path.text += self.form.ran[0] + printed(done) + self.form.ran[1]
                    path.free = len(path.text)
            self._write(paths, (self.form.code[0].strip(), self.form.done), ctx)
            # text that ended at the verdict's stop holds the verdict; text that ended at a block's beginning does not
            undecided = [path for path in paths if self.form.found_verdict(path.text[path.free :]) is None]
            paths = [path for path in undecided if path.closed and path.failed is None]
            if not paths:
                return

    def _write(self, paths: list[_Path], stop: tuple[str, ...], ctx: Context) -> None:
        """Let the engine continue each path up to a stop; `written` is what came, `closed` whether it came to a stop."""
        live = [path for path in paths if path.failed is None]
        if not live:
            return
        room = self.sampling.max_tokens - min(path.tokens for path in live)
        how = replace(self.sampling, stop=stop, max_tokens=max(1, room), seed=self.sampling.seed + ctx.seed)
        made = self.engine.generate([path.request for path in live], how, budget=ctx.budget)
        for path, one in zip(live, made, strict=True):
            path.written, path.text = one.text, path.text + one.text
            path.tokens += one.completion_tokens
            path.closed = one.finish == "complete" and path.tokens <= self.sampling.max_tokens
            if one.status not in (Status.OK, Status.TOO_LONG):
                path.failed = (Status(one.status), one.detail)

    def _execute(self, paths: Sequence[_Path], codes: Sequence[str], ctx: Context) -> list[Execution]:
        """Run each path's code; without shared names, equal code once."""
        sandbox = self.sandbox
        assert sandbox is not None
        ctx.budget.spend(executions=len(codes))
        if not self.share_names:
            new = sorted({code for code in codes if code not in self._executed})
            with ThreadPoolExecutor(4) as pool:
                self._executed |= dict(zip(new, pool.map(sandbox.run, new), strict=True))
            return [self._executed[code] for code in codes]

        def in_session(path: _Path, code: str) -> Execution:
            path.session = path.session or sandbox.session()
            return path.session.run(code)

        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(in_session, paths, codes))

    def _read(self, paths: list[_Path], ctx: Context) -> None:
        """r of each path at its verdict; one without a verdict is asked for it after its analysis."""
        asked = [path for path in paths if path.failed is None]
        for path in asked:
            place = self.form.found_verdict(path.text[path.free :]) if self.verify else None
            if place is not None:
                path.text = path.text[: path.free + place]
                continue
            if self.verify:
                path.notes.append("no verdict of its own: asked for one after the analysis")
            path.text = path.text[: path.analysed] + self.form.verdict[0]
        if not asked:
            return
        found = self.engine.next_token([path.request for path in asked], self.readout.spellings, budget=ctx.budget)
        floors = [None] * len(asked) if found.floor is None else found.floor.tolist()
        details = found.detail or [""] * len(asked)
        for path, row, status, floor, detail in zip(asked, found.log_probs.tolist(), found.status, floors, details, strict=True):
            if status is not Status.OK:
                path.failed = (Status(status), detail)
            else:
                path.reading = read_distribution(row, self.readout, floor)

    def _take(self, solution: _Solution, paths: list[_Path], number: int) -> None:
        """The step's value out of its votes, and the answer that later steps see."""
        read = [path for path in paths if path.reading is not None and path.reading.value is not None]
        solution.votes.append(len(read) / len(paths))
        first = read[0] if read else paths[0]
        status, notes = Status.OK, list(first.notes)
        value = math.fsum(path.reading.value for path in read if path.reading and path.reading.value is not None) / max(
            1, len(read)
        )
        if not read:
            status, value = first.failed[0] if first.failed else Status.UNPARSABLE, math.nan
            notes += [first.failed[1]] if first.failed else list(first.reading.detail if first.reading else [])
            if self.unreadable is not None and status is Status.UNPARSABLE:
                status, value = Status.OK, self.unreadable
                notes.append(f"no readable verdict: worth {value:g} by setting")
        said = self.form.right if value >= 0.5 else self.form.wrong
        text = first.text + said[0] + self.form.verdict[1] if status is Status.OK else first.text
        solution.written.append(text)
        solution.values.append(value)
        choice = None if status is not Status.OK else "yes" if value >= 0.5 else "no"
        shown = None if status is not Status.OK else value
        solution.verdicts.append(
            Verdict(
                choice, shown, text, status=status, detail="; ".join(note for note in notes if note), name=f"step {number + 1}"
            )
        )

    def _scores(self, solutions: Sequence[_Solution | None]) -> Scores:
        import torch

        width = max((len(one.steps) for one in solutions if one is not None), default=0)
        segments = torch.full((len(solutions), width), torch.nan)
        columns: dict[str, Tensor] = {
            name: torch.full((len(solutions),), torch.nan) for name in ("value", "first_error", "votes")
        }
        status = torch.full((len(solutions),), int(Status.NOT_APPLICABLE), dtype=torch.int8)
        for row, one in enumerate(solutions):
            if one is None:
                continue
            segments[row, : len(one.values)] = torch.tensor(one.values)
            columns["votes"][row] = sum(one.votes) / len(one.votes)
            error = first_below(one.values)
            if error is not None:
                columns["first_error"][row] = error
            status[row] = next(
                (int(verdict.status) for verdict in one.verdicts if verdict.status is not Status.OK), int(Status.OK)
            )
            if status[row] == Status.OK:
                columns["value"][row] = REDUCE[self.reduce](one.values)
        verdicts = [[] if one is None else one.verdicts for one in solutions]
        return Scores(columns.pop("value"), status, columns, segments=segments, verdicts=verdicts)


def first_below(values: Sequence[float], threshold: float = 0.5) -> int | None:
    """Index of the first value below the threshold, -1 where there is none; None where a missing value (NaN) leaves it open."""
    for place, value in enumerate(values):
        if math.isnan(value):
            return None
        if value < threshold:
            return place
    return -1


def printed(done: Execution) -> str:
    """What a judge is shown of an execution: what it printed, and how it ended where that was not well."""
    text = done.stdout
    if not done.ok:
        text += f"Error: {done.detail}\n" if done.status == "error" else f"Stopped: {done.detail}\n"
    return text
