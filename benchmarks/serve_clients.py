"""The other side of `serve_load`: many clients of the service in one process, and the offline answers to compare with.

Reads one JSON message a line and answers each with a line of JSON; `what` names one of the functions of `WORK`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

JUDGE, RULE = "judge", "brevity"
PROMPTS, RESPONSES = 12, 4
TEXT = (
    "river stone market window captain letter garden engine winter bridge copper lantern harbour signal orchard paper mountain "
    "thunder station velvet compass meadow furnace island ribbon shadow canyon walnut ladder kitchen"
)
WORDS = TEXT.split()


def sentence(rng: random.Random, words: int) -> str:
    """Made-up text."""
    return " ".join(rng.choice(WORDS) for _ in range(words)).capitalize() + "."


def pool() -> list[dict[str, Any]]:
    """The questions of the mixed load: `PROMPTS` prompts of 30 words with `RESPONSES` responses of 10 to 30 words each."""
    rng = random.Random(0)
    return [
        {"prompt": sentence(rng, 30), "responses": [sentence(rng, rng.randint(10, 30)) for _ in range(RESPONSES)]}
        for _ in range(PROMPTS)
    ]


def offline(_message: dict[str, Any]) -> dict[str, Any]:
    """What the rewards themselves say about the pool: values by reward, and P(first is better) of all pairs by the judge."""
    import torch

    from plaudit import Batch
    from plaudit.data.row import Row
    from plaudit.judging import Runner
    from plaudit.judging.easy import load_reward
    from plaudit.judging.units import number

    rows = [Row(str(place), one["prompt"], tuple(one["responses"])) for place, one in enumerate(pool())]
    values = {name: [result.values for result in Runner(load_reward(name)).run(rows)] for name in (JUDGE, RULE)}
    judge, pairs = load_reward(JUDGE), list(itertools.combinations(range(RESPONSES), 2))
    first, second = (torch.tensor([pair[side] for pair in pairs]) for side in (0, 1))
    probs = []
    for row in rows:
        batch = Batch([row.prompt] * RESPONSES, list(row.responses))
        found = judge.compare(batch, first, second).prob.tolist()
        probs.append({f"{a},{b}": number(prob) for (a, b), prob in zip(pairs, found, strict=True)})
    return {"values": values, "probs": probs}


@dataclass
class Tally:
    """What the clients saw. gap: largest difference to the offline answers.

    late: of each rule request, when it was due (seconds from the start) and how many milliseconds after that it was answered.
    """

    judge_ms: list[float] = field(default_factory=list)
    late: list[tuple[float, float]] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    checked: int = 0
    gap: float = 0.0
    rule_gap: float = 0.0
    missing: int = 0

    def check(self, got: float | None, expected: float | None, *, rule: bool = False) -> None:
        """Compare one number with the offline one; a missing one counts."""
        self.checked += 1
        if got is None or expected is None:
            self.missing += 1
        elif rule:
            self.rule_gap = max(self.rule_gap, abs(got - expected))
        else:
            self.gap = max(self.gap, abs(got - expected))


class Clients:
    """Clients with one connection each, all in this process."""

    def __init__(self, url: str, expected: dict[str, Any], seed: int) -> None:
        self.url, self.expected, self.seed = url, expected, seed
        self.questions, self.tally, self.start = pool(), Tally(), time.monotonic()

    async def ask(self, session: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """One request; None unless it was answered. After 429 and 503 the client waits as it is told, a second at most."""
        try:
            async with session.post(self.url + path, json=body) as response:
                answer: dict[str, Any] = await response.json()
                self.tally.codes[str(response.status)] += 1
                if response.status == 200:
                    return answer
                pause = float(response.headers.get("Retry-After", 0.1))
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self.tally.codes[type(error).__name__] += 1
            pause = 0.1
        await asyncio.sleep(min(pause, 1.0))
        return None

    async def judge_client(self, number: int, end: float) -> None:
        """Asks the judge again and again: half scores, a quarter pairs, a quarter rankings."""
        rng = random.Random(f"{self.seed}-{number}")
        kinds: list[Callable[[aiohttp.ClientSession, int, random.Random], Awaitable[None]]] = [
            self.score, self.score, self.compare, self.rank,
        ]  # fmt: skip
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as session:
            while time.monotonic() < end:
                start = time.monotonic()
                kind = rng.choice(kinds)
                await kind(session, rng.randrange(PROMPTS), rng)
                self.tally.kinds[kind.__name__] += 1
                self.tally.judge_ms.append(1e3 * (time.monotonic() - start))

    async def score(self, session: aiohttp.ClientSession, row: int, rng: random.Random) -> None:
        """One to four responses of one prompt."""
        places = rng.sample(range(RESPONSES), rng.randint(1, RESPONSES))
        items = [{"prompt": self.questions[row]["prompt"], "response": self.questions[row]["responses"][p]} for p in places]
        answer = await self.ask(session, "/v1/score", {"reward": JUDGE, "items": items})
        for place, one in zip(places, answer["items"] if answer else (), strict=bool(answer)):
            self.tally.check(one["value"], self.expected["values"][JUDGE][row][place])

    async def compare(self, session: aiohttp.ClientSession, row: int, rng: random.Random) -> None:
        """One pair."""
        a, b = sorted(rng.sample(range(RESPONSES), 2))
        one = self.questions[row]
        item = {"prompt": one["prompt"], "first": one["responses"][a], "second": one["responses"][b]}
        answer = await self.ask(session, "/v1/compare", {"reward": JUDGE, "items": [item]})
        if answer:
            self.tally.check(answer["items"][0]["prob"], self.expected["probs"][row][f"{a},{b}"])

    async def rank(self, session: aiohttp.ClientSession, row: int, _rng: random.Random) -> None:
        """All responses of one prompt."""
        answer = await self.ask(session, "/v1/rank", {"reward": JUDGE, "items": [self.questions[row]]})
        for place, one in enumerate(answer["items"][0]["responses"] if answer else ()):
            self.tally.check(one["value"], self.expected["values"][JUDGE][row][place])

    async def rule_client(self, number: int, clients: int, rate: float, end: float) -> None:
        """Asks the rule `rate / clients` times a second; latency counts from when the request was due."""
        rng = random.Random(f"{self.seed}-rule-{number}")
        every = clients / rate
        due = time.monotonic() + every * number / clients
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as session:
            while due < end:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                row, place = rng.randrange(PROMPTS), rng.randrange(RESPONSES)
                item = {"prompt": self.questions[row]["prompt"], "response": self.questions[row]["responses"][place]}
                answer = await self.ask(session, "/v1/score", {"reward": RULE, "items": [item]})
                if answer:
                    self.tally.late.append((due - self.start, 1e3 * (time.monotonic() - due)))
                    self.tally.check(answer["items"][0]["value"], self.expected["values"][RULE][row][place], rule=True)
                    self.tally.kinds["rule"] += 1
                due += every


def mixed(message: dict[str, Any]) -> dict[str, Any]:
    """Judge clients and paced rule clients side by side for some seconds; every answer is compared with the offline one."""
    clients = Clients(message["url"], message["expected"], message["seed"])

    async def run() -> None:
        end = clients.start + message["seconds"]
        judging = [clients.judge_client(number, end) for number in range(message["judge_clients"])]
        count = message["rule_clients"]
        ruling = [clients.rule_client(number, count, message["rate"], end) for number in range(count)]
        await asyncio.gather(*judging, *ruling)

    asyncio.run(run())
    return vars(clients.tally)


def flood(message: dict[str, Any]) -> dict[str, Any]:
    """Clients that ask the judge one new response after the other; `group` responses in turn share a prompt."""
    clients = Clients(message["url"], {}, 0)
    numbers, group = itertools.count(message["first"]), message["group"]
    answered = 0

    async def client(end: float) -> None:
        nonlocal answered
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3600)) as session:
            while time.monotonic() < end:
                number = next(numbers)
                rng = random.Random(f"prompt-{number // group}")
                prompt, response = sentence(rng, 30), sentence(random.Random(f"response-{number}"), 25)
                answer = await clients.ask(
                    session, "/v1/score", {"reward": JUDGE, "items": [{"prompt": prompt, "response": response}]}
                )
                answered += answer is not None

    async def run() -> float:
        start = time.monotonic()
        await asyncio.gather(*(client(start + message["seconds"]) for _ in range(message["clients"])))
        return time.monotonic() - start

    seconds = asyncio.run(run())
    return {"per_second": answered / seconds, "answered": answered, "next": next(numbers), "codes": clients.tally.codes}


WORK = {"offline": offline, "mixed": mixed, "flood": flood}


def main() -> None:
    """Answer message after message."""
    sys.stdout.write('{"ready": true}\n')
    sys.stdout.flush()
    for line in sys.stdin:
        message = json.loads(line)
        sys.stdout.write(json.dumps(WORK[message["what"]](message)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
