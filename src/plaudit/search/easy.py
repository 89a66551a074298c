"""Best-of-n in one call, for notebooks and scripts: `plaudit.best_of_n(...)`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from plaudit.engines.catalogue import DEFAULT, open_engine
from plaudit.rewards.catalogue import Resolver
from plaudit.types import Batch, Budget, Generator, Prompt, Reward, Sampling, Search, SearchResult, UserError


def best_of_n(
    prompts: Batch | Sequence[Prompt],
    reward: str | Reward = "yes-token",
    n: float = 8,
    *,
    generator: str | Path | Generator = DEFAULT,
    engine: str = DEFAULT,
    search: Search | None = None,
    how: Sampling | Any = None,
    limits: dict[str, float] | None = None,
    seed: int = 0,
    state: Any = None,
) -> SearchResult:
    """The best of n responses to each prompt.

    prompts: texts, chats, or a Batch with references and more. reward: one, or what `--reward` takes (judges run on `engine`).
    generator: one, or an engine by name (a model folder, OWNER/NAME, openai:MODEL, an URL) that writes the responses. search:
    another search of `plaudit.search`, in place of plain best-of-n. how: sampling, by default temperature 1. limits: the most
    that may be spent (samples, completion_tokens, reward_calls, cost ...). state: of an earlier result that was stopped.

    `result.batch.responses` are the chosen ones, `result.scores` their scores, `result.spent` what it cost, and
    `result.stopped` says why it ended early, if it did. Raises UserError for names that cannot be used, EngineError where the
    engine cannot be used at all.
    """
    from plaudit.generators.sampler import EngineSampler
    from plaudit.search.best_of_n import BestOfN

    batch = prompts if isinstance(prompts, Batch) else Batch(list(prompts))
    if not len(batch):
        raise UserError("there are no prompts to answer")
    judge = Resolver(lambda: open_engine(engine)).resolve(reward) if isinstance(reward, str) else reward
    writer = generator if isinstance(generator, Generator) else EngineSampler(open_engine(str(generator)))
    chosen = search or BestOfN(n=n, how=how)
    if search is not None and how is not None:
        chosen = replace(search, how=how)  # type: ignore[type-var]  # searches are dataclasses of their settings
    return chosen.run(writer, judge, batch, budget=Budget(dict(limits or {})), seed=seed, state=state)
