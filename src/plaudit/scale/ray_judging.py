"""Judging on Ray: readers and workers are stages of one Ray Data stream, which holds readers back when workers are behind.

A reader (a task) turns its file into chunks of whole parts; a worker (an actor) holds the reward, judges a chunk with the ONE
runner and writes the part. Part sizes are multiples of the reward's batch size, so models see the batches of a single process.
Only counts come back to the driver, so its memory does not depend on the number of rows.
"""

from __future__ import annotations

import os
import pickle
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from plaudit.data.files import DATA_VARIABLE
from plaudit.engines.catalogue import DEFAULT, EngineOptions
from plaudit.judging import Progress, Runner, Summary
from plaudit.judging.easy import load_reward
from plaudit.judging.summary_state import forget_clusters
from plaudit.judging.units import Pairs
from plaudit.judging.voting import at_temperature
from plaudit.rewards.base import BaseReward
from plaudit.scale.parts import Identity, Manifest, PartFolder, Reading
from plaudit.scale.ray_cluster import LOCAL
from plaudit.scale.reading import FileFacts, Source, Stretch, check_file, read_stretch, reading_of, stretches
from plaudit.store import Store
from plaudit.types import Context, EngineError, UserError

PART_ROWS = 4096
"""Rows of a part, about: what a killed worker loses at most; the real number is a multiple of the reward's batch size."""
PARTS_A_WORKER = 4
"""Small inputs are cut so that every worker gets so many parts, if the reward's batch size allows."""


@dataclass(frozen=True)
class RewardSpec:
    """A reward by name, as `--reward` and `--engine` give it; opened once in every worker."""

    reward: str
    engine: str = DEFAULT
    options: EngineOptions = field(default_factory=EngineOptions)
    temperature: float | None = None

    def __call__(self) -> BaseReward:
        """Open it. Raises SpecError if it names none."""
        found = load_reward(self.reward, engine=self.engine, options=self.options)
        return found if self.temperature is None else at_temperature(found, self.temperature)


@dataclass(frozen=True)
class Job:
    """What is to be judged, and how.

    reward: opens the reward, in every process. out: folder of the parts. store: a database URL (None: nothing is kept but the
    parts). part_rows: rounded up to a multiple of the batch size; None chooses. gpus: of each worker, fractions allowed.
    """

    source: Source
    reward: Callable[[], BaseReward]
    out: Path
    workers: int
    seed: int = 0
    pairs: Pairs = "labelled"
    store: str | None = None
    part_rows: int | None = None
    gpus: float = 0.0

    def check(self, address: str) -> None:
        """Raise UserError for numbers that make no sense, and for a store that several machines cannot share."""
        if self.workers < 1:
            raise UserError(f"--workers is {self.workers}, expected 1 or more")
        if self.part_rows is not None and self.part_rows < 1:
            raise UserError(f"--part-rows is {self.part_rows}, expected 1 or more")
        sqlite = self.store is not None and ("://" not in self.store or self.store.startswith("sqlite"))
        if sqlite and address != LOCAL:
            raise UserError(f"the store {self.store} is a file of one machine; on a cluster name one by URL: postgresql://...")


@dataclass(frozen=True)
class _Setting:
    """What every process of a run must be told: where the driver stands, and what it works on."""

    job: Job
    manifest: Manifest
    folder: str
    data: str | None

    def enter(self) -> None:
        """Work where the driver works, so that relative paths mean the same. Raises UserError if that folder is not there."""
        _enter(self.folder, self.data)


def _enter(folder: str, data: str | None) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        raise UserError(
            f"{socket.gethostname()} has no folder {folder}: input and output must be on storage that all share"
        ) from error
    if data is not None:
        os.environ[DATA_VARIABLE] = data


@dataclass(frozen=True)
class PartDone:
    """What a worker says about a part. rows: 0 unless it is whole. busy: seconds of processor time of its process."""

    part: int
    rows: int = 0
    judged: int = 0
    reused: int = 0
    judged_rows: int = 0
    seconds: float = 0.0
    busy: float = 0.0
    spent: Mapping[str, float] = field(default_factory=dict)
    stopped: str | None = None
    problem: str | None = None


class PartReader:
    """The first stage: stretches of the input -> (part, its rows)."""

    def __init__(self, setting: _Setting) -> None:
        self.setting = setting

    def __call__(self, batch: Mapping[str, Any]) -> Iterator[dict[str, list[Any]]]:
        """One block a part; what is wrong travels in its place."""
        for packed in batch["stretch"]:
            stretch: Stretch = pickle.loads(packed)
            try:
                self.setting.enter()
                for part, rows in read_stretch(self.setting.job.source, self.setting.manifest, stretch):
                    yield {"part": [part], "rows": [pickle.dumps(rows, protocol=5)], "problem": [""]}
            except UserError as error:
                yield {"part": [stretch.parts[0]], "rows": [b""], "problem": [str(error)]}


class PartJudge:
    """The second stage, an actor: holds the reward, judges a part with the runner, writes it."""

    def __init__(self, setting: _Setting) -> None:
        self.setting, self.folder = setting, PartFolder(setting.job.out)
        self._runner: Runner | None = None

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[bytes]]:
        """What there is to say about each part of the block (one, as readers make them)."""
        done = [
            PartDone(int(part), problem=problem) if problem else self._part(int(part), rows)
            for part, rows, problem in zip(batch["part"], batch["rows"], batch["problem"], strict=True)
        ]
        return {"done": [pickle.dumps(one) for one in done]}

    def _part(self, part: int, rows: bytes) -> PartDone:
        begun, worked = time.perf_counter(), time.process_time()
        try:
            done = self._judge(part, rows)
        except (UserError, EngineError) as error:
            return PartDone(part, problem=str(error))
        except OSError as error:  # a full disk, as a rule
            return PartDone(part, problem=f"{self.setting.job.out} cannot be written: {error.strerror or error}")
        return replace(done, seconds=time.perf_counter() - begun, busy=time.process_time() - worked)

    def _judge(self, part: int, rows: bytes) -> PartDone:
        runner, summary, written = self._open(), Summary(), 0
        runner.progress, runner.context = Progress(), Context(seed=self.setting.job.seed)
        try:
            with self.folder.writing(part, summary) as write:
                for result in runner.run(pickle.loads(rows)):
                    summary.add(result)
                    write(result)
                    written += 1
                if runner.progress.stopped is not None:
                    raise _Stopped
        except (_Stopped, UserError, EngineError, OSError) as error:
            self.folder.forget_try(part)
            if not isinstance(error, _Stopped):
                raise
            written = 0
        done = runner.progress
        spent = {name: float(amount) for name, amount in runner.context.budget.spent.items()}
        return PartDone(part, written, done.judged, done.reused, done.judged_rows, spent=spent, stopped=done.stopped)

    def _open(self) -> Runner:
        """The runner, made at the first part: what is wrong with the reward is then said as any other problem."""
        if self._runner is None:
            self.setting.enter()
            job, reward = self.setting.job, self.setting.job.reward()
            if reward.fingerprint() != self.setting.manifest.identity.fingerprint:
                raise UserError(
                    f"the reward '{reward.name}' on {socket.gethostname()} is not the driver's: other files or another version"
                )
            self._runner = Runner(reward, None if job.store is None else Store(job.store), pairs=job.pairs)
        return self._runner


class _Stopped(Exception):
    """The runner ended before the part did."""


@dataclass
class RayRun:
    """A run on a cluster that the program is connected to (`ray_cluster.cluster`).

    progress, context: as a Runner has them. `prepare`, then `run`, then `summary`.
    """

    job: Job
    reward: BaseReward
    progress: Progress = field(default_factory=Progress)
    context: Context = field(default_factory=Context)
    _setting: _Setting | None = field(default=None, init=False)

    @property
    def manifest(self) -> Manifest:
        """What is run. Raises RuntimeError before `prepare`."""
        if self._setting is None:
            raise RuntimeError("prepare the run first")
        return self._setting.manifest

    @property
    def folder(self) -> PartFolder:
        """Where parts go."""
        return PartFolder(self.job.out)

    def identity(self) -> Identity:
        """What decides the numbers."""
        job, source = self.job, self.job.source
        given = (
            {} if source.fields is None else {name: value for name, value in asdict(source.fields).items() if value is not None}
        )
        batch = max(1, self.reward.batch_size)
        return Identity(
            self.reward.name, self.reward.fingerprint(), job.seed, job.pairs, batch, source.skip_bad, source.limit, given
        )

    def prepare(self) -> list[int]:
        """Check the folder and the input, begin or go on; the parts that are missing.

        The input is read once, file by file in parallel, unless the folder's manifest says that this was done. Raises UserError
        or DataError as a single process would, before anything is written.
        """
        identity, files = self.identity(), self.job.source.files()
        manifest = self.folder.begun(identity, files)
        where = os.getcwd(), os.environ.get(DATA_VARIABLE)
        if manifest is None:
            reading = reading_of(files, self._check_files(len(files), *where))
            manifest = Manifest(identity, reading, self._part_rows(reading))
            self.folder.begin(manifest)
        else:
            self.folder.sweep()
        self._setting = _Setting(replace(self.job, out=self.job.out.absolute()), manifest, *where)
        missing = self.folder.missing(manifest)
        self.progress.rows = manifest.reading.rows - sum(after - first for first, after in map(manifest.range, missing))
        return missing

    def _check_files(self, count: int, folder: str, data: str | None) -> list[FileFacts]:
        import ray

        source = self.job.source

        def check(place: int) -> FileFacts | str:
            try:
                _enter(folder, data)
                return check_file(source, place)
            except UserError as error:
                return str(error)

        task = ray.remote(num_cpus=1)(check)
        facts: list[FileFacts] = []
        for found in ray.get([task.remote(place) for place in range(count)]):
            if isinstance(found, str):
                raise UserError(found)
            facts.append(found)
        return facts

    def _part_rows(self, reading: Reading) -> int:
        """A multiple of the batch size: about what was asked for, else PART_ROWS, less where the input is small."""
        batch = max(1, self.reward.batch_size)
        wanted = self.job.part_rows
        if wanted is None:
            wanted = min(PART_ROWS, -(-reading.rows // (PARTS_A_WORKER * self.job.workers)))
        return max(1, -(-wanted // batch)) * batch

    def run(self, missing: list[int]) -> Iterator[PartDone]:
        """Judge the missing parts; each is said when it is whole, in the order in which they end.

        Ends early, with `progress.stopped`, when an engine is gone. Raises UserError for what only a person can mend; whole
        parts stay in both cases.
        """
        for done in self._answers(missing):
            if done.problem is not None:
                raise UserError(done.problem)
            self.progress.judged += done.judged
            self.progress.reused += done.reused
            self.progress.judged_rows += done.judged_rows
            self.context.budget.spent.update(done.spent)
            self.progress.rows += done.rows
            if done.stopped is not None:
                self.progress.stopped = done.stopped
                return
            yield done
        self.folder.sweep()

    def _answers(self, missing: list[int]) -> Iterator[PartDone]:
        """What workers say. Raises EngineError if the cluster is lost; errors in plaudit's own code come as they are."""
        from ray.exceptions import RayError, RayTaskError

        if not missing:
            return
        try:
            for row in self._stream(missing).iter_rows():
                yield pickle.loads(row["done"])
        except RayError as error:
            if isinstance(error, RayTaskError):
                raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise EngineError(f"the Ray cluster is lost ({reason}); whole parts stay: run the same command again") from error

    def _stream(self, missing: list[int]) -> Any:
        import ray.data

        setting = self._setting
        assert setting is not None
        options = ray.data.DataContext.get_current()
        options.enable_progress_bars = False
        options.target_max_block_size = 1  # a block for every part: parts are then handed out one by one
        found = stretches(self.manifest, missing)
        items = [{"stretch": pickle.dumps(stretch)} for stretch in found]
        # readers ask for no processor: they mostly wait for workers, and must run where workers have taken them all
        reading = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            PartReader(setting), batch_size=1, num_cpus=0, concurrency=min(len(items), max(2, self.job.workers // 4))
        )
        return reading.map_batches(
            PartJudge,
            fn_constructor_kwargs={"setting": setting},
            batch_size=1,
            num_cpus=1,
            num_gpus=self.job.gpus,
            compute=ray.data.ActorPoolStrategy(size=min(self.job.workers, len(missing)), max_tasks_in_flight_per_actor=2),
        )

    def summary(self) -> Summary:
        """What the whole parts count together, added up by a task; labelled prompts are forgotten, so it is small."""
        import ray

        missing, folder = set(self.folder.missing(self.manifest)), PartFolder(self.job.out.absolute())
        whole = [part for part in range(self.manifest.parts) if part not in missing]

        def add_up() -> Summary | str:
            try:
                total = folder.summary(whole)
            except UserError as error:
                return str(error)
            forget_clusters(total)
            return total

        found = ray.get(ray.remote(num_cpus=0)(add_up).remote())
        if isinstance(found, str):
            raise UserError(found)
        assert isinstance(found, Summary)
        return found
