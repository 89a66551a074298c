"""What a worker process holds: rewards that are loaded once, each behind the one runner, and the store.

`RewardHost` knows no processes and no HTTP. What goes in and out of it is plain data that can be pickled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from plaudit.data.row import Row
from plaudit.judging.results import PairResult, RowResult
from plaudit.judging.runner import Progress, Runner
from plaudit.rewards.base import BaseReward, Native
from plaudit.types import Budget, Context, EngineError, Status, UserError

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from plaudit.engines.catalogue import EngineOptions
    from plaudit.store import BufferedStore

Kind = Literal["score", "compare", "rank"]
"""score: rows of one response. compare: rows of two, judged as a pair. rank: rows of several, judged together."""

CLOSING = 5.0
"""Seconds that a store which is gone gets to come back when the service ends."""
EXAMPLE = Row("example", "What is 2 + 2?", ("4", "5"), references=("4", "4"))
"""What every reward is tried on before the service calls itself ready; what it says of it is not looked at."""


@dataclass(frozen=True)
class RewardInfo:
    """What a served reward is. shares_engine: it judges through the engine that `--engine` names."""

    name: str
    title: str
    fingerprint: str
    native: Native
    uses_seed: bool
    higher_is_better: bool
    batch_size: int
    shares_engine: bool = False


@dataclass(frozen=True)
class Part:
    """Rows of one request for one reward. verdicts: what was said is wanted, not only the numbers."""

    rows: tuple[Row, ...]
    kind: Kind
    seed: int = 0
    verdicts: bool = False


@dataclass(frozen=True)
class Failure:
    """Why a part has no answer. cause: input (the request), engine, store (gone for now), disk (full), reward (its own error)."""

    cause: Literal["input", "engine", "store", "disk", "reward"]
    sentence: str


@dataclass(frozen=True)
class Judged:
    """One record a row of the part, JSON-able: `responses`, and `pairs` where pairs were judged."""

    rows: list[dict[str, Any]]


Outcome = Judged | Failure


@dataclass(frozen=True)
class HostState:
    """problem: why the verdict store cannot be used now. waiting: verdicts that are kept until it can."""

    problem: str | None = None
    waiting: int = 0


@dataclass(frozen=True)
class Report:
    """The outcome of each part of a batch, and what judging them took: units judged now and found in the store, and costs."""

    outcomes: list[Outcome]
    judged: int = 0
    reused: int = 0
    spent: dict[str, float] = field(default_factory=dict)


class RewardHost:
    """Loads rewards by spec (or takes them as they are) and judges batches of parts with them."""

    def __init__(
        self,
        rewards: dict[str, str | BaseReward],
        *,
        engine: str | None = None,
        options: EngineOptions | None = None,
        store: str | None = None,
        journal: Path | None = None,
        batch_size: int | None = None,
    ) -> None:
        self._specs, self._engine, self._options = rewards, engine, options
        self._store_url, self._journal, self._batch_size = store, journal, batch_size
        self._store: BufferedStore | None = None
        self._runners: dict[str, Runner] = {}

    def load(self) -> list[RewardInfo]:
        """Resolve the names and open the store. Raises UserError or EngineError where a name or the store cannot be used."""
        from plaudit.engines.catalogue import DEFAULT, open_engine
        from plaudit.rewards.catalogue import Resolver

        if self._store_url is not None:
            self._store = self._open_store(self._store_url)
        resolver = Resolver(lambda: open_engine(self._engine or DEFAULT, self._options))
        infos = []
        for name, given in self._specs.items():
            reward = resolver.resolve(given) if isinstance(given, str) else given
            if getattr(reward, "needs_whole_batch", False):
                raise UserError(f"'{reward.name}' is relative to a whole batch: it is for training and cannot be served")
            self._runners[name] = Runner(reward, self._store, pairs="all")
            infos.append(self._info(name, reward))
        if resolver._engine is not None:
            infos = [RewardInfo(**{**vars(info), "shares_engine": True}) for info in infos]
        return infos

    def _open_store(self, url: str) -> BufferedStore:
        from plaudit.store import BufferedStore
        from plaudit.types.keys import content_key

        if self._journal is None:
            return BufferedStore(url)
        self._journal.mkdir(parents=True, exist_ok=True)
        return BufferedStore(url, journal=self._journal / f"{content_key(url, sorted(self._specs))}.sqlite")

    def _info(self, name: str, reward: BaseReward) -> RewardInfo:
        return RewardInfo(
            name,
            reward.name,
            reward.fingerprint(),
            reward.native,
            bool(getattr(reward, "uses_seed", True)),
            reward.higher_is_better,
            max(1, self._batch_size or reward.batch_size),
        )

    def warm(self) -> None:
        """Check every reward and load its weights. Raises what `reward.check()` raises."""
        for name, runner in self._runners.items():
            runner.reward.check()
            if not _costs_money(runner.reward):
                store, runner.store = runner.store, None
                self._run(name, [Part((EXAMPLE,), "rank")], Budget())
                runner.store = store

    def state(self) -> HostState:
        """How the store is, asked now."""
        if self._store is None:
            return HostState()
        if self._store.problem is None:
            self._store.get(["-"])
        problem = self._store.problem
        return HostState(None if problem is None else str(problem), self._store.waiting)

    def close(self) -> str | None:
        """Write what waits for the store; a sentence where verdicts are lost with this process, else None."""
        try:
            if self._store is not None:
                self._store.close(wait=CLOSING)
        except UserError as error:
            return str(error)
        return None

    def judge(self, name: str, parts: Sequence[Part]) -> Report:
        """Judge a batch: parts that may share a call do, and a part that makes the call fail fails alone."""
        runner, budget = self._runners[name], Budget()
        outcomes: dict[int, Outcome] = {}
        judged = reused = 0
        for places in _together(parts, bool(getattr(runner.reward, "uses_seed", True))):
            runner.progress = Progress()
            found = self._run(name, [parts[place] for place in places], budget)
            outcomes.update(zip(places, found, strict=True))
            judged, reused = judged + runner.progress.judged, reused + runner.progress.reused
        spent = {what: float(amount) for what, amount in budget.spent.items() if amount}
        return Report([outcomes[place] for place in range(len(parts))], judged, reused, spent)

    def _run(self, name: str, parts: Sequence[Part], budget: Budget) -> list[Outcome]:
        runner = self._runners[name]
        runner.context = Context(seed=parts[0].seed, budget=budget)
        runner.progress.stopped = None
        rows = [row for part in parts for row in part.rows]
        try:
            results = list(runner.run(rows))
        except Exception as error:
            if len(parts) > 1 and not isinstance(error, EngineError):
                return [outcome for part in parts for outcome in self._run(name, [part], budget)]
            return [_failure(error)] * len(parts)
        records: list[Outcome] = []
        start = 0
        for part in parts:
            mine = results[start : start + len(part.rows)]
            start += len(part.rows)
            if len(mine) < len(part.rows):
                records.append(self._stopped(runner.progress.stopped or "the run ended early"))
            else:
                records.append(Judged([_row_record(result, part, runner.reward) for result in mine]))
        return records

    def _stopped(self, why: str) -> Failure:
        """The runner ends early where the engine is gone, or the store takes nothing any more."""
        problem = None if self._store is None else self._store.problem
        if problem is None:
            return Failure("engine", why)
        return Failure("disk" if problem.reason == "full" else "store", why)


def _together(parts: Sequence[Part], uses_seed: bool) -> list[list[int]]:
    """Places of parts that share one run, so that nobody's numbers depend on who else is asking.

    A reward that draws may draw by a row's place in the call, so each part is its own run. Others share one, apart from parts
    with other columns: a column that one row has is there, empty, for every row of a call.
    """
    if uses_seed:
        return [[place] for place in range(len(parts))]
    groups: dict[Any, list[int]] = {}
    for place, part in enumerate(parts):
        groups.setdefault(_columns(part.rows), []).append(place)
    return list(groups.values())


def _columns(rows: Sequence[Row]) -> tuple[Any, ...]:
    has = (any(getattr(row, name) is not None for row in rows) for name in ("references", "user", "finish"))
    return (*has, frozenset(name for row in rows for name in row.extras))


def _row_record(result: RowResult, part: Part, reward: BaseReward) -> dict[str, Any]:
    """A row's record as it is sent: pairs where a pair was asked for, verdicts where they are wanted, a reason for every gap."""
    if part.kind == "compare" and not result.pairs:
        result.pairs = [_linked(result, reward)]
    record = result.to_json()
    for one in (*record.get("responses", ()), *record.get("pairs", ())):
        said = one.pop("verdicts", [])
        if part.verdicts:
            one["verdicts"] = said
        if one["status"] != Status.OK.label:
            one["detail"] = next((verdict["detail"] for verdict in said if verdict.get("detail")), "")
    if part.kind == "compare":
        return {"pairs": record["pairs"]}
    return {"responses": record["responses"], **({"pairs": record["pairs"]} if part.verdicts and "pairs" in record else {})}


def _linked(result: RowResult, reward: BaseReward) -> PairResult:
    """P(first beats second) out of the two scores, by the link that `reward.compare` uses."""
    import torch

    from plaudit.judging.units import number
    from plaudit.rewards.adapters import bradley_terry_link
    from plaudit.types import Scores

    values = torch.tensor([float("nan") if value is None else value for value in result.values], dtype=torch.float32)
    status = torch.tensor([int(one.status) for one in result.responses], dtype=torch.int8)
    prob, pair_status = bradley_terry_link(
        Scores(values, status),
        torch.tensor([0]),
        torch.tensor([1]),
        getattr(reward, "link_temperature", 1.0),
        higher_is_better=reward.higher_is_better,
    )
    verdicts = [verdict for one in result.responses for verdict in one.verdicts]
    return PairResult(0, 1, number(float(prob[0])), Status(int(pair_status[0])), verdicts=verdicts)


def _failure(error: Exception) -> Failure:
    if isinstance(error, UserError):
        return Failure("input", str(error))
    if isinstance(error, EngineError):
        return Failure("engine", str(error))
    return Failure("reward", f"the reward raised {type(error).__name__}: {error}")


def _costs_money(reward: Any) -> bool:
    """Whether trying the reward on an example may cost something: it asks an engine over HTTP."""
    return getattr(getattr(reward, "engine", None), "base_url", None) is not None


def serve_socket(end: socket.socket, make: Callable[[], RewardHost]) -> None:
    """The life of a worker process: (method, arguments) in, (True, value) or (False, (engine's fault, sentence)) out.

    It ends when the socket closes: with the service, however that ends. The signals that end a service often go to all its
    processes; workers leave them to the service, which lets them finish.
    """
    import signal

    from plaudit.serve.pipes import pack, receive_blocking

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    stream = end.makefile("rwb")
    host = make()
    while True:
        try:
            method, arguments = receive_blocking(stream)
        except (EOFError, OSError):
            return
        try:
            answer = (True, getattr(host, method)(*arguments))
        except (UserError, EngineError) as error:
            answer = (False, (isinstance(error, EngineError), str(error)))
        except Exception as error:
            answer = (False, (False, f"{type(error).__name__}: {error}"))
        try:
            stream.write(pack(answer))
            stream.flush()
        except OSError:
            return
