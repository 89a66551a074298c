"""`Run`: draw, score, shape, learn, watch, keep; one step at a time. `align` runs it to its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from plaudit.fitting import Fitter, derive_seed, seeded
from plaudit.fitting.processes import Processes
from plaudit.fitting.weights import copy_weights, kept_weights, set_weights
from plaudit.training.config import RunConfig
from plaudit.training.drawing import Drawer, ScoredDraw, Shaper
from plaudit.training.evaluation import Evaluation
from plaudit.training.folder import RunFolder
from plaudit.training.learning import Learned, Learner
from plaudit.training.records import StepRecord, append_record, cut_records, read_metrics
from plaudit.training.reference import Reference, ReferenceChoice, Start
from plaudit.training.scales import PartScale, scale_report
from plaudit.training.trackers import Trackers
from plaudit.types import (
    Budget,
    BudgetExceeded,
    Context,
    EngineError,
    Generator,
    Lesson,
    Monitor,
    Objective,
    Reward,
    Source,
    Trajectories,
    Updating,
    UserError,
)

OnStep = Callable[["Run", StepRecord], None]


class Run:
    """A training run in a folder of its own.

    reference_policy: "frozen copy" of the start, "ema" of the policy, a generator, or None; objectives find it in the context.
    shaper: scores -> scores, between reward and objective. monitors: look at every lesson after its updates; the first that
    says stop ends the run. evaluation: what is measured apart from the reward. on_step: told of every step (a table, a plot).

    One step: draw -> score -> shape -> prepare -> updates -> monitors -> reward.update and tick -> record -> checkpoint at
    intervals. `step()` runs one; between steps the caller may do what it likes. Nothing random is kept between steps: all seeds
    follow from `config.seed` and the step, so a run that was killed goes on from its last checkpoint with the same numbers.

    Raises UserError if the folder holds a run already, or the generator lacks an ability that the objective needs.
    """

    def __init__(
        self,
        generator: Generator,
        objective: Objective,
        source: Source,
        *,
        reward: Reward,
        reference_policy: ReferenceChoice | Generator | None = None,
        shaper: Shaper | None = None,
        monitors: Sequence[Monitor] = (),
        evaluation: Evaluation | None = None,
        config: RunConfig | None = None,
        run_dir: str | Path,
        on_step: OnStep | None = None,
        _resumed: bool = False,
    ) -> None:
        self.generator, self.objective, self.source, self.reward = generator, objective, source, reward
        self.shaper, self.monitors, self.evaluation, self.on_step = shaper, list(monitors), evaluation, on_step
        self.folder = RunFolder(run_dir)
        config = self.folder.read_config(config) if _resumed else config or RunConfig()
        self.config = config
        _check_abilities(generator, objective)
        if hasattr(reward, "check"):
            reward.check()
        if getattr(shaper, "references", None) is not None and not getattr(reward, "higher_is_better", True):
            raise UserError("reference rewards are not turned around: give a reward whose larger values are better")
        processes = Processes()
        modules = _modules(generator, objective)
        start = self._open_folder(modules, processes, resumed=_resumed)
        self.reference = Reference(reference_policy, generator, config.reference_decay)
        self.fitter = Fitter(modules, _with_length(config))
        self.reference.share_out(self.fitter)
        copied = self.reference.policy if reference_policy == "frozen copy" else None
        self._start = Start(generator, start, copied) if config.distance_every else None
        self.budget = Budget(dict(config.budget))
        self.done = self.empty_in_a_row = 0
        self.stopped: str | None = None
        self.best: dict[str, Any] | None = None
        self.scales: list[PartScale] = []
        self._recorded, self._save_next = -1, False
        self.drawer = Drawer(source, reward, shaper, config, processes)
        self.learner = Learner(generator, objective, self.fitter, config)
        self.trackers = Trackers(config.trackers if self.main else (), self.folder.path, asdict(config))

    @classmethod
    def resume(
        cls, run_dir: str | Path, generator: Generator, objective: Objective, source: Source, *, reward: Reward, **others: Any
    ) -> Run:
        """Go on where the last complete checkpoint stands (the start, if there is none), with the same parts as then.

        The other arguments are those of `Run`. config: None takes that of the run; UserError if it decides other numbers.
        """
        run = cls(generator, objective, source, reward=reward, run_dir=run_dir, _resumed=True, **others)
        done = run.folder.latest()
        if done is not None:
            run.load_state_dict(run.folder.load_checkpoint(done))
        if run.main:
            cut_records(run.folder.path, run.done)
        run.fitter.processes.wait()
        return run

    @property
    def main(self) -> bool:
        """Whether this process writes files."""
        return self.fitter.processes.main

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.stopped is not None or self.done >= self.config.steps

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """All lines of the run so far."""
        return read_metrics(self.folder.path) if self._recorded >= 0 else []

    def context(self) -> Context:
        """What rewards and objectives are told in the next step."""
        seed = derive_seed(self.config.seed, "step", self.done)
        return Context(self.done, self.done / self.config.steps, seed, self.budget, self.reference.policy)

    def step(self) -> StepRecord:
        """Run one step. Raises UserError if the run is over; what a reward cannot score is counted, not raised."""
        if self.finished:
            raise UserError(f"the run is over: {self.stopped or f'{self.done} steps are done'}")
        ctx, record = self.context(), StepRecord(self.done)
        with seeded(derive_seed(ctx.seed, "torch")):
            try:
                self._step(ctx, record)
                self.done += 1
            except (BudgetExceeded, EngineError) as error:
                record.stop = f"{type(error).__name__}: {error}"
        record.stop = self.fitter.processes.agree(record.stop)
        self.stopped = record.stop
        self._write(record)
        every = self.config.checkpoint_every
        if self.finished or self._save_next or (every and self.done % every == 0):
            self.save()
        if self.on_step is not None:
            self.on_step(self, record)
        return record

    def finish(self) -> Run:
        """Run what is left, evaluate the result, and draw the plots."""
        while not self.finished:
            self.step()
        if self.evaluation is not None and self._recorded < self.done:
            record = StepRecord(self.done)
            with seeded(derive_seed(self.config.seed, "last")), self.fitter.whole():
                self._evaluate(self.context(), record)
            self._write(record)
        self.fitter.release()
        if self.main:
            from plaudit.training.plots import write_page

            write_page(self)
            self.trackers.close()
        return self

    def _step(self, ctx: Context, record: StepRecord) -> None:
        with self.fitter.whole():
            drawn, lesson = self._prepare(ctx, record)
        learned = self._learn(lesson, ctx, record)
        self._count_empty(learned, drawn, record)
        with self.fitter.whole() if self.monitors or isinstance(self.reward, Updating) else nullcontext():
            with _timed(record, "monitors"):
                self._observe(ctx, lesson, record)
            with _timed(record, "reward"):
                self._update_reward(drawn, ctx, record)
        if learned.updates:
            self.reference.update(self.generator)
        record.add(self.budget.spent, "spent/")

    def _prepare(self, ctx: Context, record: StepRecord) -> tuple[ScoredDraw, Lesson]:
        """Everything before the updates: nothing of it needs a gradient."""
        import torch

        samples = None
        if self.evaluation is not None and self.evaluation.due(self.done, self.config.steps):
            with _timed(record, "evaluation"):
                samples = self._evaluate(ctx, record)
        with _timed(record, "draw"), self.fitter.precision():
            drawn = self.drawer.draw(self.generator, ctx)
        record.add(drawn.figures, "draw/")
        record.notes += drawn.errors
        if not self.scales:
            self._report_scales(drawn)
        with _timed(record, "distance"):
            self._measure_distance(drawn.trajectories, samples, record)
        if not len(drawn):
            return drawn, Lesson(drawn.trajectories, drawn.scores)
        with _timed(record, "prepare"), torch.no_grad(), self.fitter.precision():
            lesson = self.objective.prepare(drawn.trajectories, drawn.scores, ctx)
        record.add(lesson.stats, "lesson/")
        return drawn, lesson

    def _learn(self, lesson: Lesson, ctx: Context, record: StepRecord) -> Learned:
        if not len(lesson):
            return Learned()
        check = self.done == 0 and bool(getattr(self.source, "on_policy", False))
        with _timed(record, "learn"):
            learned = self.learner.learn(lesson, ctx, check_ratio=check)
        record.add(learned.figures, "update/")
        record.notes += learned.notes
        record.stop = record.stop or learned.stop
        return learned

    def _count_empty(self, learned: Learned, drawn: ScoredDraw, record: StepRecord) -> None:
        """A step without an update is named, and too many in a row end the run."""
        if learned.updates:
            self.empty_in_a_row = 0
            return
        self.empty_in_a_row += 1
        counts = {name: int(drawn.figures.get(name, 0)) for name in ("groups", "groups_equal", "groups_empty", "rows_invalid")}
        words = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items())
        record.notes.append(f"nothing to learn from ({words}): no update")
        if self.empty_in_a_row >= self.config.max_empty_steps:
            record.stop = (
                record.stop or f"{self.empty_in_a_row} steps in a row gave nothing to learn from; in the last one: {words}"
            )

    def _observe(self, ctx: Context, lesson: Lesson, record: StepRecord) -> None:
        keep = False
        for monitor in self.monitors:
            decision = monitor.observe(ctx, lesson)
            record.add(decision.readings)
            record.stop = record.stop or decision.stop
            keep = keep or decision.keep
        if keep and (self.evaluation is None or self.evaluation.keep_best is None):
            self._set_best(self.done + 1, "a monitor says so")

    def _update_reward(self, drawn: ScoredDraw, ctx: Context, record: StepRecord) -> None:
        """Rewards that learn during a run see the draw with its unshaped scores."""
        if isinstance(self.reward, Updating):
            if len(drawn):
                record.add(self.reward.update(drawn.trajectories.batch, drawn.raw, ctx), "reward/")
            self.reward.tick(ctx)

    def _evaluate(self, ctx: Context, record: StepRecord) -> Trajectories | None:
        """Measure the policy as it is now, before the step; the best so far is kept."""
        assert self.evaluation is not None
        with self.fitter.precision():
            figures, samples = self.evaluation.run(self.generator, ctx)
        record.add(figures, "evaluation/")
        value = self.evaluation.value(figures)
        if value is not None and (self.best is None or value > self.best["value"]):
            self._set_best(self.done, f"evaluation/{self.evaluation.keep_best}", value)
            self.save()
        return samples

    def _set_best(self, done: int, why: str, value: float = 0.0) -> None:
        self.best = {"step": done, "why": why, "value": value}
        if done > self.done:
            self._save_next = True

    def _measure_distance(self, drawn: Trajectories, samples: Trajectories | None, record: StepRecord) -> None:
        if self._start is None or self.done % self.config.distance_every:
            return
        own = drawn if getattr(self.source, "on_policy", False) else samples
        if own is not None and len(own):
            with self.fitter.precision():
                gap = self._start.distance(self.generator, own, rows=self.config.fit.mini_batch_rows)
            record.add({} if gap is None else {"distance_to_start": gap})

    def _report_scales(self, drawn: ScoredDraw) -> None:
        if not len(drawn):
            return
        self.scales = scale_report(drawn.trajectories.batch, drawn.raw)
        if self.main:
            self.folder.write_json("scales.json", [asdict(part) for part in self.scales])

    def _open_folder(self, modules: dict[str, Any], processes: Processes, *, resumed: bool) -> dict[str, Any]:
        """The weights before the first step: kept now, or, in a resumed run, put back before anything is copied from them."""
        weights = kept_weights(modules)
        kept = self.folder.load_start() if resumed else None
        if kept is not None:
            set_weights(weights, kept, "the start of the run")
        else:
            processes.share_weights(list(weights.values()))
            kept = copy_weights(weights)
            if processes.main:
                self.folder.open_new(resumed=resumed)
                self.folder.save_start(kept)
                self.folder.write_config(self.config)
        processes.wait()
        return kept

    def save(self) -> None:
        """A checkpoint of the run as it is, between two steps."""
        self._save_next = False
        state = self.state_dict()  # by all: shared out weights are gathered
        if self.main:
            self.folder.save_checkpoint(self.done, state)
            if self.best is not None:
                self.folder.write_json("best.json", self.best)
            self.folder.prune(self.config.keep_checkpoints, None if self.best is None else self.best["step"])
        self.fitter.processes.wait()

    def _parts(self) -> dict[str, Any]:
        named: dict[str, Any] = {"objective": self.objective, "source": self.source, "shaper": self.shaper, "reward": self.reward}
        named |= {f"monitor {number}": monitor for number, monitor in enumerate(self.monitors)}
        return {name: part for name, part in named.items() if hasattr(part, "state_dict") and hasattr(part, "load_state_dict")}

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides what comes next."""
        return {
            "fitter": self.fitter.state_dict(),
            "parts": {name: part.state_dict() for name, part in self._parts().items()},
            "reference": self.reference.state_dict(),
            "done": self.done,
            "empty_in_a_row": self.empty_in_a_row,
            "best": self.best,
            "scales": self.scales,
            "spent": dict(self.budget.spent),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another run of the same parts stood. Raises UserError if the parts differ."""
        parts = self._parts()
        if set(parts) != set(state["parts"]):
            odd = ", ".join(sorted(set(parts) ^ set(state["parts"])))
            raise UserError(f"the run in {self.folder.path} was made of other parts: {odd}")
        self.fitter.load_state_dict(state["fitter"])
        for name, part in parts.items():
            part.load_state_dict(state["parts"][name])
        self.reference.load_state_dict(state["reference"])
        self.done, self.empty_in_a_row, self.best = state["done"], state["empty_in_a_row"], state["best"]
        self.scales = list(state["scales"])
        self.budget.spent.update(state["spent"])
        self._recorded = self.done - 1

    def _write(self, record: StepRecord) -> None:
        self._recorded = record.step
        if self.main:
            append_record(self.folder.path, record)
            self.trackers.log(record.metrics, record.step)


def align(
    generator: Generator, objective: Objective, source: Source, *, reward: Reward, run_dir: str | Path, **others: Any
) -> Run:
    """Train a generator against a reward: `Run(...)`, to its end."""
    return Run(generator, objective, source, reward=reward, run_dir=run_dir, **others).finish()


def _with_length(config: RunConfig) -> Any:
    """The optimiser's settings, with the number of updates as the schedule's length where none is given."""
    updates = config.steps * config.updates_per_draw * config.inner_epochs
    return config.fit if config.fit.total_steps is not None else replace(config.fit, total_steps=updates)


def _modules(generator: Generator, objective: Objective) -> dict[str, Any]:
    own, extra = generator.modules(), objective.modules()
    both = sorted(name for name in set(own) & set(extra) if own[name] is not extra[name])
    if both:
        raise UserError(f"generator and objective both have a module called {', '.join(both)}")
    return {**own, **extra}


def _check_abilities(generator: Generator, objective: Objective) -> None:
    missing = [ability.__name__ for ability in objective.needs if not isinstance(generator, ability)]
    if missing:
        names = type(objective).__name__, type(generator).__name__
        raise UserError(f"{names[0]} needs a generator that is {', '.join(missing)}; {names[1]} is not")


@contextmanager
def _timed(record: StepRecord, phase: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    record.seconds[phase] = record.seconds.get(phase, 0.0) + time.perf_counter() - start
