"""Several writers and readers on one store at once: is anything lost, doubled or changed, and how fast does it go?

    python -m benchmarks.store_writers --seconds 120 --json store_writers.json

On SQLite, and on a PostgreSQL that is started for it from Debian's packages (or `--url`, a database that may be filled).
Every writer is a process that puts batches of verdicts, half of which the others put as well, each with a body of its own.
Every reader is a process that counts, and reads keys again and again. In the end all that they saw is compared with what is
stored.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.store.postgres import PostgresServer, programs

from plaudit.store import Record, Store

BATCH = 32
REWARD = "r" * 32
FAULTS = ("lost", "never put", "doubled", "told or read otherwise")


@dataclass
class Seen:
    """What one process found. bodies: the mark in the body of each key, as it was told or read."""

    name: str
    bodies: dict[str, str] = field(default_factory=dict)
    calls: int = 0
    seconds: float = 0.0
    processor: float = 0.0
    complaints: list[str] = field(default_factory=list)
    overtaken: int = 0

    def saw(self, key: str, mark: str) -> None:
        """A body must not change once it was seen."""
        before = self.bodies.setdefault(key, mark)
        if before != mark:
            self.complaints.append(f"{self.name}: {key} was {before} and is {mark}")


def keys_of(window: int, writer: int) -> list[str]:
    """The keys of one batch: half of them are everybody's."""
    common = [f"{window:08x}c{number:023x}" for number in range(BATCH // 2)]
    return common + [f"{window:08x}{writer:x}{number:023x}" for number in range(BATCH // 2)]


def write(store: Store, number: int, until: float, seen: Seen) -> None:
    """Put batch after batch, each in an order of its own."""
    draw = random.Random(number)
    for window in range(2**31):
        if time.perf_counter() >= until:
            break
        keys = keys_of(window, number)
        draw.shuffle(keys)
        mark = f"{seen.name}-{window}"
        text = "The response answers the question and says where it is unsure. " * 5
        body = {"value": 0.5, "status": 0, "verdicts": [{"text": text, "choice": mark}]}
        first = store.put(REWARD, "benchmark", [Record(key, "score", f"row-{window}", body) for key in keys])
        for key in keys:
            seen.saw(key, first[key]["verdicts"][0]["choice"] if key in first else mark)
        seen.overtaken += len(first)
        seen.calls += 1


def read(store: Store, number: int, until: float, seen: Seen) -> None:
    """Count, and look keys up: counts only grow, verdicts that were there stay as they were."""
    draw, count, last = random.Random(1000 + number), 0, 0
    while time.perf_counter() < until:
        now = store.count()
        if now < count:
            seen.complaints.append(f"{seen.name}: counted {count}, then {now}")
        count = now
        for _ in range(20):
            window = draw.randint(0, last + 4)
            keys = keys_of(window, draw.randint(0, 1))
            found = store.get(keys)
            last = max(last, window if found else 0)
            for key in keys:
                if key in found:
                    seen.saw(key, found[key]["verdicts"][0]["choice"])
                elif key in seen.bodies:
                    seen.complaints.append(f"{seen.name}: {key} is gone")
            seen.calls += 1


def one_process(role: str, number: int, url: str, seconds: float, start: Any, answers: Any) -> None:
    """Run a writer or reader, and hand over what it saw."""
    seen = Seen(f"{role} {number}")
    store = Store(url)
    start.wait()  # importing takes longer than a short run
    begun, worked = time.perf_counter(), time.process_time()
    try:
        (write if role == "writer" else read)(store, number, begun + seconds, seen)
    except Exception as error:
        seen.complaints.append(f"{seen.name}: {type(error).__name__}: {error}")
    seen.seconds, seen.processor = time.perf_counter() - begun, time.process_time() - worked
    answers.put(seen)


def measure(url: str, seconds: float, writers: int, readers: int) -> dict[str, Any]:
    """All processes for some seconds, then the comparison."""
    Store(url).close()
    context = multiprocessing.get_context("spawn")
    answers, start = context.Queue(), context.Barrier(writers + readers)
    jobs = [("writer", number) for number in range(writers)] + [("reader", number) for number in range(readers)]
    processes = [context.Process(target=one_process, args=(*job, url, seconds, start, answers)) for job in jobs]
    for process in processes:
        process.start()
    all_seen: list[Seen] = [answers.get(timeout=seconds + 180) for _ in processes]
    for process in processes:
        process.join()
    return compare(url, all_seen)


def compare(url: str, all_seen: list[Seen]) -> dict[str, Any]:
    """What is stored against what everybody saw."""
    stored: dict[str, str] = {}
    rows = 0
    for record in Store(url).records():
        rows += 1
        stored[record["key"]] = record["body"]["verdicts"][0]["choice"]
    writing = [seen for seen in all_seen if seen.name.startswith("writer")]
    reading = [seen for seen in all_seen if not seen.name.startswith("writer")]
    accepted = {key for seen in writing for key in seen.bodies}
    differing = sum(stored.get(key) != mark for seen in all_seen for key, mark in seen.bodies.items())
    longest = max(seen.seconds for seen in writing)
    put = sum(len(seen.bodies) for seen in writing)
    return {
        "seconds": longest,
        "put": put,
        "stored": rows,
        "lost": len(accepted - set(stored)),
        "never put": len(set(stored) - accepted),
        "doubled": rows - len(stored),
        "told or read otherwise": differing,
        "second, and told so": sum(seen.overtaken for seen in writing),
        "looked up": sum(len(seen.bodies) for seen in reading),
        "lookups": sum(seen.calls for seen in reading),
        "stored a second": rows / longest,
        "put a second": put / longest,
        "lookups a second": sum(seen.calls for seen in reading) / longest,
        "processor ms a put verdict": 1000 * sum(seen.processor for seen in writing) / max(1, put),
        "complaints": [complaint for seen in all_seen for complaint in seen.complaints][:20],
        "load": os.getloadavg()[0],
        "processes": [{**asdict(seen), "bodies": len(seen.bodies)} for seen in all_seen],
    }


@contextmanager
def database(kind: str, url: str | None) -> Iterator[str]:
    """The URL of an empty database that is removed afterwards, or the one that was given."""
    if kind == "postgresql" and url is not None:
        yield url
        return
    folder = Path(tempfile.mkdtemp(prefix="plaudit-store-"))
    try:
        if kind == "sqlite":
            yield f"sqlite:///{folder / 'v.sqlite'}"
            return
        found = programs()
        if found is None:
            raise SystemExit("there is no PostgreSQL server below /usr/lib/postgresql: give one with --url")
        server = PostgresServer(folder, found, fsync="on", autovacuum="on", shared_buffers="128MB")
        try:
            yield server.new_database()
        finally:
            server.remove()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def show(figures: dict[str, dict[str, Any]]) -> None:
    """A line a figure, a column a database."""
    print(f"{'':<30}" + "".join(f"{kind:>14}" for kind in figures))
    for name in next(iter(figures.values())):
        if name not in ("complaints", "processes"):
            values = [one[name] for one in figures.values()]
            print(
                f"{name:<30}" + "".join(f"{value:>14,.2f}" if isinstance(value, float) else f"{value:>14,}" for value in values)
            )


def problems(figures: dict[str, dict[str, Any]]) -> list[str]:
    """What must not be; a run in which nothing happened shows nothing."""
    found = [complaint for one in figures.values() for complaint in one["complaints"]]
    for kind, one in figures.items():
        found += [f"{kind}: {one[name]:,} {name}" for name in FAULTS if one[name]]
        found += [f"{kind}: {name} is 0" for name in ("stored", "looked up", "second, and told so") if not one[name]]
    return found


def main() -> int:
    """Run and print; 1 if anything was lost, doubled or changed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--writers", type=int, default=2)
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    parser.add_argument("--url", help="a PostgreSQL database to fill, instead of one that is started for this")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    figures = {}
    for kind in [given.only] if given.only else ["sqlite", "postgresql"]:
        with database(kind, given.url) as url:
            figures[kind] = measure(url, given.seconds, given.writers, given.readers)
    show(figures)
    wrong = problems(figures)
    print("\n".join(wrong) or "nothing lost, doubled or changed")
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
