"""`HabitFamily`: policies that write by habit, and never run out: 24 letters, prompts of 4, answers of up to 12 (card 45).

A family has a few habits, each a bigram table with rows from Dirichlet(0.1). A policy is a mixture of them: a style vector of six
numbers goes through a fixed random network into the mixture's weights. It has a temperature, and a habit of stopping early. All
policies of a family are made the same way, so those that nobody has seen are of the same kind as those that were trained on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from plaudit.fitting import derive_seed, seeded
from plaudit.rewards.base import BaseReward
from plaudit.types import Batch, Context, Generator, Scores, States, Status, StepStats, Trajectories, prompt_text

if TYPE_CHECKING:
    from torch import Tensor

LETTERS = "abcdefghijklmnopqrstuvwx"
PROMPT, SHORTEST, LONGEST, STYLE = 4, 8, 12, 6
SLIP = 0.02
"""Probability that a letter is written against all habits: every answer is possible under every policy."""
SHARPNESS = 8.0
"""Scale of the mixture's logits: most policies have one or two habits that count."""


def _normal(shape: tuple[int, ...], seed: int) -> Tensor:
    import torch

    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _manner(seed: int) -> tuple[Tensor, Tensor]:
    """([6] style, [2] uniforms for temperature and stopping) of a seed."""
    import torch

    uniform = torch.rand(2, generator=torch.Generator().manual_seed(derive_seed(seed, "manner")))
    return _normal((STYLE,), derive_seed(seed, "style")), uniform


class HabitPolicy(Generator):
    """A bigram chain over the letters that starts at the prompt's last letter; from the 8th letter on it may stop.

    logits: [24, 24] of the next letter given the last one. stop: log-odds of stopping before each letter that it may stop at.
    A step is a letter, or the stop; answers of 12 letters end without one. Both are parameters: training changes them.
    """

    def __init__(self, logits: Tensor, stop: float) -> None:
        import torch

        self.habits = torch.nn.ParameterDict({"logits": logits.clone().float(), "stop": torch.tensor(float(stop))})

    def modules(self) -> dict[str, Any]:
        """Both parameters, as one module."""
        return {"policy": self.habits}

    def table(self) -> Tensor:
        """[24, 24] probabilities of the next letter, each row of sum 1."""
        probs: Tensor = self.habits["logits"].softmax(-1)
        return probs

    def rollout(self, prompts: Batch, n: int, *, how: Any = None, start: States | None = None, seed: int) -> Trajectories:  # noqa: ARG002
        """n answers per prompt. Raises ValueError for a prompt that does not end with one of the letters."""
        import torch

        draw = torch.Generator().manual_seed(seed)
        rows = [row for row in range(len(prompts)) for _ in range(n)]
        last = torch.tensor([_place(prompt_text(prompts.prompts[row])[-1:]) for row in rows], dtype=torch.int64)
        written = torch.empty(len(rows), LONGEST, dtype=torch.int64)
        lengths = torch.full((len(rows),), LONGEST, dtype=torch.int64)
        with torch.no_grad():
            table, stop = self.table(), float(self.habits["stop"].sigmoid())
            for step in range(LONGEST):
                if step >= SHORTEST:
                    ends = torch.rand(len(rows), generator=draw) < stop
                    lengths = torch.where(ends & (lengths == LONGEST), step, lengths)
                last = torch.multinomial(table[last], 1, generator=draw)[:, 0]
                written[:, step] = last
        texts = [
            "".join(LETTERS[at] for at in row[:length]) for row, length in zip(written.tolist(), lengths.tolist(), strict=True)
        ]
        batch = prompts.select(rows)
        batch.responses, batch.groups = texts, torch.tensor(rows, dtype=torch.int64)
        return self.encode(batch)

    def encode(self, batch: Batch, *, seed: int = 0) -> Trajectories:  # noqa: ARG002
        """Given answers as trajectories. Raises ValueError for one that no policy writes: other letters, under 8 or over 12."""
        import torch

        ids = torch.full((len(batch), LONGEST + 1), -1, dtype=torch.int64)
        lengths = []
        for row, (prompt, text) in enumerate(zip(batch.prompts, batch.require_responses(), strict=True)):
            letters = [_place(letter) for letter in str(text)]
            if not SHORTEST <= len(letters) <= LONGEST:
                raise ValueError(f"an answer has {SHORTEST} to {LONGEST} letters, not {len(letters)}")
            ids[row, : len(letters) + 1] = torch.tensor([_place(prompt_text(prompt)[-1:]), *letters])
            lengths.append(len(letters))
        count = torch.tensor(lengths, dtype=torch.int64)
        steps = count + (count < LONGEST)  # the stop is a step of its own
        mask = torch.arange(LONGEST)[None] < steps[:, None]
        batch.lengths = lengths
        found = Trajectories(batch, torch.zeros(len(batch), LONGEST), mask, payload={"ids": ids, "lengths": count})
        with torch.no_grad():
            found.log_probs = self._log_probs(found)
        return found

    def evaluate(
        self, t: Trajectories, *, need: Sequence[str] = ("log_prob",), steps: Sequence[int] | None = None, part: str | None = None
    ) -> StepStats:
        """[B, 12] log-probability of each step, with gradient. Raises ValueError for other needs."""
        if part is not None or set(need) - {"log_prob"}:
            raise ValueError("a habit policy gives log_prob, and has no parts")
        found = self._log_probs(t)
        return StepStats(log_prob=found if steps is None else found[:, list(steps)])

    def _log_probs(self, t: Trajectories) -> Tensor:
        import torch
        from torch.nn.functional import logsigmoid

        ids, lengths = t.payload["ids"], t.payload["lengths"]
        step = torch.arange(LONGEST)[None]
        letter = self.habits["logits"].log_softmax(-1)[ids[:, :-1].clamp(min=0), ids[:, 1:].clamp(min=0)]
        stop = self.habits["stop"]
        going = torch.where(step >= SHORTEST, logsigmoid(-stop), torch.zeros(()))
        found = torch.where(step < lengths[:, None], letter + going, logsigmoid(stop))
        return torch.where(t.mask, found, torch.zeros(()))


def _place(letter: str) -> int:
    place = LETTERS.find(letter) if letter else -1
    if place < 0:
        raise ValueError(f"'{letter}' is none of the {len(LETTERS)} letters")
    return place


class LikeTarget(BaseReward):
    """The truth: log-probability a letter of an answer under a target policy; higher is closer to its style."""

    name = "like target"
    uses_seed = False

    def __init__(self, target: HabitPolicy) -> None:
        self.target = target
        self.settings = {"table": [round(value, 6) for value in target.table().flatten().tolist()]}

    def score(self, batch: Batch, ctx: Context | None = None) -> Scores:  # noqa: ARG002
        """[B] mean log-probability, in nats; answers that no policy writes are NOT_APPLICABLE."""
        import torch

        values = torch.full((len(batch),), torch.nan)
        for row in range(len(batch)):
            try:
                found = self.target.encode(batch.select([row]))
            except ValueError:
                continue
            values[row] = found.log_probs.sum() / found.mask.sum()
        status = torch.where(values.isnan(), int(Status.NOT_APPLICABLE), int(Status.OK)).to(torch.int8)
        return Scores(values, status)


@cache
def _tables(habits: int, seed: int) -> Tensor:
    """[habits, 24, 24] bigram tables with rows from Dirichlet(0.1)."""
    import torch
    from torch.distributions import Dirichlet

    with seeded(derive_seed(seed, "tables")):
        return Dirichlet(torch.full((len(LETTERS),), 0.1)).sample((habits, len(LETTERS)))


@dataclass(frozen=True)
class HabitFamily:
    """habits: tables that all policies of the family mix. seed: of the tables and of the network from styles to mixtures."""

    habits: int = 6
    seed: int = 0

    def policy(self, seed: int, *, towards: int | None = None, share: float = 0.0) -> HabitPolicy:
        """The policy of a style that the seed draws; its style and manner may lie `share` of the way towards those of another."""
        import torch

        style, manner = _manner(seed)
        if towards is not None:
            other, others = _manner(towards)
            style, manner = style + share * (other - style), manner + share * (others - manner)
        hidden = torch.tanh(style @ _normal((STYLE, 32), derive_seed(self.seed, "first layer")))
        logits = hidden @ _normal((32, self.habits), derive_seed(self.seed, "second layer")) / math.sqrt(32)
        weights = (SHARPNESS * logits).softmax(-1)
        mixed = (weights[:, None, None] * _tables(self.habits, self.seed)).sum(0)
        temperature, stop = 0.5 + float(manner[0]), -3.0 + 2.5 * float(manner[1])
        cooled = ((1 - SLIP) * mixed + SLIP / len(LETTERS)).log() / temperature
        return HabitPolicy(cooled, stop)

    def seeds(self, n: int, role: str) -> list[int]:
        """Seeds of n policies; a longer list of a role begins with the shorter one, and those of other roles are others."""
        return [derive_seed(self.seed, role, number) for number in range(n)]

    def pool(self, n: int, role: str) -> list[HabitPolicy]:
        """The n policies of a role."""
        return [self.policy(seed) for seed in self.seeds(n, role)]

    def fresh(self) -> HabitPolicy:
        """A policy without habits: all letters equally likely."""
        import torch

        return HabitPolicy(torch.zeros(len(LETTERS), len(LETTERS)), -1.75)

    def prompts(self, n: int, seed: int) -> Batch:
        """n prompts of four random letters."""
        import torch

        drawn = torch.randint(len(LETTERS), (n, PROMPT), generator=torch.Generator().manual_seed(seed))
        return Batch(["".join(LETTERS[at] for at in row) for row in drawn.tolist()])


def bigram_divergence(target: HabitPolicy, policy: HabitPolicy) -> float:
    """KL(target || policy) a letter, in nats: of the rows of the tables, weighted by how often the target is at each letter.

    Prompts are uniform, and answers 12 letters long: the weights are the target's mean distribution over its first 12 steps.
    """
    import torch

    with torch.no_grad():
        wanted, ours = target.table().double(), policy.table().double()
        at = torch.full((len(LETTERS),), 1 / len(LETTERS), dtype=torch.float64)
        visits = torch.zeros_like(at)
        for _ in range(LONGEST):
            visits += at / LONGEST
            at = at @ wanted
        rows = (wanted * (wanted.clamp(min=1e-300).log() - ours.clamp(min=1e-300).log())).sum(1)
        return float((visits * rows).sum())
