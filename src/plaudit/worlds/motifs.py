"""`MotifWorld`: strings of a few letters, worth what each letter is worth at its place and beside its neighbour.

Small enough to list every response, and cut into segments by itself (a letter each): the world to study preference trees in.
Source: card 37 (sequences of segments, reward of unary and neighbour terms).
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from plaudit.fitting.seeds import derive_seed
from plaudit.rewards.base import BaseReward
from plaudit.types import Batch, Context, Generator, Sampling, Scores, States, Status, StepStats, Trajectories, World

if TYPE_CHECKING:
    from torch import Tensor

UNWRITTEN = -1


class MotifWorld(World):
    """Strings of `depth` letters out of `symbols`; reward = sum_t unary[t, a_t] + sum_t neighbours[a_t, a_(t+1)].

    Both tables are normal, the second times `neighbour`. Rewards are shifted and scaled to mean 0 and standard deviation 1
    over all strings. A prompt asks for nothing. Raises ValueError for sizes that make no strings.
    """

    def __init__(self, *, depth: int = 4, symbols: int = 8, neighbour: float = 1.0, seed: int = 0) -> None:
        import torch

        if depth < 2 or not 2 <= symbols <= len(string.ascii_lowercase):
            raise ValueError(f"depth must be at least 2 and symbols 2 to 26, not {depth} and {symbols}")
        self.depth, self.symbols, self.seed = depth, symbols, seed
        self.letters = string.ascii_lowercase[:symbols]
        draw = torch.Generator().manual_seed(derive_seed(seed, "motifs"))
        self.unary = torch.randn(depth, symbols, generator=draw)
        self.neighbours = neighbour * torch.randn(symbols, symbols, generator=draw)
        self.settings = {"depth": depth, "symbols": symbols, "neighbour": neighbour, "seed": seed}
        raw = self._raw(self.encode(self.strings()))
        self._mean, self._scale = float(raw.mean()), float(raw.std(correction=0))
        self.truth = MotifReward(self)

    def strings(self) -> list[str]:
        """Every response, symbols^depth of them, in alphabetical order."""
        return ["".join(letters) for letters in product(self.letters, repeat=self.depth)]

    def encode(self, texts: Sequence[str]) -> Tensor:
        """[B, depth] int64 symbols, -1 after the end of a beginning. Raises ValueError for other texts."""
        import torch

        rows = []
        for text in texts:
            if len(text) > self.depth or any(letter not in self.letters for letter in text):
                raise ValueError(f"'{text}' is no string of up to {self.depth} letters of {self.letters}")
            rows.append([self.letters.index(letter) for letter in text] + [UNWRITTEN] * (self.depth - len(text)))
        return torch.tensor(rows, dtype=torch.int64).reshape(len(texts), self.depth)

    def decode(self, symbols: Tensor) -> list[str]:
        """Texts of [B, depth] symbols."""
        return ["".join(self.letters[number] for number in row if number != UNWRITTEN) for row in symbols.tolist()]

    def places(self, texts: Sequence[str]) -> Tensor:
        """[B, depth * symbols] which letter stands where; 0 after the end of a beginning."""
        import torch

        symbols = self.encode(texts)
        hot = torch.nn.functional.one_hot(symbols.clamp(min=0), self.symbols).float()
        return (hot * (symbols != UNWRITTEN)[:, :, None]).flatten(1)

    def features(self, texts: Sequence[str]) -> Tensor:
        """[B, depth * symbols + symbols^2] places, and how often each letter follows each: the reward is linear in them."""
        import torch

        placed = self.places(texts)
        hot = placed.reshape(len(placed), self.depth, self.symbols)
        beside = torch.einsum("bti,btj->bij", hot[:, :-1], hot[:, 1:])
        return torch.cat([placed, beside.flatten(1)], dim=1)

    def _raw(self, symbols: Tensor) -> Tensor:
        """[B] reward before scaling; beginnings get what uniform letters would add on average."""
        import torch

        total = torch.zeros(len(symbols), dtype=torch.float64)
        ahead = torch.zeros(self.depth + 1, self.symbols, dtype=torch.float64)  # expected rest after t letters, by the last
        for t in range(self.depth - 1, 0, -1):
            ahead[t] = (self.unary[t] + self.neighbours + ahead[t + 1]).mean(1)
        start = float((self.unary[0] + ahead[1]).mean())
        length = (symbols != UNWRITTEN).sum(1)
        for t in range(self.depth):
            here, known = symbols[:, t].clamp(min=0), symbols[:, t] != UNWRITTEN
            gain = self.unary[t, here].double()
            if t:
                gain = gain + self.neighbours[symbols[:, t - 1].clamp(min=0), here]
            total = total + torch.where(known, gain, 0.0)
        last = symbols.gather(1, (length - 1).clamp(min=0)[:, None])[:, 0].clamp(min=0)
        return total + torch.where(length > 0, ahead[length, last], start)

    def value(self, texts: Sequence[str]) -> Tensor:
        """[B] true reward; of a beginning, the mean over its uniform completions."""
        return ((self._raw(self.encode(texts)) - self._mean) / self._scale).float()

    def hierarchy(self, variance: float) -> tuple[int, list[tuple[int, int, float]]]:
        """(number of nodes, edges) of the tree of all beginnings, each edge from a beginning to one more letter of `variance`."""
        starts = [self.node([self.letters[0] * depth])[0] for depth in range(self.depth + 1)]
        count = starts[-1] + self.symbols**self.depth
        parents = (
            (starts[depth - 1] + place // self.symbols, starts[depth] + place)
            for depth in range(1, self.depth + 1)
            for place in range(self.symbols**depth)
        )
        return count, [(parent, child, variance) for parent, child in parents]

    def node(self, texts: Sequence[str]) -> list[int]:
        """The nodes of texts in `hierarchy`: level by level, in alphabetical order."""
        found = []
        for text in texts:
            place = 0
            for letter in text:
                place = place * self.symbols + self.letters.index(letter)
            found.append(sum(self.symbols**depth for depth in range(len(text))) + place)
        return found

    def prompts(self, split: str, n: int, seed: int) -> Batch:
        """n prompts that differ in name only."""
        return Batch([f"{split} {seed}.{number}" for number in range(n)])

    def data(self, n: int, seed: int) -> Batch:
        """n uniform strings, each to a prompt of its own."""
        return self.base().rollout(self.prompts("data", n, seed), 1, how=None, seed=seed).batch

    def base(self, level: str = "uniform", seed: int = 0) -> MotifPolicy:  # noqa: ARG002
        """The uniform policy; there is one level, and nothing to cache."""
        if level != "uniform":
            raise ValueError(f"level is '{level}'; this world has only 'uniform'")
        return MotifPolicy(self)

    def exact(self) -> float:
        """The best reward that a string can have."""
        return float(self.value(self.strings()).max())


class MotifReward(BaseReward):
    """The truth. Rows that are no strings of the world are NOT_APPLICABLE.

    beta: of comparisons, P(a beats b) = sigmoid(beta (r_a - r_b)): how consistent an annotator is. Scores do not depend on it.
    """

    name = "true reward"
    uses_seed = False

    def __init__(self, world: MotifWorld, beta: float = 1.0) -> None:
        self.world, self.link_temperature = world, 1.0 / beta
        self.settings = {**world.settings, "beta": beta}

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:  # noqa: ARG002
        """[B] reward; of a beginning, the mean over its uniform completions."""
        import torch

        values = torch.full((len(batch),), torch.nan)
        status = torch.full((len(batch),), int(Status.NOT_APPLICABLE), dtype=torch.int8)
        for row, text in enumerate(batch.require_responses()):
            if isinstance(text, str) and len(text) <= self.world.depth and set(text) <= set(self.world.letters):
                status[row] = int(Status.OK)
        known = (status == Status.OK).nonzero()[:, 0].tolist()
        if known:
            texts = batch.require_responses()
            values[known] = self.world.value([str(texts[row]) for row in known])
        return Scores(values, status)


class MotifPolicy(Generator):
    """A table of logits for each place and the letter before it, [depth, symbols + 1, symbols]; all 0 is the uniform policy.

    It can be run step by step: a "token" and a "sentence" are one letter, a "turn" is the rest of the string. Of `how` it reads
    the temperature (1 where it is None), which must be positive.
    """

    def __init__(self, world: MotifWorld) -> None:
        import torch
        from torch import nn

        self.world = world
        table = torch.zeros(world.depth, world.symbols + 1, world.symbols)
        self.table = nn.ParameterDict({"logits": nn.Parameter(table)})

    def modules(self) -> dict[str, Any]:
        """The table."""
        return {"table": self.table}

    def start(self, prompts: Batch, n: int, *, seed: int = 0) -> States:  # noqa: ARG002
        """n empty strings a prompt."""
        import torch

        rows = torch.arange(len(prompts)).repeat_interleave(n)
        symbols = torch.full((len(rows), self.world.depth), UNWRITTEN)
        payload = {"symbols": symbols, "prompts": [prompts.prompts[row] for row in rows.tolist()], "groups": rows}
        return States(torch.zeros(len(rows), dtype=torch.int64), torch.zeros(len(rows), dtype=torch.bool), payload)

    def step(self, states: States, how: Sampling | None = None, *, seed: int, until: str = "token") -> States:
        """Unfinished strings further by a letter, or to their end."""
        import torch

        if until not in ("token", "sentence", "turn"):
            raise ValueError(f"a string goes on until token, sentence or turn, not '{until}'")
        draw = torch.Generator().manual_seed(seed)
        symbols, time = states.payload["symbols"].clone(), states.time.clone()
        for _ in range(self.world.depth if until == "turn" else 1):
            going = (time < self.world.depth).nonzero()[:, 0]
            if len(going):
                probs = self._logits(symbols[going], time[going], _temperature(how)).softmax(-1).detach()
                symbols[going, time[going]] = torch.multinomial(probs, 1, generator=draw)[:, 0]
                time[going] += 1
        return States(time, time == self.world.depth, {**states.payload, "symbols": symbols})

    def _logits(self, symbols: Tensor, time: Tensor, temperature: float) -> Tensor:
        """[B, symbols] of the letter at `time`."""
        before = symbols.gather(1, (time - 1).clamp(min=0)[:, None])[:, 0]
        logits: Tensor = self.table["logits"][time, before.masked_fill(time == 0, UNWRITTEN) + 1]
        return logits / temperature

    def read(self, states: States) -> Batch:
        """The strings so far."""
        texts = self.world.decode(states.payload["symbols"])
        finish: list[Any] = ["complete" if over else "truncated" for over in states.finished.tolist()]
        return Batch(states.payload["prompts"], texts, groups=states.payload["groups"], finish=finish)

    def rollout(
        self, prompts: Batch, n: int, *, how: Sampling | None = None, start: States | None = None, seed: int
    ) -> Trajectories:
        """n strings a prompt."""
        begun = self.start(prompts, n) if start is None else start
        return self._trajectories(self.read(self.step(begun, how, seed=seed, until="turn")), how)

    def encode(self, batch: Batch, *, seed: int = 0) -> Trajectories:  # noqa: ARG002
        """Given strings."""
        return self._trajectories(batch, None)

    def _trajectories(self, batch: Batch, how: Sampling | None) -> Trajectories:
        import torch

        symbols = self.world.encode([str(text) for text in batch.require_responses()])
        mask, done = symbols != UNWRITTEN, ["terminal" if row else "truncated" for row in (symbols[:, -1] >= 0).tolist()]
        made = Trajectories(batch, torch.zeros(symbols.shape), mask, done=done, how=how, payload=symbols)
        found = self.evaluate(made).log_prob
        assert found is not None
        made.log_probs = found.detach()
        return made

    def evaluate(
        self,
        t: Trajectories,
        *,
        need: Sequence[str] = ("log_prob",),
        steps: Sequence[int] | None = None,
        part: str | None = None,  # noqa: ARG002
    ) -> StepStats:
        """[B, depth] log-probability and entropy of each letter, 0 where there is none."""
        import torch

        symbols: Tensor = t.payload
        columns = list(range(self.world.depth) if steps is None else steps)
        logits = torch.stack(
            [self._logits(symbols, torch.full((len(symbols),), at), _temperature(t.how)) for at in columns], dim=1
        ).log_softmax(-1)
        mask = t.mask[:, columns]
        taken = logits.gather(2, symbols[:, columns].clamp(min=0)[:, :, None])[:, :, 0]
        entropy = torch.where(mask, -(logits.exp() * logits).sum(-1), 0.0) if "entropy" in need else None
        return StepStats(log_prob=torch.where(mask, taken, 0.0), entropy=entropy)


def _temperature(how: Sampling | None) -> float:
    temperature = how.temperature if isinstance(how, Sampling) else 1.0
    if temperature <= 0:
        raise ValueError(f"the temperature of a table must be positive, not {temperature:g}")
    return temperature
